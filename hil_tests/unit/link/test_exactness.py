"""Every packet fares, to the nanosecond, as an independent model says that it must."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.link.link import Change, LinkOptions
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import Outcome, drive, new_link
from hil_tests.unit.link.oracle import Fate, Reference
from hil_tests.unit.link.packets import packet
from hil_tests.unit.link.strategies import MS, SEEDS, SIZES, S, arrivals, changes, channel_of, channels, offers_of

EFFICIENCY = np.array([0, 0, *range(490, 4000, 37)], np.int64)
OPTIONS = st.builds(
    LinkOptions,
    queue_packets=st.integers(1, 6) | st.just(1000),
    overhead_bytes=st.sampled_from([0, 14]),
    egress_rate_bps=st.sampled_from([0, 0, 10**10, 999_999_937]),
    jitter_bin_ns=st.sampled_from([1, 20 * MS]),
    memory_bytes=st.just(1 << 22),
    flight_packets=st.just(1 << 6),
    efficiency=st.sampled_from([None, EFFICIENCY]),
    efficiency_zero=st.just(24),
)


def fates_of(outcome: Outcome, found: list[tuple[int, int]]) -> list[int | None]:
    """When each packet was due, None if it was not delivered."""
    due = {delivery.packet: delivery.due_ns for delivery in outcome.deliveries}
    assert len(due) == len(outcome.deliveries)
    return [due.get(packet(size, number)) for number, (_, size) in enumerate(found, 1)]


def causes_of(fates: list[Fate]) -> dict[Cause, int]:
    causes = [fate.cause for fate in fates if fate.cause]
    return {cause: causes.count(cause) for cause in Cause if cause in causes}


@given(channels(), changes(), OPTIONS, arrivals(), SEEDS, st.integers(0, 1), st.sampled_from([0, 3, 12 * MS, -7 * MS]))
@settings(max_examples=2 * settings().max_examples)
def test_each_packet_fares_as_the_reference_says(
    channel: Channel,
    overlay: list[Change],
    options: LinkOptions,
    found: list[tuple[int, int]],
    seed: int,
    direction: int,
    utc_offset_ns: int,
) -> None:
    link = new_link(channel, options, seed=seed, direction=direction, changes=overlay, utc_offset_ns=utc_offset_ns)
    outcome = drive(link, offers_of(found))
    fates = Reference(channel, options, overlay, seed, direction, utc_offset_ns).fates(found)
    assert fates_of(outcome, found) == [fate.due_ns for fate in fates]
    assert outcome.counters.dropped == causes_of(fates)
    assert outcome.counters.held_packets == fates.count(Fate(None, Cause.NONE))


@given(
    st.lists(st.tuples(st.integers(1, 5 * MS), st.integers(1_000, 10**11)), min_size=1, max_size=8),
    arrivals(gaps=st.integers(0, 1000) | st.integers(0, MS)),
)
def test_departures_follow_lindley_within_a_nanosecond_for_each_change_of_rate(
    rows: list[tuple[int, int]], found: list[tuple[int, int]]
) -> None:
    """Waiting times by Lindley's recursion in exact fractions. A service that ends inside a nanosecond is cut to its
    beginning; the next one takes up what was cut, but not across a change of the rate, where it is lost: so a
    departure is early by less than a nanosecond for each change so far, and one more for its own rounding, never late.
    """
    channel = channel_of([{"lasts_ns": lasts, "rate_bps": rate} for lasts, rate in rows])
    deliveries = drive(new_link(channel), offers_of(found)).deliveries
    starts = [int(start) for start in channel.start_ns]
    finish = Fraction(0)
    for (arrival, size), delivery in zip(found, deliveries, strict=True):
        now, bits = max(Fraction(arrival), finish), Fraction(size * 8)
        while True:
            row = max(index for index, start in enumerate(starts) if start <= now)
            rate = Fraction(rows[row][1], S)
            end = now + bits / rate
            if row + 1 == len(starts) or end <= starts[row + 1]:
                break
            bits -= (starts[row + 1] - now) * rate
            now = Fraction(starts[row + 1])
        finish = end
        assert 0 <= finish - delivery.due_ns < len(rows) + 1


@given(st.integers(1_000, 10**11), st.lists(SIZES, min_size=1, max_size=60), st.integers(0, 50 * MS))
def test_a_busy_link_of_one_rate_cuts_off_nothing(rate_bps: int, sizes: list[int], delay_ns: int) -> None:
    link = new_link(Channel.constant(0, delay_ns=delay_ns, rate_bps=rate_bps))
    deliveries = drive(link, offers_of([(0, size) for size in sizes])).deliveries
    bits = np.cumsum([size * 8 for size in sizes])
    expected = [math.floor(Fraction(int(sent) * S, rate_bps)) + delay_ns for sent in bits]
    assert [delivery.due_ns for delivery in deliveries] == expected


def test_a_rate_that_rises_while_a_packet_is_in_service_is_counted_exactly() -> None:
    rows = [{"lasts_ns": 500_000, "rate_bps": 8_000_000}, {"lasts_ns": S, "rate_bps": 80_000_000}]
    deliveries = drive(new_link(channel_of(rows)), offers_of([(0, 1000), (0, 1000)])).deliveries
    # 500 bytes in 500 µs at 1 byte/µs, the other 500 in 50 µs; then 1000 bytes in 100 µs
    assert [delivery.due_ns for delivery in deliveries] == [550_000, 650_000]


def test_a_rate_that_falls_while_a_packet_is_in_service_is_counted_exactly() -> None:
    rows = [{"lasts_ns": 50_000, "rate_bps": 80_000_000}, {"lasts_ns": S, "rate_bps": 8_000_000}]
    deliveries = drive(new_link(channel_of(rows)), offers_of([(0, 1000), (0, 1000)])).deliveries
    assert [delivery.due_ns for delivery in deliveries] == [550_000, 1_550_000]


def test_a_limit_that_ends_lets_the_packet_in_service_out_at_once() -> None:
    rows = [{"lasts_ns": 300, "rate_bps": 8_000_000}, {"lasts_ns": S, "rate_bps": 0}]
    deliveries = drive(new_link(channel_of(rows)), offers_of([(0, 1000), (10, 1000)])).deliveries
    assert [delivery.due_ns for delivery in deliveries] == [300, 300]


@given(st.integers(0, 50 * MS), st.integers(-10 * MS, 10 * MS), st.integers(0, S - 1))
def test_a_sloping_delay_is_the_straight_line_cut_to_the_nanosecond(delay_ns: int, slope: int, at: int) -> None:
    channel = channel_of([{"lasts_ns": S, "delay_ns": delay_ns + 20 * MS, "delay_slope_ns_per_s": slope}])
    (delivery,) = drive(new_link(channel), offers_of([(at, 100)])).deliveries
    line = delay_ns + 20 * MS + Fraction(slope * at, S)
    assert 0 <= line - (delivery.due_ns - at) < 1


def test_the_gate_is_looked_at_when_service_starts_and_not_when_the_packet_comes() -> None:
    rows = [
        {"lasts_ns": MS, "rate_bps": 8_000_000},
        {"lasts_ns": S, "rate_bps": 8_000_000, "gate": int(Gate.DROP), "cause": int(Cause.OUTAGE)},
    ]
    outcome = drive(new_link(channel_of(rows)), offers_of([(0, 1000), (0, 1000)]))
    assert [delivery.due_ns for delivery in outcome.deliveries] == [MS]
    assert outcome.counters.dropped == {Cause.OUTAGE: 1}


def test_what_was_cut_off_at_a_fast_rate_is_not_paid_at_a_slow_one() -> None:
    """160 bits at 7 Gbit/s take 22.86 ns; the row, and with it the rate, ends at 22."""
    rows = [{"lasts_ns": 22, "rate_bps": 7_000_000_000}, {"lasts_ns": S, "rate_bps": 1_000}]
    deliveries = drive(new_link(channel_of(rows)), offers_of([(0, 20), (0, 20)])).deliveries
    assert [delivery.due_ns for delivery in deliveries] == [22, 22 + 160 * S // 1_000]
