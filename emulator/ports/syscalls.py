"""The system calls of the compiled loops, behind one thin seam.

Numba's `ExternalFunction` calls libc without the GIL and can be cached; it does nothing when interpreted, so what
stands on this module runs compiled only, and all that can be tested without a kernel stands elsewhere.
"""

from __future__ import annotations

import numpy as np
from numba import types

from emulator.errors import EmulationError
from emulator.link.compiled import compiled, interpreted
from emulator.link.state import Bytes, Ints

_read = types.ExternalFunction("read", types.int64(types.int32, types.intp, types.uint64))
_recvmsg = types.ExternalFunction("recvmsg", types.int64(types.int32, types.intp, types.int32))
_writev = types.ExternalFunction("writev", types.int64(types.int32, types.intp, types.int32))
_ppoll = types.ExternalFunction("ppoll", types.int32(types.intp, types.uint64, types.intp, types.intp))
_clock_gettime = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.intp))

CLOCK_REALTIME, CLOCK_MONOTONIC = 0, 1  # linux/time.h
POLLIN, POLLERR, POLLHUP, POLLNVAL = 1, 8, 16, 32  # poll.h
MSG_TRUNC = 0x20  # linux/socket.h
NS_PER_S = 1_000_000_000

# What reading a frame takes (`frames`), in words: struct timespec; where the frame begins, when it arrived; how many
# arrivals are the reader's own time; when it last looked at the clock, when it found the port empty, 0 if it did not;
# the port's kind, when it was last seen empty; from MESSAGE on struct msghdr (name, its length, vectors, their number,
# ancillary data, its length, flags), its one vector (base, length), and the ancillary data.
FRAME_OFFSET, FRAME_ARRIVAL, GUESSED, LOOKED, EMPTY_AT, PORT_KIND, EMPTY_SINCE, MESSAGE = range(2, 10)
CONTROL_BYTES, MESSAGE_FLAGS, VECTOR, CONTROL = MESSAGE + 5, MESSAGE + 6, MESSAGE + 7, MESSAGE + 9
MOST_CONTROL_WORDS = 16
READING_WORDS = CONTROL + MOST_CONTROL_WORDS


def require_compiled() -> None:
    """Raises EmulationError where nothing is compiled: the system calls below would do nothing."""
    if interpreted:
        raise EmulationError("NUMBA_DISABLE_JIT is set: packets are carried by compiled code only; unset it")


@compiled
def monotonic_ns(scratch: Ints) -> int:
    """CLOCK_MONOTONIC, ns. `scratch`: (2,) int64 or longer, the first two overwritten."""
    _clock_gettime(CLOCK_MONOTONIC, scratch.ctypes.data)
    return scratch[0] * NS_PER_S + scratch[1]


@compiled
def realtime_ns(scratch: Ints) -> int:
    """CLOCK_REALTIME, ns. `scratch`: (2,) int64 or longer, the first two overwritten."""
    _clock_gettime(CLOCK_REALTIME, scratch.ctypes.data)
    return scratch[0] * NS_PER_S + scratch[1]


@compiled
def receive_message(descriptor: int, data: Bytes, at: int, room: int, reading: Ints) -> int:
    """recvmsg(2) into `data[at:at + room]`: bytes read, or −1.

    reading: (READING_WORDS,), from MESSAGE on overwritten: from CONTROL on the ancillary data, CONTROL_BYTES of it; the
    lower half of MESSAGE_FLAGS holds the flags.
    """
    if at < 0 or room < 0 or at + room > len(data) or len(reading) < READING_WORDS:
        return -1
    here = reading.ctypes.data
    reading[MESSAGE] = reading[MESSAGE + 1] = 0
    reading[MESSAGE + 2], reading[MESSAGE + 3] = here + VECTOR * 8, 1
    reading[MESSAGE + 4], reading[CONTROL_BYTES] = here + CONTROL * 8, MOST_CONTROL_WORDS * 8
    reading[MESSAGE_FLAGS] = 0
    reading[VECTOR], reading[VECTOR + 1] = data.ctypes.data + at, room
    return _recvmsg(np.int32(descriptor), here + MESSAGE * 8, np.int32(0))


@compiled
def read_into(descriptor: int, data: Bytes, at: int, room: int) -> int:
    """read(2) into `data[at:at + room]`: bytes read, or −1."""
    if at < 0 or room < 0 or at + room > len(data):
        return -1
    return _read(np.int32(descriptor), data.ctypes.data + at, np.uint64(room))


@compiled
def write_two(descriptor: int, head: Bytes, head_length: int, data: Bytes, at: int, length: int, vector: Ints) -> int:
    """writev(2) of `head[:head_length]` and `data[at:at + length]`: bytes written, or −1. `vector`: (4,) int64."""
    if at < 0 or length < 0 or at + length > len(data) or head_length < 0 or head_length > len(head):
        return -1
    vector[0], vector[1] = head.ctypes.data, head_length
    vector[2], vector[3] = data.ctypes.data + at, length
    if head_length == 0:
        return _writev(np.int32(descriptor), vector.ctypes.data + 16, 1)
    return _writev(np.int32(descriptor), vector.ctypes.data, 2)


@compiled
def wait_readable(descriptors: Ints, events: Ints, timeout_ns: int, scratch: Ints) -> int:
    """ppoll(2) for reading; a negative descriptor is left out. `events[i]` gets the returned events, all 0 if none.

    events: as long as `descriptors`; scratch: (2 + descriptors,) int64, overwritten. Returns how many are ready.
    """
    count = len(descriptors)
    for index in range(count):  # struct pollfd: int fd, short events, short revents, in one little-endian word
        scratch[2 + index] = (descriptors[index] & 0xFFFFFFFF) | (POLLIN << 32)
        events[index] = 0
    scratch[0] = timeout_ns // NS_PER_S
    scratch[1] = timeout_ns % NS_PER_S
    ready = _ppoll(scratch.ctypes.data + 16, np.uint64(count), scratch.ctypes.data, 0)
    if ready > 0:
        for index in range(count):
            events[index] = (scratch[2 + index] >> 48) & 0xFFFF
    return ready
