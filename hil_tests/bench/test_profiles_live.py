"""Every profile, live: what is delivered takes the time that its plan says, with a transfer beside the probes."""

from __future__ import annotations

import contextlib
import subprocess

import numpy as np
import pytest

from emulator.bench import Bench
from emulator.cli.demo_plan import probe_interval_ns
from emulator.scenario import load_scenario
from emulator.scenario.load import embedded_scenarios
from emulator.testing.measure import delay_verdict
from emulator.testing.record import DIRECTIONS
from emulator.testing.recorder import Recorder
from emulator.testing.session import Session
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Gate
from emulator.timeline.table import delay_at
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns

pytestmark = [pytest.mark.needs("netns", "tun"), pytest.mark.long]

START = "2025-10-03T10:00:14Z"  # two seconds into one of Starlink's slots
IN_CONTACT = {"ground_station_contact": "2026-01-01T02:38:00Z"}
WITH_ANTENNA = {"bench_lab", "bench_virtual"}  # what that does to the link is test_antenna_loop's
CALM_S, LOADED_S = 4, 3
EARLIEST_NS, LATEST_NS = -200_000, 5 * NS_PER_MS  # other work runs on the machine: it makes packets late
LINE_NS = 30_000  # of the straight lines between recorded delays


def watch(recorder: Recorder, process: subprocess.Popen[str], until_ns: int) -> None:
    """Records until a process ends, or until a time of the run."""
    while process.poll() is None and recorder.now_ns() < until_ns:
        recorder.tick()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", sorted(set(embedded_scenarios()) - WITH_ANTENNA))
def test_delivered_traffic_takes_as_long_as_planned(name: str) -> None:
    start_ns = parse_utc_ns(IN_CONTACT.get(name, START))
    scenario = load_scenario(name, ["link.outages.per_hour=0", "link.outages.kinds=[]"] if "2023" in name else [])
    with (
        Bench(scenario, start_utc_ns=start_ns) as bench,
        Session(bench.terminal, bench.datacenter) as session,
    ):
        session.start_receivers()
        recorder = Recorder(bench, name)
        state = bench.state()
        interval_ns = probe_interval_ns(state.uplink.rate_bps, state.downlink.rate_bps)
        session.start_probes((CALM_S + LOADED_S) * NS_PER_S, interval_ns)
        watch(recorder, session.senders[0], CALM_S * NS_PER_S)
        session.start_download(LOADED_S * NS_PER_S)
        for process in session.senders:
            watch(recorder, process, 60 * NS_PER_S)
        probes, bulk = session.finish()
        record = recorder.finish(probes, bulk, interval_ns=interval_ns)
        assert bench.counters().downlink.delivered_bytes > 0
    assert bulk is not None
    assert len(bulk.at_ns), "the transfer began"
    assert bulk.total_bytes[-1] > 0, "and brought something"
    plan = windows_for(load_scenario(name), epoch_utc_ns=start_ns)
    translated = scenario.access is not None and scenario.access.nat44
    if translated:
        assert probes["downlink"].refused > 0, "nobody reaches a customer behind the translation"
    for direction in DIRECTIONS[: 1 if translated else 2]:
        series = record.probes(direction)
        sent_ns = record.start_utc_ns + np.array(series.sent_ns)
        channel = getattr(plan.window(int(sent_ns[0]) - NS_PER_S, int(sent_ns[-1]) + NS_PER_S), direction)
        steady = np.array([channel.at(int(at)).gate is Gate.PASS for at in sent_ns])
        planned_ns = delay_at(channel, sent_ns)
        commanded_ns = np.array(series.commanded_ns)
        assert np.abs(commanded_ns - planned_ns)[steady].max() <= LINE_NS
        verdict = delay_verdict(series)
        assert verdict.median_error_ns is not None, f"{verdict.calm} calm probes"
        assert EARLIEST_NS <= verdict.median_error_ns <= LATEST_NS
        delay_ns = np.array(series.delay_ns)
        came = (delay_ns >= 0) & (np.array(series.calm) == 1)
        assert np.mean((delay_ns - planned_ns)[came] < EARLIEST_NS) < 0.005, "nothing is faster than the plan"
