"""Jumps, standstills and other plans: each packet meets the old link before the instant, and the new one from it on."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.bench.clock import WorldClock
from emulator.bench.course import BACK_NS, Course
from emulator.bench.planner import Planner
from emulator.errors import EmulationError
from emulator.link.link import Change, Link, LinkOptions
from emulator.timeline.model import Channel, Path, Timeline, Windows
from emulator.units import NS_PER_MS, NS_PER_S

S = NS_PER_S
START_S = 1_800_000_000
SMALL = LinkOptions(memory_bytes=1 << 12, flight_packets=16)


class Slope(Windows):
    """The delay says what UTC it is: 1 µs more each ms, from the start of the run on, and `above_ns` in addition."""

    def __init__(self, above_ns: int = 0) -> None:
        self.above_ns = above_ns

    def delay_ns(self, utc_ns: int) -> int:
        return self.above_ns + 10**9 + (utc_ns - START_S * S) // 1000

    def window(self, start_ns: int, end_ns: int) -> Timeline:
        seconds = np.arange(start_ns // S, -(-end_ns // S), dtype=np.int64) * S
        zeros = np.zeros_like(seconds)
        delays = np.array([self.delay_ns(int(at)) for at in seconds], np.int64)
        slopes = np.full_like(seconds, S // 1000)
        channel = Channel(seconds, delays, slopes, zeros, zeros, zeros, zeros, zeros, zeros)
        angles = np.zeros(len(seconds))
        path = Path(seconds, zeros - 1, zeros - 1, angles, angles, angles, zeros)
        return Timeline(start_ns, end_ns, channel, channel, path, (), ())


class Run:
    """A course over two links, as a bench has it."""

    def __init__(self) -> None:
        self.begun_ns = time.monotonic_ns() + NS_PER_MS
        self.clock = WorldClock(START_S * S)
        self.plan = Slope()
        self.planner = Planner(self.plan, START_S * S)
        first = self.planner.first
        self.links = [
            Link(channel, first.end_ns, seed=1, direction=way, options=SMALL, utc_offset_ns=self.clock.offset_ns)
            for way, channel in enumerate((first.uplink, first.downlink))
        ]
        self.stopping = threading.Event()
        self.gates: list[list[Change]] = []
        both = {"uplink": self.links[0], "downlink": self.links[1]}
        self.course = Course(self.clock, self.planner, both, self.gates.append, self.stopping)  # type: ignore[arg-type]

    def wrong(self, monotonic_ns: int) -> int:
        """By how many ns the links' delay at a time is not that of the plan at the clock's UTC of that time."""
        expected = self.plan.delay_ns(self.clock.utc_of_monotonic_ns(monotonic_ns))
        return max(abs(link.channel_at(monotonic_ns).delay_ns - expected) for link in self.links)


turns = st.sampled_from(["jump", "freeze", "resume", "keep"])
jumps = st.integers(-1000 * S, 1000 * S)


@given(st.lists(st.tuples(turns, jumps), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_at_each_time_the_links_are_where_the_clock_is(steps: list[tuple[str, int]]) -> None:
    run = Run()
    for verb, by_ns in steps:
        try:
            if verb == "jump":
                turn = run.course.jump(lambda utc_ns, by_ns=by_ns: max(0, utc_ns + by_ns))  # type: ignore[misc]
                assert turn.utc_ns == turn.old_utc_ns + by_ns
            elif verb == "keep":
                run.course.keep_ahead()
                continue
            else:
                turn = run.course.freeze() if verb == "freeze" else run.course.resume()
                assert turn.utc_ns == turn.old_utc_ns
        except EmulationError as error:
            assert ("stand" in str(error)) == (verb != "jump")  # noqa: PT017
            continue
        for at_ns in (-BACK_NS // 100, -5 * NS_PER_MS, -1, 0, 1, NS_PER_MS, S, 20 * S):
            if turn.at_ns + at_ns >= run.begun_ns:
                assert run.wrong(turn.at_ns + at_ns) <= 2, (verb, at_ns)


def test_a_change_for_later_is_exact_and_does_not_disturb_before() -> None:
    run = Run()
    at_ns = time.monotonic_ns() + S // 5
    turn = run.course.jump(lambda utc_ns: utc_ns + 3600 * S, at_ns)
    assert turn.at_ns == at_ns
    assert time.monotonic_ns() < at_ns  # put on the links before its time
    assert max(run.wrong(at_ns + beside) for beside in (-S // 10, -1, 0, S)) <= 2
    assert run.clock.utc_of_monotonic_ns(at_ns) - run.clock.utc_of_monotonic_ns(at_ns - 1) == 3600 * S + 1


def test_a_change_that_waits_lets_another_one_go_first() -> None:
    run = Run()
    at_ns = time.monotonic_ns() + S // 2
    waiting = threading.Thread(target=run.course.jump, args=(lambda utc_ns: utc_ns + 100 * S, at_ns))
    waiting.start()
    first = run.course.jump(lambda utc_ns: utc_ns - 7 * S)
    assert first.at_ns < at_ns
    waiting.join()
    moved = (
        run.clock.utc_of_monotonic_ns(at_ns) - run.clock.utc_of_monotonic_ns(first.at_ns - 1) - (at_ns - first.at_ns)
    )
    assert moved == 93 * S + 1
    assert run.wrong(at_ns - 1) <= 2
    assert run.wrong(at_ns) <= 2


def test_the_end_of_the_bench_ends_the_wait() -> None:
    run = Run()
    run.stopping.set()
    with pytest.raises(EmulationError, match="the bench ends"):
        run.course.freeze(time.monotonic_ns() + 3600 * S)
    assert not run.course.standing


def test_what_stands_is_not_planned_on_and_goes_on_where_it_stood() -> None:
    run = Run()
    stood = run.course.freeze()
    run.course.keep_ahead()
    for later_ns in (S, 3600 * S):
        assert run.links[0].channel_at(stood.at_ns + later_ns).delay_ns == run.plan.delay_ns(stood.utc_ns)
    with pytest.raises(EmulationError, match="stands still already"):
        run.course.freeze()
    went_on = run.course.resume()
    assert went_on.utc_ns == stood.utc_ns
    assert run.wrong(went_on.at_ns + S) <= 2


def test_a_link_without_satellites_has_none_to_pin() -> None:
    run = Run()
    with pytest.raises(EmulationError, match="no choice of satellites"):
        run.course.pin("x", None)
    with pytest.raises(EmulationError, match="no choice of satellites"):
        run.course.hand_over(lambda utc_ns: utc_ns + S, None)
    assert run.gates == []
