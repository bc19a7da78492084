"""The bench's clock: the packets' monotonic time, and the simulated UTC that belongs to it."""

from __future__ import annotations

import time

from emulator.units import NS_PER_MS

STEP_NS = NS_PER_MS  # a larger change between two looks is a step of the world's clock and not its steering


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


class WorldClock:
    """Simulated UTC over monotonic time.

    Without `start_utc_ns` it is the world's UTC, and follows its steps. With it, the bench begins at that UTC, and time
    then passes as the monotonic clock says.
    """

    def __init__(self, start_utc_ns: int | None) -> None:
        self._follows = start_utc_ns is None
        self.offset_ns = utc_minus_monotonic_ns() if start_utc_ns is None else start_utc_ns - time.monotonic_ns()

    def utc_ns(self) -> int:
        return time.monotonic_ns() + self.offset_ns

    def utc_of_monotonic_ns(self, monotonic_ns: int) -> int:
        return monotonic_ns + self.offset_ns

    def monotonic_of_utc_ns(self, utc_ns: int) -> int:
        return utc_ns - self.offset_ns

    def follow(self) -> int | None:
        """Looks at the world's clock; if it was stepped, goes with it and returns by how many ns."""
        if not self._follows:
            return None
        step = utc_minus_monotonic_ns() - self.offset_ns
        if abs(step) < STEP_NS:
            return None
        self.offset_ns += step
        return step
