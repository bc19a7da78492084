"""Token bucket and delivery opportunities, against their definitions."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ScenarioError
from emulator.link.link import Bucket, LinkOptions, Opportunities
from emulator.scenario.opportunities import read_opportunities
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import drive, new_link
from hil_tests.unit.link.strategies import MS, S, arrivals, offers_of

OPTIONS = LinkOptions(memory_bytes=1 << 22, flight_packets=1 << 11)
OPEN = Channel.constant(0, delay_ns=0)


@given(
    arrivals(most=60, sizes=st.integers(20, 4000)),
    st.sampled_from([1, 7, 999_983, 10**6, 10**9]) | st.integers(1, 10**10),
    st.sampled_from([1, 100, 1500]) | st.integers(1, 20_000),
    st.sampled_from([0, 10**7]),
    st.sampled_from([0, 18]),
)
def test_what_leaves_in_any_time_is_what_the_bucket_allows(
    found: list[tuple[int, int]], rate_bps: int, burst_bytes: int, line_bps: int, overhead: int
) -> None:
    """The burst, or the last packet if it is larger, and what the rate fills in."""
    options = replace(OPTIONS, bucket=Bucket(rate_bps, burst_bytes), overhead_bytes=overhead)
    channel = replace(OPEN, rate_bps=OPEN.rate_bps + line_bps)
    outcome = drive(new_link(channel, options), offers_of(found))
    assert outcome.counters.delivered_packets == len(found)
    sizes = [len(packet) + overhead for _, packet in outcome.deliveries]
    dues = [due for due, _ in outcome.deliveries]
    starts = [due - (size * 8 * S // line_bps if line_bps else 0) for due, size in zip(dues, sizes, strict=True)]
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            bits = sum(sizes[first : last + 1]) * 8
            assert (
                bits
                <= max(burst_bytes, sizes[last]) * 8 + (starts[last] - starts[first] + 2) * rate_bps / S + 1e-6 * bits
            )


@given(arrivals(most=30, sizes=st.integers(20, 1500)), st.integers(1, 20_000))
def test_a_bucket_never_holds_back_what_it_has_room_for(found: list[tuple[int, int]], burst_bytes: int) -> None:
    """As early as the definition allows: when a packet, after all before it, finds its bytes, or the bucket full."""
    rate_bps = 1_000_000
    options = replace(OPTIONS, bucket=Bucket(rate_bps, burst_bytes))
    outcome = drive(new_link(OPEN, options), offers_of(found))
    level, clock = burst_bytes * 8 * S, 0
    for (arrival, size), (due, _) in zip(found, outcome.deliveries, strict=True):
        begin = max(arrival, clock)
        level = min(burst_bytes * 8 * S, level + (begin - clock) * rate_bps)
        wait = max(0, -(-(min(size, burst_bytes) * 8 * S - level) // rate_bps))
        level += wait * rate_bps - size * 8 * S
        clock = begin + wait
        assert due == clock


def mahimahi(found: Sequence[tuple[int, int]], instants: Sequence[int], packet_bytes: int) -> list[int]:
    """When packets leave, as Mahimahi's link queue says: every opportunity is burnt, used or not."""
    queue: deque[tuple[int, int]] = deque()
    left: list[int] = []
    waiting = deque(found)
    base, place, owed = 0, 0, 0
    while waiting or queue or owed:
        at = base + instants[place]
        while waiting and waiting[0][0] < at:
            queue.append(waiting.popleft())
        room = packet_bytes
        while room > 0 and (owed or queue):
            owed = owed or queue.popleft()[1]
            used = min(room, owed)
            room, owed = room - used, owed - used
            if owed == 0:
                left.append(at)
        place += 1
        if place == len(instants):
            base, place = base + instants[-1], 0
    return left


TRACES = st.lists(st.integers(0, 30 * MS), min_size=1, max_size=8).map(sorted).filter(lambda found: found[-1] > 0)


@given(arrivals(most=30, sizes=st.integers(20, 4000)), TRACES, st.sampled_from([100, 1504]), st.sampled_from([0, 4]))
def test_opportunities_are_mahimahis(
    found: list[tuple[int, int]], instants: list[int], packet_bytes: int, overhead: int
) -> None:
    options = replace(
        OPTIONS, opportunities=Opportunities(tuple(instants), packet_bytes), overhead_bytes=overhead, queue_packets=5000
    )
    outcome = drive(new_link(OPEN, options), offers_of(found))
    counted = [(at, size + overhead) for at, size in found]
    assert [due for due, _ in outcome.deliveries] == mahimahi(counted, instants, packet_bytes)


@given(arrivals(most=20, sizes=st.integers(20, 1500)), st.integers(0, 10**9))
def test_a_trace_lives_in_utc(found: list[tuple[int, int]], shift: int) -> None:
    options = replace(OPTIONS, opportunities=Opportunities((3 * MS, 7 * MS)))
    moved = drive(new_link(OPEN, options, utc_offset_ns=shift), offers_of(found)).deliveries
    later = drive(new_link(OPEN, options), offers_of([(at + shift, size) for at, size in found])).deliveries
    assert [due + shift for due, _ in moved] == [due for due, _ in later]


def test_a_trace_file_is_read_in_milliseconds(tmp_path: Path) -> None:
    (tmp_path / "up.ms").write_text("0\n5\n5\n\n12\n")
    assert read_opportunities(tmp_path / "up.ms") == (0, 5 * MS, 5 * MS, 12 * MS)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected at least one delivery opportunity"),
        ("0\n0\n", "expected at least one delivery opportunity"),
        ("1\n2.5\n", "line 2: expected whole milliseconds, got '2.5'"),
        ("1\nsoon\n", "line 2: expected whole milliseconds, got 'soon'"),
        ("4\n3\n", "line 2: expected no less than the line before, got 3"),
        ("9" * 30, "line 1: expected whole milliseconds"),
    ],
)
def test_a_bad_trace_is_refused_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "up.ms").write_text(text)
    with pytest.raises(ScenarioError, match=r"up\.ms: ") as caught:
        read_opportunities(tmp_path / "up.ms")
    assert complaint in str(caught.value)
