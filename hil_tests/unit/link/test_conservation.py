"""Offered = delivered + dropped + held, at every instant; and what is delivered is what was offered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emulator.link.link import Change, DirectionCounters, Link, LinkOptions
from emulator.link.state import NEVER
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import SMALL, Offer, drive, new_link
from hil_tests.unit.link.packets import Super, frame, packet
from hil_tests.unit.link.strategies import MS, POLLS, SEEDS, SIZES, arrivals, changes, channels, mixed_offers, offers_of

OPTIONS = st.builds(
    LinkOptions,
    queue_packets=st.integers(1, 5) | st.just(1000),
    overhead_bytes=st.sampled_from([0, 20]),
    egress_rate_bps=st.sampled_from([0, 10**9 + 7]),
    memory_bytes=st.sampled_from([1 << 6, 1 << 11, 1 << 17, 1 << 22]),
    flight_packets=st.sampled_from([1, 2, 1 << 11]),
)


def adds_up(counters: DirectionCounters) -> bool:
    return counters.offered_packets == counters.delivered_packets + counters.dropped_packets + counters.held_packets


def keeps_account(link: Link) -> None:
    assert adds_up(link.counters()), link.counters()


@given(channels(), changes(), OPTIONS, mixed_offers(), POLLS, SEEDS)
def test_every_packet_is_accounted_for_at_every_instant(
    channel: Channel, overlay: list[Change], options: LinkOptions, offers: list[Offer], polls: list[int], seed: int
) -> None:
    link = new_link(channel, options, seed=seed, changes=overlay)
    deliveries, counters = drive(link, offers, polls=polls, between=keeps_account)
    assert counters.delivered_packets == len(deliveries)
    assert counters.delivered_bytes == sum(len(delivery.packet) for delivery in deliveries)
    assert counters.flying_packets == 0


@given(st.lists(st.tuples(SEEDS.map(lambda seed: seed % 1000), SIZES), max_size=5), mixed_offers())
def test_offers_are_counted_in_wire_packets_and_ip_bytes(_: object, offers: list[Offer]) -> None:
    link = new_link(Channel.constant(0, delay_ns=0))
    deliveries, counters = drive(link, offers)
    assert counters.offered_packets == len(deliveries) == counters.delivered_packets
    assert counters.offered_bytes == sum(len(delivery.packet) for delivery in deliveries) == counters.delivered_bytes


@given(channels(), changes(), OPTIONS, arrivals(), POLLS)
def test_what_is_delivered_is_what_was_offered(
    channel: Channel, overlay: list[Change], options: LinkOptions, found: list[tuple[int, int]], polls: list[int]
) -> None:
    offers = offers_of(found)
    deliveries = drive(new_link(channel, options, changes=overlay), offers, polls=polls).deliveries
    left = iter(offer.frame[10:] for offer in offers)
    for delivery in deliveries:  # in order, each once, none changed: a subsequence
        assert any(delivery.packet == offered for offered in left)


@given(st.integers(6, 17).map(lambda bits: 1 << bits), arrivals(most=60, gaps=st.integers(0, 2 * MS)))
def test_the_memory_is_a_ring_that_never_mixes_packets(memory_bytes: int, found: list[tuple[int, int]]) -> None:
    options = LinkOptions(memory_bytes=memory_bytes, flight_packets=1 << 11)
    link = new_link(Channel.constant(0, delay_ns=5 * MS), options)
    offers = offers_of(found)
    deliveries, counters = drive(link, offers, polls=[at for at, _ in found], between=keeps_account)
    left = iter(offer.frame[10:] for offer in offers)
    assert all(any(delivery.packet == offered for offered in left) for delivery in deliveries)
    assert set(counters.dropped) <= {Cause.MEMORY}
    assert counters.dropped_packets == len(offers) - len(deliveries)


def test_a_packet_as_large_as_the_memory_fits_and_a_larger_one_is_a_counted_drop() -> None:
    link = new_link(Channel.constant(0, delay_ns=0), LinkOptions(memory_bytes=1 << 12, flight_packets=4))
    link.offer(packet((1 << 12) - 10, 1), 0)
    assert len(link.poll(0)) == 1
    link.offer(packet((1 << 12) - 9, 2), 0)
    assert link.poll(0) == []
    assert link.counters().dropped == {Cause.MEMORY: 1}


def test_full_memory_is_given_back_to_the_last_byte() -> None:
    link = new_link(Channel.constant(0, delay_ns=MS), LinkOptions(memory_bytes=1 << 16, flight_packets=1 << 11))
    for round_ in range(5):
        start = round_ * 10 * MS
        offered = drive(link, [Offer(start, frame(54, number)) for number in range(1100)], drained=False)
        held = offered.counters.held_packets
        assert held == 1023, "as many super-packets as the table of this memory has rows, but one"
        assert len(link.poll(start + MS)) == held


def test_a_super_packet_that_finds_no_memory_is_counted_packet_by_packet() -> None:
    burst = Super("tcp", 4, payload=20_000, segment=1448)
    link = new_link(Channel.constant(0, delay_ns=0), LinkOptions(memory_bytes=1 << 12, flight_packets=64))
    link.offer_super(burst.frame(), 0)
    counters = link.counters()
    assert counters.dropped == {Cause.MEMORY: burst.wire_packets}
    assert counters.offered_packets == burst.wire_packets
    assert counters.offered_bytes == sum(burst.wire_lengths())


def test_runts_without_memory_do_not_lower_the_byte_count() -> None:
    link = new_link(Channel.constant(0, delay_ns=MS), LinkOptions(memory_bytes=64, flight_packets=64))
    link.offer(packet(20, 1), 0)
    before = link.counters().offered_bytes
    link.offer_super(b"\0" * 3, 0)
    assert link.counters().offered_bytes == before
    assert adds_up(link.counters())


def test_a_full_sky_drops_for_memory() -> None:
    link = new_link(Channel.constant(0, delay_ns=MS), LinkOptions(memory_bytes=1 << 12, flight_packets=4))
    for number in range(6):
        link.offer(packet(20, number), 0)
    assert link.counters().dropped == {Cause.MEMORY: 2}
    assert [delivery.packet for delivery in link.poll(MS)] == [packet(20, number) for number in range(4)]


def test_held_packets_are_those_that_wait_and_those_that_fly() -> None:
    rate_bps = 8_000_000  # 1 byte a µs
    link = new_link(Channel.constant(0, delay_ns=5 * MS, rate_bps=rate_bps), SMALL)
    for number in range(3):
        link.offer(packet(1000, number), 0)
    counters = link.counters()
    assert (counters.queued_packets, counters.flying_packets) == (2, 1)
    link.poll(2 * MS)
    counters = link.counters()
    assert (counters.queued_packets, counters.flying_packets) == (0, 3)


def test_a_hold_without_end_holds() -> None:
    link = new_link(Channel.constant(0, delay_ns=0), changes=[Change(0, NEVER, Gate.HOLD, Cause.COMMAND)])
    outcome = drive(link, [Offer(number, frame(100, number)) for number in range(5)])
    assert outcome.deliveries == []
    assert outcome.counters.queued_packets == 5
