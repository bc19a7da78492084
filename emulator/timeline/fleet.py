"""Many terminals of one scenario under one sky: who serves each of them, and what its link is like, stretch by stretch.

The work is cut into hours and groups of terminals. Within an hour all share the satellites' positions; processes share
the groups. The order of the lines is hours, then terminals, however many processes there are.
"""

from __future__ import annotations

import csv
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from emulator.child import deaf_to_ctrl_c, ignore_ctrl_c
from emulator.errors import EmulationError, ScenarioError
from emulator.orbit.propagate import Propagator, SharedPropagator
from emulator.orbit.source import Swarm, satellites_of
from emulator.scenario.files import read_bounded
from emulator.scenario.keys import Keys, expectation
from emulator.scenario.links import OrbitLink, StarlinkLink
from emulator.scenario.model import Scenario, Terminal
from emulator.timeline.build import windows_for
from emulator.timeline.opportunities import deliveries, notes
from emulator.timeline.overview import overview
from emulator.timeline.sky import SkyWindows
from emulator.timeline.starlink import StarlinkWindows
from emulator.timeline.table import COLUMNS, csv_lines
from emulator.units import NS_PER_S

FLEET_COLUMNS = ("terminal", *(column for column in COLUMNS if not column.endswith("_loss")))
HOUR_NS = 3600 * NS_PER_S  # SharedPropagator keeps the positions of so much
GROUP = 25  # terminals
WORTH_A_PROCESS = 40  # terminals; for fewer, reading the elements again takes longer than it saves
LARGEST_FILE_BYTES = 64 << 20
SITE_KEYS = ("latitude_deg", "longitude_deg", "altitude_m", "min_elevation_deg")


class Place(NamedTuple):
    """A terminal of the fleet. number: from 0, in the order of the file; its seed is the scenario's and that."""

    number: int
    name: str
    terminal: Terminal


class Part(NamedTuple):
    """What a group of terminals did in a part of the time: CSV lines, and of how many stretches how many were served,
    by terminal.
    """

    lines: bytes
    served: dict[int, tuple[int, int]]


