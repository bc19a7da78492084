"""A 3GPP narrow-band modem on a satellite network: registration, signal, and data over the control plane, by AT.

Commands are those of 3GPP TS 27.007. The modem registers by itself when its radio is on and there is a signal; what is
sent (`+CSODCP`) reaches the gateway's mailbox after the time of a session, or is lost without a word if the link fails,
as there is no confirmation in the standard; what is in the mailbox comes as `+CRTDCP`, if that was asked for.

Made up: the identity, the tracking area and cell, that the network is the subscriber's own, signal levels for each bar,
how long a connection takes and lasts after the last message, and how many messages may be on their way.
"""

from __future__ import annotations

import re
from collections import deque

from emulator import __version__
from emulator.units import NS_PER_MS, NS_PER_S
from firmware_stubs.at import Answer, AtModem, Refused
from firmware_stubs.gateway import Failure, MessageGateway, ServiceAt
from firmware_stubs.text import Timer

LONGEST_MESSAGE = 1358  # bytes: the link MTU that 3GPP TS 23.060 recommends
CONTEXTS = 8
MOST_ON_THEIR_WAY = 8
IMEI, IMSI = "004401709999996", "001010000000001"  # made up: of no maker, and of the test network 001-01
TRACKING_AREA, CELL = "0001", "00000101"
NB_IOT = 9  # 3GPP TS 27.007, <AcT> of +COPS: E-UTRA (NB-S1 mode)
LOOK_PERIOD_NS = NS_PER_S
CONNECTING_NS = 300 * NS_PER_MS
CONNECTED_NS = 5 * NS_PER_S

# 3GPP TS 27.007, <stat> of +CEREG, and +CME ERROR
NOT_REGISTERED, REGISTERED, SEARCHING, DENIED = 0, 1, 2, 3
ERRORS = {
    3: "operation not allowed",
    4: "operation not supported",
    30: "no network service",
    50: "Incorrect parameters",
}
NOT_ALLOWED, NOT_SUPPORTED, NO_SERVICE, WRONG_PARAMETERS = ERRORS

_SEND = re.compile(r'\+CSODCP=(\d),(\d{1,4}),"([0-9A-Fa-f]*)"(?:,[0-2]?(?:,[01])?)?', re.ASCII | re.IGNORECASE)
_CONTEXT = re.compile(
    r'\+CGDCONT=([1-8])(?:,"(IP|IPV6|IPV4V6|NON-IP)"(?:,"([\x21\x23-\x7e]{0,100})")?[^\r]{0,100})?',
    re.ASCII | re.IGNORECASE,
)
_BITS = r'"[01]{4,8}"'
_SAVING = re.compile(rf"\+CPSMS=([01])(?:,,,({_BITS}),({_BITS}))?", re.ASCII | re.IGNORECASE)
_EDRX = re.compile(rf"\+CEDRXS=([0-3])(?:,([1-5])(?:,({_BITS}))?)?", re.ASCII | re.IGNORECASE)
_SETTING = re.compile(r"\+(CEREG|CSCON|CRTDCP|CMEE|CFUN|CGATT|CGACT)=(\d)(?:,(\d))?", re.ASCII | re.IGNORECASE)
_LARGEST = {"CEREG": 5, "CSCON": 1, "CRTDCP": 1, "CMEE": 2, "CFUN": 4, "CGATT": 1, "CGACT": 1}
_NO_EFFECT = re.compile(r"&[CDKW]\d?|S\d+(?:=\d+)?|X\d?", re.ASCII | re.IGNORECASE)


