"""The bench's clock: the packets' monotonic time, and the simulated UTC that belongs to it."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from emulator.units import NS_PER_MS

STEP_NS = NS_PER_MS  # a larger change between two looks is a step of the world's clock and not its steering
KEPT_PIECES = 256


def utc_minus_monotonic_ns() -> int:
    """CLOCK_REALTIME − CLOCK_MONOTONIC, from the closest of a few pairs of readings."""
    best: tuple[int, int] | None = None
    for _ in range(5):
        before = time.monotonic_ns()
        utc = time.time_ns()
        after = time.monotonic_ns()
        if best is None or after - before < best[0]:
            best = (after - before, utc - (before + after) // 2)
    assert best is not None
    return best[1]


class Piece(NamedTuple):
    """From a monotonic time on it is this UTC, and goes on from there or stands."""

    from_ns: int
    utc_ns: int
    standing: bool = False

    def utc_at(self, monotonic_ns: int) -> int:
        return self.utc_ns if self.standing else self.utc_ns + monotonic_ns - self.from_ns


class WorldClock:
    """Simulated UTC over monotonic time, in pieces: it may be made to jump, to stand and to go on.

    Without `start_utc_ns` it is the world's UTC, and follows its steps. With it, the bench begins at that UTC, and time
    then passes as the monotonic clock says.
    """

    def __init__(self, start_utc_ns: int | None) -> None:
        self._follows = start_utc_ns is None
        self._world_ns = utc_minus_monotonic_ns()
        self._changing = threading.Lock()
        now_ns = time.monotonic_ns()
        start_ns = now_ns + self._world_ns if start_utc_ns is None else start_utc_ns
        self._pieces: tuple[Piece, ...] = (Piece(now_ns, start_ns),)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The last few, in order."""
        return self._pieces

    @property
    def standing(self) -> bool:
        """Whether simulated UTC stands still, now or with the last change that was ordered."""
        return self._pieces[-1].standing

    @property
    def offset_ns(self) -> int:
        """UTC − monotonic time after the last change that was ordered; while it stands, where it began to."""
        last = self._pieces[-1]
        return last.utc_ns - last.from_ns

    def utc_ns(self) -> int:
        return self.utc_of_monotonic_ns(time.monotonic_ns())

    def utc_of_monotonic_ns(self, monotonic_ns: int) -> int:
        """The UTC of a packet's time; of one before all that is kept, as if nothing had ever changed."""
        pieces = self._pieces
        for piece in reversed(pieces):
            if piece.from_ns <= monotonic_ns:
                return piece.utc_at(monotonic_ns)
        return pieces[0]._replace(standing=False).utc_at(monotonic_ns)

    def monotonic_of_utc_ns(self, utc_ns: int) -> int:
        """When it is this UTC: the last time, if there are several; if it was jumped over, when that was.

        While it stands, later ones come as if it went on at once.
        """
        pieces = self._pieces
        end_ns: int | None = None
        jumped_ns = pieces[0].from_ns
        for piece in reversed(pieces):
            if piece.standing and end_ns is not None:
                at_ns, hit = piece.from_ns, utc_ns == piece.utc_ns
            else:
                at_ns = piece.from_ns + utc_ns - piece.utc_ns
                hit = (at_ns >= piece.from_ns or piece is pieces[0]) and (end_ns is None or at_ns < end_ns)
            if hit:
                return at_ns
            if utc_ns < piece.utc_ns:
                jumped_ns = piece.from_ns
            end_ns = piece.from_ns
        return jumped_ns

    def set(self, at_ns: int, utc_ns: int, *, standing: bool = False) -> None:
        """From monotonic `at_ns` on it is `utc_ns`, and goes on from there or stands."""
        with self._changing:
            kept = [piece for piece in self._pieces if piece.from_ns < at_ns]
            self._pieces = (*kept[-KEPT_PIECES:], Piece(at_ns, utc_ns, standing))

    def follow(self) -> int | None:
        """Looks at the world's clock; if it was stepped, goes with it and returns by how many ns."""
        if not self._follows:
            return None
        step = utc_minus_monotonic_ns() - self._world_ns
        if abs(step) < STEP_NS:
            return None
        self._world_ns += step
        if not self.standing:
            now_ns = time.monotonic_ns()
            self.set(now_ns, self.utc_of_monotonic_ns(now_ns) + step)
        return step
