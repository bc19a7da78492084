"""How the packet loop gets the processor: exact sleeps, short rests, and real-time priority where it is granted.

A loop that has something due every few µs never sleeps, and a thread that never sleeps is treated as one that can wait:
an ordinary one is pre-empted for a whole time slice (3-7 ms seen as lateness), and a real-time one is stopped for 50 ms
of every second by the kernel's guard against starvation (sched_rt_runtime_us, the fair server since Linux 6.12). A rest
of some µs, often, in a gap between two packets if there is one (`turn.rest_ns`), costs less than either.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy.typing as npt

PR_SET_TIMERSLACK = 29  # linux/prctl.h
MADV_POPULATE_WRITE = 23  # asm-generic/mman-common.h, since Linux 5.14
FIFO_PRIORITY = 10  # above every ordinary thread, below the kernel's own watchdogs
# Over ZeroMQ the link has the whole delay to do its work in; what an end waits for a core, its packets are late.
TRANSPORT_PRIORITY, END_PRIORITY = 11, 12
IO_THREAD = "ZMQbg/IO"  # as libzmq names its threads, behind the prefix of a context that has one

SPIN_NS, REST_NS = 500_000, 20_000  # ordinary priority: 4 % of rest
# More than the 5 % that the guard would take in one piece; 12 µs are 30 to 40 with the way to sleep and back.
REALTIME_SPIN_NS, REALTIME_REST_NS = 80_000, 12_000
# Three loops and ZeroMQ's threads on two cores would leave the programs nothing, and the guard would stop them all.
END_REALTIME_SPIN_NS, END_REALTIME_REST_NS = 20_000, 40_000


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


def fault_in(arrays: Iterable[npt.NDArray[Any]]) -> None:
    """Has the kernel find the memory of arrays now, and not when they are first written to; what they hold stays.

    It clears 2 MB at a time then, which holds a loop up for 5 ms: 30 times in the first second at 500 Mbit/s. Nothing
    is done where that would take more than half of the memory that is free, or the kernel is too old for it.
    """
    wanted = [(array.ctypes.data, array.nbytes) for array in arrays if array.nbytes >= mmap.PAGESIZE]
    if 2 * sum(size for _, size in wanted) > os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE:
        return
    libc = ctypes.CDLL(None)
    for address, size in wanted:
        first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
        whole = (address + size - first) // mmap.PAGESIZE * mmap.PAGESIZE
        libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(whole), MADV_POPULATE_WRITE)
