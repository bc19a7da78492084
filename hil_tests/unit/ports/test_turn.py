"""When the packet loops sleep and rest."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from emulator.ports.frames import DEVICE_MARGIN_NS
from emulator.ports.turn import (
    WAKE_EARLIEST_NS,
    WAKE_EARLY_NS,
    WAKE_LATEST_NS,
    WAKE_STEP_NS,
    looked_at,
    rest_ns,
    wake_early,
)

SLEEPS, LEARNING = 60_000, 20_000


@given(st.lists(st.integers(0, WAKE_EARLIEST_NS - 100 * WAKE_STEP_NS), min_size=1, max_size=20), st.integers(0, 2**32))
def test_one_sleep_in_a_hundred_ends_too_late(oversleeps: list[int], seed: int) -> None:
    """Whatever sleeps there are on a machine, in any order, if the longest can be made up for at all."""
    sleeps = random.Random(seed).choices(oversleeps, k=SLEEPS)
    early, late = WAKE_EARLY_NS, 0
    for number, overslept in enumerate(sleeps):
        late += overslept > early and number >= LEARNING
        early = wake_early(early, overslept)
        assert WAKE_LATEST_NS <= early <= WAKE_EARLIEST_NS
    assert late / (SLEEPS - LEARNING) <= 0.015


@given(st.integers(0, 10**10), st.integers(0, 10**10), st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_rest_comes_when_it_fits_or_is_overdue_and_never_sooner(
    spun: int, free: int, longest: int, rest: int
) -> None:
    found = rest_ns(spun, free, longest, rest)
    assert found in (0, rest)
    assert not found or spun > longest
    assert found or spun <= 4 * longest
    assert found or spun <= longest or free <= rest


@given(st.integers(0, 10**9), st.integers(0, 10**7), st.integers(0, 3 * DEVICE_MARGIN_NS))
def test_a_port_is_not_known_to_be_empty_from_later_on_than_it_was_looked_at(
    now: int, slept: int, stopped: int
) -> None:
    """Behind that look, the last of ppoll, the thread may be stopped."""
    known = looked_at(now, now + slept + stopped)
    assert now <= known <= now + slept + DEVICE_MARGIN_NS
