"""A beacon receiver: ten times a second, how strongly the antenna hears its satellite. Controllers track by that.

    $PBPB,12.34,6.468,1*15

C/N in dB, the same as the volts of an AGC output (0 V at −20 dB and below, 0.2 V/dB, 10 V at 30 dB: a stated choice),
and 1 while the satellite is locked. A proprietary sentence of NMEA 0183: no common format was found. Sans-I/O.
"""

from __future__ import annotations

from firmware_stubs.nmea import sentence
from firmware_stubs.registry import LevelAt

PERIOD_NS = 100_000_000
VOLTS_PER_DB, ZERO_DB, MOST_VOLTS = 0.2, -20.0, 10.0
NOTHING_DB = -99.99


class BeaconReceiver:
    """`level_at` gives C/N in dB, None for no satellite at all, and the lock, at an instant of simulated UTC."""

    def __init__(self, level_at: LevelAt, now_ns: int) -> None:
        self._level_at = level_at
        self._next_ns = -(-now_ns // PERIOD_NS) * PERIOD_NS

    def receive(self, data: bytes, now_ns: int) -> None:
        """It takes no orders."""

    def poll(self, now_ns: int) -> bytes:
        """The level of now; what nobody polled for is not made up for, and a clock that was set back is followed."""
        if self._next_ns - PERIOD_NS <= now_ns < self._next_ns:
            return b""
        self._next_ns = (now_ns // PERIOD_NS + 1) * PERIOD_NS
        level_db, locked = self._level_at(now_ns)
        return report(level_db, locked=locked)

    def next_event_ns(self) -> int:
        return self._next_ns


def report(level_db: float | None, *, locked: bool) -> bytes:
    """The sentence of a level."""
    shown_db = NOTHING_DB if level_db is None else max(level_db, NOTHING_DB)
    volts = min(MOST_VOLTS, max(0.0, VOLTS_PER_DB * (shown_db - ZERO_DB)))
    return sentence(f"PBPB,{shown_db:.2f},{volts:.3f},{int(locked)}")
