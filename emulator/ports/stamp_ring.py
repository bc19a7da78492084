"""When a packet came to a TUN or TAP device, as the kernel has noted it: the ring in which it does, and its reader.

    CAME  READ  HEAD  TAIL  │  number · stamp_ns · key · length  │  number · …        a power of two of rows

The device has no receive stamp of its own. A program in the kernel (`stamper`) runs as a packet is put into the
device's queue, and writes a row: the monotonic clock, the length, and a key of its first and last bytes. So arrival is
known to the nanosecond, whenever the loop comes to read the packet: asleep, busy, or stopped.

Packets are read in the order of their rows, or nearly: two processors may swap neighbours. And not each has a row: none
that came when the queue was about to be full, for a dropped packet's row would be taken for that of another. So a frame
takes the first of the next rows that has its length and key; what finds none has its arrival from the loop's clock, as
without the program, which is never too early.
"""

from __future__ import annotations

import numpy as np

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.state import Bytes, Ints
from emulator.link.wire import le32

# Packets that came and rows begun are counted by the kernel, packets read and rows done with by us: a cache line each.
CAME, HEAD, READ, TAIL = 0, 1, 8, 9
RING_HEADER = 16
ROW_NUMBER, ROW_STAMP, ROW_KEY, ROW_LENGTH = range(4)  # number: from 1 on, written last; negative once it is taken
ROW_WORDS = 4
SWAPPED = 32  # how many rows behind the first unread one a frame's may be

# A packet of LONG_BYTES or more is known by its first LONG_BYTES and last 8: they hold the headers of TCP over IPv4,
# or a datagram's checksum and what its program numbers it by. A shorter one by its first and last SHORT_BYTES.
LONG_BYTES, SHORT_BYTES, LEAST_BYTES = 56, 24, 28
# Primes below 2²⁶: a sum of 16 products with words of 32 bits stays below 2⁶².
WEIGHTS = (
    67108859, 67108837, 67108819, 67108777, 67108763, 67108757, 67108753, 67108747,
    67108739, 67108729, 67108721, 67108709, 67108693, 67108669, 67108667, 67108661,
)  # fmt: skip

NO_STAMPS: Ints = np.zeros(RING_HEADER, np.int64)
"""The ring of a port that has none."""


@compiled
def key_of(data: Bytes, at: int, length: int) -> int:
    """What tells one packet of `length` bytes at `at`, at least LEAST_BYTES, from another."""
    key, used = 0, 0
    first, last = (LONG_BYTES, 8) if length >= LONG_BYTES else (SHORT_BYTES, SHORT_BYTES)
    for index in range(0, first, 4):
        key += le32(data, at + index) * WEIGHTS[used]
        used += 1
    for index in range(length - last, length, 4):
        key += le32(data, at + index) * WEIGHTS[used]
        used += 1
    return key


@compiled_apart
def stamp_of(ring: Ints, data: Bytes, at: int, length: int, not_before: int) -> int:
    """When the packet of `length` bytes at `at` came (monotonic ns), and its row is taken; 0 if that is not known.

    not_before: rows from before that time are nobody's any more.
    """
    rows = (len(ring) - RING_HEADER) // ROW_WORDS
    if rows <= 0:
        return 0
    ring[READ] += 1
    if length < LEAST_BYTES:
        return 0
    head, tail = ring[HEAD], max(ring[TAIL], ring[HEAD] - rows)
    while tail < head and is_done(ring, tail, rows, not_before):
        tail += 1
    ring[TAIL] = tail
    if tail == head:
        return 0
    key = key_of(data, at, length)
    for number in range(tail, min(head, tail + SWAPPED)):
        row = RING_HEADER + (number & (rows - 1)) * ROW_WORDS
        if ring[row + ROW_NUMBER] == number + 1 and ring[row + ROW_KEY] == key and ring[row + ROW_LENGTH] == length:
            ring[row + ROW_NUMBER] = -number - 1
            return ring[row + ROW_STAMP] if ring[row + ROW_STAMP] >= not_before else 0
    return 0


@compiled
def is_done(ring: Ints, number: int, rows: int, not_before: int) -> bool:
    """Whether a row is taken, or too old to be anybody's; one that the kernel is still writing is neither."""
    row = RING_HEADER + (number & (rows - 1)) * ROW_WORDS
    if ring[row + ROW_NUMBER] == -number - 1:
        return True
    return ring[row + ROW_NUMBER] == number + 1 and ring[row + ROW_STAMP] < not_before


@compiled
def seen_empty(ring: Ints, came: int) -> None:
    """The port was empty when `came` packets had come: all of them are read by now, or were dropped."""
    ring[READ] = max(ring[READ], came)
