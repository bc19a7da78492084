"""An antenna controller that speaks as Yaesu's GS-232B does: whole degrees, `W123 046`, `C2` → `AZ=123  EL=046`.

Sans-I/O: `receive` takes what a client wrote, `poll` gives what the controller says. A command that is unknown, or
beyond the mount's limits, is answered with `?>`; one that is obeyed, with nothing. Not there, and refused with `?>`:
timed tracking (`W` and `M` with several positions, `N`, `T`) and the calibration of its converters (`O`, `F`).
"""

from __future__ import annotations

import re

from emulator.terminal import Antenna, Towards
from firmware_stubs.text import Answers, Lines

MAX_LINE = 64
SPEEDS = 4  # X1 to X4; which fraction of its full rate a rotator turns at is made up: quarters
REFUSAL = b"?>\r\n"
HELP = (
    b"R right, L left, A stop, C azimuth, Maaa\r\nU up, D down, E stop, B elevation, Waaa eee\r\n"
    b"C2 both, S stop all, X1 to X4 speed, P36 P45 range, Z centre\r\n"
)

TURNS = {"R": Towards.RIGHT, "L": Towards.LEFT, "U": Towards.UP, "D": Towards.DOWN}
_TO = re.compile(r"M(\d{3})|W(\d{3}) (\d{3})", re.ASCII)


class Gs232bController:
    """The controller in front of `antenna`."""

    def __init__(self, antenna: Antenna) -> None:
        self._antenna = antenna
        self._lines, self._answers = Lines(b"\r\n", MAX_LINE), Answers()
        self._speed = SPEEDS
        self._range_deg = 450.0

    def receive(self, data: bytes, now_ns: int) -> None:
        """Takes what the client wrote, in pieces of any size. Never raises over what is in it."""
        for line in self._lines.feed(data):
            text = (line or b"?").decode("latin-1").strip(" ").upper()
            answer = self._answer(text, now_ns)
            if answer:
                self._answers.add(answer)

    def poll(self, now_ns: int) -> bytes:
        """The answers that are due."""
        return self._answers.take()

    def next_event_ns(self) -> int | None:
        """With an answer waiting: an instant that has passed."""
        return 0 if self._answers else None

    def _answer(self, command: str, now_ns: int) -> bytes:
        antenna = self._antenna
        match command:
            case "C" | "B" | "C2":
                return self._position(command, now_ns)
            case "S":
                antenna.stop(now_ns)
            case "A" | "E":
                antenna.stop(now_ns, azimuth=command == "A", elevation=command == "E")
            case "X1" | "X2" | "X3" | "X4":
                self._speed = int(command[1])
            case "P36" | "P45":
                self._range_deg = 360.0 if command == "P36" else 450.0
            case "Z":
                centre_deg = (antenna.mount.azimuth_min_deg + min(antenna.mount.azimuth_max_deg, self._range_deg)) / 2
                antenna.point(now_ns, centre_deg)
            case "H":
                return HELP
            case _ if command in TURNS:
                self._turn(TURNS[command], now_ns)
            case _ if match := _TO.fullmatch(command):
                azimuth_deg = float(match[1] or match[2])
                elevation_deg = float(match[3]) if match[3] else None
                if azimuth_deg > self._range_deg or not antenna.point(now_ns, azimuth_deg, elevation_deg):
                    return REFUSAL
            case _:
                return REFUSAL
        return b""

    def _turn(self, towards: Towards, now_ns: int) -> None:
        """The speed setting is the azimuth's."""
        rate_deg_s = self._antenna.mount.azimuth_rate_deg_s * self._speed / SPEEDS
        self._antenna.turn(now_ns, towards, rate_deg_s if towards in {Towards.LEFT, Towards.RIGHT} else None)

    def _position(self, command: str, now_ns: int) -> bytes:
        pose = self._antenna.pose(now_ns)
        azimuth, elevation = (f"{round(angle):03d}" for angle in (pose.azimuth_deg, pose.elevation_deg))
        said = {"C": f"AZ={azimuth}", "B": f"EL={elevation}", "C2": f"AZ={azimuth}  EL={elevation}"}[command]
        return said.encode("ascii") + b"\r\n"
