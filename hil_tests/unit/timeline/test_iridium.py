"""Iridium: a path over several satellites, rates and gaps as published, and the laws of all Timelines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.orbit.source import satellites_of
from emulator.scenario import load_scenario
from emulator.serving.passes import MINUTE_NS
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.iridium import IridiumWindows
from emulator.units import NS_PER_MS, NS_PER_S, SPEED_OF_LIGHT_M_S, parse_utc_ns
from hil_tests.unit.timeline import laws

START_NS = parse_utc_ns("2025-10-03T10:00:00Z")


def planner(*overrides: str, elements: Path | None = None) -> IridiumWindows:
    scenario = load_scenario("iridium_certus", overrides)
    windows = windows_for(scenario, elements=elements, epoch_utc_ns=START_NS)
    assert isinstance(windows, IridiumWindows)
    return windows


PLANNER, OTHER = planner(), planner()


@given(st.integers(0, 3600 * NS_PER_S), st.lists(st.integers(1, 90 * NS_PER_S), min_size=1, max_size=4))
@settings(max_examples=15)
def test_laws_of_all_timelines(offset_ns: int, lengths_ns: list[int]) -> None:
    edges_ns = np.cumsum([START_NS + offset_ns, *lengths_ns]).tolist()
    laws.joined_windows_are_the_long_window(PLANNER, OTHER, edges_ns)
    timeline = PLANNER.window(edges_ns[0], edges_ns[-1])
    laws.a_window_holds_a_row_for_each_of_its_instants(timeline)
    laws.delay_is_continuous_while_the_path_stays(timeline, 40 * NS_PER_MS)  # a way that changes does so in a second
    laws.nobody_serves_where_the_gate_says_so(timeline)
    laws.delays_are_the_sum_of_their_parts(PLANNER, timeline)


def test_the_way_is_not_shorter_than_the_straight_line_and_not_twice_as_long() -> None:
    """The chord from the site to the gateway is 4,060 km; a way over satellites climbs 780 km twice."""
    parts = PLANNER.delay_parts(START_NS, START_NS + 60 * MINUTE_NS)
    way_m = np.sum([part.uplink_ns for part in parts[:3]], axis=0) / NS_PER_S * SPEED_OF_LIGHT_M_S
    assert way_m.min() > 4.5e6
    assert np.median(way_m) < 9e6
    assert (parts[1].uplink_ns > 0).mean() > 0.95


@given(st.integers(0, 7200))
@settings(max_examples=15)
def test_the_way_that_is_drawn_is_the_one_that_is_taken(second: int) -> None:
    """The serving satellite and those behind it, leg by leg, add up to the plan's delay between satellites."""
    utc_ns = START_NS + second * NS_PER_S
    path = PLANNER.window(utc_ns, utc_ns + NS_PER_S).path
    assert path.satellite[0] >= 0
    names = PLANNER.window(utc_ns, utc_ns + NS_PER_S).satellites
    serving = PLANNER.satellites.index(names[path.satellite[0]])
    first_m = PLANNER.policy.propagator.positions_m(np.array([utc_ns]), np.array([serving]))[:, 0]
    way_m = np.concatenate([first_m, PLANNER.over_m(utc_ns)])
    between_m = np.linalg.norm(np.diff(way_m, axis=0), axis=1).sum()
    part = PLANNER.delay_parts(utc_ns, utc_ns + NS_PER_S)[1]
    assert between_m / SPEED_OF_LIGHT_M_S * NS_PER_S == pytest.approx(part.uplink_ns[0], abs=1)


def test_rates_reach_the_published_one_as_often_as_published() -> None:
    """352 kb/s in 45 % of Arctic runs, by minutes."""
    timeline = PLANNER.window(START_NS, START_NS + 8 * 60 * MINUTE_NS)
    for channel in (timeline.uplink, timeline.downlink):
        by_minute = channel.rate_bps[channel.start_ns % MINUTE_NS == 0]
        deviation = (0.45 * 0.55 / len(by_minute)) ** 0.5
        assert (by_minute == 352_000).mean() == pytest.approx(0.45, abs=3 * deviation)
        assert channel.rate_bps.max() == 352_000


def test_gaps_last_70_seconds_at_most() -> None:
    timeline = planner("link.outages.per_hour=20").window(START_NS, START_NS + 2 * 60 * MINUTE_NS)
    shut = np.concatenate([[0], (timeline.uplink.cause == Cause.OUTAGE).astype(int), [0]])
    edges = np.flatnonzero(np.diff(shut)).reshape(-1, 2)
    ends_ns = np.append(timeline.uplink.start_ns, timeline.end_ns)
    lasts_s = (ends_ns[edges[:, 1]] - ends_ns[edges[:, 0]]) / NS_PER_S
    assert len(lasts_s) > 20
    assert lasts_s.max() < 140  # two that meet
    assert 3 < np.median(lasts_s) < 20
    assert (timeline.uplink.gate[timeline.uplink.cause == Cause.OUTAGE] == Gate.DROP).all()


def test_the_real_satellites_serve_as_well(reference_data: Path) -> None:
    catalogue = reference_data / "elements" / "active_2025-10-03.tle"
    real, _ = satellites_of(load_scenario("iridium_certus"), elements=catalogue, epoch_utc_ns=START_NS)
    assert len(real) == 67
    assert np.median(real.altitude_km) == pytest.approx(777.7, abs=0.1)
    timeline = planner(elements=catalogue).window(START_NS, START_NS + 20 * MINUTE_NS)
    assert (timeline.path.satellite >= 0).all()


def test_without_a_satellite_over_the_gateway_nobody_serves() -> None:
    windows = planner("constellation.shells[0].planes=2", "constellation.shells[0].satellites_per_plane=3")
    timeline = windows.window(START_NS, START_NS + 120 * MINUTE_NS)
    served = timeline.path.satellite >= 0
    assert 0 < served.mean() < 0.5
    laws.nobody_serves_where_the_gate_says_so(timeline)
    assert np.isfinite(timeline.uplink.delay_ns).all()
    assert timeline.uplink.delay_ns.max() < NS_PER_S
