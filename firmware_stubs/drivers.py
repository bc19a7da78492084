"""The other side of an antenna controller's interface: what a program says to it, and what it makes of the answers.

Sans-I/O, and the same before a stub and before hardware: the methods give bytes to write, `receive` takes what came
back, in pieces of any size. What came back is a `Report`, or an `Oddity`: something that a controller should not say.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from emulator.terminal.pointing import Report
from firmware_stubs.text import Lines

MAX_LINE = 256
LIKELY_AZIMUTH_DEG, LIKELY_ELEVATION_DEG = (-360.0, 720.0), (-90.0, 180.0)
REMEMBERED = 8  # commands that an echo may repeat

_NUMBER = r"([-+]?\d{1,6}(?:\.\d*)?)"


@dataclass(frozen=True, slots=True)
class Oddity:
    """What a controller should not have said: `kind` is echo, half a line, other units, refusal or garbage."""

    kind: str
    data: bytes


Heard = Report | Oddity


class Driver(Protocol):
    """Commands as bytes; b"" where the protocol has none."""

    def hello(self, satellite_deg: float | None) -> bytes:
        """What is said first; the longitude of a geostationary satellite, if it is one."""

    def ask(self) -> bytes:
        """To be told where it points."""

    def point(self, azimuth_deg: float, elevation_deg: float) -> bytes: ...

    def stop(self) -> bytes: ...

    def park(self) -> bytes: ...

    def beacon(self, locked: bool) -> bytes:
        """What the modem tells the antenna of its signal."""

    def receive(self, data: bytes) -> Iterator[Heard]:
        """What the controller said, as soon as the last byte of it is there. Never raises over what is in it."""


class _LineDriver:
    """What controllers that answer in lines have in common."""

    def __init__(self, ends: bytes = b"\r\n") -> None:
        self._lines = Lines(ends, MAX_LINE)
        self._said: deque[bytes] = deque(maxlen=REMEMBERED)

    def _say(self, command: bytes) -> bytes:
        self._said.append(command.strip())
        return command

    def hello(self, satellite_deg: float | None) -> bytes:
        return b""

    def stop(self) -> bytes:
        return b""

    def park(self) -> bytes:
        return b""

    def beacon(self, locked: bool) -> bytes:
        return b""

    def receive(self, data: bytes) -> Iterator[Heard]:
        for line in self._lines.feed(data):
            if line is None:
                yield Oddity("garbage", b"")
            elif line.strip() in self._said:
                yield Oddity("echo", line)
            else:
                yield from self._heard(line)

    def _heard(self, line: bytes) -> Iterator[Heard]:
        raise NotImplementedError


def _position(azimuth_deg: float, elevation_deg: float, line: bytes) -> Heard:
    """A report, unless no antenna can stand so: then it is in other units, or digits are missing."""
    (lowest_az, highest_az), (lowest_el, highest_el) = LIKELY_AZIMUTH_DEG, LIKELY_ELEVATION_DEG
    if lowest_az <= azimuth_deg <= highest_az and lowest_el <= elevation_deg <= highest_el:
        return Report(azimuth_deg, elevation_deg)
    return Oddity("other units", line)


class EasycommDriver(_LineDriver):
    """EasyComm II and III: of what a program needs, both say the same."""

    _FULL = re.compile(rf"AZ ?{_NUMBER}[ ,]+EL ?{_NUMBER}".encode(), re.IGNORECASE)
    _BEGUN = re.compile(rb"A?Z? ?[-+\d.]*[ ,]*E?L?[ \d.]*", re.IGNORECASE)

    def ask(self) -> bytes:
        return self._say(b"AZ EL \n")

    def point(self, azimuth_deg: float, elevation_deg: float) -> bytes:
        """With the radio's part behind it, as Hamlib does: its echo is then no report."""
        return self._say(f"AZ{azimuth_deg:.1f} EL{elevation_deg:.1f} UP000 XXX DN000 XXX\n".encode())

    def stop(self) -> bytes:
        return self._say(b"SA SE \n")

    def park(self) -> bytes:
        return self._say(b"PARK \n")

    def _heard(self, line: bytes) -> Iterator[Heard]:
        text = line.strip()
        if match := self._FULL.fullmatch(text):
            yield _position(float(match[1]), float(match[2]), line)
        elif self._BEGUN.fullmatch(text):
            yield Oddity("half a line", line)
        else:
            yield Oddity("garbage", line)


