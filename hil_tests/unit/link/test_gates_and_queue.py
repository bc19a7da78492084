"""Gates shut and open at their nanosecond; the queue takes what fits and not one packet more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.link.link import Change, LinkOptions
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import Offer, drain, drive, new_link
from hil_tests.unit.link.packets import Super, frame, packet
from hil_tests.unit.link.strategies import MS, S, arrivals, channel_of, offers_of

HOLD, DROP = int(Gate.HOLD), int(Gate.DROP)
BYTE_PER_US = 8_000_000


def gated(gate: int, cause: Cause, rate_bps: int = 0) -> Channel:
    """Open for 10 ms, shut for 10 ms, open from then on."""
    shut = {"lasts_ns": 10 * MS, "rate_bps": rate_bps, "gate": gate, "cause": int(cause)}
    return channel_of([{"lasts_ns": 10 * MS, "rate_bps": rate_bps}, shut, {"lasts_ns": S, "rate_bps": rate_bps}])


@given(arrivals(sizes=st.integers(20, 200)))
def test_what_a_hold_keeps_leaves_in_order_when_it_ends(found: list[tuple[int, int]]) -> None:
    deliveries = drive(new_link(gated(HOLD, Cause.HANDOVER)), offers_of(found)).deliveries
    assert [delivery.packet for delivery in deliveries] == [
        packet(size, number) for number, (_, size) in enumerate(found, 1)
    ]
    for (at, _), delivery in zip(found, deliveries, strict=True):
        assert delivery.due_ns == (20 * MS if 10 * MS <= at < 20 * MS else at)


def test_a_hold_begins_and_ends_at_its_nanosecond() -> None:
    times = [10 * MS - 1, 10 * MS, 20 * MS - 1, 20 * MS]
    deliveries = drive(new_link(gated(HOLD, Cause.HANDOVER)), offers_of([(at, 100) for at in times])).deliveries
    assert [delivery.due_ns for delivery in deliveries] == [10 * MS - 1, 20 * MS, 20 * MS, 20 * MS]


def test_after_a_hold_the_queue_leaves_at_the_rate() -> None:
    found = [(11 * MS, 1000)] * 3
    deliveries = drive(new_link(gated(HOLD, Cause.HANDOVER, BYTE_PER_US)), offers_of(found)).deliveries
    assert [delivery.due_ns for delivery in deliveries] == [21 * MS, 22 * MS, 23 * MS]


def test_a_packet_in_service_when_a_hold_begins_is_let_out() -> None:
    found = [(int(9.5 * MS), 1000), (int(9.6 * MS), 1000)]
    deliveries = drive(new_link(gated(HOLD, Cause.HANDOVER, BYTE_PER_US)), offers_of(found)).deliveries
    assert [delivery.due_ns for delivery in deliveries] == [int(10.5 * MS), 21 * MS]


def test_a_drop_begins_and_ends_at_its_nanosecond() -> None:
    times = [10 * MS - 1, 10 * MS, 20 * MS - 1, 20 * MS]
    outcome = drive(new_link(gated(DROP, Cause.OUTAGE)), offers_of([(at, 100) for at in times]))
    assert [delivery.due_ns for delivery in outcome.deliveries] == [10 * MS - 1, 20 * MS]
    assert outcome.counters.dropped == {Cause.OUTAGE: 2}


def test_what_is_dropped_takes_its_time_on_the_air() -> None:
    found = [(int(18.5 * MS), 1000), (int(18.6 * MS), 1000), (int(18.7 * MS), 1000)]
    outcome = drive(new_link(gated(DROP, Cause.OUTAGE, BYTE_PER_US)), offers_of(found))
    # lost until 19.5 ms, lost until 20.5 ms (it was in service while the gate was shut), then 1 ms for the third
    assert [delivery.due_ns for delivery in outcome.deliveries] == [int(21.5 * MS)]
    assert outcome.counters.dropped == {Cause.OUTAGE: 2}


def test_a_drop_that_begins_in_mid_service_loses_the_packet() -> None:
    outcome = drive(new_link(gated(DROP, Cause.OBSTRUCTION, BYTE_PER_US)), offers_of([(10 * MS - 1, 1000)]))
    assert outcome.counters.dropped == {Cause.OBSTRUCTION: 1}


def test_a_drop_behind_a_hold_loses_what_was_held() -> None:
    rows = [
        {"lasts_ns": MS, "gate": HOLD, "cause": int(Cause.HANDOVER)},
        {"lasts_ns": MS, "gate": DROP, "cause": int(Cause.OUTAGE)},
        {"lasts_ns": S},
    ]
    outcome = drive(new_link(channel_of(rows)), offers_of([(0, 100), (2 * MS, 100)]))
    assert [delivery.due_ns for delivery in outcome.deliveries] == [2 * MS]
    assert outcome.counters.dropped == {Cause.OUTAGE: 1}


@given(st.integers(1, 50), st.integers(0, 100))
def test_the_queue_takes_its_limit_beside_the_one_in_service(limit: int, offered: int) -> None:
    options = LinkOptions(queue_packets=limit, memory_bytes=1 << 20, flight_packets=128)
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=BYTE_PER_US), options)
    outcome = drive(link, offers_of([(5, 100)] * offered))
    assert outcome.counters.delivered_packets == min(offered, limit + 1)
    assert outcome.counters.dropped.get(Cause.QUEUE, 0) == max(0, offered - limit - 1)
    assert outcome.counters.worst_queue_packets <= max(1, min(offered, limit))


@given(st.integers(1, 50), st.integers(0, 100))
def test_a_hold_fills_the_queue_to_its_limit(limit: int, offered: int) -> None:
    options = LinkOptions(queue_packets=limit, memory_bytes=1 << 20, flight_packets=128)
    link = new_link(gated(HOLD, Cause.HANDOVER), options)
    outcome = drive(link, offers_of([(10 * MS, 100)] * offered))
    assert outcome.counters.delivered_packets == min(offered, limit)
    assert outcome.counters.dropped.get(Cause.QUEUE, 0) == max(0, offered - limit)


def test_a_place_is_free_from_the_instant_at_which_service_starts() -> None:
    options = LinkOptions(queue_packets=1, memory_bytes=1 << 20, flight_packets=128)
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=BYTE_PER_US), options)
    found = [(0, 1000), (0, 1000), (MS - 1, 1000), (MS, 1000)]  # the second begins its service at 1 ms
    outcome = drive(link, offers_of(found))
    assert [delivery.due_ns for delivery in outcome.deliveries] == [MS, 2 * MS, 3 * MS]
    assert outcome.counters.dropped == {Cause.QUEUE: 1}


def test_a_super_packet_may_lose_its_tail_to_the_queue() -> None:
    burst = Super("udp", 4, payload=10_000, segment=1000)
    options = LinkOptions(queue_packets=4, memory_bytes=1 << 20, flight_packets=128)
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=BYTE_PER_US), options)
    outcome = drive(link, [Offer(0, burst.frame())])
    assert outcome.counters.delivered_packets == 5
    assert outcome.counters.dropped == {Cause.QUEUE: 5}


def test_drop_outranks_hold_and_hold_outranks_pass() -> None:
    overlay = [Change(0, 10, Gate.HOLD, Cause.COMMAND), Change(0, 5, Gate.DROP, Cause.FADE)]
    outcome = drive(
        new_link(Channel.constant(0, delay_ns=0), changes=overlay), offers_of([(0, 100), (5, 100), (10, 100)])
    )
    assert [delivery.due_ns for delivery in outcome.deliveries] == [10, 10]
    assert outcome.counters.dropped == {Cause.FADE: 1}


def test_a_drop_for_no_cause_is_refused() -> None:
    link = new_link(Channel.constant(0, delay_ns=0))
    with pytest.raises(ValueError, match="cause"):
        link.overlay([Change(0, 10, Gate.DROP)])
    with pytest.raises(ValueError, match="cause"):
        channel_of([{"lasts_ns": 10, "gate": DROP}])


def test_next_event_is_when_the_gate_opens_and_none_if_it_never_does() -> None:
    link = new_link(gated(HOLD, Cause.HANDOVER))
    assert link.next_event_ns() is None
    link.offer_super(frame(100, 1), 12 * MS)
    assert link.next_event_ns() == 20 * MS
    assert [delivery.due_ns for delivery in drain(link)] == [20 * MS]
    assert link.next_event_ns() is None
