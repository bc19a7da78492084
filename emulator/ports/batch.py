"""Batches of packets between processes: a ZeroMQ message each, little-endian 64-bit words (docs/reference/packets.md).

    header     magic · kind · direction · sequence · records
    arrival    arrived_ns · length · frame, padded to a word                     from a port to the link
    departure  wire packets · length · due_ns of each · frame, padded to a word  from the link to a port

A frame is a packet behind its 10-byte virtio_net_hdr, whole; with segmentation offload it stands for many wire packets.
What comes in is checked before it is used: a length is believed only if the message is that long.
"""

from __future__ import annotations

import numpy as np

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.leave import dress
from emulator.link.path import advance, depart, first_run, offer, refuse, refuse_frame
from emulator.link.propagate import row_for
from emulator.link.state import (
    ETHERNET,
    F_BYTES,
    F_DUE,
    F_HEAD,
    F_INDEX,
    F_SUPER,
    F_TAIL,
    NEVER,
    OFFERED_BYTES,
    OFFERED_PACKETS,
    RUN_BODY,
    RUN_BODY_AT,
    RUN_COUNT,
    RUN_HEAD,
    RUN_SUPER,
    SUPER_LENGTH,
    SUPER_SEGMENTS,
    SUPER_TAIL,
    Bytes,
    Ints,
    LinkState,
)
from emulator.link.store import LARGEST_SUPER, VNET_BYTES, keep, reserve
from emulator.link.wire import all_wire_bytes, dissect_frame, wire_bytes
from emulator.ports.frames import read_frame
from emulator.ports.syscalls import FRAME_ARRIVAL, FRAME_OFFSET
from emulator.timeline.causes import Cause

MAGIC = 0x0001_4B50_5442  # "BTPK", version 1
ARRIVALS, DEPARTURES = 0, 1
H_MAGIC, H_KIND, H_DIRECTION, H_SEQUENCE, H_RECORDS = range(5)
HEADER_WORDS = 5
MOST_RECORDS = 256
BATCH_WORDS = 1 << 17  # 1 MiB

MALFORMED, MEMORY = int(Cause.MALFORMED), int(Cause.MEMORY)


@compiled
def copy_bytes(source: Bytes, start: int, length: int, target: Bytes, at: int) -> None:
    for index in range(length):
        target[at + index] = source[start + index]


@compiled
def begin(words: Ints, kind: int, direction: int, sequence: int) -> None:
    words[H_MAGIC], words[H_KIND], words[H_DIRECTION] = MAGIC, kind, direction
    words[H_SEQUENCE], words[H_RECORDS] = sequence, 0


@compiled
def is_batch(words: Ints, kind: int, direction: int) -> bool:
    return (
        len(words) >= HEADER_WORDS
        and words[H_MAGIC] == MAGIC
        and words[H_KIND] == kind
        and words[H_DIRECTION] == direction
        and 0 <= words[H_RECORDS] <= MOST_RECORDS
    )


@compiled
def is_time(at: int) -> bool:
    """Whether sums with `at` stay within 64 bits."""
    return -NEVER < at < NEVER


@compiled_apart
def collect(descriptor: int, words: Ints, data: Bytes, used: int, most: int, reading: Ints) -> int:
    """Reads what waits at a port into a batch that has `used` words; at most `most` records. Returns the words used.

    words, data: the same memory, as words and as bytes. reading: as `read_frame` takes it.
    """
    for _ in range(most):
        start = (used + 2) * 8
        if words[H_RECORDS] >= MOST_RECORDS or start + LARGEST_SUPER > len(data):
            break
        length = read_frame(descriptor, data, start, reading)
        if length <= 0:
            break
        if reading[FRAME_OFFSET] > start:
            copy_bytes(data, reading[FRAME_OFFSET], length, data, start)
        words[used] = reading[FRAME_ARRIVAL]
        words[used + 1] = length
        words[H_RECORDS] += 1
        used += 2 + (length + 7) // 8
    return used


@compiled_apart
def count_wire(words: Ints, data: Bytes, entry: Ints, total: Ints, ethernet: int) -> None:
    """Wire packets and IP bytes in a batch of arrivals of our own making, into total[0] and total[1].

    ethernet: whether its frames begin with an Ethernet header.
    """
    at = HEADER_WORDS
    total[0] = total[1] = 0
    for _ in range(words[H_RECORDS]):
        length = words[at + 1]
        if dissect_frame(data, (at + 2) * 8, length, entry, ethernet):
            total[0] += entry[SUPER_SEGMENTS]
            total[1] += all_wire_bytes(entry)
        else:
            total[0] += 1
            total[1] += max(0, length - VNET_BYTES)
        at += 2 + (length + 7) // 8


