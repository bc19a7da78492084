"""What the measuring processes at the two sides share: stamps, clocks, and a file that outlives them.

How to read it: each process appends records of four int64 to its own file, flushed twice a second and at its end, so
that a process killed in the middle loses half a second and a torn record at most. `emulator.testing.readings` reads
them. Standard library alone, for a fast start: these processes run beside the traffic that they measure.
"""

from __future__ import annotations

import contextlib
import signal
import struct
import time
from pathlib import Path
from types import FrameType

RECORD = struct.Struct("=qqqq")  # kind, and three values whose meaning depends on it

CLOCK = 1  # CLOCK_REALTIME ns, CLOCK_MONOTONIC ns at the same instant, ± uncertainty ns
SENT = 2  # sequence number, CLOCK_REALTIME ns just before the send, stream
STAMPED = 3  # sequence number, CLOCK_REALTIME ns at which the kernel handed the packet to the device, stream
REFUSED = 4  # sequence number, errno of the send that failed, stream
RECEIVED = 5  # sequence number, CLOCK_REALTIME ns at which the kernel took the packet from the device, stream
OVERFLOW = 6  # packets that the receiving socket dropped so far: its buffer was full
MISSED = 7  # sequence number of the first of them, number of send instants that passed while the process did not run
BYTES = 8  # CLOCK_MONOTONIC ns, bytes of payload received so far
TCP = 9  # CLOCK_MONOTONIC ns, segments retransmitted so far, smoothed round trip in µs
CONGESTION = 10  # name of the congestion control in use, as 8 + 8 + 8 bytes

FLUSH_NS = 500_000_000
TIMER_SLACK = Path("/proc/self/timerslack_ns")


class Stop:
    """Becomes true at SIGINT or SIGTERM: the loops look at it, so that no record is cut in the middle."""

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGINT, self._request)
        signal.signal(signal.SIGTERM, self._request)

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True

    def __bool__(self) -> bool:
        return self.requested


class Recorder:
    """Appends records to a file; pairs the two clocks at each flush, so that a step of the world's clock shows."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._pending = bytearray()
        self._flushed_ns = time.monotonic_ns()
        self._pair_clocks()
        self.flush()

    def put(self, kind: int, first: int = 0, second: int = 0, third: int = 0) -> None:
        self._pending += RECORD.pack(kind, first, second, third)

    def put_name(self, kind: int, name: str) -> None:
        """A record whose three values are the first 24 bytes of a name."""
        self._pending += struct.pack("=q24s", kind, name.encode()[:24])

    def flush_if_due(self, now_ns: int) -> None:
        if now_ns - self._flushed_ns >= FLUSH_NS:
            self._pair_clocks()
            self.flush()
            self._flushed_ns = now_ns

    def flush(self) -> None:
        data = bytes(self._pending)
        self._pending.clear()
        self._file.write(data)

    def close(self) -> None:
        self._pair_clocks()
        self.flush()
        self._file.close()

    def _pair_clocks(self) -> None:
        self.put(CLOCK, *clock_pair())


def clock_pair() -> tuple[int, int, int]:
    """(CLOCK_REALTIME ns, CLOCK_MONOTONIC ns at that instant, ± uncertainty ns): the tightest of five readings."""
    best = (0, 0, 1 << 62)
    for _ in range(5):
        before_ns = time.monotonic_ns()
        world_ns = time.time_ns()
        after_ns = time.monotonic_ns()
        if (after_ns - before_ns) // 2 < best[2]:
            best = (world_ns, (before_ns + after_ns) // 2, (after_ns - before_ns) // 2)
    return best


def wake_precisely() -> None:
    """Ask the kernel not to round this process's sleeps (50 µs by default). Refused: sleeps are that much longer."""
    with contextlib.suppress(OSError):
        TIMER_SLACK.write_text("1")
