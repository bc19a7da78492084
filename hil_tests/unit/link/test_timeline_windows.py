"""The Timeline comes in windows, and the world's clock may step: packets never notice a seam."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.link import state
from emulator.link.link import ROWS, ROWS_BEHIND, Change, Link, LinkOptions
from emulator.timeline.causes import Cause
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import END_NS, SMALL, Offer, drain, drive, new_link
from hil_tests.unit.link.packets import frame, packet
from hil_tests.unit.link.strategies import MS, SEEDS, S, arrivals, changes, channels, offers_of


def part(channel: Channel, start: int, stop: int) -> Channel:
    return Channel(**{field.name: getattr(channel, field.name)[start:stop] for field in fields(Channel)})


def steps(count: int, every_ns: int = MS, start_ns: int = 0, first_delay_ns: int = 0) -> Channel:
    """A channel whose delay is one ns more in each row."""
    starts = start_ns + np.arange(count, dtype=np.int64) * every_ns
    zeros = np.zeros_like(starts)
    return Channel(
        starts, first_delay_ns + np.arange(count, dtype=np.int64), zeros, zeros, zeros, zeros, zeros, zeros, zeros
    )


@given(channels(), changes(), arrivals(), SEEDS, st.lists(st.integers(1, 4), max_size=4), st.booleans())
def test_windows_are_as_good_as_one_piece(
    channel: Channel, overlay: list[Change], found: list[tuple[int, int]], seed: int, cuts: list[int], overlapping: bool
) -> None:
    """Also if a window begins with the last row of the window before, as planners' windows do."""
    whole = new_link(channel, seed=seed, changes=overlay)
    edges = sorted({0, len(channel), *(cut for cut in cuts if cut < len(channel))})
    pieces = [
        part(channel, start - (overlapping and start > 0), stop) for start, stop in zip(edges, edges[1:], strict=False)
    ]
    fed = new_link(pieces[0], seed=seed, changes=overlay)
    for piece in pieces[1:]:
        assert fed.extend(piece, END_NS)
    offers = offers_of(found)
    assert drive(whole, offers) == drive(fed, offers)


@given(channels(), arrivals(), SEEDS, st.integers(1, 4))
def test_a_window_may_come_while_packets_are_under_way(
    channel: Channel, found: list[tuple[int, int]], seed: int, cut: int
) -> None:
    """As late as the moment at which it begins. Without a rate: a service under way would know the old end only."""
    channel.rate_bps[:] = 0
    cut = min(cut, len(channel) - 1) or 1
    whole, fed = new_link(channel, seed=seed), new_link(part(channel, 0, cut), seed=seed)
    offers = offers_of(found)
    at = int(channel.start_ns[cut]) - 1 if cut < len(channel) else 0
    before = drive(fed, [offer for offer in offers if offer.at_ns <= at], polls=[at], drained=False)
    if cut < len(channel):
        fed.extend(part(channel, cut, len(channel)), END_NS)
    after = drive(fed, [offer for offer in offers if offer.at_ns > at])
    outcome = drive(whole, offers)
    assert before.deliveries + after.deliveries == outcome.deliveries
    assert after.counters == outcome.counters


def test_a_full_ring_of_rows_refuses_and_takes_again_when_packets_have_passed() -> None:
    link = new_link(steps(ROWS - ROWS_BEHIND))
    more = steps(2 * ROWS_BEHIND, start_ns=(ROWS - ROWS_BEHIND) * MS, first_delay_ns=ROWS - ROWS_BEHIND)
    assert not link.extend(more, END_NS)
    assert link.channel_at((ROWS + 5) * MS).delay_ns == ROWS - ROWS_BEHIND - 1, "what was refused changed nothing"
    link.offer(packet(100, 1), 5 * ROWS_BEHIND * MS)
    assert link.extend(more, END_NS)
    for row in (5 * ROWS_BEHIND, ROWS - ROWS_BEHIND, ROWS + 5):
        assert link.channel_at(row * MS).delay_ns == row


def test_rows_make_room_when_time_passes_and_no_packet_does() -> None:
    """A bench that nobody uses for a day must not run out of Timeline."""
    link = new_link(steps(1000))
    for start in range(1000, 3 * ROWS, 1000):
        now_ns = (start - 60) * MS
        assert link.extend(steps(1000, start_ns=start * MS, first_delay_ns=start), END_NS, now_ns)
        assert link.channel_at(now_ns).delay_ns == start - 60
    link.offer(packet(100, 1), 3 * ROWS * MS)
    assert [delivery.due_ns for delivery in drain(link)] == [3 * ROWS * MS + link.channel_at(3 * ROWS * MS).delay_ns]


