"""An antenna controller that is reached as Hamlib's rotctld is: text over TCP, a session per client, one antenna.

Sans-I/O: `receive` takes what a client wrote, `poll` gives the answers, `closed` says that the client said good-bye.
A line holds any number of commands, by letter (`p`) or by name (`\\get_pos`), each with its arguments; `+` and the
separators `;`, `|` and `,` before one ask for the long form of its answer. As there, an unknown command is not
answered. Not there, and answered with `RPRT -4` (not implemented): the calculations (`L`, `l`, `D`, `d`, `E`, `e`,
`B`, `A`, `a`, `c`) and `1` (dump_caps); with `RPRT -11` (not available): functions, parameters, configuration.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from emulator import __version__
from emulator.terminal import Antenna, Towards
from firmware_stubs.text import Answers, Lines

MAX_LINE = 512
PROTOCOL = 1
ROTATOR_MODEL = 2  # rotctl lists itself so: a rotator behind the network

# hamlib/rig.h, enum rig_errcode_e
OK, INVALID, NOT_IMPLEMENTED, NOT_AVAILABLE = 0, -1, -4, -11

# hamlib/rotator.h: ROT_MOVE_UP, DOWN, LEFT and RIGHT
MOVES = {"2": Towards.UP, "4": Towards.DOWN, "8": Towards.LEFT, "16": Towards.RIGHT}
ROUGHLY_NO_SPEED = "-1"  # ROT_SPEED_NOCHANGE

# letter → name, and how many arguments
COMMANDS = {
    "P": ("set_pos", 2),
    "p": ("get_pos", 0),
    "K": ("park", 0),
    "S": ("stop", 0),
    "R": ("reset", 1),
    "M": ("move", 2),
    "V": ("set_level", 2),
    "v": ("get_level", 1),
    "U": ("set_func", 2),
    "u": ("get_func", 1),
    "X": ("set_parm", 2),
    "x": ("get_parm", 1),
    "C": ("set_conf", 2),
    "_": ("get_info", 0),
    "s": ("get_status", 0),
    "w": ("send_cmd", 1),
    "1": ("dump_caps", 0),
    "L": ("lonlat2loc", 3),
    "l": ("loc2lonlat", 1),
    "D": ("dms2dec", 4),
    "d": ("dec2dms", 1),
    "E": ("dmmm2dec", 3),
    "e": ("dec2dmmm", 1),
    "B": ("qrb", 4),
    "A": ("a_sp2a_lp", 1),
    "a": ("d_sp2d_lp", 1),
}
ARGUMENTS = {**dict(COMMANDS.values()), "dump_state": 0}
UNAVAILABLE = {"set_func", "get_func", "set_parm", "get_parm", "set_conf", "send_cmd"}

Parts = list[tuple[str, str]]  # the lines that answer a query: in the long form, in the short one


class RotctldSession:
    """What one client sees of `antenna`."""

    def __init__(self, antenna: Antenna) -> None:
        self._antenna = antenna
        self._lines, self._answers = Lines(b"\r\n", MAX_LINE), Answers()
        self._speed = 100
        self.closed = False

    def receive(self, data: bytes, now_ns: int) -> None:
        """Takes what the client wrote, in pieces of any size. Never raises over what is in it."""
        for line in self._lines.feed(data):
            if line is None:
                self._answers.add(b"RPRT -1\n")
            elif not self.closed:
                self._obey(line.decode("latin-1"), now_ns)

    def poll(self, now_ns: int) -> bytes:
        """The answers that are due."""
        return self._answers.take()

    def next_event_ns(self) -> int | None:
        """With an answer waiting: an instant that has passed."""
        return 0 if self._answers else None

    def _obey(self, line: str, now_ns: int) -> None:
        rest = line.strip(" \t")
        while rest and rest[0] != "#" and not self.closed:
            separator = ""
            if rest[0] in "+;|,":
                separator = "\n" if rest[0] == "+" else rest[0]
                rest = rest[1:]
            if rest.startswith("\\"):
                name, _, rest = rest[1:].partition(" ")
            else:
                letter, rest = rest[:1], rest[1:]
                self.closed = letter in {"q", "Q"}
                name = COMMANDS[letter][0] if letter in COMMANDS else ""
            if name in ARGUMENTS:
                words = rest.split()
                count = ARGUMENTS[name]
                self._answer(name, words[:count], separator, now_ns)
                rest = " ".join(words[count:])
            rest = rest.lstrip(" \t")

    def _answer(self, name: str, arguments: list[str], separator: str, now_ns: int) -> None:
        done: int | Parts = INVALID
        if len(arguments) == ARGUMENTS[name]:
            if name in UNAVAILABLE:
                done = NOT_AVAILABLE
            else:
                ask: Callable[[list[str], int], int | Parts] | None = getattr(self, f"_{name}", None)
                done = ask(arguments, now_ns) if ask is not None else NOT_IMPLEMENTED
        status = f"RPRT {done if isinstance(done, int) else OK}\n"
        parts = [] if isinstance(done, int) else done
        if separator:
            echo = " ".join([f"{name}:", *arguments])
            said = separator.join([echo, *(long for long, _ in parts), status])
        else:
            said = "".join(f"{short}\n" for _, short in parts) or status
        self._answers.add(said.encode("latin-1"))

    def _set_pos(self, arguments: list[str], now_ns: int) -> int:
        angles = [_number(argument) for argument in arguments]
        return OK if None not in angles and self._antenna.point(now_ns, *angles) else INVALID

    def _get_pos(self, arguments: list[str], now_ns: int) -> Parts:
        pose = self._antenna.pose(now_ns)
        azimuth, elevation = f"{pose.azimuth_deg:.2f}", f"{pose.elevation_deg:.2f}"
        return [(f"Azimuth: {azimuth}", azimuth), (f"Elevation: {elevation}", elevation)]

    def _park(self, arguments: list[str], now_ns: int) -> int:
        self._antenna.park(now_ns)
        return OK

    def _stop(self, arguments: list[str], now_ns: int) -> int:
        self._antenna.stop(now_ns)
        return OK

    def _reset(self, arguments: list[str], now_ns: int) -> int:
        if not arguments[0].isdecimal():
            return INVALID
        self._antenna.reset(now_ns)
        return OK

    def _move(self, arguments: list[str], now_ns: int) -> int:
        direction, speed = arguments
        if direction not in MOVES or not (speed == ROUGHLY_NO_SPEED or self._set_speed(speed)):
            return INVALID
        azimuth = MOVES[direction] in {Towards.LEFT, Towards.RIGHT}
        mount = self._antenna.mount
        fastest_deg_s = mount.azimuth_rate_deg_s if azimuth else mount.elevation_rate_deg_s
        self._antenna.turn(now_ns, MOVES[direction], fastest_deg_s * self._speed / 100)
        return OK

    def _set_speed(self, text: str) -> bool:
        speed = _number(text)
        if speed is None or not 1 <= speed <= 100:
            return False
        self._speed = int(speed)
        return True

    def _set_level(self, arguments: list[str], now_ns: int) -> int:
        return OK if arguments[0] == "SPEED" and self._set_speed(arguments[1]) else INVALID

    def _get_level(self, arguments: list[str], now_ns: int) -> int | Parts:
        if arguments[0] == "?":
            return [("SPEED", "SPEED")]
        return [(f"Level Value: {self._speed}", str(self._speed))] if arguments[0] == "SPEED" else INVALID

    def _get_info(self, arguments: list[str], now_ns: int) -> Parts:
        info = f"Bentpipe {__version__} antenna"
        return [(f"Info: {info}", info)]

    def _get_status(self, arguments: list[str], now_ns: int) -> Parts:
        pose = self._antenna.pose(now_ns)
        flags = ["MOVING"] if pose.moving else []
        if pose.azimuth_turning:
            flags += ["MOVING_AZ", "MOVING_RIGHT" if pose.azimuth_turning > 0 else "MOVING_LEFT"]
        if pose.elevation_turning:
            flags += ["MOVING_EL", "MOVING_UP" if pose.elevation_turning > 0 else "MOVING_DOWN"]
        return [(f"Status flags: {' '.join(flags)}", " ".join(flags))]

    def _dump_state(self, arguments: list[str], now_ns: int) -> Parts:
        mount = self._antenna.mount
        limits = (
            ("Minimum Azimuth: ", "min_az=", mount.azimuth_min_deg),
            ("Maximum Azimuth: ", "max_az=", mount.azimuth_max_deg),
            ("Minimum Elevation: ", "min_el=", mount.elevation_min_deg),
            ("Maximum Elevation: ", "max_el=", mount.elevation_max_deg),
        )
        return [
            (f"rotctld Protocol Ver: {PROTOCOL}", str(PROTOCOL)),
            (f"Rotor Model: {ROTATOR_MODEL}", str(ROTATOR_MODEL)),
            *((f"{label}{limit:f}", f"{key}{limit:f}") for label, key, limit in limits),
            ("South Zero: 0", "south_zero=0"),
            ("rot_type=AzEl", "rot_type=AzEl"),
            ("done", "done"),
        ]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
