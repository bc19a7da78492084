"""What the loop writes down for a capture: each wire packet as it arrived, under its number, until its fate is read.

One writer, the packet loop, and one reader, the capture's thread. A packet that finds no room is carried as ever, and
counted as lost to the capture: watching never slows what is watched.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emulator.link.classify import lane_of
from emulator.link.compiled import compiled, compiled_apart
from emulator.link.memory import copy_bytes
from emulator.link.state import (
    ETHERNET,
    OFFERED_PACKETS,
    SUPER_HEADER,
    SUPER_SEGMENT,
    SUPER_SEGMENTS,
    Bytes,
    Ints,
    LinkState,
)
from emulator.link.store import VNET_BYTES
from emulator.link.wire import LARGEST_HEADER, build_run, dissect_frame

# registers
ON, SNAP, NEXT, TAIL, FREE_NUMBER, FREE_BYTES, LOST = range(7)
OFF, ASKED_FOR, RUNNING = range(3)  # states of ON: the reader asks, and the writer begins with the next packet
# a row per packet: its number, arrival, bytes on the wire and kept (virtio_net_hdr included), where they are, its lane,
# whether it was injected, whether the reader needs it no longer, and the end of its bytes as the writer counts them
R_NUMBER, R_ARRIVAL, R_WIRE, R_KEPT, R_AT, R_LANE, R_INJECTED, R_FREED, R_END = range(9)
R_COLUMNS = 16
ROWS = 1 << 17
RING_BYTES = 1 << 26


class CaptureRing(NamedTuple):
    """One direction's. Numbers rise; the row of a packet is its number modulo ROWS."""

    data: Bytes  # (RING_BYTES,) packets, each behind its virtio_net_hdr
    rows: Ints  # (ROWS, R_COLUMNS)
    head: Bytes  # room for the headers of one packet
    reg: Ints  # (8,)


def new_ring() -> CaptureRing:
    """Off. Its memory is not taken before something is captured."""
    return CaptureRing(
        data=np.zeros(RING_BYTES, np.uint8),
        rows=np.zeros((ROWS, R_COLUMNS), np.int64),
        head=np.zeros(LARGEST_HEADER + VNET_BYTES, np.uint8),
        reg=np.zeros(8, np.int64),
    )


@compiled
def room(ring: CaptureRing, number: int, length: int) -> int:
    """Where `length` bytes of packet `number` may go; −1, and counted, if there is no room."""
    reg, size = ring.reg, len(ring.data)
    start = reg[TAIL]
    if start % size + length > size:
        start += size - start % size
    if number - reg[FREE_NUMBER] >= len(ring.rows) or start + length - reg[FREE_BYTES] > size:
        reg[LOST] += 1
        return -1
    reg[TAIL] = start + length
    return start % size


@compiled_apart
def remember(
    link: LinkState, ring: CaptureRing, data: Bytes, offset: int, length: int, now: int, injected: int, entry: Ints
) -> None:
    """Writes down the `length` bytes at `offset` of `data`, wire packet by wire packet, that are about to be offered.

    data: the link's own ring, or what holds a packet that found no memory there. entry: (SUPER_COLUMNS,), overwritten.
    """
    reg, number = ring.reg, link.reg[OFFERED_PACKETS] + 1
    if reg[ON] == ASKED_FOR:
        reg[FREE_NUMBER], reg[FREE_BYTES], reg[TAIL], reg[ON] = number, 0, 0, RUNNING
    lane, segments, headers = len(link.lanes) - 1, 1, 0
    if dissect_frame(data, offset, length, entry, link.reg[ETHERNET]):
        segments = entry[SUPER_SEGMENTS]
        if len(data) == len(link.ring):
            lane = lane_of(link, entry)
    if segments > 1:
        headers = VNET_BYTES + entry[SUPER_HEADER]
    for index in range(segments):
        payload_at, payload = offset, length
        if segments > 1:
            payload_at += headers + index * entry[SUPER_SEGMENT]
            payload = min(entry[SUPER_SEGMENT], offset + length - payload_at)
        kept = min(headers + payload, reg[SNAP] + VNET_BYTES)
        at = room(ring, number + index, kept)
        if at < 0:
            continue
        if headers:
            build_run(data, entry, index, 1, ring.head)
            copy_bytes(ring.head, 0, min(headers, kept), ring.data, at)
        copy_bytes(data, payload_at, kept - headers, ring.data, at + headers)
        row = ring.rows[(number + index) % len(ring.rows)]
        row[R_ARRIVAL], row[R_WIRE], row[R_KEPT], row[R_AT] = now, headers + payload, kept, at
        row[R_LANE], row[R_INJECTED], row[R_FREED], row[R_END] = lane, injected, 0, reg[TAIL]
        row[R_NUMBER] = number + index
    reg[NEXT] = number + segments
