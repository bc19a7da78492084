"""O3b and O3b mPOWER: the ring, its handovers with one antenna and with two, and the laws of all Timelines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import CoverageError
from emulator.orbit.source import satellites_of
from emulator.scenario import load_scenario
from emulator.serving.passes import MINUTE_NS
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Timeline
from emulator.timeline.passes import PassWindows
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns
from hil_tests.unit.timeline import laws

START_NS = parse_utc_ns("2025-10-03T10:00:00Z")
MINUTES_PER_TURN = 360.1  # LINK_FACTS: 5.00115 rev/day against the turning earth
MPOWER, CLASSIC = "o3b_mpower", "o3b_classic_single_antenna"


def planner(name: str, *overrides: str) -> PassWindows:
    windows = windows_for(load_scenario(name, overrides), epoch_utc_ns=START_NS)
    assert isinstance(windows, PassWindows)
    return windows


PLANNERS = {name: (planner(name), planner(name)) for name in (MPOWER, CLASSIC)}


def changes_ns(timeline: Timeline) -> np.ndarray:
    return timeline.path.start_ns[1:][np.diff(timeline.path.satellite) != 0]


def hours(windows: PassWindows, count: float) -> Timeline:
    return windows.window(START_NS, START_NS + round(count * 60) * MINUTE_NS)


@pytest.mark.parametrize("name", [MPOWER, CLASSIC])
@given(
    offset_ns=st.integers(0, 6 * 3600 * NS_PER_S),
    lengths_ns=st.lists(st.integers(1, 90 * NS_PER_S), min_size=1, max_size=4),
)
@settings(max_examples=25)
def test_laws_of_all_timelines(name: str, offset_ns: int, lengths_ns: list[int]) -> None:
    windows, other = PLANNERS[name]
    edges_ns = np.cumsum([START_NS + offset_ns, *lengths_ns]).tolist()
    laws.joined_windows_are_the_long_window(windows, other, edges_ns)
    timeline = windows.window(edges_ns[0], edges_ns[-1])
    laws.a_window_holds_a_row_for_each_of_its_instants(timeline)
    laws.delay_is_continuous_while_the_path_stays(timeline, 15_000)  # LINK_FACTS: 0.03 ms/s of the round trip
    laws.nobody_serves_where_the_gate_says_so(timeline)
    laws.delays_are_the_sum_of_their_parts(windows, timeline)


def test_in_service_are_19_and_8(reference_data: Path) -> None:
    """The catalogue of 2025-10-03 holds 19 of the first generation and mPOWER F1–F9; F9 is still in transfer."""
    catalogue = reference_data / "elements" / "active_2025-10-03.tle"
    found: dict[str, tuple[str, ...]] = {}
    notes: list[str] = []
    for name in (CLASSIC, MPOWER):
        satellites, noted = satellites_of(load_scenario(name), elements=catalogue, epoch_utc_ns=START_NS)
        found[name] = satellites.names
        notes += noted
        assert all(abs(altitude - 8065.9) < 1 for altitude in satellites.altitude_km)
    assert len(found[CLASSIC]) == 19
    assert found[MPOWER] == tuple(f"O3B MPOWER F{number}" for number in (1, 2, 4, 3, 5, 6, 7, 8))
    assert sum("not in service" in note and ": 1 of" in note for note in notes) == 1


def test_the_ring_is_that_of_the_catalogue(reference_data: Path) -> None:
    catalogue = reference_data / "elements" / "active_2025-10-03.tle"
    ring, _ = satellites_of(load_scenario(MPOWER), elements=None, epoch_utc_ns=START_NS)
    real, _ = satellites_of(load_scenario(MPOWER), elements=catalogue, epoch_utc_ns=START_NS)
    turns = [[record.no_kozai * 1440 / (2 * np.pi) for record in one.records] for one in (ring, real)]
    assert turns[0] == pytest.approx([5.00115] * 8, abs=2e-5)
    assert turns[1] == pytest.approx([5.00115] * 8, abs=2e-4)


def test_propagation_takes_what_is_published() -> None:
    """Both ends at one place on the equator: 107.6 ms at the zenith, 126.6 at 40°, 146.2 at 20°, 152.2 at 15°."""
    site = "latitude_deg=0.0,longitude_deg=20.0,min_elevation_deg=14.5"
    windows = planner(
        MPOWER,
        f"terminal={{{site}}}",
        f"gateways=[{{name='g',{site}}}]",
        "link.handover_elevation_deg=14.5",
        "constellation.shells[0].satellites_per_plane=4",
    )
    timeline = hours(windows, 2)
    flight = windows.delay_parts(timeline.start_ns, timeline.end_ns)[:2]
    round_trip_ms = np.sum([part.uplink_ns + part.downlink_ns for part in flight], axis=0) / NS_PER_MS
    elevation_deg = timeline.path.elevation_deg
    for wanted_deg, published_ms in ((40.0, 126.6), (20.0, 146.2), (15.0, 152.2)):
        at = np.abs(elevation_deg - wanted_deg).argmin()
        assert elevation_deg[at] == pytest.approx(wanted_deg, abs=0.05)
        assert round_trip_ms[at] == pytest.approx(published_ms, abs=0.2)
    assert elevation_deg.max() > 89
    # 8,062 km over the equator's radius of WGS 84 in LINK_FACTS; SGP4's periodic terms are ±1 km: 0.02 ms
    assert round_trip_ms.min() == pytest.approx(107.6, abs=0.1)


@pytest.mark.parametrize(("name", "satellites"), [(MPOWER, 8), (CLASSIC, 19)])
def test_a_handover_comes_every_360_1_minutes_over_n(name: str, satellites: int) -> None:
    intervals_ns = np.diff(changes_ns(hours(PLANNERS[name][0], 7)))
    assert len(intervals_ns) >= 7
    assert intervals_ns / 60e9 == pytest.approx(MINUTES_PER_TURN / satellites, abs=0.05)


def test_two_antennas_make_before_they_break() -> None:
    """A step of the delay, and neither a drop nor a hold."""
    timeline = hours(PLANNERS[MPOWER][0], 3)
    handovers = changes_ns(timeline)
    assert len(handovers) == 4
    for channel in (timeline.uplink, timeline.downlink):
        assert (channel.gate == Gate.PASS).all()
        for at_ns in handovers.tolist():
            step_ns = channel.at(at_ns).delay_ns - channel.at(at_ns - 1).delay_ns
            assert 2 * NS_PER_MS < abs(step_ns) < 20 * NS_PER_MS


def test_one_antenna_breaks_before_it_makes() -> None:
    timeline = hours(PLANNERS[CLASSIC][0], 2)
    handovers = changes_ns(timeline)
    assert len(handovers) >= 5
    channel = timeline.uplink
    for at_ns in handovers.tolist():
        assert channel.at(at_ns - 1).gate is Gate.PASS
        assert channel.at(at_ns).gate is Gate.DROP
        assert channel.at(at_ns + 15 * NS_PER_S - 1).cause is Cause.HANDOVER
        assert channel.at(at_ns + 15 * NS_PER_S).gate is Gate.PASS


def test_a_gap_longer_than_a_minute_goes_on_in_the_next() -> None:
    windows = planner(CLASSIC, "link.handover.drop_ms=60000", "link.handover.hold_ms=60000")
    (at_ns, *_) = changes_ns(hours(windows, 0.5)).tolist()
    fresh = planner(CLASSIC, "link.handover.drop_ms=60000", "link.handover.hold_ms=60000")
    for after_s, gate in ((0, Gate.DROP), (59.9, Gate.DROP), (60.1, Gate.HOLD), (119.9, Gate.HOLD), (120, Gate.PASS)):
        then_ns = at_ns + round(after_s * NS_PER_S)
        assert fresh.window(then_ns, then_ns + 1).downlink.at(then_ns).gate is gate


def test_the_real_satellites_serve_as_well(reference_data: Path) -> None:
    catalogue = reference_data / "elements" / "active_2025-10-03.tle"
    for name in (MPOWER, CLASSIC):
        windows = windows_for(load_scenario(name), elements=catalogue, epoch_utc_ns=START_NS)
        timeline = windows.window(START_NS, START_NS + 361 * MINUTE_NS)  # once around
        assert (timeline.path.satellite >= 0).all()
        assert len(changes_ns(timeline)) >= 4


def test_a_terminal_too_far_north_is_refused() -> None:
    with pytest.raises(CoverageError, match=r"latitude 75.*elevation mask 15°, highest elevation seen -?\d"):
        planner(MPOWER, "terminal.latitude_deg=75.0")
