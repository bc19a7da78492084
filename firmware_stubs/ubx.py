"""A GNSS receiver of u-blox's: NMEA 0183 as delivered, and the binary UBX protocol beside it on the same line.

A client switches messages on and off (UBX-CFG-MSG, acknowledged), polls a position (UBX-NAV-PVT) or the version
(UBX-MON-VER). Every other setting is refused (UBX-ACK-NAK), every other poll ignored. Layouts: u-blox 8 / M8 Receiver
Description Including Protocol Specification, under the messages' names.

Made up: the accuracies, which are the dilutions times a range error of a metre and a half, and the version.
"""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime

from emulator import __version__
from emulator.terminal import FixMode, TerminalState
from emulator.units import NS_PER_MS, NS_PER_S
from firmware_stubs.nmea import NmeaReceiver, StateAt, gga, gsa, gsv, rmc

SYNC = b"\xb5\x62"
MAX_PAYLOAD = 512  # the longest that a client sends here is of some tens of bytes
NAV_PVT, MON_VER, CFG_MSG = (0x01, 0x07), (0x0A, 0x04), (0x06, 0x01)
CFG, ACK = 0x06, 0x05
GPS_EPOCH_UTC_S = 315_964_800  # 1980-01-06T00:00:00Z
LEAP_SECONDS = 18  # GPS ahead of UTC since 2017-01-01: IERS Bulletin C 52
WEEK_MS = 604_800_000
RANGE_ERROR_M = 1.5
NO_ACCURACY = 0xFFFFFFFF

SENTENCES = {(0xF0, 0x04): rmc, (0xF0, 0x00): gga, (0xF0, 0x02): gsa, (0xF0, 0x03): gsv}
_PVT = struct.Struct("<IHBBBBBBIiBBBBiiiiIIiiiiiIIHH4xihH")


def frame(kind: tuple[int, int], payload: bytes = b"") -> bytes:
    """`payload` as a message of class and number `kind`."""
    body = bytes(kind) + len(payload).to_bytes(2, "little") + payload
    return SYNC + body + checksum(body)


def checksum(body: bytes) -> bytes:
    """The two sums over what stands between the sync bytes and the checksum: RFC 1145's 8-bit Fletcher."""
    first = second = 0
    for byte in body:
        first = (first + byte) & 0xFF
        second = (second + first) & 0xFF
    return bytes((first, second))


def nav_pvt(state: TerminalState) -> bytes:
    """Position, velocity and time. Height above mean sea level is that above the ellipsoid: no geoid is carried."""
    fix = state.gnss
    utc = datetime.fromtimestamp(state.utc_ns // NS_PER_S, tz=UTC)
    week_ms = (state.utc_ns // NS_PER_MS - (GPS_EPOCH_UTC_S - LEAP_SECONDS) * 1000) % WEEK_MS
    fixed = fix.mode is not FixMode.NONE
    course = math.radians(state.course_deg)
    height_mm = _fitting(state.altitude_m * 1000)
    payload = _PVT.pack(
        week_ms,
        *(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second),
        0b111,  # date, time, and no doubt about the second
        50,  # ns that the time may be wrong by
        state.utc_ns % NS_PER_S,
        {FixMode.NONE: 0, FixMode.TWO_D: 2, FixMode.THREE_D: 3}[fix.mode],
        int(fixed),
        0,
        fix.satellites_used,
        *(round(state.longitude_deg * 1e7), round(state.latitude_deg * 1e7)) if fixed else (0, 0),
        *(height_mm, height_mm) if fixed else (0, 0),
        _accuracy(fix.hdop) if fixed else NO_ACCURACY,
        _accuracy(fix.vdop) if fixed else NO_ACCURACY,
        _fitting(state.speed_m_s * math.cos(course) * 1000),
        _fitting(state.speed_m_s * math.sin(course) * 1000),
        0,
        _fitting(state.speed_m_s * 1000),
        round(state.course_deg % 360.0 * 1e5),
        50,  # mm/s that the speed may be wrong by
        100_000 if state.speed_m_s else 18_000_000,  # 1e-5 degrees: a receiver that stands has no course
        min(9999, round(fix.pdop * 100)),
        0,
        0,
        0,
        0,
    )
    return frame(NAV_PVT, payload)


def _accuracy(dilution: float) -> int:
    return round(dilution * RANGE_ERROR_M * 1000)


def _fitting(value: float) -> int:
    return max(-(2**31), min(2**31 - 1, round(value)))


class UbloxReceiver(NmeaReceiver):
    """The receiver. `state_at` gives the terminal's state at an instant; `now_ns` is the simulated UTC of its start."""

    def __init__(self, state_at: StateAt, now_ns: int) -> None:
        super().__init__(state_at, now_ns)
        self._buffer = bytearray()
        self._every = {**dict.fromkeys(SENTENCES, 1), NAV_PVT: 0}  # seconds from one to the next; 0 is never
        self._second = 0

    def receive(self, data: bytes, now_ns: int) -> None:
        """Takes what the client wrote, in pieces of any size. Never raises over what is in it."""
        super().receive(data, now_ns)
        self._buffer += data
        while (begin := self._buffer.find(SYNC)) >= 0:
            del self._buffer[:begin]
            if len(self._buffer) < 6:
                return
            size = 8 + int.from_bytes(self._buffer[4:6], "little")
            if size <= 8 + MAX_PAYLOAD:
                if len(self._buffer) < size:
                    return
                body = bytes(self._buffer[2 : size - 2])
                if checksum(body) == self._buffer[size - 2 : size]:
                    del self._buffer[:size]
                    self._message((body[0], body[1]), body[4:], now_ns)
                    continue
            del self._buffer[: len(SYNC)]  # what follows may begin a message: garbage must not swallow it
        del self._buffer[: len(self._buffer) - (self._buffer[-1:] == SYNC[:1])]

    def _burst(self, state: TerminalState) -> bytes:
        self._second += 1
        makers = {**SENTENCES, NAV_PVT: nav_pvt}
        return b"".join(
            make(state) for kind, make in makers.items() if self._every[kind] and self._second % self._every[kind] == 0
        )

    def _answer(self, fields: list[str], now_ns: int) -> bytes | None:
        """Of its NMEA side; the commands of another maker's chips are none of its own."""
        return None if fields[0].startswith("PMTK") else super()._answer(fields, now_ns)

    def _message(self, kind: tuple[int, int], payload: bytes, now_ns: int) -> None:
        if kind == NAV_PVT and not payload:
            self._reply(nav_pvt(self._state_at(now_ns // NS_PER_S * NS_PER_S)))
        elif kind == MON_VER and not payload:
            software, extension = f"BENTPIPE {__version__}".encode(), b"PROTVER=18.00"
            self._reply(frame(MON_VER, software[:29].ljust(30, b"\0") + b"EMULATED\0\0" + extension.ljust(30, b"\0")))
        elif kind[0] == CFG and payload:
            self._reply(frame((ACK, int(self._set(kind, payload))), bytes(kind)))
        else:
            self._reply(None)

    def _set(self, kind: tuple[int, int], payload: bytes) -> bool:
        """Obeys a setting. False if it is refused."""
        if kind != CFG_MSG or len(payload) not in {3, 8}:
            return False
        message, every = (payload[0], payload[1]), payload[2] if len(payload) == 3 else payload[3]  # [3]: of its UART 1
        if message in self._every:
            self._every[message] = every
        return message in self._every or every == 0  # what it does not have is off
