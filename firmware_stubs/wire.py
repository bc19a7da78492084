"""The serial line itself: a byte takes its time, a wrong baud rate makes garbage, and what else a cable does.

How to read it: a `Pipe` is one direction, sans-I/O, times are ns of any clock that only rises; `WiredStub` puts a pipe
before and behind a stub, and is a stub itself. The time on the wire is the machine's monotonic one: a cable does not
know of simulated UTC.
"""

from __future__ import annotations

import random
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from emulator.errors import EndpointError
from emulator.units import NS_PER_MS, NS_PER_S
from firmware_stubs.registry import Stub

BITS = 10  # of a byte on the line: 8N1
ROOM = 65_536  # bytes on their way; more are lost, as a UART loses them
TURN_NS = 16 * NS_PER_MS  # bytes without a gap come together, this long at most: a USB adapter, FTDI AN232B-04
PIECE_PAUSE_NS = 20 * NS_PER_MS  # between the pieces of a partial write

FaultKind = Literal["cut", "stuck", "noise", "lost", "partial", "echo"]
FAULTS: dict[str, str] = {
    "cut": "nothing passes",
    "stuck": "nothing comes from the device, and all of it when the fault ends",
    "noise": "bits of a share of the bytes change",
    "lost": "a share of the bytes is missing",
    "partial": "what the device writes comes in small pieces",
    "echo": "the client hears what it says",
}
SHARED = ("noise", "lost")  # those that have a share
DEFAULT_SHARE = 0.01

_FAULT = re.compile(r"([a-z]+)(?:=([0-9.]+))?(?:@([0-9.]+)\+([0-9.]+))?")


@dataclass(frozen=True, slots=True)
class LineFault:
    """Something that the line does wrong, from `at_s` on for `duration_s`, counted from when it was opened."""

    kind: FaultKind
    at_s: float = 0.0
    duration_s: float = float("inf")
    share: float = DEFAULT_SHARE

    @classmethod
    def parse(cls, text: str) -> LineFault:
        """`cut`, `noise=0.05`, `stuck@10+5`: kind, share of the bytes, beginning + duration in s.

        Raises EndpointError.
        """
        match = _FAULT.fullmatch(text)
        try:
            if match is None or match[1] not in FAULTS or (match[2] and match[1] not in SHARED):
                raise ValueError
            share = float(match[2]) if match[2] else DEFAULT_SHARE
            at_s, duration_s = (float(match[3]), float(match[4])) if match[3] else (0.0, float("inf"))
            if not 0 <= share <= 1:
                raise ValueError
        except ValueError as error:
            raise EndpointError(
                f"fault {text}: expected one of {', '.join(FAULTS)}, with =SHARE (0 to 1) for {' and '.join(SHARED)}, "
                "and @SECONDS+SECONDS for when and how long"
            ) from error
        kind: FaultKind = match[1]  # type: ignore[assignment]
        return cls(kind, at_s, duration_s, share)

    def now(self, t_s: float) -> bool:
        return self.at_s <= t_s < self.at_s + self.duration_s


def byte_ns(baud: int) -> int:
    """How long a byte takes on the line, 8N1."""
    return BITS * NS_PER_S // baud


def missampled(data: bytes, sent_baud: int, read_baud: int) -> bytes:
    """What a UART at `read_baud` makes of bytes that were sent back to back at `sent_baud`.

    It waits for a start bit and looks at the middle of each bit, as UARTs do: within some 4 % it reads what was sent.
    """
    if sent_baud == read_baud:
        return data
    levels: list[int] = []  # a level for each bit as it was sent, idle at the end
    for byte in data:
        levels += [0, *(byte >> bit & 1 for bit in range(8)), 1]
    step, t, read = sent_baud / read_baud, 0.0, bytearray()

    def level(at: float) -> int:
        return levels[int(at)] if at < len(levels) else 1

    while True:
        while t < len(levels) and level(t):
            t = int(t) + 1.0
        if t >= len(levels):
            return bytes(read)
        if level(t + step / 2):  # a spike and no start bit
            t += step / 2
            continue
        read.append(sum(level(t + (1.5 + bit) * step) << bit for bit in range(8)))
        t += 9.5 * step


