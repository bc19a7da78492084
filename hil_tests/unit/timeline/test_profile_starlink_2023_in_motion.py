"""What the in-motion profile promises: LINK_FACTS' figures within 15 %, of pings that the packet path carried."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from emulator.scenario import load_scenario
from emulator.scenario.links import StarlinkLink
from emulator.scenario.model import Scenario
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Cause
from emulator.timeline.model import Floats
from emulator.timeline.sky import SkyWindows
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns
from hil_tests.unit.timeline.virtual_pings import Pings, burst_shares, ping

START_NS = parse_utc_ns("2023-06-01T00:00:00Z")
HOURS = 5.0
INTERVAL_NS = 200 * NS_PER_MS  # as the drive whose bursts were counted
LONGEST_BURST = 18  # pings: that drive's longest; what lasts longer is in the record of outages instead
WITHIN = 0.15
BURSTS = {"single": 118 / 162, "double": 22 / 162, "longer": 22 / 162}  # NUWiNS drive


def scenario(*overrides: str) -> Scenario:
    return load_scenario("starlink_2023_in_motion", overrides)


@pytest.fixture(scope="module")
def windows() -> SkyWindows:
    planner = windows_for(scenario(), epoch_utc_ns=START_NS)
    assert isinstance(planner, SkyWindows)
    return planner


@pytest.fixture(scope="module")
def pings(windows: SkyWindows) -> Pings:
    return ping(scenario(), windows, START_NS, HOURS, INTERVAL_NS)


def second_of_slot(pings: Pings) -> Floats:
    seconds: Floats = (pings.sent_ns - 12 * NS_PER_S) % (15 * NS_PER_S) / NS_PER_S
    return seconds


def test_round_trips_have_the_measured_median_and_quartiles(pings: Pings) -> None:
    trips = pings.rtt_ms[~pings.lost]
    # ~40 ms, 36-48: Mohan et al.
    assert np.percentile(trips, [25, 50, 75]).tolist() == pytest.approx([36, 40, 48], rel=WITHIN)


def test_consecutive_round_trips_differ_as_measured(pings: Pings) -> None:
    assert np.nanmean(np.abs(np.diff(pings.rtt_ms))) == pytest.approx(6.7, rel=WITHIN)  # Huston, May 2024


def test_losses_come_in_bursts_of_the_measured_lengths(pings: Pings) -> None:
    assert burst_shares(pings.lost, LONGEST_BURST) == pytest.approx(BURSTS, rel=WITHIN)


def test_independent_losses_would_fail_that_test(pings: Pings) -> None:
    """The same packet path with as much loss, each packet on its own."""
    off = ["link.uplink.bursts.loss=0", "link.downlink.bursts.loss=0", "link.outages.kinds=[]"]
    share = float(pings.lost.mean())
    alone = scenario(*off, f"link.uplink.loss={share}", "link.downlink.loss=0", "link.unsettled.loss_factor=1")
    found = ping(alone, windows_for(alone, epoch_utc_ns=START_NS), START_NS, 1.5, INTERVAL_NS)
    assert found.lost.mean() == pytest.approx(share, rel=0.2)
    for length, measured in BURSTS.items():
        assert burst_shares(found.lost, LONGEST_BURST)[length] != pytest.approx(measured, rel=WITHIN)


def test_more_is_lost_two_to_five_seconds_into_a_slot(pings: Pings) -> None:
    """2.9 % against 1.1 %, in a drive without outages longer than its longest burst."""
    lost = pings.lost
    edges = np.flatnonzero(np.diff(lost.astype(np.int64), prepend=0, append=0))
    counted = np.ones(len(lost), bool)
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        counted[begin:end] = end - begin <= LONGEST_BURST
    second = second_of_slot(pings)
    among = (second >= 2) & (second < 5)
    assert lost[among & counted].mean() == pytest.approx(0.029, rel=WITHIN)
    assert lost[~among & counted].mean() == pytest.approx(0.011, rel=WITHIN)


def test_a_slots_edges_stand_out_by_the_measured_spike(windows: SkyWindows) -> None:
    """First 140 ms and last 75 ms, 74 ms above the slot's mean, at 500 probes a second (arXiv 2601.08439)."""
    probes = ping(scenario(), windows, START_NS, 0.1, 2 * NS_PER_MS)
    second = second_of_slot(probes)
    edge = (second < 0.140) | (second >= 15 - 0.075)
    assert np.nanmean(probes.rtt_ms[edge]) - np.nanmean(probes.rtt_ms) == pytest.approx(74, rel=WITHIN)


def test_outages_last_as_long_as_measured_and_for_the_measured_causes(windows: SkyWindows) -> None:
    """570 of a dish in motion: p50 0.86 s, p75 1.54 s, p90 6.2 s; the boots' duration is a guess."""
    lasted = defaultdict(list)
    for phase in windows._outages(START_NS, START_NS + 1000 * 3600 * NS_PER_S):
        lasted[phase.cause].append((phase.end_ns - phase.start_ns) / NS_PER_S)
    every = np.concatenate(list(lasted.values()))
    assert np.percentile(every, [50, 75, 90]).tolist() == pytest.approx([0.86, 1.54, 6.2], rel=WITHIN)
    assert np.median(lasted[Cause.OUTAGE]) == pytest.approx(0.78, rel=WITHIN)
    assert np.median(lasted[Cause.NO_SCHEDULE]) == pytest.approx(7.2, rel=WITHIN)
    counts = {cause.name: 570 * len(found) / len(every) for cause, found in lasted.items()}
    measured = {"OUTAGE": 396, "NO_PINGS": 87, "OBSTRUCTION": 44, "NO_SCHEDULE": 29, "BOOTING": 14}
    assert counts == pytest.approx(measured, rel=WITHIN)


def test_an_outage_of_the_schedule_ends_with_the_slot(windows: SkyWindows) -> None:
    phases = windows._outages(START_NS, START_NS + 200 * 3600 * NS_PER_S)
    ends = [phase.end_ns for phase in phases if phase.cause is Cause.NO_SCHEDULE]
    assert ends
    assert {end_ns % (15 * NS_PER_S) for end_ns in ends} == {12 * NS_PER_S}


def test_up_and_down_differ() -> None:
    link = scenario().link
    assert isinstance(link, StarlinkLink)
    assert link.uplink.fixed_ms > link.downlink.fixed_ms
    assert link.uplink.loss > link.downlink.loss
    assert link.uplink.bursts is not None
    assert link.downlink.bursts is not None
    assert link.uplink.bursts.every_s < link.downlink.bursts.every_s
