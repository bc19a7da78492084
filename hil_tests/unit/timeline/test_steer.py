"""Plans cut and joined, searched, and taken in hand by an operator."""

from __future__ import annotations

from dataclasses import fields
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import EmulationError
from emulator.scenario import load_scenario
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.marks import MARKS, Mark, changes, next_mark
from emulator.timeline.model import Timeline, Windows
from emulator.timeline.sky import SkyWindows
from emulator.timeline.splice import (
    SplicedWindows,
    cut_channel,
    cut_timeline,
    joined_timelines,
    moved_channel,
    standing_channel,
)
from emulator.timeline.steer import handed_over, pinned, serving, what_a_handover_does
from emulator.units import NS_PER_S, parse_utc_ns

S = NS_PER_S
START_NS = parse_utc_ns("2026-01-01T00:00:00Z")
LENGTH_NS = 120 * S
SKIES = ["starlink_2025", "oneweb", "ground_station_contact"]
inside = st.integers(1, LENGTH_NS - 1)


@cache
def windows(name: str) -> Windows:
    return windows_for(load_scenario(name), epoch_utc_ns=START_NS)


@cache
def window(name: str) -> Timeline:
    return windows(name).window(START_NS, START_NS + LENGTH_NS)


def same_at(one: Timeline, other: Timeline, at_ns: int) -> bool:
    """Whether two Timelines say the same of an instant; a cut may round the delay by a ns."""
    for name in ("uplink", "downlink"):
        mine, yours = getattr(one, name).at(at_ns), getattr(other, name).at(at_ns)
        if abs(mine.delay_ns - yours.delay_ns) > 1:
            return False
        if (mine.rate_bps, mine.loss, mine.gate, mine.cause) != (yours.rate_bps, yours.loss, yours.gate, yours.cause):
            return False
    return who(one, at_ns) == who(other, at_ns)


def who(timeline: Timeline, at_ns: int) -> tuple[str, str, int]:
    row = timeline.path.row_at(at_ns)
    satellite, gateway = timeline.path.satellite[row], timeline.path.gateway[row]
    return (
        timeline.satellites[satellite] if satellite >= 0 else "",
        timeline.gateways[gateway] if gateway >= 0 else "",
        int(timeline.path.slot[row]),
    )


@given(st.sampled_from(SKIES), inside, inside, st.lists(inside, max_size=8))
def test_a_timeline_cut_and_joined_is_what_it_was(name: str, cut: int, other: int, times: list[int]) -> None:
    whole = window(name)
    first = cut_timeline(whole, START_NS, START_NS + cut)
    second = cut_timeline(whole, START_NS + cut, START_NS + LENGTH_NS)
    assert int(second.uplink.start_ns[0]) == int(second.path.start_ns[0]) == START_NS + cut
    joined = joined_timelines(first, second)
    for at in (*times, cut, cut - 1, other):
        assert same_at(joined, whole, START_NS + at)
        assert same_at(first if at < cut else second, whole, START_NS + at)
    assert set(joined.satellites) == set(whole.satellites)


@given(inside, st.integers(-(10**15), 10**15), inside)
def test_a_channel_may_be_moved_and_may_stand(at: int, by_ns: int, other: int) -> None:
    channel = window("starlink_2025").downlink
    moved = moved_channel(cut_channel(channel, START_NS + at, START_NS + LENGTH_NS), by_ns)
    later = START_NS + max(at, other)
    assert abs(moved.at(later + by_ns).delay_ns - channel.at(later).delay_ns) <= 1
    standing = standing_channel(channel, START_NS + at)
    assert len(standing) == 1
    assert standing.at(START_NS + at).delay_ns == standing.at(START_NS + at + 10**15).delay_ns


@given(st.sampled_from(SKIES), inside)
def test_spliced_plans_hold_each_on_its_side(name: str, at: int) -> None:
    plan = windows(name)
    spliced = SplicedWindows(plan, START_NS + at, pinned(plan, None, None))
    for start, end in ((0, LENGTH_NS), (at - at % S, LENGTH_NS), (0, at + S)):
        timeline = spliced.window(START_NS + start, START_NS + end)
        for field in fields(timeline.uplink):
            assert getattr(timeline.uplink, field.name).dtype == np.int64
        assert same_at(timeline, window(name), START_NS + max(start, at - 1))
        assert same_at(timeline, window(name), START_NS + min(at, end - 1))


