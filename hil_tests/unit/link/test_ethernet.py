"""At layer 2 the link does what it does at layer 3, and the Ethernet header travels along untouched."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emulator.link.link import Change, LaneOptions, LinkOptions, Rule
from emulator.timeline.causes import Cause
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import Offer, drive, new_link
from hil_tests.unit.link.packets import NO_OFFLOAD, Super, filler, offload_header, packet
from hil_tests.unit.link.strategies import MS, SEEDS, changes, channels
from hil_tests.unit.link.test_conservation import adds_up
from hil_tests.unit.link.test_malformed import HEADERS, drop_causes
from hil_tests.unit.link.test_super_packets import segments_of, super_of, super_packets

OPEN = Channel.constant(0, delay_ns=0)
SMALL = LinkOptions(memory_bytes=1 << 22, flight_packets=1 << 11)
ETHERNET = replace(SMALL, ethernet=True)
MACS = bytes.fromhex("02bb00000001 02bb00000002")
ETHERTYPE = {4: b"\x08\x00", 6: b"\x86\xdd"}
TAGS = [b"", b"\x81\x00\x20\x2a", b"\x88\xa8\x00\x07\x81\x00\xe0\x2a"]


def ethernet(tags: bytes, ip: bytes) -> bytes:
    """An IP packet in its Ethernet frame."""
    return MACS + tags + ETHERTYPE[ip[0] >> 4] + ip


def lifted(tags: bytes, frame: bytes) -> bytes:
    """A frame of layer 3 (virtio_net_hdr first) as it is at layer 2: offsets count from the Ethernet header."""
    flags, kind, headers, segment, start, offset = struct.unpack("<BBHHHH", frame[:10])
    more = len(MACS + tags) + 2 if flags or kind else 0
    return offload_header(kind, headers + more, segment, start + more, offset, flags) + ethernet(tags, frame[10:])


@settings(max_examples=40)
@given(super_packets(), channels(), changes(), SEEDS, st.integers(1, 20), st.sampled_from(TAGS))
def test_a_super_packet_fares_as_at_layer_3(
    case: tuple[dict[str, Any], int, bytes],
    channel: Channel,
    overlay: list[Change],
    seed: int,
    queue: int,
    tags: bytes,
) -> None:
    """The same causes, the same due times, the same counters; each wire packet behind its own Ethernet header."""
    options = replace(SMALL, queue_packets=queue)
    frames = [super_of(*case), *(NO_OFFLOAD + segment for segment in segments_of(*case)[:3])]
    plain, framed = (
        drive(
            new_link(channel, replace(options, ethernet=layer == 2), seed=seed, changes=overlay),
            [Offer(at * MS, lifted(tags, frame) if layer == 2 else frame) for at, frame in enumerate(frames)],
        )
        for layer in (3, 2)
    )
    assert framed.counters == plain.counters
    assert [delivery.due_ns for delivery in framed.deliveries] == [delivery.due_ns for delivery in plain.deliveries]
    assert [delivery.packet for delivery in framed.deliveries] == [
        ethernet(tags, delivery.packet) for delivery in plain.deliveries
    ]


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("version", [4, 6])
def test_classes_look_behind_the_tags(version: Any, tags: bytes) -> None:
    options = replace(ETHERNET, lanes=(LaneOptions(), LaneOptions()), rules=(Rule(0, 17, -1, (5000, 5000)),))
    udp, tcp = (Super(protocol, version, payload=100, segment=50).frame() for protocol in ("udp", "tcp"))
    frames = [lifted(tags, udp), lifted(tags, tcp), NO_OFFLOAD + MACS + tags + b"\x08\x06" + bytes(28)]
    outcome = drive(new_link(OPEN, options), [Offer(at, frame) for at, frame in enumerate(frames)])
    assert [lane.offered_packets for lane in outcome.counters.lanes] == [2, 3]


@given(st.binary(max_size=1500), st.sampled_from(TAGS), st.integers(0, 0xFFFF))
def test_what_is_not_ip_is_carried_as_it_is(body: bytes, tags: bytes, ethertype: int) -> None:
    """ARP, spanning tree, a third VLAN tag, 802.3 lengths."""
    if ethertype in (0x0800, 0x86DD) or (ethertype in (0x8100, 0x88A8) and len(tags) < 8):
        ethertype = 0x0806
    frame = MACS + tags + struct.pack(">H", ethertype) + body
    outcome = drive(new_link(OPEN, ETHERNET), [Offer(0, NO_OFFLOAD + frame)])
    assert [delivery.packet for delivery in outcome.deliveries] == [frame]
    assert outcome.counters.offered_bytes == len(body)


def test_padding_travels_and_does_not_count() -> None:
    """A bare TCP acknowledgement is 40 bytes, and 46 in the shortest frame that Ethernet has."""
    ip = packet(40, 1)
    outcome = drive(new_link(OPEN, ETHERNET), [Offer(0, NO_OFFLOAD + ethernet(b"", ip) + bytes(6))])
    assert [delivery.packet for delivery in outcome.deliveries] == [ethernet(b"", ip) + bytes(6)]
    assert outcome.counters.offered_bytes == outcome.counters.delivered_bytes == 40


@pytest.mark.parametrize("longest", [99, 100, 0])
def test_what_is_longer_than_the_longest_packet_is_dropped_with_its_cause(longest: int) -> None:
    """Each wire packet of a super-packet; 0 takes everything."""
    options = replace(SMALL, longest_packet=longest)
    single, burst = NO_OFFLOAD + packet(100, 1), Super("udp", 4, payload=3 * 72, segment=72).frame()
    outcome = drive(new_link(OPEN, options), [Offer(0, single), Offer(1, burst)])
    assert outcome.counters.offered_packets == 4
    assert outcome.counters.offered_bytes == 400
    assert outcome.counters.dropped == ({Cause.TOO_LONG: 4} if longest == 99 else {})
    assert adds_up(outcome.counters)


def causes(frame: bytes) -> set[Cause]:
    """Why the frame was dropped; a sound one after it arrives all the same."""
    sound = ethernet(b"", packet(100, 7))
    outcome = drive(new_link(OPEN, ETHERNET), [Offer(0, frame), Offer(1, NO_OFFLOAD + sound)])
    assert outcome.deliveries[-1].packet == sound
    assert adds_up(outcome.counters)
    return set(outcome.counters.dropped)


@given(st.binary(max_size=100))
@example(b"")
@example(bytes(9))
@example(bytes(23))
@example(bytes(10) + MACS + b"\x08\x00")
@example(bytes(10) + MACS + b"\x81\x00")
@example(bytes(10) + MACS + b"\x81\x00\x00\x01\x08")
def test_noise_is_counted(frame: bytes) -> None:
    assert causes(frame) <= {Cause.MALFORMED}
    if len(frame) < 24:
        assert causes(frame) == {Cause.MALFORMED}


@given(HEADERS, st.sampled_from(TAGS), st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x08\x06"]), st.binary(max_size=99))
def test_hostile_headers_are_counted(header: bytes, tags: bytes, ethertype: bytes, body: bytes) -> None:
    assert causes(header + MACS + tags + ethertype + body) <= {Cause.MALFORMED}


@given(HEADERS, st.sampled_from(TAGS), st.data())
def test_a_spoilt_super_packet_is_counted(header: bytes, tags: bytes, data: st.DataObject) -> None:
    burst = Super("tcp", 4, payload=data.draw(st.integers(0, 60)), segment=20)
    body = bytearray(lifted(tags, burst.frame())[10:])
    for at in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=4)):
        body[at] = data.draw(st.integers(0, 255))
    assert causes(header + bytes(body)) <= {Cause.MALFORMED}


def test_an_ethertype_that_the_packet_belies_is_malformed() -> None:
    body = MACS + ETHERTYPE[6] + packet(100, 1)
    assert causes(NO_OFFLOAD + body) == {Cause.MALFORMED}


def test_offload_of_what_is_not_ip_is_malformed() -> None:
    assert causes(offload_header(1, 54, 100, 34, 16) + MACS + b"\x08\x06" + filler(500, 1)) == {Cause.MALFORMED}


def test_layer_3_knows_no_ethernet() -> None:
    assert set(drop_causes(NO_OFFLOAD + ethernet(b"", packet(100, 1)))) == {Cause.MALFORMED}
