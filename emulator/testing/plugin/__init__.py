"""The pytest plugin: a bench per test, processes at its two sides, and a verdict that says when it proves nothing.

    def test_my_service_survives_an_outage(satlink, terminal, datacenter):
        with datacenter.start("my-server") as server:
            server.expect("listening")
            satlink.apply("outage", 2.0)
            terminal.run("my-client", "--to", datacenter.ipv4, deadline_s=20)

This module is imported by every pytest of an environment that Bentpipe is installed in: what is heavy is imported by
the fixtures. How to read it: options, then the life of a test in the order of its hooks; `fixtures` has the fixtures.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import _pytest
import pluggy
import pytest

from emulator import __version__
from emulator.errors import BentpipeError, EmulationError
from emulator.testing.plugin.fixtures import datacenter, dish, satlink, serial_stub, terminal
from emulator.testing.plugin.processes import DeadlineExceeded
from emulator.testing.plugin.settings import (
    LATCH,
    SETTINGS,
    Latch,
    Settings,
    keep_name,
    refuse_foreign_root,
    settings_of,
)

if TYPE_CHECKING:
    from emulator.testing.plugin.satlink import Satlink

__all__ = ["datacenter", "dish", "satlink", "serial_stub", "terminal"]

PACKAGE = Path(__file__).parents[2]
MACHINERY = (*(Path(module.__file__ or "").parent for module in (_pytest, pluggy)), Path(contextlib.__file__))
INVALID = "satlink_invalid"
INVALID_COUNT = pytest.StashKey[list[str]]()
INVALID_STATUS = EmulationError.exit_status  # of a session in which nothing failed and something was invalid
MARKER = (
    "satlink(scenario=None, *, set=(), seed=None, start=None, needs=()): the link of this test: a scenario's name or "
    "file, overrides KEY=VALUE, seed, simulated UTC at the start; programs and python:PACKAGES that the test needs"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bentpipe", "satellite links")
    group.addoption("--bench", metavar="SCENARIO", help="The link of tests that name none: a scenario's name or file.")
    group.addoption(
        "--satlink-set", action="append", default=[], metavar="KEY=VALUE", help="Change a key of every link."
    )
    group.addoption("--satlink-seed", type=int, metavar="N", help="The seed of every link, in place of the tests' own.")
    group.addoption("--satlink-start", metavar="UTC", help="The simulated UTC at which every link begins.")
    group.addoption(
        "--satlink-cores", type=int, metavar="N", help="Benches at once on this machine.  [default: all cores but one]"
    )
    group.addoption("--satlink-wait", type=float, default=3600.0, metavar="S", help="Longest wait for such a core.")
    group.addoption(
        "--satlink-lateness", type=float, default=5.0, metavar="MS",
        help="A test during which more than 1 %% of the packets left later than this is invalid.  [default: 5]",
    )  # fmt: skip
    group.addoption("--satlink-report", metavar="DIR", help="Write a page for each measurement of each test there.")
    group.addoption(
        "--satlink-capture", choices=("failed", "all", "none"), metavar="WHICH",
        help="Whose packets are kept beside their reports: those of failed (and invalid) tests, all or none; unless "
        "none, all reports show TCP flows.  [default: failed, where there are reports]",
    )  # fmt: skip
    group.addoption("--satlink-store", metavar="FILE", help="Add each test to this store of runs.")
    parser.addini("bench", "The link of tests that name none: a scenario's name or file.", default="starlink_2025")


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """An ordinary user's benches need a user namespace, which only a process of one thread can move into: now.

    Not without `--bench`: there pytest would lose the machine's network, and might not want any link.
    """
    if early_config.known_args_namespace.bench:
        from emulator.bench.privilege import ensure_network_privilege

        keep_name(os.environ, os.getuid())
        ensure_network_privilege()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    if not hasattr(config, "workerinput"):
        refuse_foreign_root(config.invocation_params)
    config.stash[SETTINGS] = Settings.from_config(config)
    config.stash[LATCH] = Latch.of_session(config)
    config.stash[INVALID_COUNT] = []


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and LATCH in config.stash:
        config.stash[LATCH].forget()


def pytest_report_header(config: pytest.Config) -> str:
    settings = config.stash[SETTINGS]
    seed = "of each link" if settings.seed is None else settings.seed
    return f"bentpipe: {__version__}, bench {settings.bench}, seed {seed}, at most {settings.cores} benches at once"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds to the report what repeats the test and what proves it; a test that proves nothing is invalid."""
    refusal = _refusal(item, call)
    report = yield
    if refusal:
        report.longrepr = refusal
    link: Satlink | None = getattr(item, "funcargs", {}).get("satlink")
    if link is None or call.when != "call" or hasattr(item, "_satlink_told"):
        return report
    link.freeze()
    capture = link.capture_ended()
    faults, said = link.faults() or _not_proven(call), report.longreprtext
    if faults and report.outcome != "skipped":
        reason = f"invalid: the emulation fell behind: {'; '.join(faults)}"
        said = reason + (f"\nthe test failed: {said}" if report.failed else "")
        report.sections.append(("satlink: invalid", said))
        path, line, _ = item.location
        report.outcome, report.longrepr = "skipped", (path, line or 0, reason)
        setattr(report, INVALID, reason)
    outcome = "invalid" if faults else report.outcome
    told, repeat = _told(item, link), repeat_command(item, link)
    try:
        pages = settings_of(item.config).keep(item.nodeid, link, outcome, said, repeat_command(item, link), capture)
        told = "\n".join([told, *(f"{'report' if page.suffix == '.html' else 'capture'}: {page}" for page in pages)])
    except Exception as error:  # noqa: BLE001 (a full disk, or a defect, takes the report and not the result)
        why = str(error) if isinstance(error, BentpipeError) else f"defect: {type(error).__name__}: {error}"
        told = f"{told}\nnot kept: {why}"
        _not_kept.append(f"{item.nodeid}: {why}")
    if link.not_captured:
        told = f"{told}\nnot kept: {link.not_captured}"
        _not_kept.append(f"{item.nodeid}: {link.not_captured}")
    report.sections.append(("satlink", told))
    item.user_properties += [
        ("satlink_outcome", outcome),
        ("satlink_version", __version__),
        ("satlink_repeat", repeat),
    ]
    report.user_properties[:] = item.user_properties
    return report


