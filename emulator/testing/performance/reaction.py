"""How soon packets feel where an antenna points, from outside: by the stamps of a controller's reports and of probes.

A played controller (`controller.py`) turns the beam off a geostationary satellite and back, many times; probes cross
the link both ways meanwhile. A change is felt by the first probe that meets the link as it is from then on: by when the
kernel handed it to the link, less when the last byte of the report was written on the serial line.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emulator.bench import Bench
from emulator.errors import EmulationError
from emulator.scenario import load_scenario
from emulator.scenario.links import GeoLink
from emulator.terminal.pointing import geostationary_direction
from emulator.testing.performance.places import Record, Settings
from emulator.testing.session import Session, end
from emulator.units import NS_PER_MS, NS_PER_S

CONTROLLER = str(Path(__file__).with_name("controller.py"))
AWAY_DEG = 10.0  # five beams: nothing is heard there
IN_A_ROW = 3  # probes that fare alike: one alone may have been lost otherwise
START_LIMIT_S, END_LIMIT_S = 10.0, 20.0
MARGIN_S = 3.0  # of the probes over the changes: programs that start, and a first half second
SETTINGS = (
    "link.uplink.loss=0",
    "link.downlink.loss=0",
    "terminal.antenna.beam_width_deg=2",
    "terminal.antenna.acquisition_s=0",  # a modem's own time to acquire is none of the emulator's
    "terminal.antenna.tracking=none",
    "terminal.antenna.poll_ms=5",
)

Ints = npt.NDArray[np.int64]


def felt(settings: Settings, warnings: list[str]) -> Record:
    """Milliseconds from reports to packets, of both directions together, and of each change."""
    plain = load_scenario("geo_dvbs2")
    site, link = plain.terminal, plain.link
    assert site is not None
    assert isinstance(link, GeoLink)
    azimuth, elevation = geostationary_direction(
        site.latitude_deg, site.longitude_deg, site.altitude_m, link.longitude_deg
    )
    positions = ["--here", f"{azimuth}", f"{elevation}", "--there", f"{azimuth}", f"{elevation - AWAY_DEG}"]
    times = ["--changes", f"{settings.antenna_changes}", "--dwell-ms", *map(str, settings.antenna_dwell_ms)]
    played = subprocess.Popen(
        [sys.executable, "-I", "-S", CONTROLLER, *positions, *times],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a Ctrl-C is ours to handle
    )
    try:
        assert played.stdout is not None
        readable, _, _ = select.select([played.stdout], [], [], START_LIMIT_S)
        words = played.stdout.readline().split() if readable else []
        if len(words) != 2:
            raise EmulationError("the played controller of an antenna did not start")
        firmware = f'terminal.antenna.firmware={{ serial = "{words[1]}", baud = 19200, protocol = "easycomm2" }}'
        scenario = load_scenario("geo_dvbs2", [*SETTINGS, firmware])
        with Bench(scenario, realtime=settings.realtime) as bench:
            warnings += bench.warnings
            return turned(settings, bench, played)
    finally:
        end(played)
        if played.stdin is not None:
            played.stdin.close()


def turned(settings: Settings, bench: Bench, played: subprocess.Popen[str]) -> Record:
    """Has the controller turn away and back while probes cross."""
    lasts_s = settings.antenna_changes * sum(settings.antenna_dwell_ms) / 2e3 + MARGIN_S
    with Session(bench.terminal, bench.datacenter) as session:
        session.start_receivers()
        session.start_probes(round(lasts_s * NS_PER_S), round(settings.antenna_probe_ms * NS_PER_MS))
        assert played.stdin is not None
        assert played.stdout is not None
        played.stdin.write("go\n")
        played.stdin.flush()
        readable, _, _ = select.select([played.stdout], [], [], lasts_s + END_LIMIT_S)
        told = played.stdout.readline() if readable else ""
        for sender in session.senders:
            sender.wait(lasts_s + END_LIMIT_S)
        runs, _ = session.finish(bench)
    try:
        changes = [(int(at_ns), bool(here)) for at_ns, here in json.loads(told)]
    except ValueError as error:
        raise EmulationError("the played controller of an antenna did not tell when it turned") from error
    longest_ns = round(settings.antenna_dwell_ms[1] * NS_PER_MS)
    by_direction = {name: reactions_ns(changes, run.sent_ns, run.lost, longest_ns) for name, run in runs.items()}
    found = [one for each in by_direction.values() for one in each]
    if not any(one is not None for one in found):
        raise EmulationError("no probe felt where the antenna points")
    return {
        "changes": len(changes),
        "unfelt": sum(one is None for one in found),
        "probes": {name: len(run.sequence) for name, run in runs.items()},
        "stamps": sorted({run.stamp_source for run in runs.values()}),
        "reaction_ms": percentiles_ms(found, longest_ns),
        "each_ms": {
            name: [None if one is None else round(one / NS_PER_MS, 3) for one in each]
            for name, each in by_direction.items()
        },
    }


def reactions_ns(
    changes: Sequence[tuple[int, bool]], sent_ns: Ints, lost: npt.NDArray[np.bool_], longest_ns: int
) -> list[int | None]:
    """For each change (when, and whether probes pass from then on) until the first of IN_A_ROW probes that fare so.

    sent_ns: (probes,), rising; lost: of each. None: not before the next change, or `longest_ns` after the last one.
    """
    found: list[int | None] = []
    ends = [*(at_ns for at_ns, _ in changes[1:]), *(at_ns + longest_ns for at_ns, _ in changes[-1:])]
    for (at_ns, passes), end_ns in zip(changes, ends, strict=True):
        first, last = np.searchsorted(sent_ns, [at_ns, end_ns])
        so = (~lost if passes else lost)[first:last]
        runs = np.flatnonzero(np.convolve(so, np.ones(IN_A_ROW, np.int64), "valid") == IN_A_ROW) if len(so) else so
        found.append(int(sent_ns[first + runs[0]]) - at_ns if len(so) >= IN_A_ROW and len(runs) else None)
    return found


def percentiles_ms(found: Sequence[int | None], longest_ns: int) -> dict[str, float]:
    """What was not felt in time counts as the longest time that there was."""
    ms = np.array([longest_ns if one is None else one for one in found], np.float64) / NS_PER_MS
    return {
        "p50": float(np.percentile(ms, 50)),
        "p99": float(np.percentile(ms, 99)),
        "longest": float(ms.max()),
    }
