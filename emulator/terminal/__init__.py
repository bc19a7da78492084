"""The terminal as its firmware knows it: where it stands, and what its own receivers see."""

from __future__ import annotations

from emulator.terminal.gnss import FixMode, GnssFix, GnssSatellite
from emulator.terminal.state import Terminal, TerminalState

__all__ = ["FixMode", "GnssFix", "GnssSatellite", "Terminal", "TerminalState"]
