"""An Iridium 9602 or 9603: short burst data by AT commands, with a mailbox at the gateway.

Messages of up to 340 bytes go out and of up to 270 come in, both in sessions (`AT+SBDIX`) that take the time, and have
the outcome, of the service at the instant of the command. See shared/INTERFACES.md for the formats.

Made up: the identity; what the energy monitor counts; that of two messages of a session the longer one takes the time;
that input during a session is thrown away; that a message from the gateway stays until it is overwritten or deleted.
"""

from __future__ import annotations

import math
import re
from enum import Enum

from emulator import __version__
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns
from firmware_stubs.at import Answer, AtModem, Data, Later, Raw, Refused
from firmware_stubs.gateway import Failure, MessageGateway, Service, ServiceAt
from firmware_stubs.registry import StateAt

LONGEST_MO = 340  # bytes; 9602 SBD Transceiver Product Developers Guide
LONGEST_MT = 270  # the same
LONGEST_TEXT = 120  # of +SBDWT=
IMEI = "300234069999995"  # made up, with a check digit that fits
RING_PERIOD_NS = NS_PER_S  # how often the gateway's mailbox is looked into for a ring
TICK_NS = 90 * NS_PER_MS
WRAP = 1 << 32
EARTH_RADIUS_KM = 6376  # as -MSGEO counts it: x at 0° N 0° E
MICROAMPERE_HOURS_PER_SESSION = 55  # made up


class Era(Enum):
    """When the system time began to count; the next era's begin is announced by one vendor's bulletin."""

    OF_2014 = parse_utc_ns("2014-05-11T14:23:55Z")
    OF_2025 = parse_utc_ns("2025-02-14T18:14:17Z")


MO_FAILURES = {
    Failure.GATEWAY_TIMEOUT: 10,
    Failure.QUEUE_FULL: 11,
    Failure.DENIED: 15,
    Failure.RF_DROP: 18,
    Failure.LINK_FAILURE: 19,
    Failure.BUSY: 35,
}
NO_SERVICE, RADIO_OFF = 32, 34

_WRITE = re.compile(r"\+SBDWB=(\d{1,5})", re.ASCII)
_SESSION = re.compile(r"\+SBDIXA?(?:=[+-]?\d{4}\.\d{3},[+-]?\d{5}\.\d{3})?|\+SBDI", re.ASCII)
_IGNORED = re.compile(r"&[DKWY]\d?|S\d+(?:=\d+)?|X\d?", re.ASCII)


