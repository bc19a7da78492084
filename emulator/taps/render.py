"""From the capture ring and the ledger to pcapng blocks: compiled, so that full captures keep up with the link.

A packet is written when its fate is known, before the link with the stamp of its arrival, behind it with that at which
it was due; a comment tells the fate, the class and the path. Format: draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.memory import copy_bytes
from emulator.link.state import COPY, L_AT, L_CAUSE, L_NUMBER, Bytes, Ints
from emulator.link.store import VNET_BYTES
from emulator.link.wire import complete_checksum
from emulator.ports.capture_ring import (
    FREE_BYTES,
    FREE_NUMBER,
    NEXT,
    R_ARRIVAL,
    R_AT,
    R_END,
    R_FREED,
    R_INJECTED,
    R_KEPT,
    R_LANE,
    R_NUMBER,
    R_WIRE,
    CaptureRing,
)

NS_PER_MS = 1_000_000
PACKET_BLOCK = 6
COMMENT, PACKET_ID, QUEUE = 1, 5, 6  # options of an enhanced packet block
LONGEST_TEXT = 80
BLOCK_ROOM = 512  # what a block takes beside its packet, at most
LARGEST_BLOCK = 65_535 + BLOCK_ROOM + 64

# registers of a rendering: the next ledger event, bytes written, packets written
EVENT, WRITTEN, PACKETS = range(3)


class Texts(NamedTuple):
    """Strings that a comment is made of, one a row, with their lengths in front (bytes 0 and 1, little-endian)."""

    fates: Bytes  # (causes, LONGEST_TEXT + 2); row 0: of delivery
    lanes: Bytes  # (lanes, LONGEST_TEXT + 2)
    fixed: Bytes  # (3, …): " ms", ", injected", the path


def text_rows(texts: list[str]) -> Bytes:
    rows = np.zeros((len(texts), LONGEST_TEXT + 2), np.uint8)
    for row, text in zip(rows, texts, strict=True):
        data = text.encode()[:LONGEST_TEXT]
        row[0], row[2 : 2 + len(data)] = len(data), np.frombuffer(data, np.uint8)
    return rows


@compiled
def put_le(out: Bytes, at: int, value: int, width: int) -> int:
    for index in range(width):
        out[at + index] = (value >> (8 * index)) & 0xFF
    return at + width


@compiled
def put_text(out: Bytes, at: int, rows: Bytes, row: int) -> int:
    length = rows[row, 0]
    for index in range(length):
        out[at + index] = rows[row, 2 + index]
    return at + length


@compiled
def put_decimal(out: Bytes, at: int, value: int, least_digits: int) -> int:
    digits, rest = 1, value // 10
    while rest > 0:
        digits, rest = digits + 1, rest // 10
    digits = max(digits, least_digits)
    for index in range(digits):
        out[at + digits - 1 - index] = 48 + value % 10
        value //= 10
    return at + digits


@compiled_apart
def put_packet(
    out: Bytes, at: int, interface: int, utc_ns: int, ring: CaptureRing, row: Ints, cause: int, stay: int, texts: Texts
) -> int:
    """One enhanced packet block at `at`; returns where the next one begins."""
    kept, wire = row[R_KEPT] - VNET_BYTES, row[R_WIRE] - VNET_BYTES
    begin = at
    at = put_le(out, at, PACKET_BLOCK, 4)
    at = put_le(out, at, 0, 4)
    at = put_le(out, at, interface, 4)
    at = put_le(out, at, utc_ns >> 32, 4)
    at = put_le(out, at, utc_ns & 0xFFFFFFFF, 4)
    at = put_le(out, at, kept, 4)
    at = put_le(out, at, wire, 4)
    source = row[R_AT] + VNET_BYTES
    copy_bytes(ring.data, source, kept, out, at)
    at += kept
    at = put_le(out, at, 0, -kept & 3)
    comment = at + 4
    end = put_text(out, comment, texts.fates, cause)
    if cause == 0:
        end = put_decimal(out, end, stay // NS_PER_MS, 1)
        out[end] = 46
        end = put_decimal(out, end + 1, stay % NS_PER_MS, 6)
        end = put_text(out, end, texts.fixed, 0)
    end = put_text(out, end, texts.lanes, row[R_LANE])
    if row[R_INJECTED]:
        end = put_text(out, end, texts.fixed, 1)
    end = put_text(out, end, texts.fixed, 2)
    put_le(out, at, COMMENT, 2)
    put_le(out, at + 2, end - comment, 2)
    at = put_le(out, end, 0, -(end - comment) & 3)
    at = put_le(out, at, PACKET_ID, 2)
    at = put_le(out, at, 8, 2)
    at = put_le(out, at, row[R_NUMBER], 8)
    at = put_le(out, at, QUEUE, 2)
    at = put_le(out, at, 4, 2)
    at = put_le(out, at, row[R_LANE], 4)
    at = put_le(out, at, 0, 4)
    put_le(out, begin + 4, at + 4 - begin, 4)
    return put_le(out, at, at + 4 - begin, 4)


@compiled_apart
def render(
    ledger: Ints,
    until: int,
    ring: CaptureRing,
    offset_ns: int,
    until_ns: int,
    interfaces: Ints,
    texts: Texts,
    out: Bytes,
    reg: Ints,
) -> None:
    """Writes the packets whose fates are events reg[EVENT] to `until` of the ledger, as far as `out` has room.

    offset_ns: from the packets' clock to UTC; until_ns: stops at the first fate at or after it, by the packets' clock.
    interfaces: (2,) pcapng's numbers of the places before and behind the link, −1 where nothing is wanted.
    """
    while reg[EVENT] < until and reg[WRITTEN] + 2 * LARGEST_BLOCK <= len(out):
        event = ledger[reg[EVENT] % len(ledger)]
        number, cause, at = event[L_NUMBER], event[L_CAUSE], event[L_AT]
        if at >= until_ns > 0:
            return
        reg[EVENT] += 1
        row = ring.rows[number % len(ring.rows)]
        if row[R_NUMBER] != number or number < ring.reg[FREE_NUMBER]:
            continue
        if row[R_KEPT] == row[R_WIRE]:
            complete_checksum(ring.data, row[R_AT], row[R_KEPT])
        stay = at - row[R_ARRIVAL]
        double = cause == COPY
        if double:
            cause = 0
        if interfaces[0] >= 0 and not double:
            utc_ns = row[R_ARRIVAL] + offset_ns
            reg[WRITTEN] = put_packet(out, reg[WRITTEN], interfaces[0], utc_ns, ring, row, cause, stay, texts)
            reg[PACKETS] += 1
        if interfaces[1] >= 0 and cause == 0:
            reg[WRITTEN] = put_packet(out, reg[WRITTEN], interfaces[1], at + offset_ns, ring, row, cause, stay, texts)
            reg[PACKETS] += 1


@compiled_apart
def forget(ledger: Ints, first: int, until: int, ring: CaptureRing) -> None:
    """Frees the packets whose fates are these events, as soon as all that came before them are free too."""
    reg, rows = ring.reg, ring.rows
    for event in range(first, until):
        number = ledger[event % len(ledger), L_NUMBER]
        row = rows[number % len(rows)]
        if row[R_NUMBER] == number and ledger[event % len(ledger), L_CAUSE] != COPY:
            row[R_FREED] = 1
    while reg[FREE_NUMBER] < reg[NEXT]:
        row = rows[reg[FREE_NUMBER] % len(rows)]
        if row[R_NUMBER] == reg[FREE_NUMBER]:
            if row[R_FREED] == 0:
                return
            reg[FREE_BYTES] = row[R_END]
        reg[FREE_NUMBER] += 1
