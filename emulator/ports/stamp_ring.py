"""When a packet came to a TUN or TAP device, as the kernel has noted it: the ring in which it does, and its reader.

    HEAD  TAIL  …  │  number · stamp_ns · key · length  │  number · …        a power of two of rows

The device has no receive stamp of its own. A program in the kernel (`stamper`) runs as a packet leaves for the device,
and writes a row: the monotonic clock, the length, and a key of its first and last bytes. So arrival is known to the
nanosecond, whenever the loop comes to read the packet: asleep, busy, or stopped.

Packets are read in the order of their rows, or nearly: two processors may swap neighbours, and what a full device drops
has a row, but is never read. So a frame takes the first row that has its length and key, which are as good as never
those of another packet in the queue; what finds none has its arrival from the loop's clock, as without the program.
"""

from __future__ import annotations

import numpy as np

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.state import Bytes, Ints
from emulator.link.wire import le32

HEAD, TAIL, MISSES = 0, 8, 9  # rows begun, by the kernel alone; rows done with, frames in a row without one, by us
RING_HEADER = 16
ROW_NUMBER, ROW_STAMP, ROW_KEY, ROW_LENGTH = range(4)  # number: from 1 on, written last; negative once it is taken
ROW_WORDS = 4
SWAPPED = 32  # rows before the newest taken that may still find their frame
MOST_MISSES = 8  # in a row: whatever the rows are of, it is not what is read

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
def stamp_of(ring: Ints, data: Bytes, at: int, length: int) -> int:
    """When the packet of `length` bytes at `at` came (monotonic ns), and its row is taken; 0 if that is not known."""
    rows = (len(ring) - RING_HEADER) // ROW_WORDS
    if rows <= 0 or length < LEAST_BYTES:
        return 0
    head, tail = ring[HEAD], ring[TAIL]
    if head - tail > rows:  # rows were written over before they were read: the device's queue has overflowed
        tail = ring[TAIL] = head
    key = key_of(data, at, length)
    for number in range(tail, head):
        row = RING_HEADER + number % rows * ROW_WORDS
        if ring[row + ROW_NUMBER] == number + 1 and ring[row + ROW_KEY] == key and ring[row + ROW_LENGTH] == length:
            ring[row + ROW_NUMBER] = -number - 1
            tail = max(tail, number - SWAPPED)
            while tail < head and ring[RING_HEADER + tail % rows * ROW_WORDS + ROW_NUMBER] == -tail - 1:
                tail += 1
            ring[TAIL], ring[MISSES] = tail, 0
            return ring[row + ROW_STAMP]
    ring[MISSES] += 1
    if ring[MISSES] > MOST_MISSES:
        ring[TAIL], ring[MISSES] = head, 0
    return 0


@compiled
def forget(ring: Ints, head: int) -> None:
    """The port was empty when the rows up to `head` had been begun: what has not been read by now was dropped."""
    ring[TAIL] = max(ring[TAIL], head)
