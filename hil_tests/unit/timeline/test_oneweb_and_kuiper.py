"""OneWeb's portals, Kuiper's geometry, and the laws of all Timelines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.orbit.look import look
from emulator.orbit.source import satellites_of
from emulator.ports.assembly import Direction
from emulator.scenario import load_scenario
from emulator.serving.passes import MINUTE_NS
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.passes import PassWindows
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns
from hil_tests.unit.timeline import laws
from hil_tests.unit.timeline.virtual_pings import one_way, ping

START_NS = parse_utc_ns("2025-10-03T10:00:00Z")
ONEWEB, KUIPER = "oneweb", "kuiper_geometry"


def planner(name: str, *overrides: str) -> PassWindows:
    windows = windows_for(load_scenario(name, overrides), epoch_utc_ns=START_NS)
    assert isinstance(windows, PassWindows)
    return windows


NORTH = (
    "terminal.latitude_deg=58.0",
    "gateways=[{name='s',latitude_deg=38.9,longitude_deg=1.4},{name='n',latitude_deg=77.0,longitude_deg=1.4}]",
)
PLANNERS = {name: (planner(name), planner(name)) for name in (ONEWEB, KUIPER)}


@pytest.mark.parametrize("name", [ONEWEB, KUIPER])
@given(
    offset_ns=st.integers(0, 3600 * NS_PER_S),
    lengths_ns=st.lists(st.integers(1, 90 * NS_PER_S), min_size=1, max_size=4),
)
@settings(max_examples=15)
def test_laws_of_all_timelines(name: str, offset_ns: int, lengths_ns: list[int]) -> None:
    windows, other = PLANNERS[name]
    edges_ns = np.cumsum([START_NS + offset_ns, *lengths_ns]).tolist()
    laws.joined_windows_are_the_long_window(windows, other, edges_ns)
    timeline = windows.window(edges_ns[0], edges_ns[-1])
    laws.a_window_holds_a_row_for_each_of_its_instants(timeline)
    laws.delay_is_continuous_while_the_path_stays(timeline, 50_000)
    laws.nobody_serves_where_the_gate_says_so(timeline)
    laws.delays_are_the_sum_of_their_parts(windows, timeline)


@pytest.mark.parametrize("name", [ONEWEB, KUIPER])
@given(minute=st.integers(0, 600), second=st.integers(0, 59))
@settings(max_examples=20)
def test_the_highest_that_a_gateway_sees_serves(name: str, minute: int, second: int) -> None:
    policy = PLANNERS[name][0].policy
    number = START_NS // MINUTE_NS + minute
    served, by = (int(column[second]) for column in policy.minute(number))
    at_ns = number * MINUTE_NS + second * NS_PER_S
    position = policy.propagator.positions_m(np.array([at_ns, at_ns + NS_PER_S], np.int64))
    seen = look(policy.site.start, position)
    tracked = [
        (look(station.observer, position).elevation_deg >= station.min_elevation_deg).all(axis=1)
        for station in policy.gateways
    ]
    able = (seen.elevation_deg >= (25 if name == ONEWEB else 35)).all(axis=1) & np.stack(tracked).any(axis=0)
    if served < 0:
        assert not able.any()
    else:
        assert served == np.where(able, seen.sin_elevation[:, 0], -2).argmax()
        assert bool(np.stack(tracked)[by, served])


@pytest.mark.parametrize(("elevation_deg", "published_ms"), [(90.0, 16.0), (25.0, 29.4)])
def test_oneweb_s_propagation_takes_what_is_published(elevation_deg: float, published_ms: float) -> None:
    """LINK_FACTS: 16–29 ms of round trip, slant range 2,205 km at 25°."""
    site = "latitude_deg=50.0,longitude_deg=5.0,min_elevation_deg=24.0"
    few = "constellation.shells[0].planes=3", "constellation.shells[0].satellites_per_plane=9"
    windows = planner(ONEWEB, f"terminal={{{site}}}", f"gateways=[{{name='g',{site}}}]", *few)
    timeline = windows.window(START_NS, START_NS + 4 * 60 * MINUTE_NS)
    at = np.nanargmin(np.abs(timeline.path.elevation_deg - elevation_deg))
    assert timeline.path.elevation_deg[at] == pytest.approx(elevation_deg, abs=8 if elevation_deg == 90 else 0.05)
    # the shell's altitude counts from the equator's radius, the site stands at 50° north: 12 km more, 0.7 %
    assert 4 * timeline.path.slant_range_m[at] / 299_792_458 * 1e3 == pytest.approx(published_ms, rel=0.02)


def test_oneweb_is_stable_over_satellites_and_jumps_where_the_portal_changes() -> None:
    timeline = PLANNERS[ONEWEB][0].window(START_NS, START_NS + 240 * MINUTE_NS)
    path, channel = timeline.path, timeline.downlink
    satellite = np.diff(path.satellite) != 0
    portal = np.diff(path.gateway) != 0
    step_ms = np.abs(np.diff(channel.delay_ns)) / NS_PER_MS
    assert satellite.sum() > 60
    assert 2 <= portal.sum() < satellite.sum() / 3
    assert np.median(step_ms[satellite & ~portal]) < 1.5
    assert step_ms[portal].min() > 10
    assert not (channel.gate == Gate.DROP).any()
    alone = np.flatnonzero(portal & ~satellite) + 1
    if len(alone):
        assert (channel.cause[alone] == Cause.HANDOVER).all()


def test_a_portal_that_changes_alone_holds_the_queue() -> None:
    """Between the portals the satellite is handed from one to the other in its flight."""
    timeline = planner(ONEWEB, *NORTH).window(START_NS, START_NS + 30 * MINUTE_NS)
    path = timeline.path
    alone = np.flatnonzero((np.diff(path.gateway) != 0) & (np.diff(path.satellite) == 0)) + 1
    assert len(alone) > 5
    for at_ns in path.start_ns[alone].tolist():
        assert timeline.uplink.at(at_ns).gate is Gate.HOLD
        assert timeline.uplink.at(at_ns + 50 * NS_PER_MS).gate is Gate.PASS


@pytest.mark.needs("compiled")
def test_oneweb_loses_as_much_as_said_and_half_of_it_together() -> None:
    """Of independent losses, one in a thousand would stand beside another."""
    pings = ping(load_scenario(ONEWEB), PLANNERS[ONEWEB][0], START_NS, 2.0, 10 * NS_PER_MS)
    bursts = pings.bursts()
    assert 0.0009 < pings.lost.mean() < 0.0023  # 0.0015 on both ways; some 90 bursts make up half of it
    assert 0.4 < bursts[bursts > 1].sum() / bursts.sum() < 0.75
    assert bursts.max() * 10 < 1000


@pytest.mark.needs("compiled")
@pytest.mark.parametrize("direction", ["uplink", "downlink"])
def test_oneweb_s_queue_is_bounded_by_time_whatever_the_rate(direction: Direction) -> None:
    rate = "{p0=1.0,p5=1.0,p50=1.0,p95=1.0,p100=1.0}"
    scenario = load_scenario(ONEWEB, [f"link.{direction}.rate_mbps={rate}", f"link.{direction}.rate_wobble=0"])
    windows = windows_for(scenario, epoch_utc_ns=START_NS)
    sent_ns = START_NS + 5 * NS_PER_S + np.arange(60_000, dtype=np.int64) * 250_000  # 1.9 Mb/s, packets of 60 bytes
    took_ms = one_way(scenario, windows, direction, sent_ns)
    alone_ms = one_way(scenario, windows, direction, sent_ns[::400].copy())
    assert 95 < np.nanmedian(took_ms) - np.nanmedian(alone_ms) < 105
    assert np.nanmax(took_ms) - np.nanmin(alone_ms) < 100 + 50 + 30  # a hold, and jitter
    way = getattr(load_scenario(ONEWEB).link, direction)
    assert way.queue_packets * 12_000 >= way.rate_mbps.p100 * 1e6 * 0.1


def test_oneweb_s_shell_is_that_of_the_catalogue(reference_data: Path) -> None:
    """649 in service on 2025-10-03, in twelve planes; the shell has no spares."""
    catalogue = reference_data / "elements" / "active_2025-10-03.tle"
    real, _ = satellites_of(load_scenario(ONEWEB), elements=catalogue, epoch_utc_ns=START_NS)
    ours, _ = satellites_of(load_scenario(ONEWEB), elements=None, epoch_utc_ns=START_NS)
    assert len(real) == 649
    assert len(ours) == 588
    assert np.median(real.altitude_km) == pytest.approx(1200, abs=5)
    assert np.degrees(np.median([record.inclo for record in real.records])) == pytest.approx(87.9, abs=0.05)
    nodes = np.sort(np.degrees([record.nodeo for record in ours.records]).round(3))
    theirs = np.degrees([record.nodeo for record in real.records])
    for node in np.unique(nodes):
        nearest = np.abs((theirs - node + 180) % 360 - 180)
        assert (nearest < 3).sum() >= 49


def test_kuiper_is_geometry_alone() -> None:
    windows = PLANNERS[KUIPER][0]
    timeline = windows.window(START_NS, START_NS + 60 * MINUTE_NS)
    assert len(windows.satellites) == 3236
    assert (timeline.path.satellite >= 0).all()
    for channel in (timeline.uplink, timeline.downlink):
        assert set(channel.loss.tolist()) == set(channel.jitter_ns.tolist()) == {0}
        assert (channel.gate == Gate.PASS).all()
    assert np.array_equal(timeline.uplink.delay_ns, timeline.downlink.delay_ns)
    assert 8 < 2 * timeline.uplink.delay_ns.min() / NS_PER_MS < 16  # 4 × 630 km / c = 8.4 ms, and fibre