class Pipe:
    """One direction of a line at `baud` (None: bytes take no time), with its faults; times count from `start_ns`.

    What comes without a gap is handed on in turns, each when its last byte has come: a short answer whole.
    Each direction draws from its own seed: the same seed and the same bytes, the same noise.
    """

    def __init__(
        self,
        baud: int | None,
        faults: tuple[LineFault, ...] = (),
        *,
        seed: int = 0,
        start_ns: int = 0,
        from_device: bool = False,
    ) -> None:
        self._byte_ns = byte_ns(baud) if baud else 0
        self._faults, self._start_ns, self._from_device = faults, start_ns, from_device
        self._draws = random.Random(seed * 2 + from_device)
        self._turns: deque[_Turn] = deque()
        self._last_ns = self._waiting = 0
        self.lost = 0

    def _now(self, kind: FaultKind, now_ns: int) -> LineFault | None:
        t_s = (now_ns - self._start_ns) / NS_PER_S
        return next((one for one in self._faults if one.kind == kind and one.now(t_s)), None)

    def push(self, data: bytes, now_ns: int) -> None:
        """Bytes are put on the line at `now_ns`."""
        if self._now("cut", now_ns):
            self.lost += len(data)
            return
        noise, lost = self._now("noise", now_ns), self._now("lost", now_ns)
        pieces = self._from_device and self._now("partial", now_ns)
        at_ns, left = max(now_ns, self._last_ns), 0
        for byte in data:
            if pieces and left == 0:
                left = self._draws.randint(1, 4)
                at_ns += PIECE_PAUSE_NS
            left -= 1
            at_ns += self._byte_ns
            if (lost and self._draws.random() < lost.share) or self._waiting >= ROOM:
                self.lost += 1
                continue
            flips = self._draws.randint(1, 255) if noise and self._draws.random() < noise.share else 0
            self._append(byte ^ flips, at_ns)
        self._last_ns = at_ns

    def _append(self, byte: int, at_ns: int) -> None:
        turn = self._turns[-1] if self._turns else None
        if turn is None or at_ns - turn.last_ns > self._byte_ns or at_ns - turn.first_ns > TURN_NS:
            self._turns.append(_Turn(at_ns, at_ns, bytearray((byte,))))
        else:
            turn.data.append(byte)
            turn.last_ns = at_ns
        self._waiting += 1

    def take(self, now_ns: int) -> bytes:
        """The turns that have arrived at `now_ns`."""
        if self._from_device and self._now("stuck", now_ns):
            return b""
        arrived = bytearray()
        while self._turns and self._turns[0].last_ns <= now_ns:
            arrived += self._turns.popleft().data
        self._waiting -= len(arrived)
        return bytes(arrived)

    def next_ns(self, now_ns: int) -> int | None:
        """When to `take` next; None if nothing is under way."""
        if not self._turns:
            return None
        if self._from_device and (stuck := self._now("stuck", now_ns)):
            return self._start_ns + round(min(stuck.at_s + stuck.duration_s, 1e9) * NS_PER_S)
        return self._turns[0].last_ns


@dataclass(slots=True)
class _Turn:
    """Bytes without a gap, and when the first and the last of them have arrived."""

    first_ns: int
    last_ns: int
    data: bytearray


class WiredStub:
    """`stub` at the end of a line at `baud`; `client_baud` gives the rate at which the client has set its own end.

    baud None: bytes take no time. Closed when the stub is.
    """

    def __init__(
        self,
        stub: Stub,
        baud: int | None,
        faults: tuple[LineFault, ...] = (),
        *,
        seed: int = 0,
        client_baud: Callable[[], int | None] = lambda: None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._stub, self._baud, self._client_baud, self._clock = stub, baud, client_baud, clock
        self.wake_fd: int = getattr(stub, "wake_fd", -1)
        start_ns = clock()
        self._inward = Pipe(baud, faults, seed=seed, start_ns=start_ns)
        self._outward = Pipe(baud, faults, seed=seed, start_ns=start_ns, from_device=True)
        self._utc_ns = 0
        self._echo = [one for one in faults if one.kind == "echo"]
        self._start_ns = start_ns

    @property
    def closed(self) -> bool:
        return bool(getattr(self._stub, "closed", False))

    def receive(self, data: bytes, now_ns: int) -> None:
        at_ns = self._clock()
        if any(one.now((at_ns - self._start_ns) / NS_PER_S) for one in self._echo):
            self._outward.push(data, at_ns)
        self._inward.push(self._through(data, inward=True), at_ns)
        self._hand_on(now_ns)

    def poll(self, now_ns: int) -> bytes:
        self._hand_on(now_ns)
        self._outward.push(self._through(self._stub.poll(now_ns), inward=False), self._clock())
        return self._outward.take(self._clock())

    def next_event_ns(self) -> int | None:
        """The line's times as simulated UTC: as far ahead of the last call as they are of the clock."""
        at_ns = self._clock()
        lines = (pipe.next_ns(at_ns) for pipe in (self._inward, self._outward))
        due = [self._utc_ns + max(0, ns - at_ns) for ns in lines if ns is not None]
        own = self._stub.next_event_ns()
        return min([*due, *([own] if own is not None else [])], default=None)

    def _hand_on(self, now_ns: int) -> None:
        self._utc_ns = now_ns
        arrived = self._inward.take(self._clock())
        if arrived:
            self._stub.receive(arrived, now_ns)

    def _through(self, data: bytes, *, inward: bool) -> bytes:
        client = self._client_baud() if data else None
        if self._baud is None or client is None or client == self._baud:
            return data
        return missampled(data, client, self._baud) if inward else missampled(data, self._baud, client)