def found(plan: Windows, mark: Mark, after_ns: int) -> int:
    return next(at for at in next_mark(plan, after_ns, mark) if at is not None)


@pytest.mark.parametrize("mark", MARKS)
def test_the_next_mark_is_the_first_that_a_window_shows(mark: Mark) -> None:
    name = "ground_station_contact" if mark == "contact" else "starlink_2025"
    at = found(windows(name), mark, START_NS)
    assert at > START_NS
    around = windows(name).window(at - 10 * S - at % S, at + 10 * S - at % S)
    assert at in changes(around, mark)
    before = windows(name).window(START_NS, at - at % S) if at - START_NS < 3600 * S else around
    assert [one for one in changes(before, mark) if START_NS < one < at] == []
    if mark == "slot":
        assert at % (15 * S) == 12 * S
    if mark == "contact":
        assert serving(windows(name), at)[0]
        assert not serving(windows(name), at - 1)[0]


def test_what_never_comes_is_refused() -> None:
    with pytest.raises(EmulationError, match="next-handover: this link never changes"):
        found(windows("fixed"), "handover", START_NS)
    with pytest.raises(EmulationError, match="next-slot: this link has no slots"):
        found(windows("oneweb"), "slot", START_NS)


@pytest.mark.parametrize("name", ["starlink_2025", "oneweb"])
def test_a_forced_handover_takes_another_satellite_and_ends_with_what_was_planned(name: str) -> None:
    plan = windows(name)
    at_ns, until_ns = START_NS + 15 * S + 123_456_789, START_NS + 27 * S
    other = handed_over(plan, at_ns, until_ns)
    before, after = serving(plan, at_ns)[0], serving(other, at_ns)[0]
    assert after not in ("", before)
    assert serving(other, until_ns - 1)[0] != before
    assert serving(other, until_ns) == serving(plan, until_ns)
    assert handed_over(plan, at_ns, until_ns, after).window(at_ns - at_ns % S, until_ns).satellites == (after,)
    gates = other.window(until_ns, until_ns + 10 * S).downlink
    assert gates.at(until_ns).gate is not Gate.PASS  # the way back is a handover too
    assert gates.at(until_ns).cause is Cause.HANDOVER
    assert gates.at(until_ns + 5 * S).gate is Gate.PASS
    assert what_a_handover_does(other, at_ns)[0].start_ns == at_ns
    assert serving(plan, at_ns)[0] == before  # the plan itself is as it was


def test_who_is_pinned_serves_or_nobody_does() -> None:
    plan = windows("starlink_2025")
    satellite, gateway = serving(plan, START_NS)
    only = pinned(plan, satellite, gateway)
    timeline = only.window(START_NS, START_NS + 1200 * S)
    assert timeline.satellites == (satellite,)
    assert (timeline.path.satellite >= 0).any()
    gone = timeline.path.satellite < 0
    assert gone.any()  # it sets
    assert set(timeline.downlink.cause[timeline.downlink.gate == Gate.DROP].tolist()) >= {int(Cause.NO_SATELLITE)}
    assert isinstance(only, SkyWindows)
    others = [name for name in only.gateways if name != gateway]
    assert pinned(plan, None, others[0]).window(START_NS, START_NS + 60 * S).gateways in ((), (others[0],))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("starlink_2025", r"satellite 'p52 s17': this link has none of that name; did you mean "),
        ("geo_dvbs2", "no choice of satellites or gateways"),
        ("fixed", "no choice of satellites or gateways"),
    ],
)
def test_who_is_not_there_cannot_be_pinned(name: str, fault: str) -> None:
    plan = windows(name)
    known = plan.satellites[0] if isinstance(plan, SkyWindows) else "any"
    with pytest.raises(EmulationError, match=fault):
        pinned(plan, "p52 s17" if plan.slotted else known, None)
