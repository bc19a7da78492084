"""A link that looks at everything a packet has, and the frames from which the fuzzers start."""

from __future__ import annotations

import struct

from emulator.link.link import Discipline, LaneOptions, Link, LinkOptions, Rule
from emulator.link.tables import new_heap
from emulator.timeline.model import Channel
from hil_tests.unit.link.packets import Super, offload_header, packet

RING_BYTES = 1 << 17
FOR_EVER_NS = 1 << 60
MACS = bytes.fromhex("020000000001020000000002")
NO_OFFLOAD = bytes(10)


def watchful_link(ethernet: bool) -> Link:
    """Rules of every kind, lanes of every discipline, marks and flipped bits: each byte of a header is read."""
    disciplines: tuple[Discipline, ...] = ("fq_codel", "codel", "pie", "drop_front", "drop_tail")
    lanes = tuple(
        LaneOptions(queue_packets=1 << 16, discipline=discipline, ecn=True, target_ns=1, interval_ns=1, flows=64)
        for discipline in disciplines
    )
    rules = (
        Rule(0, 6),
        Rule(1, -1, 46),
        Rule(2, 17, -1, (0, 4999)),
        Rule(3, -1, -1, (-1, -1), (4, 15, 0xC6120000)),
        Rule(3, -1, -1, (-1, -1), (6, 48, 0x20010002 << 96)),
        Rule(2, 132, -1, (5000, 65_535)),
        Rule(1, -1, -1, (-1, -1), (6, 128, 1)),
    )
    options = LinkOptions(
        lanes=lanes,
        rules=rules,
        spoilt=0.5,
        copied=0.1,
        ethernet=ethernet,
        memory_bytes=RING_BYTES,
        flight_packets=1 << 17,
        ledger_events=16,
    )
    channel = Channel.constant(0, delay_ns=1_000, rate_bps=10**12)
    link = Link(channel, FOR_EVER_NS, seed=1, direction=0, options=options)
    link.state = link.state._replace(overtaken=new_heap(options.flight_packets))  # it is a delay line, too
    return link


def extended(protocol: int, payload: bytes, *headers: tuple[int, bytes]) -> bytes:
    """An IPv6 packet with extension headers (number, contents behind the first byte), IPv4's addresses of the tests."""
    numbers = [number for number, _ in headers] + [protocol]
    body = b"".join(bytes([after]) + rest for (_, rest), after in zip(headers, numbers[1:], strict=True)) + payload
    addresses = bytes.fromhex("20010002" + "0" * 23 + "2" + "20010002" + "0" * 23 + "1")
    return struct.pack(">IHBB", 6 << 28, len(body), numbers[0], 64) + addresses + body


def beginnings(ethernet: bool) -> list[bytes]:
    """Frames behind their virtio_net_hdr, sound ones and some that lie."""
    found = []
    for protocol in ("tcp", "udp"):
        for version in (4, 6):
            for payload, segment in ((300, 100), (50, 100), (4000, 1400)):
                found.append(Super(protocol, version, payload, segment, 1).frame())
    found += [NO_OFFLOAD + packet(length, 7) for length in (20, 28, 60, 1500)]
    ports = struct.pack(">HHHH", 5000, 443, 20, 0) + bytes(12)
    found += [
        NO_OFFLOAD + extended(17, ports, (0, bytes(7)), (43, bytes(7)), (60, bytes(7))),
        NO_OFFLOAD + extended(6, ports, (44, bytes([0, 0, 8, 0, 0, 0, 1]))),
        NO_OFFLOAD + extended(132, ports, (51, bytes([1]) + bytes(10))),
        NO_OFFLOAD + extended(58, bytes(8)),
        offload_header(1, 54, 100, 34, 16) + bytes(60),
    ]
    if not ethernet:
        return found
    framed = []
    for frame in found:
        kind = b"\x08\x00" if frame[10] >> 4 == 4 else b"\x86\xdd"
        for tags in (b"", b"\x81\x00\x00\x05", b"\x88\xa8\x00\x01\x81\x00\x00\x02"):
            link = MACS + tags + kind
            head = bytearray(frame[:10])
            if frame[1]:
                struct.pack_into("<H", head, 2, struct.unpack_from("<H", head, 2)[0] + len(link))
                struct.pack_into("<H", head, 6, struct.unpack_from("<H", head, 6)[0] + len(link))
            framed.append(bytes(head) + link + frame[10:])
    framed.append(NO_OFFLOAD + MACS + b"\x08\x06" + bytes(28))
    return framed
