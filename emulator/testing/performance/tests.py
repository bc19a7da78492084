"""What stands around the packets in a test: the bench that it waits for, its report, a sweep; seen from outside."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np

from emulator import __version__
from emulator.child import child_command
from emulator.errors import EmulationError
from emulator.testing.performance.places import Record, Settings
from emulator.testing.record import (
    DIRECTIONS,
    ChannelSeries,
    CounterSeries,
    Direction,
    DirectionCounts,
    ProbeSeries,
    RunRecord,
    StateSeries,
)
from emulator.units import NS_PER_MS, NS_PER_S

TESTS = 11  # of which the first compiles
RUN_S = 600
SWEPT = 200
LIMIT_S = 300.0
CONFTEST = """
import json
spent = {}
def pytest_runtest_logreport(report):
    if report.when != "call":
        spent[report.nodeid] = spent.get(report.nodeid, 0.0) + report.duration
def pytest_unconfigure():
    with open("spent.json", "w") as file:
        json.dump(list(spent.values()), file)
"""
TEST = """
import pytest
@pytest.mark.parametrize("number", range({tests}))
def test_nothing(satlink, number):
    pass
"""


def fixture(settings: Settings, warnings: list[str]) -> Record:
    """How long a test waits for its bench to come and to go, once the first has compiled."""
    if find_spec("pytest") is None:
        raise EmulationError("pytest is not installed")
    with tempfile.TemporaryDirectory(prefix="bentpipe-") as folder:
        (Path(folder) / "conftest.py").write_text(CONFTEST)
        (Path(folder) / "test_nothing.py").write_text(TEST.format(tests=TESTS))
        plugin = ("-p", "emulator.testing.plugin", "-p", "no:cacheprovider", "--bench", "starlink_2025")
        _run(child_command("pytest", "-q", *plugin), folder)
        spent_s = json.loads((Path(folder) / "spent.json").read_text())
    return {"ms": 1e3 * median(spent_s[1:]), "longest_ms": 1e3 * max(spent_s[1:]), "tests": len(spent_s) - 1}


def report(settings: Settings, warnings: list[str]) -> Record:
    """How long the pages of a run of ten minutes take, from the program's start on, and how large the page is."""
    with tempfile.TemporaryDirectory(prefix="bentpipe-") as folder:
        ten_minutes().save(Path(folder) / "run.json")
        took = _run(child_command("emulator.cli.main", "report", "run.json"), folder)
        return {**took, "page_bytes": (Path(folder) / "report.html").stat().st_size}


def sweep(settings: Settings, warnings: list[str]) -> Record:
    """How long runs of ten minutes in virtual time take, of 10,000 packets each way, on all cores."""
    with tempfile.TemporaryDirectory(prefix="bentpipe-") as folder:
        what = ("starlink_2025", "--seeds", f"1-{SWEPT}", "--store", "sweep.sqlite")
        took = _run(child_command("emulator.cli.main", "sweep", *what), folder)
        return {**took, "runs": SWEPT, "cores": len(os.sched_getaffinity(0))}


def ten_minutes() -> RunRecord:
    """A run that never was: slots, jitter, loss, and 500 probes a second each way."""
    random, duration_ns = np.random.default_rng(1), RUN_S * NS_PER_S
    states, probes, counts = np.arange(0, duration_ns, 20 * NS_PER_MS), np.arange(0, duration_ns, 2 * NS_PER_MS), []
    series: dict[Direction, ProbeSeries] = {}
    channels: dict[Direction, ChannelSeries] = {}
    slot, ticks = states // (15 * NS_PER_S), np.arange(0, duration_ns, NS_PER_S // 10)
    for direction in DIRECTIONS:
        delay = random.uniform(8e6, 25e6, int(slot[-1]) + 1).astype(np.int64)[slot]
        nothing = [0] * len(states)
        channels[direction] = ChannelSeries(
            delay_ns=delay.tolist(), rate_bps=[10**8] * len(states), loss=[0.001] * len(states), gate=nothing,
            cause=nothing,
        )  # fmt: skip
        commanded = delay[probes // (20 * NS_PER_MS)]
        measured = commanded + random.exponential(2e6, len(probes)).astype(np.int64)
        lost = random.random(len(probes)) < 0.001
        series[direction] = ProbeSeries(
            sent_ns=probes.tolist(), delay_ns=np.where(lost, -1, measured).tolist(), commanded_ns=commanded.tolist(),
            expected_ns=commanded.tolist(), calm=[1] * len(probes), stamp_source="kernel", interval_ns=2 * NS_PER_MS,
        )  # fmt: skip
        offered, dropped = np.arange(len(ticks)) * 50, np.arange(len(ticks)) // 20
        counts.append(
            DirectionCounts(
                offered_packets=offered.tolist(), offered_bytes=(offered * 60).tolist(),
                delivered_packets=(offered - dropped).tolist(), delivered_bytes=((offered - dropped) * 60).tolist(),
                held_packets=[0] * len(ticks), dropped={"LOSS": dropped.tolist()},
            )
        )  # fmt: skip
    return RunRecord(
        version=__version__, title="ten minutes", scenario_name="starlink_2025", seed=1, start_utc_ns=0,
        duration_ns=duration_ns, slot_s=15.0, uplink_probes=series["uplink"], downlink_probes=series["downlink"],
        counters=CounterSeries(at_ns=ticks.tolist(), uplink=counts[0], downlink=counts[1]),
        states=StateSeries(
            at_ns=states.tolist(), satellite=(slot % 7).tolist(), gateway=[0] * len(states),
            azimuth_deg=[0.0] * len(states), elevation_deg=(40.0 + slot % 30).tolist(),
            slant_range_m=[7e5] * len(states), satellites=[f"satellite {number}" for number in range(7)],
            gateways=["gateway"], uplink=channels["uplink"], downlink=channels["downlink"],
        ),
    )  # fmt: skip


def _run(command: list[str], folder: str) -> Record:
    """Seconds from its start to its end, and of all its cores. Raises EmulationError with what it says, if it fails."""
    begun_s, spent = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EmulationError(f"{' '.join(command[1:5])} did not end within {LIMIT_S:g} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-200:]
        raise EmulationError(f"{' '.join(command[1:5])} ended with status {done.returncode}: {said}")
    all_spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    cores_s = all_spent.ru_utime + all_spent.ru_stime - spent.ru_utime - spent.ru_stime
    return {"seconds": time.monotonic() - begun_s, "cores_s": cores_s}
