"""What comes over ZeroMQ is checked before it is used: a batch is taken as far as it is whole, and never further."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.ports import batch, messages
from emulator.timeline.causes import Cause
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import Offer, drive, new_link
from hil_tests.unit.link.packets import frame, packet
from hil_tests.unit.link.strategies import MS, arrivals, changes, channels, mixed_offers, offers_of
from hil_tests.unit.link.subprocesses import python
from hil_tests.unit.ports.batch_cases import OPTIONS, Ends, digest, header, record
from hil_tests.unit.ports.batch_cases import arrivals as arrivals_batch

CASES = 300
EXTREMES = st.sampled_from([0, 1, -1, 65_535, 65_536, 2**31, 2**40, 2**62, -(2**63), 2**63 - 1]) | st.integers(-5, 300)


@given(mixed_offers(), channels(gates=False))
def test_what_crosses_in_batches_is_what_the_link_alone_would_deliver(offers: list[Offer], channel: Channel) -> None:
    ends = Ends.new(channel)
    for offer in offers:
        assert ends.offer(arrivals_batch([offer.frame], offer.at_ns))
        assert ends.board(ends.pack(offer.at_ns))
    while (at := ends.link.next_event_ns()) is not None:
        assert ends.board(ends.pack(at))
    alone = new_link(channel, OPTIONS)
    outcome = drive(alone, offers)
    # a packet due while others are still to come lies in the alone link's memory longer than in these
    if Cause.MEMORY not in outcome.counters.dropped:
        assert ends.line.poll(1 << 60) == outcome.deliveries


@given(st.lists(EXTREMES, max_size=20), st.booleans())
def test_any_words_are_refused_or_taken_and_add_up(words: list[int], departures: bool) -> None:
    ends = Ends.new()
    kind = messages.DEPARTURES if departures else messages.ARRIVALS
    message = header(kind, 3) + b"".join(word.to_bytes(8, "little", signed=True) for word in words)
    ends.board(message) if departures else ends.offer(message)


@given(st.binary(max_size=200))
def test_noise_is_refused(message: bytes) -> None:
    ends = Ends.new()
    assert not ends.offer(message)
    assert not ends.board(message)
    assert ends.line.counters().offered_packets == ends.link.counters().offered_packets == 0


@given(arrivals(most=5, sizes=st.integers(20, 60)), st.integers(0, 600))
def test_a_batch_that_is_cut_is_taken_as_far_as_it_is_whole(found: list[tuple[int, int]], cut: int) -> None:
    frames = [offer.frame for offer in offers_of(found)]
    message = arrivals_batch(frames)
    ends = Ends.new()
    whole = ends.offer(message[:cut])
    assert whole == (cut >= len(message))
    count = ends.link.counters().offered_packets
    assert arrivals_batch(frames[:count])[64:] == message[64 : len(arrivals_batch(frames[:count]))]
    assert len(arrivals_batch(frames[:count])) <= max(64, cut)


@pytest.mark.parametrize(
    "wrong",
    [
        header(messages.ARRIVALS, 1, magic=messages.MAGIC + 1),
        header(messages.ARRIVALS, 1, direction=1),
        header(messages.ARRIVALS, 1, session=78),
        header(messages.DEPARTURES, 1),
        header(messages.ARRIVALS, -1),
        header(messages.ARRIVALS, batch.MOST_RECORDS + 1),
    ],
)
def test_what_is_not_for_us_is_refused_whole(wrong: bytes) -> None:
    ends = Ends.new()
    assert not ends.offer(wrong + record(0, 110, data=frame(100, 1)))
    assert ends.link.counters().offered_packets == 0


def test_an_arrival_that_claims_to_be_earlier_counts_as_that_of_the_one_before() -> None:
    ends = Ends.new()
    message = (
        header(messages.ARRIVALS, 2) + record(5 * MS, 110, data=frame(100, 1)) + record(MS, 110, data=frame(100, 2))
    )
    assert ends.offer(message)
    assert ends.board(ends.pack(5 * MS))
    assert [delivery.due_ns for delivery in ends.line.poll(10 * MS)] == [5 * MS + 1000] * 2


def test_departures_whose_packets_are_not_as_many_as_they_say_are_malformed() -> None:
    ends = Ends.new()
    message = header(messages.DEPARTURES, 2) + record(3, 110, 0, 0, 0, data=frame(100, 1))
    assert ends.board(message + record(1, 110, 0, data=frame(100, 2)))
    assert [delivery.packet for delivery in ends.line.poll(0)] == [packet(100, 2)]
    assert ends.line.counters().dropped == {Cause.MALFORMED: 3}


def test_hostile_batches_lead_to_the_same_compiled_and_interpreted() -> None:
    """And interpreted, an index out of bounds would have been an error."""
    interpreted = python("-m", "hil_tests.unit.ports.batch_cases", str(CASES), NUMBA_DISABLE_JIT="1")
    assert interpreted == digest(CASES)


@given(changes())
def test_nothing_crosses_where_nothing_is_due(_: object) -> None:
    ends = Ends.new()
    assert len(ends.pack(10**9)) == messages.HEADER_WORDS * 8


def test_times_are_those_of_the_other_clock() -> None:
    """What an end stamps by its clock, the link serves by its own; what is due, the end is told by its own again."""
    ahead = 3_600_000 * MS
    here, there = Ends.new(), Ends.new()
    there.offset = ahead
    for ends, at in ((here, 5 * MS), (there, 5 * MS + ahead)):
        assert ends.offer(arrivals_batch([frame(100, 1)], at))
        assert ends.board(ends.pack(6 * MS))
    assert [one.due_ns for one in here.line.poll(10 * MS)] == [5 * MS + 1000]
    assert [one.due_ns for one in there.line.poll(10 * MS + ahead)] == [5 * MS + 1000 + ahead]