class NtnModem(AtModem):
    """The modem."""

    def __init__(self, gateway: MessageGateway, service_at: ServiceAt) -> None:
        super().__init__()
        self._gateway, self._service_at = gateway, service_at
        self._settings = {"CEREG": 0, "CSCON": 0, "CRTDCP": 0, "CMEE": 0, "CFUN": 1, "CGATT": 1, "CGACT": 1}
        self._contexts = {1: ("Non-IP", "bentpipe")}
        self._saving = '0,,,"00000001","00000000"'
        self._edrx = ""
        self._state = self._told_state = NOT_REGISTERED
        self._told_connected = False
        self._registering: Timer | None = None
        self._connecting: Timer | None = None
        self._connected: Timer | None = None
        self._sending: deque[tuple[Timer, bytes]] = deque()
        self._looked: Timer | None = None
        self._sent = 0

    def reset(self, now_ns: int) -> Answer:
        self._settings.update({"CEREG": 0, "CSCON": 0, "CRTDCP": 0, "CMEE": 0})
        return []

    def background(self, now_ns: int) -> None:
        """Registers, delivers what is on its way, takes what waits, and lets the connection go."""
        self._register(now_ns)
        if self._connecting is not None and self._connecting.over(now_ns):
            self._connected, self._connecting = Timer(now_ns, CONNECTED_NS), None
        while self._sending and self._sending[0][0].over(now_ns):
            _, message = self._sending.popleft()
            self._deliver(message, now_ns)
        if self._looked is None or self._looked.over(now_ns):
            self._looked = Timer(now_ns, LOOK_PERIOD_NS)
            self._take(now_ns)
        if self._connected is not None and not self._sending and self._connected.over(now_ns):
            self._connected = None
        self._tell()

    def next_background_ns(self) -> int | None:
        first = self._sending[0][0] if self._sending else None
        released = None if first else self._connected
        timers = [self._registering, self._connecting, released, self._looked, first]
        return min((timer.end_ns() for timer in timers if timer is not None), default=0)

    def command(self, command: str, now_ns: int) -> Answer:
        self._register(now_ns)
        name = command.upper()
        if match := _SEND.fullmatch(name):
            return self._send(int(match[1]), int(match[2]), match[3], now_ns)
        if match := _SETTING.fullmatch(name):
            return self._set(match[1], int(match[2]), now_ns)
        if match := _CONTEXT.fullmatch(command):
            number = int(match[1])
            self._contexts.pop(number, None)
            if match[2]:
                self._contexts[number] = (
                    "Non-IP" if match[2].upper() == "NON-IP" else match[2].upper(),
                    match[3] or "",
                )
            return []
        if match := _SAVING.fullmatch(command):
            self._saving = f"{match[1]},,,{match[2] or ''},{match[3] or ''}" if match[2] else f"{match[1]}"
            return []
        if match := _EDRX.fullmatch(command):
            self._edrx = f"{match[2] or 5},{match[3]}" if match[1] in "12" and match[3] else ""
            return []
        if _NO_EFFECT.fullmatch(name):
            return []
        return self._query(name, now_ns)

    def _query(self, name: str, now_ns: int) -> Answer:
        bars = self._bars(now_ns)
        settings = self._settings
        match name:
            case "I" | "I0":
                return ["Bentpipe", "NTN modem", f"Revision: {__version__}"]
            case "+CGMI" | "+GMI":
                return ["Bentpipe"]
            case "+CGMM" | "+GMM":
                return ["NTN modem"]
            case "+CGMR" | "+GMR":
                return [__version__]
            case "+CGSN" | "+GSN":
                return [IMEI]
            case "+CGSN=1":
                return [f'+CGSN: "{IMEI}"']
            case "+CIMI":
                return [IMSI]
            case "+CPIN?":
                return ["+CPIN: READY"]
            case "+CEREG?":
                return [f"+CEREG: {settings['CEREG']},{self._registration()}"]
            case "+CSCON?":
                return [f"+CSCON: {settings['CSCON']},{int(self._connected is not None)}"]
            case "+CFUN?" | "+CRTDCP?" | "+CMEE?":
                return [f"{name[:-1]}: {settings[name[1:-1]]}"]
            case "+CGATT?":
                return [f"+CGATT: {int(self._state == REGISTERED)}"]
            case "+CSODCP?":
                return []
            case "+CSODCP=?":
                return [f"+CSODCP: {CONTEXTS},{LONGEST_MESSAGE}"]
            case "+CESQ":  # RSRQ in half decibels from -20, RSRP in decibels from -141: TS 27.007
                return [
                    f"+CESQ: 99,99,255,255,{14 + 3 * bars},{16 + 5 * bars}" if bars else "+CESQ: 99,99,255,255,255,255"
                ]
            case "+CSQ":
                return [f"+CSQ: {4 + 4 * bars if bars else 99},99"]
            case "+CGDCONT?":
                return [f'+CGDCONT: {n},"{kind}","{name}",,0,0' for n, (kind, name) in sorted(self._contexts.items())]
            case "+CGACT?":
                return [f"+CGACT: {n},{int(self._state == REGISTERED)}" for n in sorted(self._contexts)]
            case "+CGPADDR":
                return [f"+CGPADDR: {n}" for n in sorted(self._contexts)]  # data is not in IP: there is no address
            case "+COPS?":
                return [f'+COPS: 0,2,"00101",{NB_IOT}' if self._state == REGISTERED else "+COPS: 0"]
            case "+CPSMS?":
                return [f"+CPSMS: {self._saving}"]
            case "+CEDRXS?":
                return [f"+CEDRXS: {self._edrx}"] if self._edrx else ["+CEDRXS: 0"]
            case "+CEDRXRDP":
                return [f"+CEDRXRDP: {self._edrx},{self._edrx.partition(',')[2]}" if self._edrx else "+CEDRXRDP: 0"]
        return self._refused(NOT_SUPPORTED)

    def _refused(self, error: int) -> Refused:
        told = {1: f"+CME ERROR: {error}", 2: f"+CME ERROR: {ERRORS[error]}"}
        return Refused(told.get(self._settings["CMEE"], "ERROR"))

    def _set(self, name: str, value: int, now_ns: int) -> Answer:
        if value > _LARGEST[name] or (name == "CFUN" and value not in {0, 1, 4}):
            return self._refused(WRONG_PARAMETERS)
        self._settings[name] = value
        self._register(now_ns)
        return []

    def _send(self, context: int, size: int, digits: str, now_ns: int) -> Answer:
        if len(digits) != 2 * size or not 1 <= size <= LONGEST_MESSAGE or context not in self._contexts:
            return self._refused(WRONG_PARAMETERS)
        if self._state != REGISTERED:
            return self._refused(NO_SERVICE)
        if len(self._sending) >= MOST_ON_THEIR_WAY:
            return self._refused(NOT_ALLOWED)
        self._sending.append((Timer(now_ns, self._service_at(now_ns).latency_ns), bytes.fromhex(digits)))
        if self._connected is None and self._connecting is None:
            self._connecting = Timer(now_ns, CONNECTING_NS)
        return []

    def _register(self, now_ns: int) -> None:
        """Follows the radio and the service."""
        state = SEARCHING
        if self._settings["CFUN"] != 1 or not self._settings["CGATT"]:
            state, self._registering = NOT_REGISTERED, None
        elif not self._bars(now_ns):
            self._registering = None
        elif self._service_at(now_ns).failure is Failure.DENIED:
            state, self._registering = DENIED, None
        elif self._state == REGISTERED:
            state = REGISTERED
        elif self._registering is None:
            self._registering = Timer(now_ns, self._service_at(now_ns).latency_ns)
        if self._registering is not None and self._registering.over(now_ns):
            state, self._registering = REGISTERED, None
        if state == self._state:
            return
        self._state = state
        if state != REGISTERED:
            self._sending.clear()
            self._connecting = self._connected = None

    def _registration(self) -> str:
        if self._state == REGISTERED and self._settings["CEREG"] >= 2:
            return f'{self._state},"{TRACKING_AREA}","{CELL}",{NB_IOT}'
        return str(self._state)

    def _bars(self, now_ns: int) -> int:
        return self._service_at(now_ns).bars if self._settings["CFUN"] == 1 else 0

    def _tell(self) -> None:
        """Announces what changed since the last time, so that it never comes between a command and its result."""
        connected = self._connected is not None
        if self._state != self._told_state and self._settings["CEREG"]:
            self.announce(f"+CEREG: {self._registration()}")
        if connected != self._told_connected and self._settings["CSCON"]:
            self.announce(f"+CSCON: {int(connected)}")
        self._told_state, self._told_connected = self._state, connected

    def _deliver(self, message: bytes, now_ns: int) -> None:
        self._connected = Timer(now_ns, CONNECTED_NS)
        if self._service_at(now_ns).failure is None:
            try:
                self._gateway.deliver(f"{IMEI}_{self._sent:06d}.nidd", message)
            except OSError:
                return  # lost, as anything else that is lost on its way: nobody is told
            self._sent += 1

    def _take(self, now_ns: int) -> None:
        if self._state != REGISTERED or not self._settings["CRTDCP"] or self._service_at(now_ns).failure is not None:
            return
        try:
            taken = self._gateway.take(LONGEST_MESSAGE)
        except OSError:
            return
        if taken is not None:
            self._connected = Timer(now_ns, CONNECTED_NS)
            self._tell()
            self.announce(f'+CRTDCP: 1,{len(taken[1])},"{taken[1].hex()}"')