def read_places(file: Path, scenario: Scenario) -> tuple[Place, ...]:
    """The terminals of a CSV file: latitude_deg, longitude_deg, and name, altitude_m, min_elevation_deg if wanted.

    What a line does not say is the scenario's, but for track and horizon. Raises ScenarioError with every fault.
    """
    content = read_bounded(file, LARGEST_FILE_BYTES, what="table of terminals")
    try:
        rows = csv.reader(content.decode("utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ScenarioError(
            [f"{file}: line {line}: expected UTF-8, got the byte {content[error.start]:#04x}"]
        ) from error
    columns = [column.strip() for column in next(rows, [])]
    if not {"latitude_deg", "longitude_deg"} <= set(columns):
        raise ScenarioError([f"{file}: line 1: expected columns latitude_deg and longitude_deg, got {columns}"])
    if unknown := [column for column in columns if column not in (*SITE_KEYS, "name")]:
        raise ScenarioError([f"{file}: line 1: expected columns name, {', '.join(SITE_KEYS)}, got {unknown[0]!r}"])
    usual = scenario.terminal.model_dump() if scenario.terminal else {}
    usual |= {"track": "", "track_starts_utc": "", "horizon": ()}
    places: list[Place] = []
    names: set[str] = set()
    faults: list[str] = []
    for row in rows:
        if not any(field.strip() for field in row):
            continue
        if len(row) != len(columns):
            faults.append(f"{file}: line {rows.line_num}: expected {len(columns)} fields, got {len(row)}")
            continue
        said = {key: field.strip() for key, field in zip(columns, row, strict=True) if field.strip()}
        name = said.pop("name", f"terminal {len(places) + 1}")
        if name in names:
            faults.append(f"{file}: line {rows.line_num}: name: expected one that no other line has, got {name!r}")
        names.add(name)
        try:
            places.append(Place(len(places), name, Terminal.model_validate_strings(said).model_copy(update={
                key: value for key, value in usual.items() if key not in said
            })))  # fmt: skip
        except ValidationError as error:
            for fault in error.errors():
                key = str(fault["loc"][0])
                expected = expectation(Keys(None).node(("terminal", key)))
                faults.append(f"{file}: line {rows.line_num}: {key}: expected {expected}, got {fault['input']!r}")
    if faults or not places:
        raise ScenarioError(faults or [f"{file}: expected a line for each terminal, got none"])
    return tuple(places)


class Fleet:
    """Terminals of a scenario under one sky. `notes`: what was left out of the elements, what stands in place of rates.

    Raises ScenarioError for a link without satellites that come and go; ElementsError, CoverageError as planners do.
    """

    def __init__(self, scenario: Scenario, *, elements: Path | None, epoch_utc_ns: int) -> None:
        link = scenario.link
        if not isinstance(link, OrbitLink):
            name = scenario.name or "scenario"
            raise ScenarioError([f"{name}: link.profile: expected satellites that come and go, got {link.profile!r}"])
        self._traces = deliveries(scenario)
        satellites, left_out = satellites_of(scenario, elements=elements, epoch_utc_ns=epoch_utc_ns)
        self.notes = (*left_out, *notes(self._traces))
        shares = isinstance(link, StarlinkLink) and not link.isl  # others propagate far less than they would share
        propagator = SharedPropagator(satellites) if shares else Propagator(satellites)
        self._scenario, self._epoch_utc_ns = scenario, epoch_utc_ns
        self._swarm = Swarm(satellites, left_out, propagator)

    def windows(self, place: Place) -> SkyWindows:
        """The planner of one terminal."""
        seed = (self._scenario.seed + place.number) % 2**63
        alone = self._scenario.model_copy(update={"terminal": place.terminal, "seed": seed})
        windows = windows_for(alone, epoch_utc_ns=self._epoch_utc_ns, swarm=self._swarm)
        assert isinstance(windows, SkyWindows)
        return windows

    def part(self, places: Sequence[Place], start_ns: int, end_ns: int) -> Part:
        """What holds as each stretch begins that begins in [start_ns, end_ns)."""
        lines: list[str] = []
        served: dict[int, tuple[int, int]] = {}
        for place in places:
            windows = self.windows(place)
            if windows.stretch_at(start_ns - 1) == windows.stretch_at(end_ns - 1):  # none begins
                served[place.number] = 0, 0
                continue
            if isinstance(windows, StarlinkWindows):
                found = windows.overview(start_ns, end_ns)
            else:
                found = overview(windows, start_ns, end_ns)
            rows = found.table(windows.satellites, windows.gateways)
            for direction, one in self._traces.items():
                rows[f"{direction}_rate_mbps"] = np.where(found.satellite >= 0, one.rate_bps / 1e6, np.nan)
            rows["terminal"] = np.full(len(found.utc_ns), place.name)
            lines += csv_lines(rows, FLEET_COLUMNS)
            served[place.number] = int((found.satellite >= 0).sum()), len(found.utc_ns)
        return Part("".join(lines).encode(), served)


def parts(
    scenario: Scenario,
    places: Sequence[Place],
    start_ns: int,
    end_ns: int,
    *,
    elements: Path | None,
    fleet: Fleet,
    jobs: int | None = None,
) -> Iterator[tuple[int, Part]]:
    """Each part of the work as it is done, in order, with how many terminal-nanoseconds it is. jobs: processes; None:
    one for each core. Closing the iterator ends them. Raises EmulationError if one dies.
    """
    todo = [
        (places[first : first + GROUP], hour_ns, min(hour_ns + HOUR_NS, end_ns))
        for hour_ns in range(start_ns, end_ns, HOUR_NS)
        for first in range(0, len(places), GROUP)
    ]
    jobs = min(jobs or len(os.sched_getaffinity(0)), len(todo))
    if jobs == 1 or len(places) < WORTH_A_PROCESS:
        for group, since_ns, until_ns in todo:
            yield len(group) * (until_ns - since_ns), fleet.part(group, since_ns, until_ns)
        return
    context = get_context("spawn")  # a fork would inherit the threads of NumPy
    crew = ProcessPoolExecutor(jobs, context, _begin, (scenario, elements, start_ns))
    try:
        with deaf_to_ctrl_c():
            work = [crew.submit(_part, *one) for one in todo]
        for (group, since_ns, until_ns), one in zip(todo, work, strict=True):
            yield len(group) * (until_ns - since_ns), one.result()
    except BrokenProcessPool as error:
        raise EmulationError("a process that planned for some of the terminals died: too little memory?") from error
    finally:
        crew.shutdown(wait=True, cancel_futures=True)


_fleets: list[Fleet] = []  # the one of a process of the crew


def _begin(scenario: Scenario, elements: Path | None, epoch_utc_ns: int) -> None:
    """A process of the crew begins: it is ended by who began it, and by nobody's death left behind."""
    ignore_ctrl_c()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _fleets[:] = [Fleet(scenario, elements=elements, epoch_utc_ns=epoch_utc_ns)]


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _part(places: Sequence[Place], start_ns: int, end_ns: int) -> Part:
    return _fleets[0].part(places, start_ns, end_ns)
