"""An antenna controller that speaks EasyComm II or III: `AZ123.4 EL45.6`, one line of commands at a time.

Sans-I/O: `receive` takes what a client wrote, `poll` gives what the controller says. Commands stand in a line, between
spaces; what the line asks for is answered in one line, in its order. Anything unknown, or beyond the mount's limits, is
passed over in silence, as there is no negative answer in EasyComm; III tells of it in its error register.

Registers of III (`GS`, `GE`) are numbered as in the SatNOGS rotator's firmware, whose EasyComm III is the common one.
"""

from __future__ import annotations

import re

from emulator import __version__
from emulator.terminal import Antenna, Towards
from firmware_stubs.text import Answers, Lines

MAX_LINE = 128
REGISTERS = 16  # of III's configuration, one hexadecimal digit each
MAX_REGISTER = 16  # bytes of a register's value

# SatNOGS rotator firmware, libraries/globals.h: bits of the status and of the error register
IDLE, MOVING, POINTING = 1, 2, 4
NO_ERROR, MOTOR_ERROR = 1, 8

MOVES = {"ML": Towards.LEFT, "MR": Towards.RIGHT, "MU": Towards.UP, "MD": Towards.DOWN}
VELOCITIES = {"VL": Towards.LEFT, "VR": Towards.RIGHT, "VU": Towards.UP, "VD": Towards.DOWN}

_ANGLE = re.compile(r"(AZ|EL)(-?\d{1,3}(?:\.\d{0,6})?)", re.ASCII)
_VELOCITY = re.compile(r"(V[LRUD])(\d{1,5})", re.ASCII)  # thousandths of a degree per second
_WRITE = re.compile(r"CW([0-9A-Fa-f]),([\x21-\x7e]{1,16})", re.ASCII)
_READ = re.compile(r"CR([0-9A-Fa-f])", re.ASCII)
_SEPARATORS = re.compile(r"[ \t;]+")


class EasycommController:
    """The controller in front of `antenna`. `version` is 2 or 3."""

    def __init__(self, antenna: Antenna, version: int) -> None:
        self._antenna, self._version = antenna, version
        self._lines, self._answers = Lines(b"\r\n", MAX_LINE), Answers()
        self._registers: dict[str, str] = {}
        self._refused = self._pointing = False

    def receive(self, data: bytes, now_ns: int) -> None:
        """Takes what the client wrote, in pieces of any size. Never raises over what is in it."""
        for line in self._lines.feed(data):
            if line is not None and line.isascii():
                self._obey(line.decode("ascii"), now_ns)

    def poll(self, now_ns: int) -> bytes:
        """The answers that are due."""
        return self._answers.take()

    def next_event_ns(self) -> int | None:
        """With an answer waiting: an instant that has passed."""
        return 0 if self._answers else None

    def _obey(self, line: str, now_ns: int) -> None:
        line = re.sub(r"CR (?=[0-9A-Fa-f])", "CR", line)  # the one command with a space in it
        said = [answer for word in _SEPARATORS.split(line) if (answer := self._command(word, now_ns)) is not None]
        if said:
            self._answers.add(" ".join(said).encode("ascii") + b"\n")

    def _command(self, word: str, now_ns: int) -> str | None:
        antenna, pose = self._antenna, self._antenna.pose(now_ns)
        match word:
            case "AZ":
                return f"AZ{pose.azimuth_deg:.1f}"
            case "EL":
                return f"EL{pose.elevation_deg:.1f}"
            case "SA" | "SE":
                antenna.stop(now_ns, azimuth=word == "SA", elevation=word == "SE")
                self._pointing = False
            case "PARK":
                antenna.park(now_ns)
                self._pointing = False
            case "RESET":
                self._refused = self._pointing = False
                antenna.point(now_ns, antenna.mount.azimuth_min_deg, antenna.mount.elevation_min_deg)
            case "VE":
                return f"VEBentpipe {__version__}"
            case "IP":
                return "IP0"  # no input is active
            case "AN":
                return "AN0"
            case _ if word in MOVES:
                antenna.turn(now_ns, MOVES[word])
                self._pointing = False
            case _ if match := _ANGLE.fullmatch(word):
                self._point(match[1], float(match[2]), now_ns)
            case _ if self._version >= 3:
                return self._command_of_three(word, now_ns)
        return None

    def _command_of_three(self, word: str, now_ns: int) -> str | None:
        if word == "GS":
            arrived = POINTING if self._pointing else IDLE
            return f"GS{MOVING if self._antenna.pose(now_ns).moving else arrived}"
        if word == "GE":
            return f"GE{MOTOR_ERROR if self._refused else NO_ERROR}"
        if match := _VELOCITY.fullmatch(word):
            self._antenna.turn(now_ns, VELOCITIES[match[1]], int(match[2]) / 1000)
            self._pointing = False
        elif match := _WRITE.fullmatch(word):
            self._registers[match[1].lower()] = match[2]
        elif match := _READ.fullmatch(word):
            return f"CR{match[1]},{self._registers.get(match[1].lower(), '0')}"
        return None

    def _point(self, axis: str, angle_deg: float, now_ns: int) -> None:
        azimuth, elevation = (angle_deg, None) if axis == "AZ" else (None, angle_deg)
        reached = self._antenna.point(now_ns, azimuth, elevation)
        self._refused, self._pointing = not reached, self._pointing or reached