def test_a_window_of_more_rows_than_there_are_is_an_error() -> None:
    link = new_link(steps(10))
    with pytest.raises(ValueError, match="rows"):
        link.extend(steps(ROWS, start_ns=10 * MS), END_NS)


def test_a_late_planner_is_counted_and_the_last_row_stays_in_force() -> None:
    link = Link(steps(3), 3 * MS, seed=1, direction=0, options=SMALL)
    dues = [delivery.due_ns for delivery in drive(link, offers_of([(2 * MS, 100), (3 * MS - 1, 100)])).deliveries]
    assert link.state.reg[state.STARVED] == 0
    dues += [
        delivery.due_ns for delivery in drive(link, [Offer(at, frame(100, 9)) for at in (3 * MS, 4 * MS)]).deliveries
    ]
    assert link.state.reg[state.STARVED] == 2
    assert dues == [2 * MS + 2, 3 * MS + 1, 3 * MS + 2, 4 * MS + 2]


@given(st.lists(st.tuples(st.integers(0, 2 * MS), st.integers(-900 * MS, 900 * MS)), min_size=1, max_size=12))
def test_a_step_of_the_clock_is_followed_back_and_forth(moves: list[tuple[int, int]]) -> None:
    """Each packet meets the row of its UTC by the clock of the moment; none is lost, none overtakes."""
    channel = steps(2000)
    link = new_link(channel)
    now, last_due = 1000 * MS, 0
    for number, (gap, offset_ns) in enumerate(moves):
        now += gap
        link.set_utc_offset(offset_ns)
        link.offer(packet(100, number), now)
        (delivery,) = drain(link)
        last_due = max(last_due, now + channel.at(now + offset_ns).delay_ns)
        assert delivery == (last_due, packet(100, number))


def test_a_clock_set_back_beyond_all_rows_meets_the_first_until_it_is_planned_anew() -> None:
    link = new_link(steps(100, start_ns=S, first_delay_ns=500))
    link.set_utc_offset(-10 * S)
    assert link.channel_at(S + 50 * MS).delay_ns == 500
    assert link.extend(steps(100, start_ns=-9 * S, first_delay_ns=7), END_NS)
    assert link.channel_at(S + 50 * MS).delay_ns == 57
    link.offer(packet(100, 1), S + 50 * MS)
    assert [delivery.due_ns for delivery in drain(link)] == [S + 50 * MS + 57]
    assert link.extend(steps(100, start_ns=-9 * S + 100 * MS, first_delay_ns=1000), END_NS)
    assert link.channel_at(S + 150 * MS).delay_ns == 1050


def test_a_new_offset_moves_holds_too() -> None:
    """Packets that wait for a gate that opens at a UTC leave when the clock gets there, however it gets there."""
    channel = steps(2, every_ns=10 * MS)
    channel.gate[0] = 1
    link = new_link(channel)
    link.offer(packet(100, 1), 0)
    assert link.next_event_ns() == 10 * MS
    link.set_utc_offset(4 * MS)
    assert link.next_event_ns() == 6 * MS
    assert [delivery.due_ns for delivery in drain(link)] == [6 * MS + 1]


@given(channels(), channels(), arrivals(), SEEDS, st.integers(0, S), st.integers(-S, S))
def test_a_replanned_link_meets_what_the_new_plan_holds_where_it_was_put(
    old: Channel, new: Channel, found: list[tuple[int, int]], seed: int, at: int, moved: int
) -> None:
    """Whatever was there before; simulated UTC may be moved with it."""
    fed, fresh = (new_link(channel, seed=seed) for channel in (old, new))
    fed.replan(new, END_NS, moved)
    fresh.set_utc_offset(moved)
    offers = offers_of(found)
    assert drive(fed, offers) == drive(fresh, offers)
    assert fed.channel_at(at) == fresh.channel_at(at)


def test_a_lane_takes_another_limit_from_now_on() -> None:
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=8), LinkOptions(queue_packets=3, memory_bytes=1 << 16))
    for number in range(5):
        link.offer(packet(100, number), 0)
    assert link.counters().queued_packets == 3  # the first is in service
    link.set_limit(0, packets=2)
    link.offer(packet(100, 5), 1)
    assert link.counters().queued_packets == 3
    for limit in (0, 4, -1):
        with pytest.raises(ValueError, match="queue limit: expected 1 to 3 packets, for which the queue was made"):
            link.set_limit(0, packets=limit)
    link.set_limit(0, packets=3, queue_bytes=350)
    link.offer(packet(100, 6), 2)
    assert link.counters().dropped == {Cause.QUEUE: 3}
