"""Simulated UTC over the monotonic clock: it goes with the world's, or on its own."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.bench import clock
from emulator.bench.clock import STEP_NS, WorldClock, utc_minus_monotonic_ns
from emulator.units import NS_PER_MS, NS_PER_S


def test_without_a_start_it_is_the_worlds_utc() -> None:
    before, now, after = time.time_ns(), WorldClock(None).utc_ns(), time.time_ns()
    assert before - NS_PER_MS <= now <= after + NS_PER_MS


@given(st.integers(0, 4_000_000_000 * NS_PER_S))
def test_with_a_start_it_begins_there_and_follows_nobody(start_utc_ns: int) -> None:
    world = WorldClock(start_utc_ns)
    assert start_utc_ns <= world.utc_ns() < start_utc_ns + 10 * NS_PER_S
    assert world.follow() is None


@given(st.integers(0, 2**62), st.integers(-(2**60), 2**60))
def test_utc_and_monotonic_are_one_scale(monotonic_ns: int, offset_ns: int) -> None:
    world = WorldClock(0)
    world.set(0, offset_ns)
    assert world.monotonic_of_utc_ns(world.utc_of_monotonic_ns(monotonic_ns)) == monotonic_ns


@pytest.mark.parametrize("step_ns", [STEP_NS, -STEP_NS, NS_PER_S, -3600 * NS_PER_S])
def test_a_step_is_followed_once_and_told(monkeypatch: pytest.MonkeyPatch, step_ns: int) -> None:
    world = WorldClock(None)
    stepped = world.offset_ns + step_ns
    monkeypatch.setattr(clock, "utc_minus_monotonic_ns", lambda: stepped)
    assert (world.follow(), world.follow()) == (step_ns, None)
    assert world.offset_ns == stepped


def test_what_is_less_than_a_step_accumulates_until_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is being slewed drifts away slowly; it must not drift away for ever."""
    world = WorldClock(None)
    start = world.offset_ns
    steps = []
    for drift_ns in range(0, 5 * STEP_NS, STEP_NS // 4):
        monkeypatch.setattr(clock, "utc_minus_monotonic_ns", lambda drift_ns=drift_ns: start + drift_ns)
        steps.append(world.follow())
        assert abs(start + drift_ns - world.offset_ns) < STEP_NS
    assert steps.count(None) == len(steps) - 4


def test_the_difference_of_the_clocks_is_measured_closely() -> None:
    differences = [utc_minus_monotonic_ns() for _ in range(20)]
    assert max(differences) - min(differences) < 50 * NS_PER_MS


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(-1000, 1000), st.booleans()), max_size=6))
def test_pieces_are_one_after_the_other_and_the_way_back_leads_to_the_same_utc(
    changes: list[tuple[int, int, bool]],
) -> None:
    """Changes: after how long, to which UTC, whether it stands from then on."""
    world = WorldClock(0)
    world.set(0, 0)
    expected, at_ns, utc_ns, standing = {}, 0, 0, False
    for wait_ns, to_ns, stands in [*changes, (50, 0, False)]:
        for step in range(wait_ns):
            expected[at_ns + step] = utc_ns if standing else utc_ns + step
        at_ns, utc_ns, standing = at_ns + wait_ns, to_ns, stands
        world.set(at_ns, utc_ns, standing=standing)
    world.set(10**6, 10**7)
    assert {moment: world.utc_of_monotonic_ns(moment) for moment in expected} == expected
    for moment, utc_ns in expected.items():
        found = world.monotonic_of_utc_ns(utc_ns)
        assert world.utc_of_monotonic_ns(found) == utc_ns
        assert found >= moment or {expected[between] for between in range(found, moment + 1)} == {utc_ns}


def test_a_clock_that_stands_goes_with_no_step_of_the_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    world = WorldClock(None)
    now_ns = time.monotonic_ns()
    world.set(now_ns, 12345, standing=True)
    stepped = utc_minus_monotonic_ns() + NS_PER_S
    monkeypatch.setattr(clock, "utc_minus_monotonic_ns", lambda: stepped)
    assert world.follow() is not None
    assert (world.utc_ns(), world.standing) == (12345, True)
    world.set(now_ns + 10, 12345)
    assert world.follow() is None
