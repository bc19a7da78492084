"""Batches of packets between the parts of a bench: a ZeroMQ message each (docs/reference/packets.md).

    header     magic · kind · way · session · sequence · acknowledged · packets · records      `messages`
    arrival    arrived_ns · length · frame, padded to a word                     from a port to the link
    departure  wire packets · length · due_ns of each · frame, padded to a word  from the link to a port

A frame is a packet behind its 10-byte virtio_net_hdr, whole; with segmentation offload it stands for many wire packets.
Times are those of the end's clock: the link adds and takes away its `offset`, the end's clock less its own.
What comes in is checked before it is used: a length is believed only if the message is that long.
"""

from __future__ import annotations

import numpy as np

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.flight import flying, join, next_due
from emulator.link.leave import dress
from emulator.link.memory import copy_bytes
from emulator.link.path import advance, depart, discard, first_run, offer, refuse
from emulator.link.state import (
    ETHERNET,
    F_DUE,
    F_HEAD,
    LAST_START,
    NEVER,
    OFFERED_BYTES,
    OFFERED_PACKETS,
    RUN_BODY,
    RUN_BODY_AT,
    RUN_COUNT,
    RUN_DUE,
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
from emulator.ports.capture_ring import ON, CaptureRing, remember
from emulator.ports.frames import read_frame
from emulator.ports.messages import (
    H_ACKNOWLEDGED,
    H_KIND,
    H_MAGIC,
    H_PACKETS,
    H_RECORDS,
    H_SEQUENCE,
    H_SESSION,
    H_WAY,
    HEADER_WORDS,
    MAGIC,
)
from emulator.ports.syscalls import EMPTY_AT, FRAME_ARRIVAL, FRAME_OFFSET, GUESSED
from emulator.ports.turn import Scratch, refuse_noted
from emulator.timeline.causes import Cause

MOST_RECORDS = 256
BATCH_WORDS = 1 << 17  # 1 MiB

MALFORMED, MEMORY, TRANSPORT = int(Cause.MALFORMED), int(Cause.MEMORY), int(Cause.TRANSPORT)


@compiled
def begin(words: Ints, kind: int, way: int, session: int, sequence: int, acknowledged: int, packets: int) -> None:
    """The header of a message without records yet."""
    words[H_MAGIC], words[H_KIND], words[H_WAY], words[H_SESSION] = MAGIC, kind, way, session
    words[H_SEQUENCE], words[H_ACKNOWLEDGED], words[H_PACKETS], words[H_RECORDS] = sequence, acknowledged, packets, 0


@compiled
def is_message(words: Ints, size: int, kind: int, way: int, session: int) -> bool:
    """Whether a message of `size` bytes is of this kind, way and session."""
    return (
        size >= HEADER_WORDS * 8
        and words[H_MAGIC] == MAGIC
        and words[H_KIND] == kind
        and words[H_WAY] == way
        and words[H_SESSION] == session
        and 0 <= words[H_RECORDS] <= MOST_RECORDS
    )


@compiled
def is_time(at: int) -> bool:
    """Whether sums with `at` stay within 64 bits."""
    return -NEVER < at < NEVER


@compiled_apart
def collect(descriptor: int, words: Ints, data: Bytes, used: int, most: int, scratch: Scratch) -> int:
    """Reads what waits at a port into a batch that has `used` words; at most `most` records. Returns the words used.

    words, data: the same memory, as words and as bytes. scratch: its `reading` as `read_frame` takes it; stamps of
    port 0.
    """
    reading = scratch.reading
    reading[GUESSED] = reading[EMPTY_AT] = 0
    for _ in range(most):
        start = (used + 2) * 8
        if words[H_RECORDS] >= MOST_RECORDS or start + LARGEST_SUPER > len(data):
            break
        length = read_frame(descriptor, data, start, reading, scratch.stamps[0])
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
def offer_batch(
    link: LinkState,
    capture: CaptureRing,
    words: Ints,
    data: Bytes,
    size: int,
    way: int,
    offset: int,
    now: int,
    arrived: Ints,
    entry: Ints,
) -> bool:
    """Offers a batch of arrivals, which `is_message`, to the link. False: cut short; what was whole has been offered.

    words, data: the same memory, of which the message has `size` bytes. arrived: (2,), the latest arrival by way; one
    that claims to be earlier counts as that, and one from after `now` as of now; one from before the link's last doing
    as of then, so that whoever repeats the arrivals in order gets the same drops and delays.
    """
    at, count = HEADER_WORDS, size // 8
    for _ in range(words[H_RECORDS]):
        if at + 2 > count:
            return False
        length, start = words[at + 1], (at + 2) * 8
        if length < 0 or length > LARGEST_SUPER or start + length > size or not is_time(words[at]):
            return False
        arrived[way] = max(arrived[way], min(words[at] - offset, now), link.reg[LAST_START])
        place = reserve(link, length)
        if place < 0:
            if capture.reg[ON]:
                remember(link, capture, data, start, length, arrived[way], 0, entry)
            refuse_noted(link, data, start, length, entry, arrived[way])
        else:
            copy_bytes(data, start, length, link.ring, place)
            if capture.reg[ON]:
                remember(link, capture, link.ring, place, length, arrived[way], 0, entry)
            offer(link, arrived[way], place, length)
        at += 2 + (length + 7) // 8
    return True


@compiled_apart
def pack(link: LinkState, now: int, words: Ints, data: Bytes, head: Bytes, offset: int) -> int:
    """Serves what is to be served by `now`, and moves what is on the air into a batch of departures, due or not.

    words, data: the same memory, with the header begun. Returns the words used.
    """
    advance(link, now)
    reg, flight, supers = link.reg, link.flight, link.supers
    size, used = len(flight), HEADER_WORDS
    while next_due(link) < NEVER and words[H_RECORDS] < MOST_RECORDS:
        first_run(link, NEVER)
        count = reg[RUN_COUNT]
        frame = (used + 2 + count) * 8
        if frame + VNET_BYTES + supers[reg[RUN_SUPER], SUPER_LENGTH] + 8 > len(data):
            break
        for number in range(count):
            words[used + 2 + number] = flight[(reg[F_HEAD] + number) % size, F_DUE] + offset
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
def drop_overdue(link: LinkState, now: int, before: int) -> None:
    """Serves as `pack` does, and drops what was due before `before`: the transport had no room for it in time."""
    advance(link, now)
    reg = link.reg
    while next_due(link) < NEVER:
        first_run(link, before)
        if reg[RUN_DUE] >= before:
            return
        discard(link, TRANSPORT)


@compiled_apart
def board(line: LinkState, words: Ints, data: Bytes, size: int, now: int, late: Ints) -> bool:
    """Takes a batch of departures, which `is_message`, into the delay line, where each wire packet waits until due.

    late: (2,) gets how many were due before `now` added, and the worst of that. False: cut short; what was whole is on
    board.
    """
    reg = line.reg
    at, words_in = HEADER_WORDS, size // 8
    for _ in range(words[H_RECORDS]):
        if at + 2 > words_in:
            return False
        count, length = words[at], words[at + 1]
        if count < 1 or count > 65_535 or length < 0 or length > LARGEST_SUPER:
            return False
        frame = (at + 2 + count) * 8
        if frame + length > size:
            return False
        for index in range(count):
            if not is_time(words[at + 2 + index]):
                return False
        entry = line.supers[reg[SUPER_TAIL] % len(line.supers)]
        offset = reserve(line, length)
        if offset < 0 or flying(reg) + count > len(line.flight):
            refuse(line, count, length - VNET_BYTES, MEMORY)
        else:
            copy_bytes(data, frame, length, line.ring, offset)
            if not dissect_frame(line.ring, offset, length, entry, reg[ETHERNET]) or entry[SUPER_SEGMENTS] != count:
                refuse(line, count, length - VNET_BYTES, MALFORMED)
            else:
                place = keep(line, offset, length, count)
                for index in range(count):
                    due = words[at + 2 + index]
                    if due < now:
                        late[0] += 1
                        late[1] = max(late[1], now - due)
                    join(reg, line.flight, line.overtaken, due, place, index, wire_bytes(entry, index), -NEVER)
                    reg[OFFERED_BYTES] += wire_bytes(entry, index)
                reg[OFFERED_PACKETS] += count
        at += 2 + count + (length + 7) // 8
    return True


def batch_memory(words: int = BATCH_WORDS) -> tuple[Ints, Bytes]:
    """Memory for a batch, as words and as bytes."""
    memory = np.zeros(words, np.int64)
    return memory, memory.view(np.uint8)


def as_batch(message: memoryview | bytes) -> tuple[Ints, Bytes]:
    """A message in memory of its own, as words and as bytes; an odd tail of less than a word is left out."""
    words = np.frombuffer(bytearray(message[: len(message) // 8 * 8]), np.int64)
    return words, words.view(np.uint8)
