"""Nobody overtakes: not when the delay falls, steps or jitters; and the line behind the link keeps them apart."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from emulator.link.link import Change, Delivery, LinkOptions
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import drive, new_link
from hil_tests.unit.link.packets import packet
from hil_tests.unit.link.strategies import MS, POLLS, S, arrivals, changes, channel_of, channels, offers_of


def in_order(deliveries: list[Delivery], found: list[tuple[int, int]]) -> bool:
    place = {packet(size, number): number for number, (_, size) in enumerate(found, 1)}
    numbers = [place[delivery.packet] for delivery in deliveries]
    dues = [delivery.due_ns for delivery in deliveries]
    return numbers == sorted(set(numbers)) and dues == sorted(dues)


@given(channels(), changes(), arrivals(), POLLS)
def test_packets_leave_in_the_order_in_which_they_came(
    channel: Channel, overlay: list[Change], found: list[tuple[int, int]], polls: list[int]
) -> None:
    link = new_link(channel, changes=overlay)
    assert in_order(drive(link, offers_of(found), polls=polls).deliveries, found)


@given(channels(), changes(), arrivals())
def test_no_packet_is_due_before_it_came(channel: Channel, overlay: list[Change], found: list[tuple[int, int]]) -> None:
    came = {packet(size, number): at for number, (at, size) in enumerate(found, 1)}
    for delivery in drive(new_link(channel, changes=overlay), offers_of(found)).deliveries:
        assert delivery.due_ns >= came[delivery.packet]


@given(channels(), changes(), arrivals(), st.sampled_from([10**6 + 3, 10**9, 10**10]))
def test_the_line_behind_the_link_keeps_packets_their_serialisation_apart(
    channel: Channel, overlay: list[Change], found: list[tuple[int, int]], egress_rate_bps: int
) -> None:
    options = LinkOptions(egress_rate_bps=egress_rate_bps, memory_bytes=1 << 22, flight_packets=64)
    deliveries = drive(new_link(channel, options, changes=overlay), offers_of(found)).deliveries
    for before, behind in pairwise(deliveries):
        assert behind.due_ns - before.due_ns >= len(behind.packet) * 8 * S // egress_rate_bps


def test_after_a_step_down_those_that_come_due_together_leave_at_the_line_rate() -> None:
    channel = channel_of([{"lasts_ns": 10 * MS, "delay_ns": 50 * MS}, {"lasts_ns": S, "delay_ns": 20 * MS}])
    options = LinkOptions(egress_rate_bps=1_000_000_000, memory_bytes=1 << 22, flight_packets=64)
    found = [(9 * MS, 1250), (10 * MS, 1250), (11 * MS, 1250)]
    deliveries = drive(new_link(channel, options), offers_of(found)).deliveries
    assert [delivery.due_ns for delivery in deliveries] == [59 * MS, 59 * MS + 10_000, 59 * MS + 20_000]


def test_without_a_line_rate_they_leave_together() -> None:
    channel = channel_of([{"lasts_ns": 10 * MS, "delay_ns": 50 * MS}, {"lasts_ns": S, "delay_ns": 20 * MS}])
    deliveries = drive(new_link(channel), offers_of([(9 * MS, 1250), (10 * MS, 1250), (40 * MS, 1250)])).deliveries
    assert [delivery.due_ns for delivery in deliveries] == [59 * MS, 59 * MS, 60 * MS]