def _refusal(item: pytest.Item, call: pytest.CallInfo[None]) -> str:
    """What Bentpipe refuses is said in one line, to which its own frames add nothing: those of the tests are shown.

    Returns the line where there are none of theirs, as for a wrong mark.
    """
    found = call.excinfo
    if found is None or "satlink" not in getattr(item, "fixturenames", ()) or item.config.getoption("fulltrace", False):
        return ""
    if not found.errisinstance((BentpipeError, pytest.UsageError, DeadlineExceeded)):
        return ""
    trace: TracebackType | None = found.tb
    theirs = None
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            break
        if not any(path.is_relative_to(one) for one in MACHINERY):
            theirs = trace
        trace = trace.tb_next
    else:
        return ""
    if theirs is None:
        return f"{type(found.value).__name__}: {found.value}"
    theirs.tb_next = None
    return ""


def _not_proven(call: pytest.CallInfo[None]) -> tuple[str, ...]:
    """A verdict on a stretch of the test in which the emulation fell behind, though it did not over all of it."""
    from emulator.testing.verdicts import Invalid

    return (str(call.excinfo.value),) if call.excinfo is not None and call.excinfo.errisinstance(Invalid) else ()


def _told(item: pytest.Item, link: Satlink) -> str:
    from emulator.testing.verdicts.evidence import counted, in_words

    lines = [f"repeat: {repeat_command(item, link)}"]
    lines += [f"done to the link: {line}" for line in link.done()]
    lines += [f"verdict: {verdict}" for verdict in link.verdicts]
    try:
        counters = link.counters()
        lines += [counted(name, getattr(counters, name)) for name in ("uplink", "downlink")]
        lines.append(f"proof: {in_words(link.evidence())}")
    except EmulationError as error:
        lines.append(f"no proof: {error}")
    for side in (link.terminal, link.datacenter):
        if said := side.said():
            lines.append(f"at the {side.side.name}:\n{said}")
    return "\n".join(lines)


def repeat_command(item: pytest.Item, link: Satlink) -> str:
    """The command line that runs this test again, on the same channel.

    `--bench` names the link of this test, also where its mark does: an ordinary user needs the option.
    """
    from emulator.units import format_utc

    settings = settings_of(item.config)
    scenario = settings.wish(list(item.iter_markers("satlink"))).scenario
    bench = [f"--bench={scenario}"] if Path(scenario).is_file() else ["--bench", scenario]
    words = ["pytest", relative_node(item), *bench]
    words += [word for each in settings.overrides for word in ("--satlink-set", each)]
    words += ["--satlink-seed", str(link.seed), "--satlink-start", format_utc(link.start_utc_ns, 9)]
    return shlex.join(words)


def relative_node(item: pytest.Item) -> str:
    """The test's name, as the command line takes it in the directory in which pytest was called."""
    _, separator, rest = item.nodeid.partition("::")
    return os.path.relpath(item.path, item.config.invocation_params.dir) + separator + rest


def pytest_report_teststatus(report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str, Any] | None:
    if getattr(report, INVALID, None):
        return "invalid", "I", ("INVALID", {"yellow": True, "bold": True})
    return None


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Runs in each process; the one that ends the session has seen all reports."""
    if reason := getattr(report, INVALID, None):
        _invalid_of_session.append(f"{report.nodeid}: {reason}")


_invalid_of_session: list[str] = []
_not_kept: list[str] = []


def pytest_sessionstart() -> None:
    _invalid_of_session.clear()
    _not_kept.clear()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A session that proves nothing is not a success."""
    if session.exitstatus == pytest.ExitCode.OK and _invalid_of_session:
        session.exitstatus = INVALID_STATUS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _invalid_of_session:
        terminalreporter.section("invalid: nothing is proven", yellow=True)
        for line in _invalid_of_session:
            terminalreporter.write_line(line)
    for line in _not_kept:
        terminalreporter.write_line(f"bentpipe: not kept: {line}", red=True)