@compiled_apart
def offer_batch(link: LinkState, words: Ints, data: Bytes, direction: int, last: Ints, entry: Ints) -> bool:
    """Offers a batch of arrivals to the link. False: not such a batch, or cut short; what was whole has been offered.

    last: (1,), the latest arrival so far; one that claims to be earlier counts as that.
    """
    if not is_batch(words, ARRIVALS, direction):
        return False
    at = HEADER_WORDS
    for _ in range(words[H_RECORDS]):
        if at + 2 > len(words):
            return False
        length = words[at + 1]
        if length < 0 or length > LARGEST_SUPER or (at + 2) * 8 + length > len(data) or not is_time(words[at]):
            return False
        last[0] = max(last[0], words[at])
        offset = reserve(link, length)
        if offset < 0:
            refuse_frame(link, data, (at + 2) * 8, length, entry, MEMORY)
        else:
            copy_bytes(data, (at + 2) * 8, length, link.ring, offset)
            offer(link, last[0], offset, length)
        at += 2 + (length + 7) // 8
    return True


@compiled_apart
def pack(link: LinkState, now: int, words: Ints, data: Bytes, head: Bytes) -> int:
    """Serves what is to be served by `now`, and moves what is on the air into a batch of departures, due or not.

    words, data: the same memory, with the header begun. Returns the words used.
    """
    advance(link, now)
    reg, flight, supers = link.reg, link.flight, link.supers
    size, used = len(flight), HEADER_WORDS
    while reg[F_HEAD] < reg[F_TAIL] and words[H_RECORDS] < MOST_RECORDS:
        first_run(link, NEVER)
        count = reg[RUN_COUNT]
        frame = (used + 2 + count) * 8
        if frame + VNET_BYTES + supers[reg[RUN_SUPER], SUPER_LENGTH] + 8 > len(data):
            break
        for number in range(count):
            words[used + 2 + number] = flight[(reg[F_HEAD] + number) % size, F_DUE]
        dress(link, head)
        copy_bytes(head, 0, reg[RUN_HEAD], data, frame)
        copy_bytes(link.ring, reg[RUN_BODY_AT], reg[RUN_BODY], data, frame + reg[RUN_HEAD])
        length = reg[RUN_HEAD] + reg[RUN_BODY]
        words[used], words[used + 1] = count, length
        words[H_RECORDS] += 1
        used += 2 + count + (length + 7) // 8
        depart(link)
    return used


@compiled_apart
def board(line: LinkState, words: Ints, data: Bytes, direction: int) -> bool:
    """Takes a batch of departures into the delay line at the far end, where each wire packet waits until it is due.

    False: not such a batch, or cut short; what was whole is on board.
    """
    if not is_batch(words, DEPARTURES, direction):
        return False
    reg, flight = line.reg, line.flight
    at = HEADER_WORDS
    for _ in range(words[H_RECORDS]):
        if at + 2 > len(words):
            return False
        count, length = words[at], words[at + 1]
        if count < 1 or count > 65_535 or length < 0 or length > LARGEST_SUPER:
            return False
        frame = (at + 2 + count) * 8
        if frame + length > len(data):
            return False
        for index in range(count):
            if not is_time(words[at + 2 + index]):
                return False
        entry = line.supers[reg[SUPER_TAIL] % len(line.supers)]
        offset = reserve(line, length)
        if offset < 0 or reg[F_TAIL] - reg[F_HEAD] + count > len(flight):
            refuse(line, count, length - VNET_BYTES, MEMORY)
        else:
            copy_bytes(data, frame, length, line.ring, offset)
            if not dissect_frame(line.ring, offset, length, entry, reg[ETHERNET]) or entry[SUPER_SEGMENTS] != count:
                refuse(line, count, length - VNET_BYTES, MALFORMED)
            else:
                place = keep(line, offset, length, count)
                for index in range(count):
                    row = row_for(flight, reg[F_HEAD], reg[F_TAIL], words[at + 2 + index])
                    flight[row, F_DUE] = words[at + 2 + index]
                    flight[row, F_SUPER] = place
                    flight[row, F_INDEX] = index
                    flight[row, F_BYTES] = wire_bytes(entry, index)
                    reg[OFFERED_BYTES] += flight[row, F_BYTES]
                    reg[F_TAIL] += 1
                reg[OFFERED_PACKETS] += count
        at += 2 + count + (length + 7) // 8
    return True


def batch_memory(words: int = BATCH_WORDS) -> tuple[Ints, Bytes]:
    """Memory for a batch, as words and as bytes."""
    memory = np.zeros(words, np.int64)
    return memory, memory.view(np.uint8)


def as_batch(message: memoryview | bytes) -> tuple[Ints, Bytes]:
    """A received message as words and as bytes; an odd tail of less than a word is left out."""
    whole = len(message) // 8 * 8
    words = np.frombuffer(message, np.int64, whole // 8)
    return words, words.view(np.uint8)