class SbdModem(AtModem):
    """The modem. `era` is that of its system time."""

    def __init__(
        self, state_at: StateAt, gateway: MessageGateway, service_at: ServiceAt, era: Era = Era.OF_2025
    ) -> None:
        super().__init__()
        self._state_at, self._gateway, self._service_at, self._era = state_at, gateway, service_at, era
        self._mo = self._mt = b""
        self._has_mo = self._has_mt = False
        self._momsn = self._mtmsn = self._queued = 0
        self._ring_wanted, self._ringing, self._rung_ns = True, False, 0
        self._known, self._looked_ns = 0, -RING_PERIOD_NS
        self._radio = True
        self._energy_uah = 0

    def reset(self, now_ns: int) -> Answer:
        self._ring_wanted = True
        return []

    def background(self, now_ns: int) -> None:
        """Rings when the mailbox holds more than it did."""
        if abs(now_ns - self._looked_ns) < RING_PERIOD_NS:
            return
        self._looked_ns = now_ns
        if not self._radio or self._service_at(now_ns).bars == 0:
            return
        waiting = self._gateway.waiting()
        if waiting > self._known:
            self._ringing, self._rung_ns = True, now_ns
            if self._ring_wanted:
                self.announce("SBDRING")
        self._known = waiting

    def next_background_ns(self) -> int | None:
        return self._looked_ns + RING_PERIOD_NS

    def command(self, command: str, now_ns: int) -> Answer:
        name = command.upper()
        if match := _WRITE.fullmatch(name):
            size = int(match[1])
            if not 1 <= size <= LONGEST_MO:
                return ["3"]
            return Data(b"\r\nREADY\r\n", size + 2, self._written)
        if _SESSION.fullmatch(name):
            return self._session(name, now_ns)
        if name == "+SBDWT":
            return Data(b"\r\nREADY\r\n", LONGEST_MO, self._typed, end=0x0D)
        if name.startswith("+SBDWT="):
            text = command[len("+SBDWT=") :]
            if len(text) > LONGEST_TEXT:
                return Refused()
            self._mo, self._has_mo = text.encode("latin-1"), True
            return []
        if name in {"+SBDD0", "+SBDD1", "+SBDD2"}:
            return self._delete(name[-1])
        if name in {"*R0", "*R1"}:
            self._radio = name == "*R1"
            return []
        if name in {"+SBDMTA=0", "+SBDMTA=1"}:
            self._ring_wanted = name.endswith("1")
            return []
        if match := re.fullmatch(r"\+GEMON=(\d{1,8})", name, re.ASCII):
            if int(match[1]) >= 1 << 26:
                return Refused()
            self._energy_uah = int(match[1])
            return []
        return [] if _IGNORED.fullmatch(name) else self._query(name, now_ns)

    def _query(self, name: str, now_ns: int) -> Answer:
        service = self._service(now_ns)
        rung = self._ticks(self._rung_ns) if self._ringing else 0
        match name:
            case "+CSQ" | "+CSQF":
                return [f"{name}:{service.bars}"]
            case "+SBDRB":
                return Raw(_framed(self._mt))
            case "+SBDRT":
                return Raw(b"\r\n+SBDRT:\r\n" + self._mt + b"\r\n")
            case "+SBDSX":
                mtmsn = self._mtmsn if self._has_mt else -1
                flags = f"{int(self._has_mo)}, {self._momsn}, {int(self._has_mt)}, {mtmsn}"
                return [f"+SBDSX: {flags}, {int(self._ringing)}, {self._queued}"]
            case "+SBDS":
                mtmsn = self._mtmsn if self._has_mt else -1
                return [f"+SBDS: {int(self._has_mo)}, {self._momsn}, {int(self._has_mt)}, {mtmsn}"]
            case "+SBDTC":
                self._mt, self._has_mt = self._mo, self._has_mo
                return [f"SBDTC: Outbound SBD Copied to Inbound SBD: size = {len(self._mt)}"]
            case "+SBDMTA?":
                return [f"+SBDMTA:{int(self._ring_wanted)}"]
            case "+CRIS":
                return [f"+CRIS:000,{int(self._ringing):03d}"]
            case "+CRISX":
                return [f"+CRISX:000,{int(self._ringing):03d},{rung:08x}"]
            case "-MSSTM":
                return [f"-MSSTM: {self._ticks(now_ns):08x}" if service.bars else "-MSSTM: no network service"]
            case "-MSGEO":
                return [f"-MSGEO: {self._place(now_ns)},{self._ticks(now_ns):08x}"] if service.bars else Refused()
            case "+CREG?":
                return [f"+CREG:000,{1 if service.bars else 2:03d}"]
            case "+GEMON":
                return [f"+GEMON: {self._energy_uah}"]
            case "+CGSN" | "+GSN":
                return [IMEI]
            case "+GMM" | "+CGMM":
                return ["IRIDIUM 9600 Family SBD Transceiver"]
            case "+GMI" | "+CGMI":
                return ["Iridium"]
            case "+CGMR" | "+GMR":
                return [f"Call Processor Version: BENTPIPE {__version__}", "Hardware Version: EMULATED"]
        return Refused()

    def _service(self, now_ns: int) -> Service:
        return self._service_at(now_ns) if self._radio else Service(bars=0, latency_ns=0)

    def _written(self, data: bytes | None, now_ns: int) -> Answer:
        if data is None:
            return ["1"]
        message, given = data[:-2], int.from_bytes(data[-2:], "big")
        if sum(message) & 0xFFFF != given:
            return ["2"]
        self._mo, self._has_mo = message, True
        return ["0"]

    def _typed(self, data: bytes | None, now_ns: int) -> Answer:
        if data is None:
            return ["1"]
        self._mo, self._has_mo = data, True
        return ["0"]

    def _delete(self, which: str) -> Answer:
        if which in "02":
            self._mo, self._has_mo = b"", False
        if which in "12":
            self._mt, self._has_mt = b"", False
        return ["0"]

    def _session(self, name: str, now_ns: int) -> Answer:
        service = self._service(now_ns)
        said = name.partition("=")[0]
        said = "+SBDIX" if said == "+SBDIXA" else said
        sent = len(self._mo) if self._has_mo else 0
        moved = 0 if self._failure(service, now_ns) else max(sent, self._gateway.next_length(LONGEST_MT))
        session_ns = service.latency_ns + moved * service.byte_ns
        return Later(session_ns, lambda then_ns: self._held(said, service, then_ns))

    def _held(self, said: str, service: Service, now_ns: int) -> Answer:
        """The end of a session: the condition of its beginning holds, unless the signal went away meanwhile."""
        status, momsn = self._failure(service, now_ns), self._momsn
        mt, mtmsn, length = 0, 0, 0
        if status == 0 and self._has_mo:
            try:
                self._gateway.deliver(f"{IMEI}_{momsn:06d}.sbd", self._mo)
                self._momsn = (momsn + 1) & 0xFFFF
            except OSError:
                status = MO_FAILURES[Failure.GATEWAY_TIMEOUT]
        if status == 0:
            self._energy_uah = (self._energy_uah + MICROAMPERE_HOURS_PER_SESSION) % (1 << 26)
            self._ringing = False
            try:
                taken = self._gateway.take(LONGEST_MT)
            except OSError:
                taken, mt = None, 2
            if taken is not None:
                self._mt, self._has_mt = taken[1], True
                self._mtmsn = (self._mtmsn + 1) & 0xFFFF
                mt, mtmsn, length = 1, self._mtmsn, len(self._mt)
            self._known = self._queued = self._gateway.waiting()
        if said == "+SBDI":  # the older command knows three outcomes: nothing to send, sent, failed
            status = 2 if status else int(self._has_mo)
        return [f"{said}: {status}, {momsn}, {mt}, {mtmsn}, {length}, {self._queued}"]

    def _failure(self, service: Service, now_ns: int) -> int:
        if not self._radio:
            return RADIO_OFF
        if service.bars == 0:
            return NO_SERVICE
        if service.failure is not None:
            return MO_FAILURES[service.failure]
        return 0 if self._service_at(now_ns).bars else MO_FAILURES[Failure.RF_DROP]

    def _ticks(self, now_ns: int) -> int:
        return (now_ns - self._era.value) // TICK_NS % WRAP

    def _place(self, now_ns: int) -> str:
        """Where the network thinks that the terminal is: kilometres from the Earth's centre, in steps of four."""
        state = self._state_at(now_ns)
        latitude, longitude = math.radians(state.latitude_deg), math.radians(state.longitude_deg)
        east = math.cos(latitude)
        parts = (east * math.cos(longitude), east * math.sin(longitude), math.sin(latitude))
        return ",".join(str(round(EARTH_RADIUS_KM * part / 4) * 4) for part in parts)


def _framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message + (sum(message) & 0xFFFF).to_bytes(2, "big")
