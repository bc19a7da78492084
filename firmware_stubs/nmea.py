"""A GNSS receiver that speaks NMEA 0183 (version 3.01): once a second, where the terminal is and what it hears.

Sans-I/O: `receive` takes what a client wrote, `poll` gives what the receiver says, `next_event_ns` says when to ask
again. Time is an argument, ns of simulated UTC. Every sentence is of a whole UTC second; answers to queries too.

A client may ask for one sentence with `$xxGPQ,GGA*hh` (xx: any talker), and with `$PMTK…` as of a receiver with a
MediaTek chip: 605 is answered with the firmware's name, 000 acknowledged, every other command refused as unsupported.
Everything else, gpsd's vendor probes for one, is read and ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from emulator import __version__
from emulator.terminal import FixMode, TerminalState
from emulator.units import NS_PER_S

TALKER = "GP"  # GPS alone
KNOTS_PER_M_S = 3600.0 / 1852.0  # the international nautical mile is exactly 1852 m
MAX_LINE = 255  # NMEA 0183 allows 82; vendors' commands are longer
MAX_REPLIES = 4096  # bytes of answers that wait to be polled
SATELLITES_PER_GSV = 4

StateAt = Callable[[int], TerminalState]


@dataclass(frozen=True, slots=True)
class NmeaStatistics:
    """Counts since the start. `ignored`: lines that were no query, bad checksums and overlong lines included."""

    seconds: int  # bursts of sentences made
    seconds_missed: int  # whole seconds that nobody polled for
    answered: int
    unanswered: int  # queries for whose answer there was no room
    ignored: int


def checksum(body: str) -> int:
    """The checksum of what stands between `$` and `*`: all bytes, exclusive-or."""
    total = 0
    for byte in body.encode("latin-1"):
        total ^= byte
    return total


def sentence(body: str) -> bytes:
    """`body` with its `$`, checksum and line end."""
    return f"${body}*{checksum(body):02X}\r\n".encode("ascii")


def gga(state: TerminalState) -> bytes:
    """Fix: time, position, satellites, altitude.

    The altitude is the scenario's, above the ellipsoid, with a geoid separation of 0: no geoid model is carried.
    """
    clock = _clock(state)
    if state.gnss.mode is FixMode.NONE:
        return sentence(f"{TALKER}GGA,{clock},,,,,0,00,99.99,,,,,,")
    return sentence(
        f"{TALKER}GGA,{clock},{_position(state)},1,{state.gnss.satellites_used:02d},{state.gnss.hdop:.2f},"
        f"{_tenths(state.altitude_m)},M,0.0,M,,"
    )


def rmc(state: TerminalState) -> bytes:
    """Recommended minimum: time, position, speed, course, date."""
    clock, date = _clock(state), _utc(state).strftime("%d%m%y")
    if state.gnss.mode is FixMode.NONE:
        return sentence(f"{TALKER}RMC,{clock},V,,,,,,,{date},,,N")
    course = round(state.course_deg % 360.0, 1) % 360.0
    knots = state.speed_m_s * KNOTS_PER_M_S
    return sentence(f"{TALKER}RMC,{clock},A,{_position(state)},{knots:.3f},{course:.1f},{date},,,A")


def gsa(state: TerminalState) -> bytes:
    """Which satellites the fix uses, and its dilution of precision."""
    used = [f"{satellite.prn:02d}" for satellite in state.gnss.satellites if satellite.used]
    slots = ",".join(used + [""] * (12 - len(used)))
    dilution = f"{state.gnss.pdop:.2f},{state.gnss.hdop:.2f},{state.gnss.vdop:.2f}"
    return sentence(f"{TALKER}GSA,A,{state.gnss.mode.value},{slots},{dilution}")


def gsv(state: TerminalState) -> bytes:
    """The satellites in view, four to a sentence."""
    satellites = state.gnss.satellites
    total = max(1, math.ceil(len(satellites) / SATELLITES_PER_GSV))
    sentences = []
    for number in range(total):
        body = f"{TALKER}GSV,{total},{number + 1},{len(satellites):02d}"
        for satellite in satellites[number * SATELLITES_PER_GSV : (number + 1) * SATELLITES_PER_GSV]:
            elevation, azimuth = round(satellite.elevation_deg), round(satellite.azimuth_deg) % 360
            body += f",{satellite.prn:02d},{elevation:02d},{azimuth:03d},{round(satellite.cn0_dbhz):02d}"
        sentences.append(sentence(body))
    return b"".join(sentences)


SENTENCES: dict[str, Callable[[TerminalState], bytes]] = {"GGA": gga, "RMC": rmc, "GSA": gsa, "GSV": gsv}


class NmeaReceiver:
    """The receiver. `state_at` gives the terminal's state at an instant; `now_ns` is the simulated UTC of its start."""

    def __init__(self, state_at: StateAt, now_ns: int) -> None:
        self._state_at = state_at
        self._next_ns = -(-now_ns // NS_PER_S) * NS_PER_S
        self._replies = bytearray()
        self._line: bytearray | None = None  # None: waiting for a `$`
        self._seconds = self._missed = self._answered = self._unanswered = self._ignored = 0

    def receive(self, data: bytes, now_ns: int) -> None:
        """Takes what the client wrote, in pieces of any size. Never raises over what is in it."""
        for byte in data:
            if byte == 0x24:  # "$" begins a sentence, wherever it stands
                self._ignored += self._line is not None
                self._line = bytearray()
            elif self._line is None:
                continue
            elif byte in b"\r\n":
                self._command(self._line, now_ns)
                self._line = None
            elif 0x20 <= byte < 0x7F and len(self._line) < MAX_LINE:
                self._line.append(byte)
            else:
                self._ignored += 1
                self._line = None

    def poll(self, now_ns: int) -> bytes:
        """What the receiver says up to `now_ns`: answers first, then the sentences of this second if they are due.

        Seconds that nobody polled for are left out, as they are stale; a clock that was set back is followed.
        """
        said = bytes(self._replies)
        self._replies.clear()
        second_ns = now_ns // NS_PER_S * NS_PER_S
        if self._next_ns - now_ns > NS_PER_S:
            self._next_ns = second_ns + NS_PER_S
        if now_ns >= self._next_ns:
            self._seconds += 1
            self._missed += (second_ns - self._next_ns) // NS_PER_S
            self._next_ns = second_ns + NS_PER_S
            state = self._state_at(second_ns)
            said += self._burst(state)
        return said

    def _burst(self, state: TerminalState) -> bytes:
        """What is said of each second, unasked."""
        return b"".join(make(state) for make in (rmc, gga, gsa, gsv))

    def next_event_ns(self) -> int:
        """When `poll` next has something to say. With an answer waiting: an instant that has passed."""
        return self._next_ns - NS_PER_S if self._replies else self._next_ns

    def statistics(self) -> NmeaStatistics:
        """An immutable snapshot."""
        return NmeaStatistics(self._seconds, self._missed, self._answered, self._unanswered, self._ignored)

    def _command(self, line: bytearray, now_ns: int) -> None:
        body, star, given = line.decode("ascii").partition("*")
        answer = None
        if not star or given.upper() == f"{checksum(body):02X}":  # the standard makes the checksum optional
            answer = self._answer(body.split(","), now_ns)
        self._reply(answer)

    def _reply(self, answer: bytes | None) -> None:
        """Keeps an answer until it is polled for; None is the answer to what was no query."""
        if answer is None:
            self._ignored += 1
        elif len(self._replies) + len(answer) > MAX_REPLIES:
            self._unanswered += 1
        else:
            self._answered += 1
            self._replies += answer

    def _answer(self, fields: list[str], now_ns: int) -> bytes | None:
        address = fields[0]
        if len(address) == 5 and address[2:] == "GPQ" and len(fields) == 2 and fields[1] in SENTENCES:
            return SENTENCES[fields[1]](self._state_at(now_ns // NS_PER_S * NS_PER_S))
        if address.startswith("PMTK") and address[4:].isdecimal() and len(address) == 7:
            command = address[4:]
            if command == "605":
                return sentence(f"PMTK705,BENTPIPE_{__version__},0000,NMEA,1.0")
            return sentence(f"PMTK001,{int(command)},{3 if command == '000' else 1}")  # 3: done, 1: unsupported
        return None


def _utc(state: TerminalState) -> datetime:
    return datetime.fromtimestamp(state.utc_ns // NS_PER_S, tz=UTC)


def _clock(state: TerminalState) -> str:
    return _utc(state).strftime("%H%M%S.00")


def _position(state: TerminalState) -> str:
    latitude = _degrees_minutes(state.latitude_deg, 2) + (",N" if state.latitude_deg >= 0 else ",S")
    longitude = _degrees_minutes(state.longitude_deg, 3) + (",E" if state.longitude_deg >= 0 else ",W")
    return f"{latitude},{longitude}"


def _degrees_minutes(angle_deg: float, digits: int) -> str:
    """`ddmm.mmmmm`, 1.9 cm on the ground. Rounded as a whole, so that 59.999999′ becomes the next degree."""
    degrees, hundred_thousandths = divmod(round(abs(angle_deg) * 60 * 100_000), 60 * 100_000)
    minutes, fraction = divmod(hundred_thousandths, 100_000)
    return f"{degrees:0{digits}d}{minutes:02d}.{fraction:05d}"


def _tenths(value: float) -> str:
    return f"{round(value, 1) + 0.0:.1f}"  # adding 0.0 turns −0.0 into 0.0
