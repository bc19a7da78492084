"""An antenna that a modem commands by OpenAMIP: lines of text, the modem's in upper case, the antenna's in lower.

Sans-I/O: `receive` takes what the modem wrote, `poll` gives what the antenna says. The modem says which satellite
(`S`), the antenna finds it from its own position, points, and tells when the modem may transmit (`s`). Written from a
summary of the protocol (versions 1.x): not checked against a modem. Taken and not used: limits of skew (`K`), and what
an antenna would find the satellite's signal by (`H`, `P`, `B`, `T`, `L`). Not there: conical scan (`c`). Made up: that
the time of a position (`w`) is in whole seconds since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from emulator.terminal import Antenna, TerminalState
from emulator.terminal.gnss import FixMode
from emulator.terminal.pointing import geostationary_direction
from emulator.units import NS_PER_S
from firmware_stubs.text import Answers, Lines

MAX_LINE = 256
ARRIVED_DEG = 0.2  # a stated choice: nearer than this the antenna lets the modem transmit
STATUS_S = 1.0  # between two `s`, until the modem asks for another interval
LOOK_NS = NS_PER_S // 10

_NUMBER = r"([-+]?\d{1,6}(?:\.\d{0,9})?)"
_SATELLITE = re.compile(rf"S {_NUMBER}(?: {_NUMBER})?(?: {_NUMBER})?", re.ASCII)
_INTERVAL = re.compile(rf"([AW])(?: {_NUMBER})?", re.ASCII)


class OpenAmipAntenna:
    """The antenna's side. `state_at` gives its position."""

    def __init__(self, state_at: Callable[[int], TerminalState], antenna: Antenna) -> None:
        self._state_at, self._antenna = state_at, antenna
        self._lines, self._answers = Lines(b"\r\n", MAX_LINE), Answers()
        self._satellite_deg: float | None = None
        self._every_ns = {"A": round(STATUS_S * NS_PER_S), "W": 0}
        self._next_ns: dict[str, int] = {}
        self._look_ns = 0
        self._may_transmit = False
        self._here: TerminalState | None = None  # of less than a second ago

    def receive(self, data: bytes, now_ns: int) -> None:
        """Takes what the modem wrote, in pieces of any size. Never raises over what is in it."""
        for line in self._lines.feed(data):
            if line is not None:
                self._obey(line.decode("latin-1").strip(), now_ns)

    def poll(self, now_ns: int) -> bytes:
        """The answers, and what is due by itself; that only while a modem is there."""
        if self._next_ns and (now_ns >= self._look_ns or now_ns < self._look_ns - LOOK_NS):
            self._look_ns = now_ns + LOOK_NS
            if self._on_target(now_ns) != self._may_transmit:
                self._say_status(now_ns)
        for letter, at_ns in list(self._next_ns.items()):
            every_ns = self._every_ns[letter]
            if every_ns and (now_ns >= at_ns or now_ns < at_ns - every_ns):
                self._say_status(now_ns) if letter == "A" else self._say_position(now_ns)
                self._next_ns[letter] = now_ns + every_ns
        return self._answers.take()

    def next_event_ns(self) -> int | None:
        if self._answers:
            return 0
        due = [at_ns for letter, at_ns in self._next_ns.items() if self._every_ns[letter]]
        return min([*due, self._look_ns], default=None) if self._next_ns else None

    def _obey(self, line: str, now_ns: int) -> None:
        if match := _SATELLITE.fullmatch(line):
            self._satellite_deg = float(match[1])
            self._point(now_ns)
            self._next_ns.setdefault("A", now_ns + self._every_ns["A"])
        elif match := _INTERVAL.fullmatch(line):
            letter = match[1]
            if match[2] is not None:
                self._every_ns[letter] = round(min(max(float(match[2]), 0.0), 3600.0) * NS_PER_S)
            if letter == "A":
                self._say_status(now_ns)
            else:
                self._say_position(now_ns)
            self._next_ns[letter] = now_ns + self._every_ns[letter]

    def _point(self, now_ns: int) -> None:
        direction = self._direction(now_ns)
        if direction is not None:
            self._antenna.point(now_ns, *direction)

    def _direction(self, now_ns: int) -> tuple[float, float] | None:
        """Where the satellite stands; None if there is none, or it is below the horizon."""
        if self._satellite_deg is None:
            return None
        if self._here is None or not 0 <= now_ns - self._here.utc_ns < NS_PER_S:
            self._here = self._state_at(now_ns)
        here = self._here
        azimuth, elevation = geostationary_direction(
            here.latitude_deg, here.longitude_deg, here.altitude_m, self._satellite_deg
        )
        return (azimuth, elevation) if elevation > 0 else None

    def _on_target(self, now_ns: int) -> bool:
        direction = self._direction(now_ns)
        pose = self._antenna.pose(now_ns)
        return direction is not None and not pose.moving and pose.off_by_deg(*direction) < ARRIVED_DEG

    def _say_status(self, now_ns: int) -> None:
        self._may_transmit = self._on_target(now_ns)
        self._answers.add(f"s 1 {int(self._may_transmit)}\n".encode())

    def _say_position(self, now_ns: int) -> None:
        here = self._state_at(now_ns)
        when_s = now_ns // NS_PER_S  # since 1970: one word, as every parameter is
        fixed = here.gnss.mode is not FixMode.NONE
        self._answers.add(f"w {int(fixed)} {here.latitude_deg:.5f} {here.longitude_deg:.5f} {when_s}\n".encode())
