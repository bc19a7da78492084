"""Laws of what a class may have beside protocol and ports: networks, a longest wait; and of who overtakes."""

from __future__ import annotations

import ipaddress
import struct
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emulator.link.link import Change, LaneOptions, LinkOptions, Rule
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import Offer, drain, new_link
from hil_tests.unit.link.packets import NO_OFFLOAD, packet
from hil_tests.unit.link.strategies import channel_of

MS = 1_000_000
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@st.composite
def addresses(draw: st.DrawFn, version: int) -> int:
    """An address of which few bits vary, so that networks meet."""
    bits = 32 if version == 4 else 128
    base = draw(st.sampled_from([0, (1 << bits) - 1, 0x5555 << (bits - 16)]))
    for _ in range(draw(st.integers(0, 3))):
        base ^= 1 << draw(st.integers(0, bits - 1))
    return base


@st.composite
def networks(draw: st.DrawFn) -> Network:
    version = draw(st.sampled_from([4, 6]))
    address, length = draw(addresses(version)), draw(st.integers(0, 32 if version == 4 else 128))
    kind = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network
    return kind((address, length), strict=False)


@st.composite
def packets(draw: st.DrawFn) -> tuple[int, int, int]:
    version = draw(st.sampled_from([4, 6]))
    return version, draw(addresses(version)), draw(addresses(version))


def ip_packet(version: int, source: int, target: int) -> bytes:
    if version == 4:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 17, 0)
        return head + source.to_bytes(4) + target.to_bytes(4) + bytes(8)
    return struct.pack(">IHBB", 6 << 28, 8, 17, 64) + source.to_bytes(16) + target.to_bytes(16) + bytes(8)


@given(st.lists(networks(), min_size=1, max_size=8), st.lists(packets(), min_size=1, max_size=12))
def test_a_packet_belongs_to_the_first_network_that_holds_its_source_or_its_destination(
    found: list[Network], sent: list[tuple[int, int, int]]
) -> None:
    rules = tuple(
        Rule(lane, network=(network.version, network.prefixlen, int(network.network_address)))
        for lane, network in enumerate(found)
    )
    lanes = tuple(LaneOptions() for _ in range(len(found) + 1))
    options = LinkOptions(lanes=lanes, rules=rules, memory_bytes=1 << 16, flight_packets=64)
    link = new_link(Channel.constant(0, delay_ns=0), options)
    expected = [0] * len(lanes)
    for version, source, target in sent:
        link.offer_super(NO_OFFLOAD + ip_packet(version, source, target), 0)
        kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
        ends = kind(source), kind(target)
        fits = (lane for lane, network in enumerate(found) if any(end in network for end in ends))
        expected[next(fits, len(found))] += 1
    assert [lane.offered_packets for lane in link.counters().lanes] == expected


@given(
    gaps=st.lists(st.integers(0, 20 * MS), min_size=1, max_size=40),
    longest_ms=st.integers(1, 60),
    hold=st.tuples(st.integers(0, 100 * MS), st.integers(0, 200 * MS)),
)
def test_nobody_is_served_who_has_waited_longer_than_the_longest_wait_whatever_holds_the_queue(
    gaps: list[int], longest_ms: int, hold: tuple[int, int]
) -> None:
    lane = LaneOptions(longest_wait_ns=longest_ms * MS)
    options = LinkOptions(lanes=(lane,), memory_bytes=1 << 18, flight_packets=1 << 8, ledger_events=1 << 8)
    gate = Change(hold[0], hold[0] + hold[1], gate=Gate.HOLD, cause=Cause.COMMAND)
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=10**6), options, changes=(gate,))
    arrivals = np.cumsum(gaps).tolist()
    for number, at in enumerate(arrivals):
        link.offer_super(NO_OFFLOAD + packet(500, number), at)
    drain(link)
    service_ns = 4 * MS  # 500 bytes at 1 Mbit/s
    for number, cause, at, _ in link.state.ledger[: len(gaps)].tolist():
        waited = at - arrivals[number - 1] - (0 if cause else service_ns)
        assert (waited > longest_ms * MS) == (cause == Cause.QUEUE)
    (counted,) = link.counters().lanes
    assert counted.worst_wait_ns <= longest_ms * MS


@given(
    sizes=st.lists(st.integers(20, 1500), min_size=2, max_size=30),
    drop_ms=st.integers(0, 40),
    rate_bps=st.sampled_from([10**6, 10**8, 999_999_937]),
)
def test_what_falls_due_together_after_a_step_down_leaves_spaced_by_its_serialisation(
    sizes: list[int], drop_ms: int, rate_bps: int
) -> None:
    steps = channel_of(
        [{"lasts_ns": 10 * MS, "delay_ns": 50 * MS}, {"lasts_ns": 10**12, "delay_ns": (50 - drop_ms) * MS}]
    )
    options = LinkOptions(egress_rate_bps=rate_bps, memory_bytes=1 << 18, flight_packets=1 << 8)
    link = new_link(steps, options)
    for number, size in enumerate(sizes):
        link.offer_super(Offer(number * MS, NO_OFFLOAD + packet(size, number)).frame, number * MS)
    left = drain(link)
    assert [delivery.packet for delivery in left] == [packet(size, number) for number, size in enumerate(sizes)]
    for earlier, later in pairwise(left):
        assert later.due_ns - earlier.due_ns >= len(later.packet) * 8 * 10**9 // rate_bps
