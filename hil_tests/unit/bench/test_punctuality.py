"""Falling behind real time is told, once for each time that it happens, and again while it lasts."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emulator.bench.punctuality import LATE_PACKETS, REMIND_LOOKS, Punctuality, late_packets

BINS = 10_001


class Loop:
    """What the packet loop counts, and who looks at it."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.lateness_us = np.zeros(BINS, np.int64)
        self.turns = 0
        self.watch = Punctuality(self.told.append, "0.5 s")
        self.watch.look(self.lateness_us, self.turns)

    def period(self, *packets: tuple[int, int], turns: int = 1000) -> None:
        """A period in which (lateness, packets) left."""
        for late_us, count in packets:
            self.lateness_us[late_us] += count
        self.turns += turns
        self.watch.look(self.lateness_us, self.turns)


def test_a_loop_that_is_in_time_says_nothing() -> None:
    loop = Loop()
    for _ in range(50):
        loop.period((3, 10_000), (999, 200))
        loop.period()
    assert loop.told == []
    assert late_packets(loop.lateness_us) == 0


def test_falling_behind_and_catching_up_are_told_once_each() -> None:
    loop = Loop()
    loop.period((5, 900), (2300, 100))
    loop.period((5, 900), (2300, 100))
    loop.period((5, 1000))
    first, last = loop.told
    assert first.startswith("the emulation falls behind real time: 100 of 1000 packets of the last 0.5 s left more")
    assert first.endswith("than 1 ms late, 2.3 ms at most")
    assert last == "the emulation keeps up with real time again"
    assert late_packets(loop.lateness_us) == 200


def test_what_is_later_than_the_last_bin_is_said_to_be_so() -> None:
    loop = Loop()
    loop.period((BINS - 1, 50))
    assert loop.told[0].endswith("50 of 50 packets of the last 0.5 s left more than 1 ms late, 10.0 ms or more")


def test_a_loop_that_stands_still_is_told() -> None:
    loop = Loop()
    loop.period(turns=0)
    assert loop.told == ["the emulation falls behind real time: the packet loop has not run for 0.5 s"]


def test_while_it_lasts_it_is_told_again() -> None:
    loop = Loop()
    for _ in range(2 * REMIND_LOOKS + 1):
        loop.period((5000, 100))
    assert len(loop.told) == 3


@given(st.lists(st.tuples(st.integers(0, BINS - 1), st.integers(0, 10_000)), max_size=10))
def test_it_is_told_if_and_only_if_one_in_a_hundred_is_late(packets: list[tuple[int, int]]) -> None:
    loop = Loop()
    loop.period(*packets)
    late = sum(count for late_us, count in packets if late_us >= 1000)
    total = sum(count for _, count in packets)
    assert bool(loop.told) == (late >= LATE_PACKETS and late * 100 >= total)
