"""Loss belongs to the packet's number, jitter to the time bin; neither depends on what else happens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.link.link import LinkOptions
from emulator.timeline.causes import Cause
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import Offer, drive, new_link
from hil_tests.unit.link.packets import frame, packet
from hil_tests.unit.link.strategies import MS, SEEDS, S, offers_of

BIN_NS = 20 * MS
OPTIONS = LinkOptions(memory_bytes=1 << 22, flight_packets=1 << 13, jitter_bin_ns=BIN_NS)
PACKETS = 4000
# 99.9 % intervals of the binomial distribution of PACKETS at each rate (exact, from its cumulative sums)
INTERVALS = {0.001: (0, 12), 0.01: (21, 62), 0.1: (339, 463), 0.5: (1896, 2104), 0.9: (3537, 3661)}


def lost(loss: float, *, seed: int = 1, direction: int = 0, packets: int = PACKETS) -> set[int]:
    """The numbers, from 1, of the packets that the link loses."""
    link = new_link(Channel.constant(0, delay_ns=0, loss=loss), OPTIONS, seed=seed, direction=direction)
    outcome = drive(link, offers_of([(number, 60) for number in range(packets)]))
    arrived = {delivery.packet for delivery in outcome.deliveries}
    gone = {number for number in range(1, packets + 1) if packet(60, number) not in arrived}
    assert outcome.counters.dropped == ({Cause.LOSS: len(gone)} if gone else {})
    return gone


def test_the_intervals_are_those_of_the_binomial_distribution() -> None:
    import math

    for rate, (least, most) in INTERVALS.items():
        logs = [
            math.lgamma(PACKETS + 1)
            - math.lgamma(count + 1)
            - math.lgamma(PACKETS - count + 1)
            + count * math.log(rate)
            + (PACKETS - count) * math.log(1 - rate)
            for count in range(PACKETS + 1)
        ]
        assert math.fsum(map(math.exp, logs[least : most + 1])) >= 0.999


@pytest.mark.parametrize("rate", INTERVALS)
@pytest.mark.parametrize("seed", [1, 2, 2**63 - 1])
def test_the_loss_rate_is_what_was_asked_for(rate: float, seed: int) -> None:
    least, most = INTERVALS[rate]
    assert least <= len(lost(rate, seed=seed)) <= most


def test_no_loss_loses_nothing_and_all_loses_all() -> None:
    assert lost(0.0, packets=500) == set()
    assert lost(1.0, packets=500) == set(range(1, 501))


@given(SEEDS, st.integers(0, 1), st.sampled_from([0.01, 0.3, 0.7]))
def test_more_loss_loses_the_same_packets_and_others(seed: int, direction: int, rate: float) -> None:
    fewer = lost(rate / 2, seed=seed, direction=direction, packets=100)
    assert fewer <= lost(rate, seed=seed, direction=direction, packets=100)


def test_seeds_and_directions_lose_different_packets() -> None:
    drawn = [
        frozenset(lost(0.5, seed=seed, direction=direction, packets=200)) for seed in (1, 2, 3) for direction in (0, 1)
    ]
    assert len(set(drawn)) == len(drawn)


@given(st.sets(st.integers(0, 59), max_size=20), SEEDS)
def test_a_packet_dropped_elsewhere_does_not_shift_the_draws_of_others(full: set[int], seed: int) -> None:
    """Here a queue of one that is full drops some packets; the others are lost, or not, as without that."""
    channel = Channel.constant(0, delay_ns=0, loss=0.5, rate_bps=8_000_000)
    slow, fast = (new_link(channel, replace(OPTIONS, queue_packets=limit), seed=seed) for limit in (1, 1000))
    # a packet in `full` arrives in the company of two others, for which a queue of one has no room
    offers = [
        Offer(number * 10 * MS, frame(60, number * 3 + beside))
        for number in range(60)
        for beside in range(3 if number in full else 1)
    ]
    arrived = [{delivery.packet for delivery in drive(link, offers).deliveries} for link in (slow, fast)]
    dropped = slow.counters().dropped.get(Cause.QUEUE, 0)
    assert dropped == len(full)
    assert arrived[0] <= arrived[1]
    assert len(arrived[1]) - len(arrived[0]) <= dropped


def delays(gap_ns: int, *, start_ns: int = 0, utc_offset_ns: int = 0, seed: int = 1) -> dict[int, int]:
    """The delay of each packet of a steady stream of 400 ms, by its arrival (UTC)."""
    channel = Channel.constant(0, delay_ns=100 * MS, jitter_ns=MS)
    link = new_link(channel, OPTIONS, seed=seed, utc_offset_ns=utc_offset_ns)
    times = list(range(start_ns, start_ns + 400 * MS, gap_ns))
    deliveries = drive(link, offers_of([(at, 60) for at in times])).deliveries
    return {at + utc_offset_ns: delivery.due_ns - at for at, delivery in zip(times, deliveries, strict=True)}


def test_ten_packets_a_second_meet_the_jitter_that_ten_thousand_meet() -> None:
    few, many = delays(100 * MS), delays(S // 10_000)
    assert len(many) == 4000
    for at, delay in few.items():
        # in the first moments of a bin a faster stream may still queue behind the bin before; in its middle it does not
        middle = at // BIN_NS * BIN_NS + BIN_NS // 2
        assert many[middle] == delay


def test_jitter_holds_for_a_bin_and_differs_between_bins() -> None:
    many = delays(MS)
    by_bin = [
        {many[at] for at in range(start + BIN_NS // 2, start + BIN_NS, MS)} for start in range(0, 400 * MS, BIN_NS)
    ]
    assert all(len(found) == 1 for found in by_bin)
    assert len({found.pop() for found in by_bin}) > 15


def test_jitter_is_keyed_by_utc_and_not_by_the_machines_clock() -> None:
    plain, shifted = delays(10 * MS, start_ns=1000 * S), delays(10 * MS, start_ns=0, utc_offset_ns=1000 * S)
    assert plain == shifted


def test_jitter_depends_on_the_seed() -> None:
    assert delays(20 * MS, seed=1) != delays(20 * MS, seed=2)


def test_jitter_has_the_mean_that_was_asked_for() -> None:
    channel = Channel.constant(0, delay_ns=0, jitter_ns=MS)
    link = new_link(channel, OPTIONS)
    times = [number * S for number in range(4000)]  # a bin each, far enough apart that nobody waits for anybody
    deliveries = drive(link, offers_of([(at, 60) for at in times])).deliveries
    jitter = [delivery.due_ns - at for at, delivery in zip(times, deliveries, strict=True)]
    # an exponential distribution's mean of 4000 is within 5.2 % of its own in 99.9 % of all cases
    assert abs(sum(jitter) / len(jitter) - MS) < 0.052 * MS


@given(st.lists(st.integers(0, 3 * MS), min_size=2, max_size=60), SEEDS)
def test_jitter_never_reorders(gaps: list[int], seed: int) -> None:
    channel = Channel.constant(0, delay_ns=MS, jitter_ns=10 * MS)
    link = new_link(channel, replace(OPTIONS, jitter_bin_ns=MS), seed=seed)
    found = [(sum(gaps[: place + 1]), 60) for place in range(len(gaps))]
    deliveries = drive(link, offers_of(found)).deliveries
    assert [delivery.packet for delivery in deliveries] == [packet(60, number) for number in range(1, len(found) + 1)]
    dues = [delivery.due_ns for delivery in deliveries]
    assert dues == sorted(dues)
