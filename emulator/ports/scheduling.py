"""How the packet loop gets the processor: exact sleeps, short rests, and real-time priority where it is granted.

A loop that has something due every few µs never sleeps, and a thread that never sleeps is treated as one that can wait:
an ordinary one is pre-empted for a whole time slice (3-7 ms seen as lateness), and a real-time one is stopped for 50 ms
of every second by the kernel's guard against starvation (sched_rt_runtime_us, the fair server since Linux 6.12). A rest
of some µs, often, in a gap between two packets if there is one (`turn.rest_ns`), costs less than either.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

PR_SET_TIMERSLACK = 29  # linux/prctl.h
FIFO_PRIORITY = 10  # above every ordinary thread, below the kernel's own watchdogs
TRANSPORT_PRIORITY = 11  # a loop that spins must not keep from its core what brings it packets
IO_THREAD = "ZMQbg/IO"  # as libzmq names its threads, behind the prefix of a context that has one

SPIN_NS, REST_NS = 500_000, 20_000  # ordinary priority: 4 % of rest
# More than the 5 % that the guard would take in one piece; 12 µs are 30 to 40 with the way to sleep and back.
REALTIME_SPIN_NS, REALTIME_REST_NS = 80_000, 12_000


def sleep_exactly() -> None:
    """For the calling thread: sleeps end when they should, not up to 50 µs later (the default timer slack)."""
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, ctypes.c_ulong(1), 0, 0, 0)


def run_in_real_time(thread: int, priority: int = FIFO_PRIORITY) -> bool:
    """Gives a thread, by its number in the kernel, real-time priority; False if that is refused."""
    try:
        os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        return False
    return True


def run_transport_in_real_time(name: str = IO_THREAD) -> int:
    """Gives ZeroMQ's I/O threads of this process whose names begin so real-time priority. Returns how many have it.

    A packet's way to the other part leads through one at each end: a loop in real time alone would wait for them.
    """
    hastened = 0
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            if (task / "comm").read_text().startswith(name):
                hastened += run_in_real_time(int(task.name), TRANSPORT_PRIORITY)
    return hastened
