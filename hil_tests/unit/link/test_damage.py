"""Spoilt, doubled, late and lost by number or by length: each is what its name says, and the sums hold."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.link.link import DirectionCounters, Jitter, Link, LinkOptions
from emulator.timeline.causes import Cause
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import Offer, drive, new_link
from hil_tests.unit.link.packets import PROTOCOL, Super, fold, ones_sum
from hil_tests.unit.link.strategies import MS, POLLS, SEEDS, arrivals, channels, mixed_offers, offers_of

OPTIONS = LinkOptions(memory_bytes=1 << 23, flight_packets=1 << 12)
OPEN = Channel.constant(0, delay_ns=MS)
SHARES = st.sampled_from([0.0, 0.3, 1.0])


def adds_up(counters: DirectionCounters) -> bool:
    made = counters.offered_packets + counters.copied_packets
    return made == counters.delivered_packets + counters.dropped_packets + counters.held_packets


def keeps_account(link: Link) -> None:
    assert adds_up(link.counters()), link.counters()


@given(channels(), mixed_offers(), POLLS, SEEDS, SHARES, SHARES, SHARES, st.booleans())
def test_every_packet_and_every_double_is_accounted_for(
    channel: Channel, offers: list[Offer], polls: list[int], seed: int, spoilt: float, copied: float, late: float,
    overtakes: bool,
) -> None:  # fmt: skip
    options = replace(
        OPTIONS, spoilt=spoilt, copied=copied, late=late, late_ns=5 * MS, jitter=Jitter(overtakes=overtakes)
    )
    link = new_link(channel, options, seed=seed)
    outcome = drive(link, offers, polls=polls, between=keeps_account)
    assert outcome.counters.delivered_packets == len(outcome.deliveries)
    again = drive(new_link(channel, options, seed=seed), offers)
    assert again == outcome, "when it is polled makes no difference"


def checksum_holds(packet: bytes) -> bool:
    """Whether the TCP or UDP checksum of a packet without extension headers is right."""
    version = packet[0] >> 4
    header = 20 if version == 4 else 40
    addresses = packet[12:20] if version == 4 else packet[8:40]
    protocol = packet[9] if version == 4 else packet[6]
    return fold(ones_sum(addresses) + protocol + len(packet) - header + ones_sum(packet[header:])) == 0xFFFF


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("payload", [100, 30_001])
def test_one_bit_is_wrong_and_the_receiver_sees_it(
    protocol: Literal["tcp", "udp"], version: Literal[4, 6], payload: int
) -> None:
    burst = Super(protocol, version, payload=payload, segment=1001)
    assert PROTOCOL[protocol] in (6, 17)
    sound = [packet for _, packet in drive(new_link(OPEN, OPTIONS), [Offer(0, burst.frame())]).deliveries]
    assert all(checksum_holds(packet) for packet in sound)
    options = replace(OPTIONS, spoilt=0.5, copied=1.0)
    seen = drive(new_link(OPEN, options), [Offer(at, burst.frame()) for at in range(20)])
    wrong = 0
    for number, (_, packet) in enumerate(seen.deliveries):
        before = sound[number // 2 % len(sound)]
        flipped = int.from_bytes(packet) ^ int.from_bytes(before)
        assert len(packet) == len(before)
        assert flipped.bit_count() <= 1
        assert packet[: 20 if version == 4 else 40] == before[: 20 if version == 4 else 40]
        assert checksum_holds(packet) == (flipped == 0)
        if number % 2:
            assert packet == seen.deliveries[number - 1].packet, "its double is the same"
        wrong += flipped != 0
    assert wrong == 2 * seen.counters.spoilt_packets > 0
    assert seen.counters.copied_packets == seen.counters.offered_packets


@given(st.sets(st.integers(1, 60)), st.sampled_from([0.0, 0.5]))
def test_exactly_the_packets_of_these_numbers_are_lost(numbers: set[int], loss: float) -> None:
    offers = offers_of([(at * MS, 100) for at in range(50)])
    others = drive(new_link(Channel.constant(0, delay_ns=0, loss=loss), OPTIONS), offers).deliveries
    chosen = replace(OPTIONS, lost_packets=tuple(numbers))
    outcome = drive(new_link(Channel.constant(0, delay_ns=0, loss=loss), chosen), offers)
    gone = {offers[number - 1].frame[10:] for number in numbers if number <= 50}
    assert outcome.deliveries == [delivery for delivery in others if delivery.packet not in gone]


@pytest.mark.parametrize("size", [40, 500, 1500])
def test_bit_errors_cost_long_packets_more(size: int) -> None:
    rate, packets = 1e-4, 2000
    options = replace(OPTIONS, bit_error_rate=rate, overhead_bytes=20)
    outcome = drive(new_link(OPEN, options), offers_of([(at * MS, size) for at in range(packets)]))
    expected = 1 - (1 - rate) ** ((size + 20) * 8)
    spread = 4 * math.sqrt(packets * expected * (1 - expected))
    assert abs(outcome.counters.dropped[Cause.LOSS] - packets * expected) <= spread


def test_late_packets_are_overtaken_by_those_that_come_meanwhile_and_by_no_others() -> None:
    options = replace(OPTIONS, late=0.1, late_ns=int(4.5 * MS))
    offers = offers_of([(at * MS, 100) for at in range(1000)])
    outcome = drive(new_link(OPEN, options), offers)
    order = {packet: place for place, (_, packet) in enumerate(outcome.deliveries)}
    stays = Counter(
        due - offer.at_ns for offer in offers for due in [outcome.deliveries[order[offer.frame[10:]]].due_ns]
    )
    assert set(stays) == {MS, int(5.5 * MS)}
    assert stays[int(5.5 * MS)] == outcome.counters.reordered_packets > 50
    punctual = [order[offer.frame[10:]] for offer in offers if _due(outcome.deliveries, order, offer) == MS]
    assert punctual == sorted(punctual)


def _due(deliveries: list, order: dict[bytes, int], offer: Offer) -> int:  # type: ignore[type-arg]
    return int(deliveries[order[offer.frame[10:]]].due_ns - offer.at_ns)


@given(arrivals(most=40), SEEDS)
def test_jitter_overtakes_only_when_asked(found: list[tuple[int, int]], seed: int) -> None:
    channel = Channel.constant(0, delay_ns=MS, jitter_ns=5 * MS)
    calm, wild = (
        drive(
            new_link(channel, replace(OPTIONS, jitter=Jitter(overtakes=asked), jitter_bin_ns=MS), seed=seed),
            offers_of(found),
        )
        for asked in (False, True)
    )
    for outcome in (calm, wild):
        assert [due for due, _ in outcome.deliveries] == sorted(due for due, _ in outcome.deliveries)
    assert [packet for _, packet in calm.deliveries] == [offer.frame[10:] for offer in offers_of(found)]
    assert sorted(packet for _, packet in wild.deliveries) == sorted(packet for _, packet in calm.deliveries)


@given(st.lists(st.integers(0, MS), min_size=1, max_size=8), st.integers(1, 6), SEEDS)
def test_segments_of_a_super_packet_fare_as_if_they_had_come_one_by_one(
    gaps: list[int], segments: int, seed: int
) -> None:
    """Queue, rate, loss by number, doubles, lateness and jitter: what a wire packet meets is its own."""
    options = replace(
        OPTIONS, queue_packets=4, lost_packets=(2, 7), copied=0.3, late=0.3, late_ns=MS, bit_error_rate=1e-5
    )
    channel = Channel.constant(0, delay_ns=MS, rate_bps=20_000_000, loss=0.1, jitter_ns=MS)
    whole, split, at = [], [], 0
    for number, gap in enumerate(gaps):
        at += gap
        burst = Super("udp", 4, payload=segments * 700 - 100, segment=700, number=number)
        whole.append(Offer(at, burst.frame()))
        one_by_one = drive(new_link(Channel.constant(0, delay_ns=0), OPTIONS), [Offer(0, burst.frame())]).deliveries
        split += [Offer(at, bytes(10) + packet) for _, packet in one_by_one]
    together = drive(new_link(channel, options, seed=seed), whole)
    apart = drive(new_link(channel, options, seed=seed), split)
    assert together.deliveries == apart.deliveries
    assert together.counters == apart.counters
