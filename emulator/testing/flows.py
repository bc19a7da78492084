"""The TCP flows of a capture, each direction by itself: bytes, segments sent again, round trips as seen in it.

A round trip is from a segment to the acknowledgement that covers it; segments that were sent again give none (Karn and
Partridge, 1987). It is that of the path behind the point of capture. A capture of a bench at both places shows each
flow as its sender sees it: the segments before the link, the acknowledgements behind it, and the whole round trip.
"""

from __future__ import annotations

import ipaddress
import itertools
import struct
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

import numpy as np

from emulator.testing.record import Flow
from emulator.units import NS_PER_MS, NS_PER_S

TCP = 6
SYN, FIN = 0x02, 0x01
HALF = 1 << 31  # sequence numbers wrap: the nearer half of them is later
MOST_FLOWS = 200  # of a report: those with the most bytes
MOST_FRAMES = 400_000  # of a capture: some seconds of work
SENDERS = (
    ("uplink, before the link", "downlink, after the link"),
    ("downlink, before the link", "uplink, after the link"),
)
"""What either end sends, and what it receives, as the interfaces of a bench's captures are called."""

Key = tuple[bytes, int, bytes, int]


@dataclass
class _Way:
    """One direction of a connection."""

    first_ns: int
    last_ns: int = 0
    segments: int = 0
    payload: int = 0
    again: int = 0
    end: int | None = None  # behind the highest byte so far
    waiting: deque[tuple[int, int]] = field(default_factory=deque)  # (end, sent at) of what is not acknowledged
    round_trips_ns: list[int] = field(default_factory=list)


def flows_of(frames: Iterable[tuple[int, bytes]]) -> list[Flow]:
    """The flows of IP packets (utc_ns, packet) in the order of their times, those with the most bytes first."""
    return _shown(_ways(frames))


def _shown(ways: dict[Key, _Way]) -> list[Flow]:
    found = [_flow(key, way) for key, way in ways.items()]
    return sorted(found, key=lambda flow: flow.payload_bytes, reverse=True)[:MOST_FLOWS]


def _ways(frames: Iterable[tuple[int, bytes]]) -> dict[Key, _Way]:
    ways: dict[Key, _Way] = {}
    for at_ns, packet in frames:
        parsed = _parse(packet)
        if parsed is None:
            continue
        key, sequence, acknowledged, flags, length = parsed
        way = ways.setdefault(key, _Way(at_ns))
        way.segments += 1
        way.last_ns = at_ns
        length_in_sequence = length + bool(flags & SYN) + bool(flags & FIN)
        end = (sequence + length_in_sequence) % (1 << 32)
        if length_in_sequence:
            if way.end is not None and (way.end - end) % (1 << 32) < HALF:
                way.again += 1
                way.waiting.clear()  # which of the two an acknowledgement is for, nobody knows
            else:
                way.end, way.payload = end, way.payload + length
                way.waiting.append((end, at_ns))
        other = ways.get((key[2], key[3], key[0], key[1]))
        if other is not None and acknowledged is not None:
            _acknowledge(other, acknowledged, at_ns)
    return ways


def _acknowledge(way: _Way, number: int, at_ns: int) -> None:
    covered = None
    while way.waiting and (number - way.waiting[0][0]) % (1 << 32) < HALF:
        covered = way.waiting.popleft()[1]
    if covered is not None:
        way.round_trips_ns.append(at_ns - covered)


def _parse(packet: bytes) -> tuple[Key, int, int | None, int, int] | None:
    """(flow, sequence number, acknowledgement number if any, flags, bytes of payload); None for what is no TCP."""
    try:
        if packet[0] >> 4 == 4:
            header, total = 4 * (packet[0] & 15), int.from_bytes(packet[2:4], "big")
            if packet[9] != TCP or int.from_bytes(packet[6:8], "big") & 0x1FFF:
                return None
            source, target = packet[12:16], packet[16:20]
        else:
            header, total = 40, 40 + int.from_bytes(packet[4:6], "big")
            if packet[6] != TCP:
                return None
            source, target = packet[8:24], packet[24:40]
        near, far, sequence, acknowledged, offset, flags = struct.unpack_from("!HHIIBB", packet, header)
    except (IndexError, struct.error):
        return None
    payload = max(0, total - header - 4 * (offset >> 4))
    return (source, near, target, far), sequence, acknowledged if flags & 0x10 else None, flags, payload


def _flow(key: Key, way: _Way) -> Flow:
    source, near, target, far = key
    trips = np.array(way.round_trips_ns, np.float64) / NS_PER_MS
    p50, p95 = np.percentile(trips, (50, 95)).tolist() if len(trips) else (None, None)
    return Flow(
        name=f"{ipaddress.ip_address(source)}:{near} → {ipaddress.ip_address(target)}:{far}",
        segments=way.segments,
        payload_bytes=way.payload,
        again=way.again,
        seconds=(way.last_ns - way.first_ns) / NS_PER_S,
        round_trip_p50_ms=p50,
        round_trip_p95_ms=p95,
    )


def flows_of_capture(path: Path) -> list[Flow]:
    """The same of a pcap or pcapng file. Raises EndpointError for a file that is none.

    Of a long capture the first MOST_FRAMES frames.
    """
    from emulator.taps.pcapng import read_capture

    seen: dict[str, list[tuple[int, bytes]]] = {}
    for frame in itertools.islice(read_capture(path), MOST_FRAMES):
        if frame.packet is not None:
            seen.setdefault(frame.interface, []).append((frame.utc_ns, frame.packet))
    if not all(name in seen for ends in SENDERS for name in ends):
        return flows_of(sorted(itertools.chain.from_iterable(seen.values()), key=itemgetter(0)))
    ways: dict[Key, _Way] = {}
    for sent, received in SENDERS:
        here = _ways(sorted(seen[sent] + seen[received], key=itemgetter(0)))
        own = {parsed[0] for _, packet in seen[sent] if (parsed := _parse(packet)) is not None}
        ways |= {key: way for key, way in here.items() if key in own}
    return _shown(ways)
