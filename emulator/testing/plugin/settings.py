"""What a session of tests was told, the link that a test asks for, and the latch that a broken bench closes."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import tempfile
import time
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from emulator.testing.plugin.cores import default_budget
from emulator.units import parse_utc_ns

if TYPE_CHECKING:
    from emulator.scenario import Scenario
    from emulator.testing.plugin.satlink import Satlink
    from emulator.testing.record import Flow
    from emulator.timeline.model import Windows

MARKER_KEYS = ("scenario", "set", "seed", "start", "needs")
PATH_OPTIONS = ("--bench", "--satlink-report", "--satlink-store")
NAMED_BY = ("LOGNAME", "USER", "LNAME", "USERNAME")  # where getpass.getuser looks
LONGEST_LOG = 100_000  # characters of each, from its end
PLANNED_ANEW_NS = 3_600_000_000_000  # elements age: a planner is used again for an hour


@dataclass(frozen=True)
class Wish:
    """The link that one test asks for; None and empty: what the session says."""

    scenario: str
    overrides: tuple[str, ...]
    seed: int | None
    start_utc_ns: int | None
    needs: tuple[str, ...]


@dataclass
class Settings:
    """What the command line and the ini file say; `seed` and `start` go before what tests say."""

    bench: str
    overrides: tuple[str, ...]
    seed: int | None
    start: str | None
    cores: int
    longest_wait_s: float
    lateness_us: int
    report: Path | None
    store: Path | None
    capture: str
    _scenarios: dict[tuple[str, tuple[str, ...]], Scenario] = field(default_factory=dict)
    _windows: dict[Scenario, tuple[int, Windows]] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: pytest.Config) -> Settings:
        """Raises UsageError for a wrong command line."""
        start, cores = config.getoption("--satlink-start"), config.getoption("--satlink-cores")
        if start is not None:
            try:
                parse_utc_ns(start)
            except ValueError as error:
                raise pytest.UsageError(f"--satlink-start: {error}") from error
        if cores is not None and cores < 1:
            raise pytest.UsageError(f"--satlink-cores: expected 1 or more, got {cores}")
        folders = [
            Path(os.path.abspath(value)) if (value := config.getoption(name)) else None  # noqa: PTH100 (no symlinks)
            for name in ("--satlink-report", "--satlink-store")
        ]
        if folders[1] is not None:
            from emulator.errors import EndpointError
            from emulator.testing.store import default_path, require_folder

            try:
                if folders[1] != default_path():
                    require_folder(folders[1])
            except EndpointError as error:
                raise pytest.UsageError(f"--satlink-store: {error}") from error
        capture = config.getoption("--satlink-capture")
        if capture in ("failed", "all") and folders[0] is None:
            raise pytest.UsageError(f"--satlink-capture {capture}: expected --satlink-report, where captures go")
        return cls(
            bench=config.getoption("--bench") or str(config.getini("bench")),
            overrides=tuple(config.getoption("--satlink-set")),
            seed=config.getoption("--satlink-seed"),
            start=start,
            cores=cores or default_budget(),
            longest_wait_s=config.getoption("--satlink-wait"),
            lateness_us=round(config.getoption("--satlink-lateness") * 1000),
            report=folders[0],
            store=folders[1],
            capture=capture or ("failed" if folders[0] else "none"),
        )

    def wish(self, marks: Sequence[pytest.Mark]) -> Wish:
        """What the marks of a test, nearest first, and the command line ask for. Raises UsageError for a wrong one."""
        said: dict[str, Any] = {"set": (), "needs": ()}
        for mark in reversed(marks):
            values: dict[str, Any] = {**dict(zip(("scenario",), mark.args, strict=False)), **mark.kwargs}
            unknown = sorted(set(values) - set(MARKER_KEYS))
            if unknown or len(mark.args) > 1:
                raise pytest.UsageError(
                    f"mark satlink: {unknown[0] if unknown else 'more than one scenario'}: expected "
                    f"{', '.join(MARKER_KEYS)}"
                )
            for key in ("set", "needs"):
                given = values.pop(key, ())
                said[key] += (given,) if isinstance(given, str) else tuple(given)
            said |= values
        start = self.start or said.get("start")
        try:
            start_utc_ns = None if start is None else parse_utc_ns(start)
        except ValueError as error:
            raise pytest.UsageError(f"mark satlink: start: {error}") from error
        return Wish(
            scenario=said.get("scenario") or self.bench,
            overrides=(*said["set"], *self.overrides),
            seed=self.seed if self.seed is not None else said.get("seed"),
            start_utc_ns=start_utc_ns,
            needs=said["needs"],
        )

    def scenario(self, wish: Wish) -> Scenario:
        """Loaded once for all tests that ask for the same. Raises ScenarioError."""
        from emulator.scenario import load_scenario

        overrides = wish.overrides if wish.seed is None else (*wish.overrides, f"seed={wish.seed}")
        key = wish.scenario, overrides
        if key not in self._scenarios:
            self._scenarios[key] = load_scenario(wish.scenario, overrides)
        return self._scenarios[key]

    def windows(self, scenario: Scenario, start_utc_ns: int) -> Windows:
        """The planner of a scenario; making one may take longer than all else of a bench."""
        from emulator.timeline.build import windows_for

        epoch_ns, windows = self._windows.get(scenario, (0, None))
        if windows is None or abs(start_utc_ns - epoch_ns) > PLANNED_ANEW_NS:
            windows = windows_for(scenario, epoch_utc_ns=start_utc_ns)
            self._windows[scenario] = start_utc_ns, windows
        return windows

    def keep(
        self, nodeid: str, link: Satlink, outcome: str, said: str, repeat: str, capture: Path | None
    ) -> list[Path]:
        """Writes the reports of a test and adds it to the store, as far as either was asked for; returns the reports,
        and the capture if that is kept.

        Raises EndpointError, as on a full disk.
        """
        kept = self._report(nodeid, link, outcome, said, repeat, capture) if self.report else []
        if self.store:
            self._add(self.store, nodeid, link, outcome, repeat, kept)
        return kept

    def _report(
        self, nodeid: str, link: Satlink, outcome: str, said: str, repeat: str, capture: Path | None
    ) -> list[Path]:
        from emulator.testing.record import Judged
        from emulator.testing.report import write_report

        assert self.report is not None
        verdicts = [
            Judged(outcome=verdict.outcome, text=str(verdict), taken=taken and not verdict)
            for verdict, taken in zip(link.verdicts, link.taken, strict=True)
        ]
        folder = self.report / re.sub(r"[^\w.-]+", "_", nodeid)
        kept = []
        fine = outcome in ("passed", "skipped")
        if not link.records and not fine and (record := link.watched()) is not None:
            link.records.append(record)
        if capture is not None and (self.capture == "all" or not fine):
            kept.append(_moved(capture, folder / "packets.pcapng"))
            capture = kept[0]
        flows = _flows(capture) if link.records and capture is not None else []
        for number, record in enumerate(link.records):
            record.verdicts, record.logs, record.flows = verdicts, dict(link.logs()), flows
            record.outcome, record.repeat = outcome, repeat
            if said:
                record.logs["what pytest says"] = said[-LONGEST_LOG:]
            place = folder.with_name(f"{folder.name}-{number}") if number else folder
            kept.append(write_report(record, place)["report.html"])
        return kept

    def _add(self, path: Path, nodeid: str, link: Satlink, outcome: str, repeat: str, pages: list[Path]) -> None:
        from emulator import __version__
        from emulator.errors import EmulationError
        from emulator.testing.store import Run, Store
        from emulator.units import NS_PER_S, format_utc

        details: dict[str, Any] = {
            "repeat": repeat,
            "verdicts": [verdict.as_json() for verdict in link.verdicts],
            "faults": list(link.faults()),
            "reports": [str(page) for page in pages if page.suffix == ".html"],
            "captures": [str(page) for page in pages if page.suffix == ".pcapng"],
        }
        with contextlib.suppress(EmulationError):
            details["evidence"] = link.evidence().model_dump()
        with Store(path) as store:
            store.add(
                Run(
                    key=f"{nodeid} {time.time_ns()}",
                    kind="test",
                    name=nodeid,
                    outcome=outcome,
                    scenario=link.scenario.name,
                    seed=link.seed,
                    start_utc=format_utc(link.start_utc_ns, 9),
                    version=__version__,
                    seconds=(link.bench.utc_ns() - link.start_utc_ns) / NS_PER_S,
                    figures={verdict.name: verdict.interval.estimate for verdict in link.verdicts},
                    details=details,
                )
            )


def _moved(file: Path, target: Path) -> Path:
    """Raises EndpointError."""
    from emulator.errors import EndpointError

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, target)
    except OSError as error:
        raise EndpointError(f"{target}: cannot keep the capture: {error.strerror}") from error
    return target


def _flows(capture: Path) -> list[Flow]:
    from emulator.testing.flows import flows_of_capture

    return flows_of_capture(capture)


def keep_name(environment: MutableMapping[str, str], uid: int) -> None:
    """Writes an ordinary user's name down where nothing tells it: in a user namespace of its own everybody is root,
    and pytest's temporary directory would be that of root.
    """
    if uid and not any(environment.get(name) for name in NAMED_BY):
        try:
            environment["LOGNAME"] = pwd.getpwuid(uid).pw_name
        except KeyError:  # a user of a container
            environment["LOGNAME"] = str(uid)


def refuse_foreign_root(called: pytest.Config.InvocationParams) -> None:
    """Refuses a path that pytest has taken for a place of tests: its project would be another one, with other settings.

    Before it knows our options, pytest looks for its settings above all words of the command line that are paths.
    Raises UsageError.
    """
    words = [str(word) for word in called.args]
    for option, value in pairwise(words):
        path = called.dir / value
        if option in PATH_OPTIONS and path.exists() and not path.resolve().is_relative_to(called.dir.resolve()):
            raise pytest.UsageError(
                f"{option} {value}: pytest takes what stands apart for a place of tests, and looks for its settings "
                f"there: expected {option}={value}"
            )


class Latch:
    """Closed by the first test that finds the bench broken: the tests behind it are skipped, with the reason.

    With xdist it is a file that all workers see.
    """

    def __init__(self, path: Path | None) -> None:
        self._path, self._reason = path, ""

    @classmethod
    def of_session(cls, config: pytest.Config) -> Latch:
        run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
        if not run:
            return cls(None)
        return cls(Path(tempfile.gettempdir()) / f"bentpipe-latch-{os.getuid()}-{run}")

    @property
    def reason(self) -> str:
        if not self._reason and self._path is not None:
            with contextlib.suppress(OSError):
                self._reason = self._path.read_text(encoding="utf-8")
        return self._reason

    def close(self, reason: str) -> None:
        """The first reason stays."""
        if self.reason:
            return
        self._reason = reason
        if self._path is not None:
            with contextlib.suppress(OSError):
                draft = self._path.with_suffix(f".{os.getpid()}")
                draft.write_text(reason, encoding="utf-8")
                draft.rename(self._path)

    def forget(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)


SETTINGS = pytest.StashKey[Settings]()
LATCH = pytest.StashKey[Latch]()


def settings_of(config: pytest.Config) -> Settings:
    return config.stash[SETTINGS]
