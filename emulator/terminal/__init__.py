"""The terminal as its firmware knows it: where it stands, what its receivers see, where its antenna points."""

from __future__ import annotations

from emulator.terminal.antenna import Antenna, Mount, Pose, Towards, separation_deg
from emulator.terminal.gnss import FixMode, GnssFix, GnssSatellite
from emulator.terminal.state import Terminal, TerminalState

__all__ = [
    "Antenna",
    "FixMode",
    "GnssFix",
    "GnssSatellite",
    "Mount",
    "Pose",
    "Terminal",
    "TerminalState",
    "Towards",
    "separation_deg",
]
