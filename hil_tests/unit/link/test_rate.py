"""The rate is a bound on every busy stretch, and what the link delivers in the long run."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from emulator.link.link import LinkOptions
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import drive, new_link
from hil_tests.unit.link.strategies import MS, S, arrivals, channels, offers_of

STRANGE_RATES = [3, 7_777_777, 123_456_789, 999_999_937, 9_999_999_967]  # none divides 10⁹


@given(st.sampled_from(STRANGE_RATES) | st.integers(1_000, 10**11), arrivals(), st.integers(0, 100))
def test_no_stretch_of_time_carries_more_than_the_rate_and_one_packet(
    rate_bps: int, found: list[tuple[int, int]], overhead_bytes: int
) -> None:
    options = LinkOptions(overhead_bytes=overhead_bytes, memory_bytes=1 << 22, flight_packets=64)
    link = new_link(Channel.constant(0, delay_ns=MS, rate_bps=rate_bps), options)
    deliveries = drive(link, offers_of(found)).deliveries
    for first in range(len(deliveries)):
        bits = 0
        for later in deliveries[first + 1 :]:  # the one packet is the first, whose bits were out before
            bits += (len(later.packet) + overhead_bytes) * 8
            # + 1 ns: due times are cut to the nanosecond
            assert bits * S <= rate_bps * (later.due_ns - deliveries[first].due_ns + 1)


@given(channels(gates=False, losses=False, jitter=False, rates=st.integers(10**6, 10**10)), arrivals())
def test_a_rate_that_changes_bounds_by_its_largest(channel: Channel, found: list[tuple[int, int]]) -> None:
    channel.delay_ns[:] = channel.delay_slope_ns_per_s[:] = 0
    deliveries = drive(new_link(channel), offers_of(found)).deliveries
    fastest = int(channel.rate_bps.max())
    for before, behind in pairwise(deliveries):
        assert len(behind.packet) * 8 * S <= fastest * (behind.due_ns - before.due_ns + 2)


@given(st.sampled_from(STRANGE_RATES[1:]), st.lists(st.integers(20, 9_000), min_size=1, max_size=7))
def test_the_long_run_rate_is_exact_where_nothing_divides(rate_bps: int, sizes: list[int]) -> None:
    """Off by what one nanosecond carries, however long the run: far below 10⁻⁶."""
    packets = [sizes[number % len(sizes)] for number in range(200)]
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=rate_bps))
    deliveries = drive(link, offers_of([(0, size) for size in packets])).deliveries
    bits = sum(packets) * 8
    assert 0 <= bits * S - deliveries[-1].due_ns * rate_bps < rate_bps


def test_a_thousand_seconds_at_a_rate_that_does_not_divide_are_a_thousand_seconds() -> None:
    rate_bps, size = 7_777_777, 1_500
    link = new_link(
        Channel.constant(0, delay_ns=0, rate_bps=rate_bps), LinkOptions(queue_packets=2, memory_bytes=1 << 20)
    )
    sent, due, at = 0, 0, 0
    frame = offers_of([(0, size)])[0].frame
    for _ in range(10_000):  # keeps one waiting behind the one in service
        link.offer_super(frame, at)
        for delivery in link.poll(at):
            sent, due = sent + 1, delivery.due_ns
        at = max(at, link.next_event_ns() or at)
    assert link.counters().dropped == {}
    assert abs(sent * size * 8 * S - due * rate_bps) < rate_bps


@given(arrivals(), st.integers(0, 50 * MS))
def test_no_limit_is_no_limit(found: list[tuple[int, int]], delay_ns: int) -> None:
    deliveries = drive(new_link(Channel.constant(0, delay_ns=delay_ns)), offers_of(found)).deliveries
    assert [delivery.due_ns for delivery in deliveries] == [at + delay_ns for at, _ in found]
