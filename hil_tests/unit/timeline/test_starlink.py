"""The Timeline of a Starlink link: laws that hold in every window."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import CoverageError, ElementsError
from emulator.orbit.look import look
from emulator.scenario import load_scenario
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.draws import Way
from emulator.timeline.model import Channel, Timeline
from emulator.timeline.save import joined
from emulator.timeline.sky import Seen
from emulator.timeline.starlink import StarlinkWindows
from emulator.units import NS_PER_MS, NS_PER_S, SPEED_OF_LIGHT_M_S, parse_utc_ns

START_NS = parse_utc_ns("2025-10-03T10:00:00Z")
SLOT_NS = 15 * NS_PER_S
SECONDS_NS = np.arange(0, SLOT_NS, NS_PER_S, dtype=np.int64)
HANDOVER = ("link.handover.drop_ms=20", "link.handover.hold_ms=40", "link.handover.reconfigure_hold_ms=15")
QUIET = ("link.outages.per_hour=0",)
BUSY = ("link.outages.per_hour=600", "link.outages.duration_s={p0=0.0,p5=0.1,p50=1.0,p95=20.0,p100=90.0}")


def planner(*overrides: str) -> StarlinkWindows:
    windows = windows_for(load_scenario("starlink_2025", overrides), epoch_utc_ns=START_NS)
    assert isinstance(windows, StarlinkWindows)
    return windows


PLANNER = planner()
BUSY_PLANNER, OTHER_BUSY_PLANNER = planner(*BUSY), planner(*BUSY)
STARTS = st.integers(0, 3 * 86_400 * NS_PER_S).map(lambda offset_ns: START_NS + offset_ns)
LENGTHS = st.integers(1, 90 * NS_PER_S)


def same_channel(one: Channel, other: Channel) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__)


def same(one: Timeline, other: Timeline) -> bool:
    ways = same_channel(one.uplink, other.uplink) and same_channel(one.downlink, other.downlink)
    names = [
        [timeline.satellites[index] if index >= 0 else "" for index in timeline.path.satellite]
        for timeline in (one, other)
    ]
    angles = all(
        np.array_equal(getattr(one.path, name), getattr(other.path, name), equal_nan=True)
        for name in ("start_ns", "azimuth_deg", "elevation_deg", "slant_range_m", "slot")
    )
    return ways and angles and names[0] == names[1]


@given(STARTS, LENGTHS, st.lists(LENGTHS, max_size=3))
@settings(max_examples=40)
def test_joined_windows_are_the_long_window(start_ns: int, first_ns: int, more_ns: list[int]) -> None:
    edges = np.cumsum([start_ns, first_ns, *more_ns]).tolist()
    parts = [BUSY_PLANNER.window(begin, end) for begin, end in pairwise(edges)]
    OTHER_BUSY_PLANNER.window(edges[-1], edges[-1] + SLOT_NS)  # asked in another order, it answers the same
    assert same(joined(parts), OTHER_BUSY_PLANNER.window(edges[0], edges[-1]))


@given(STARTS, LENGTHS)
@settings(max_examples=40)
def test_a_window_holds_a_row_for_each_of_its_instants(start_ns: int, length_ns: int) -> None:
    timeline = PLANNER.window(start_ns, start_ns + length_ns)
    for starts in (timeline.uplink.start_ns, timeline.downlink.start_ns, timeline.path.start_ns):
        assert starts[0] <= start_ns
        assert len(starts) == 1 or starts[1] > start_ns
        assert starts[-1] < start_ns + length_ns
        assert np.diff(starts, append=start_ns + length_ns).max() <= NS_PER_S


@given(STARTS)
@settings(max_examples=40)
def test_who_serves_changes_only_at_12_27_42_and_57(start_ns: int) -> None:
    path = PLANNER.window(start_ns, start_ns + 120 * NS_PER_S).path
    changed = path.start_ns[1:][np.diff(path.satellite) != 0]
    assert len(changed) > 0
    assert set((changed % (60 * NS_PER_S)).tolist()) <= {second * NS_PER_S for second in (12, 27, 42, 57)}
    assert np.array_equal(path.slot, (path.start_ns - 12 * NS_PER_S) // SLOT_NS)


@given(STARTS)
@settings(max_examples=40)
def test_delay_is_continuous_within_a_slot(start_ns: int) -> None:
    timeline = BUSY_PLANNER.window(start_ns, start_ns + 60 * NS_PER_S)
    slot = timeline.path.slot
    for channel in (timeline.uplink, timeline.downlink):
        ends = [
            channel.delay_ns[row] + channel.delay_slope_ns_per_s[row] * int(step) // NS_PER_S
            for row, step in enumerate(np.diff(channel.start_ns))
        ]
        gap_ns = np.abs(channel.delay_ns[1:] - np.array(ends))
        assert gap_ns[slot[1:] == slot[:-1]].max() <= 1  # asked for: 1000
        assert np.abs(channel.delay_slope_ns_per_s).max() <= 50_000  # 0.10 ms/s of RTT, LINK_FACTS


@given(STARTS)
@settings(max_examples=20)
def test_delay_is_what_light_needs_plus_the_stated_parts(start_ns: int) -> None:
    timeline = PLANNER.window(start_ns, start_ns + 30 * NS_PER_S)
    link = PLANNER._link
    parts = PLANNER.delay_parts(start_ns, start_ns + 30 * NS_PER_S)
    for channel, way in ((timeline.uplink, "uplink_ns"), (timeline.downlink, "downlink_ns")):
        fixed_ns = getattr(link, way[:-3]).fixed_ms * NS_PER_MS
        spread_ns = getattr(link, way[:-3]).slot_spread_ms * NS_PER_MS
        for row in range(0, len(channel), 7):
            at_ns = int(channel.start_ns[row])
            serving = PLANNER.policy.serving(int(timeline.path.slot[row]))
            position = PLANNER.policy.propagator.positions_m(np.array([at_ns], np.int64), np.array([serving.satellite]))
            ranges_m = [
                float(look(observer, position).range_m[0, 0])
                for observer in (PLANNER.policy.site.start, PLANNER.policy.gateways[serving.gateway].observer)
            ]
            assert float(timeline.path.slant_range_m[row]) == pytest.approx(ranges_m[0], abs=1e-3)
            fibre_ns = PLANNER.policy.gateways[serving.gateway].fibre_m / 2e8 * NS_PER_S + 0.5e6
            light_ns = sum(ranges_m) / SPEED_OF_LIGHT_M_S * NS_PER_S
            assert (
                -2 <= channel.delay_ns[row] - light_ns - fibre_ns - fixed_ns <= spread_ns + 60
            )  # 60: lines for curves
        sums = np.sum([getattr(part, way) for part in parts if not part.name.endswith(", mean")], axis=0)
        at = timeline.path.start_ns
        seconds = (at >= start_ns) & (at % NS_PER_S == 0)
        assert np.array_equal(sums, channel.delay_ns[seconds])


@given(st.integers(0, 20_000))
@settings(max_examples=20)
def test_handovers_drop_then_hold_then_pass(slots: int) -> None:
    windows = _HANDOVERS
    number = windows.policy.slot_at(START_NS) + slots
    start_ns = windows.policy.slot_start_ns(number)
    channel = windows.window(start_ns, start_ns + SLOT_NS).uplink
    changed = windows.policy.serving(number).satellite != windows.policy.serving(number - 1).satellite
    drop, hold = (20, 40) if changed else (0, 15)
    for after_ms, gate in (
        (0, Gate.DROP if drop else Gate.HOLD),
        (drop, Gate.HOLD),
        (drop + hold, Gate.PASS),
        (14_999, Gate.PASS),
    ):
        state = channel.at(start_ns + after_ms * NS_PER_MS)
        assert state.gate is gate
        assert state.cause is (Cause.NONE if gate is Gate.PASS else Cause.HANDOVER)
    assert channel.at(start_ns + (drop + hold) * NS_PER_MS - 1).gate is Gate.HOLD


@given(st.integers(0, 20_000), st.sampled_from(["both", "uplink", "downlink"]))
@settings(max_examples=20)
def test_what_a_handover_does_not_drop_in_a_direction_it_holds(slots: int, direction: str) -> None:
    windows = _DROPPING[direction]
    number = windows.policy.slot_at(START_NS) + slots
    start_ns = windows.policy.slot_start_ns(number)
    changed = windows.policy.serving(number).satellite != windows.policy.serving(number - 1).satellite
    timeline = windows.window(start_ns, start_ns + NS_PER_S)
    for name, channel in (("uplink", timeline.uplink), ("downlink", timeline.downlink)):
        first = Gate.DROP if changed and direction in ("both", name) else Gate.HOLD
        assert channel.at(start_ns).gate is first
        assert channel.at(start_ns + (60 if changed else 15) * NS_PER_MS - 1).gate is Gate.HOLD
        assert channel.at(start_ns + (60 if changed else 15) * NS_PER_MS).gate is Gate.PASS


_HANDOVERS = planner("link.handover.drop_direction=both", *HANDOVER, *QUIET)
_DROPPING = {
    direction: planner(f"link.handover.drop_direction={direction}", *HANDOVER, *QUIET)
    for direction in ("both", "uplink", "downlink")
}


def test_outages_come_as_often_and_last_as_long_as_said() -> None:
    """Counted over 20 days straight from the process, without planning the slots."""
    days = 20
    phases = []
    for start_ns in range(START_NS, START_NS + days * 86_400 * NS_PER_S, 3600 * NS_PER_S):
        found = PLANNER._outages(start_ns, start_ns + 3600 * NS_PER_S)
        phases += [phase for phase in found if phase.start_ns >= start_ns]
    expected = PLANNER._link.outages.per_hour * 24 * days
    assert abs(len(phases) - expected) < 4 * expected**0.5
    durations = np.array([(phase.end_ns - phase.start_ns) / NS_PER_S for phase in phases])
    assert float(np.median(durations)) == pytest.approx(0.86, rel=0.1)
    assert float((durations > 7.2).mean()) == pytest.approx(0.05, abs=0.02)
    assert durations.max() <= 15
    gaps = np.diff(sorted(phase.start_ns for phase in phases)) / NS_PER_S
    assert float(gaps.std() / gaps.mean()) == pytest.approx(1, abs=0.1)  # as a Poisson process has it


def test_an_outage_shuts_both_ways_for_all_its_time() -> None:
    outage = next(
        phase
        for phase in PLANNER._outages(START_NS, START_NS + 86_400 * NS_PER_S)
        if phase.end_ns - phase.start_ns > NS_PER_S
    )
    timeline = PLANNER.window(outage.start_ns - SLOT_NS, outage.end_ns + SLOT_NS)
    for channel in (timeline.uplink, timeline.downlink):
        for at_ns in (outage.start_ns, (outage.start_ns + outage.end_ns) // 2, outage.end_ns - 1):
            assert (channel.at(at_ns).gate, channel.at(at_ns).cause) == (Gate.DROP, Cause.OUTAGE)
        assert channel.at(outage.start_ns - 1).cause is not Cause.OUTAGE
        assert channel.at(outage.end_ns).cause is not Cause.OUTAGE


def test_an_outage_that_began_slots_ago_goes_on() -> None:
    outages = BUSY_PLANNER._outages(START_NS, START_NS + 3600 * NS_PER_S)
    long = max(outages, key=lambda phase: phase.end_ns - phase.start_ns)
    assert long.end_ns - long.start_ns > 3 * SLOT_NS
    for at_ns in range(long.start_ns, long.end_ns, 5 * NS_PER_S):
        assert BUSY_PLANNER.window(at_ns, at_ns + 1).uplink.at(at_ns).cause is Cause.OUTAGE


def test_rates_follow_their_quantiles_and_vary_more_between_slots_than_within() -> None:
    first = PLANNER.policy.slot_at(START_NS)
    unseen = Seen(np.zeros(16), np.zeros(16), np.zeros(16), np.zeros((2, 16)))
    for way, link in ((0, PLANNER._link.uplink), (1, PLANNER._link.downlink)):
        slots = [
            PLANNER._rates(number, Way(way), unseen, PLANNER.policy.slot_start_ns(number) + SECONDS_NS)
            for number in range(first, first + 4000)
        ]
        rates = np.array(slots) / 1e6
        given = link.rate_mbps
        found = np.percentile(rates, (5, 50, 95))
        assert found == pytest.approx([given.p5, given.p50, given.p95], rel=0.12)
        assert rates.min() >= given.p0 * (1 - link.rate_wobble)
        assert rates.max() <= given.p100 * (1 + link.rate_wobble)
        assert rates.mean(axis=1).var() > 5 * rates.var(axis=1).mean()


def test_no_limit_stays_no_limit_and_a_rate_never_becomes_one() -> None:
    none = "{p0=0.0,p5=0.0,p50=0.0,p95=0.0,p100=0.0}"
    small = "{p0=0.0,p5=0.0,p50=0.0,p95=0.0,p100=0.000001}"
    windows = planner(f"link.uplink.rate_mbps={none}", f"link.downlink.rate_mbps={small}")
    timeline = windows.window(START_NS, START_NS + 60 * NS_PER_S)
    assert set(timeline.uplink.rate_bps.tolist()) == {0}
    assert timeline.downlink.rate_bps.min() > 0


def test_the_same_seed_gives_the_same_arrays_and_another_seed_others() -> None:
    window = START_NS, START_NS + 60 * NS_PER_S
    assert same(planner("seed=5").window(*window), planner("seed=5").window(*window))
    five, six = planner("seed=5").window(*window), planner("seed=6").window(*window)
    assert not np.array_equal(five.uplink.rate_bps, six.uplink.rate_bps)


def test_the_start_of_the_run_changes_nothing() -> None:
    scenario = load_scenario("starlink_2025")
    later = windows_for(scenario, epoch_utc_ns=START_NS + 86_400 * NS_PER_S)
    assert same(later.window(START_NS, START_NS + SLOT_NS), PLANNER.window(START_NS, START_NS + SLOT_NS))


def test_a_gap_of_coverage_shuts_the_gate() -> None:
    sparse = "[{name='s',altitude_km=550.0,inclination_deg=53.0,planes=8,satellites_per_plane=4}]"
    windows = planner(f"constellation.shells={sparse}", *QUIET)
    timeline = windows.window(START_NS, START_NS + 3600 * NS_PER_S)
    without = timeline.path.satellite < 0
    assert 0 < without.sum() < len(without)
    for channel in (timeline.uplink, timeline.downlink):
        assert np.array_equal((channel.cause == Cause.NO_SATELLITE) & (channel.gate == Gate.DROP), without)
        assert channel.delay_ns.min() >= 0
    assert np.isnan(timeline.path.slant_range_m[without]).all()
    assert (timeline.path.gateway[without] == -1).all()
    returned = int(np.flatnonzero(without[:-1] & ~without[1:])[0]) + 1
    assert timeline.uplink.cause[returned] == Cause.HANDOVER


def test_phases_longer_than_a_slot_end_with_it() -> None:
    windows = planner("link.handover.drop_ms=20000", "link.handover.hold_ms=0", *QUIET)
    channel = windows.window(START_NS, START_NS + 120 * NS_PER_S).uplink
    assert np.diff(channel.start_ns).max() == NS_PER_S


def test_another_slot_phase_moves_the_slots() -> None:
    path = planner("link.slot_phase_s=3.5").window(START_NS, START_NS + 60 * NS_PER_S).path
    changed = path.start_ns[1:][np.diff(path.satellite) != 0]
    assert set((changed % SLOT_NS).tolist()) == {3_500_000_000}


def test_a_terminal_without_coverage_and_stale_elements_are_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(CoverageError, match=r"mask 89\.9°"):
        planner("terminal.min_elevation_deg=89.9")
    path = tmp_path_factory.mktemp("elements") / "old.tle"
    path.write_text("")
    with pytest.raises(ElementsError, match=r"old\.tle"):
        windows_for(load_scenario("starlink_2025"), elements=path, epoch_utc_ns=START_NS)