class Gs232bDriver(_LineDriver):
    """Yaesu GS-232B: whole degrees."""

    _FULL = re.compile(rb"AZ=([-+]?\d{1,4}) +EL=([-+]?\d{1,4})")
    _OLD = re.compile(rb"\+0(\d{3})\+0(\d{3})")  # GS-232A's
    _BEGUN = re.compile(rb"A?Z?=?\d* *E?L?=?\d*")

    def ask(self) -> bytes:
        return self._say(b"C2\r")

    def point(self, azimuth_deg: float, elevation_deg: float) -> bytes:
        return self._say(f"W{round(azimuth_deg):03d} {round(elevation_deg):03d}\r".encode())

    def stop(self) -> bytes:
        return self._say(b"S\r")

    def _heard(self, line: bytes) -> Iterator[Heard]:
        text = line.strip()
        if match := self._FULL.fullmatch(text) or self._OLD.fullmatch(text):
            yield _position(float(match[1]), float(match[2]), line)
        elif text == b"?>":
            yield Oddity("refusal", line)
        elif self._BEGUN.fullmatch(text):
            yield Oddity("half a line", line)
        else:
            yield Oddity("garbage", line)


class RotctldDriver(_LineDriver):
    """Hamlib's rotctld: azimuth and elevation stand in a line each, and every command has its answer."""

    _ANGLE = re.compile(_NUMBER.encode())
    _STATUS = re.compile(rb"RPRT (-?\d{1,4})")

    def __init__(self) -> None:
        super().__init__()
        self._azimuth_deg: float | None = None

    def ask(self) -> bytes:
        self._azimuth_deg = None  # a half of an answer that was never finished
        return self._say(b"p\n")

    def point(self, azimuth_deg: float, elevation_deg: float) -> bytes:
        return self._say(f"P {azimuth_deg:.2f} {elevation_deg:.2f}\n".encode())

    def stop(self) -> bytes:
        return self._say(b"S\n")

    def park(self) -> bytes:
        return self._say(b"K\n")

    def _heard(self, line: bytes) -> Iterator[Heard]:
        text = line.strip()
        if self._ANGLE.fullmatch(text):
            if self._azimuth_deg is None:
                self._azimuth_deg = float(text)
                return
            azimuth_deg, self._azimuth_deg = self._azimuth_deg, None
            yield _position(azimuth_deg, float(text), line)
            return
        if self._azimuth_deg is not None:
            self._azimuth_deg = None
            yield Oddity("half a line", line)
        if match := self._STATUS.fullmatch(text):
            if match[1] != b"0":
                yield Oddity("refusal", line)
        else:
            yield Oddity("garbage", line)


class OpenAmipModem(_LineDriver):
    """OpenAMIP, the modem's role: it names the satellite, and is told whether it may transmit."""

    _STATUS = re.compile(rb"s ([01]) ([01])( .*)?")  # later versions may say more
    _POSITION = re.compile(rb"w ([01])( .*)?")

    def hello(self, satellite_deg: float | None) -> bytes:
        if satellite_deg is None:
            return b""
        return self._say(f"S {satellite_deg:.3f} 90.000 0.000\nW 60\n".encode())

    def ask(self) -> bytes:
        return self._say(b"A 1\n")

    def point(self, azimuth_deg: float, elevation_deg: float) -> bytes:
        """The antenna knows for itself."""
        return b""

    def beacon(self, locked: bool) -> bytes:
        return self._say(f"L {int(locked)} 1\n".encode())

    def _heard(self, line: bytes) -> Iterator[Heard]:
        text = line.strip()
        if match := self._STATUS.fullmatch(text):
            may_transmit = match[1] == b"1" and match[2] == b"1"
            yield Report(on_target=may_transmit, may_transmit=may_transmit)
        elif not self._POSITION.fullmatch(text) and not re.fullmatch(rb"[a-z]( [\x20-\x7e]*)?", text):
            yield Oddity("half a line" if text[:1] in (b"s", b"w") else "garbage", line)


DRIVERS: dict[str, Callable[[], Driver]] = {
    "openamip": OpenAmipModem,
    "easycomm2": EasycommDriver,
    "easycomm3": EasycommDriver,
    "gs232b": Gs232bDriver,
    "rotctld": RotctldDriver,
}
