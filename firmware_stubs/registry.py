"""The kinds of firmware that there are, by the name that a person types."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from emulator.errors import EndpointError
from emulator.terminal import Antenna, TerminalState
from firmware_stubs.gateway import MessageGateway, Service, ServiceAt, always

__all__ = [  # and what there is on its way to a bench, which knows no other module of this package
    "KINDS",
    "NETWORK_KINDS",
    "AntennaLine",
    "Hardware",
    "LevelAt",
    "MessageGateway",
    "NetworkKind",
    "NetworkServer",
    "NoPackets",
    "PacketPort",
    "Place",
    "ServedStub",
    "Service",
    "StateAt",
    "Stub",
    "StubKind",
    "bridge",
    "controller_line",
    "find",
    "stub_on",
]

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.terminal.dish import DishTerminal
    from emulator.terminal.pointing import Report
    from firmware_stubs.drivers import Driver, Oddity

StateAt = Callable[[int], TerminalState]
LevelAt = Callable[[int], tuple[float | None, bool]]  # of a beacon at an instant: dB, None without one; and the lock
Place = Callable[[Callable[[], Any]], Any]  # does work where an address is, and gives what it gave: Namespace.run


class Stub(Protocol):
    """Firmware without its line. Times are ns of simulated UTC, and arguments."""

    def receive(self, data: bytes, now_ns: int) -> None:
        """Takes bytes that a client wrote. Never raises over what is in them, keeps a bounded part of them."""

    def poll(self, now_ns: int) -> bytes:
        """What the firmware says up to `now_ns`, a bounded amount."""

    def next_event_ns(self) -> int | None:
        """When `poll` next has something to say: None means not before something was received."""


class PacketPort(Protocol):
    """Where a data path's packets come from and go to; nothing here waits. `fd`: readable when there is one; or −1."""

    fd: int

    def read(self) -> bytes:
        """The next packet; b"" if there is none."""

    def write(self, packet: bytes) -> None:
        """Hands a packet on; one for which there is no room is lost."""


class NoPackets:
    """A data path that leads nowhere."""

    fd = -1

    def read(self) -> bytes:
        return b""

    def write(self, packet: bytes) -> None:
        """It is lost."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What firmware is attached to, and a bench looks at from its other side. Shared by stubs and threads."""

    antenna: Antenna = field(default_factory=Antenna)
    gateway: MessageGateway = field(default_factory=MessageGateway)
    service_at: ServiceAt = field(default_factory=lambda: always(Service()))
    packets: PacketPort = field(default_factory=NoPackets)
    level_at: LevelAt = lambda _: (12.0, True)  # of a stub alone: a clear sky


Maker = Callable[[StateAt, int, Hardware], Stub]


@dataclass(frozen=True, slots=True)
class StubKind:
    """A kind of firmware: its maker, and the baud rate that the hardware is delivered with.

    `sessions`: it is reached over TCP only, and keeps a session per client; its maker is called for each.
    """

    name: str
    summary: str
    baud: int
    make: Maker
    sessions: bool = False


def _nmea(state_at: StateAt, now_ns: int, hardware: Hardware) -> Stub:
    from firmware_stubs.nmea import NmeaReceiver

    return NmeaReceiver(state_at, now_ns)


def _ubx(state_at: StateAt, now_ns: int, hardware: Hardware) -> Stub:
    from firmware_stubs.ubx import UbloxReceiver

    return UbloxReceiver(state_at, now_ns)


def _easycomm(version: int) -> Maker:
    def make(state_at: StateAt, now_ns: int, hardware: Hardware) -> Stub:
        from firmware_stubs.easycomm import EasycommController

        return EasycommController(hardware.antenna, version)

    return make


def _gs232b(state_at: StateAt, now_ns: int, hardware: Hardware) -> Stub:
    from firmware_stubs.gs232b import Gs232bController

    return Gs232bController(hardware.antenna)


def _rotctld(state_at: StateAt, now_ns: int, hardware: Hardware) -> Stub:
    from firmware_stubs.rotctld import RotctldSession

    return RotctldSession(hardware.antenna)


def _sbd(state_at: StateAt, now_ns: int, hardware: Hardware) -> Stub:
    from firmware_stubs.sbd import SbdModem

    return SbdModem(state_at, hardware.gateway, hardware.service_at)


def _ntn_modem(state_at: StateAt, now_ns: int, hardware: Hardware) -> Stub:
    from firmware_stubs.ntn_modem import NtnModem

    return NtnModem(hardware.gateway, hardware.service_at)


def _jspr(state_at: StateAt, now_ns: int, hardware: Hardware) -> Stub:
    from firmware_stubs.jspr import JsprModem

    return JsprModem(hardware.gateway, hardware.service_at)


def _openamip(state_at: StateAt, now_ns: int, hardware: Hardware) -> Stub:
    from firmware_stubs.openamip import OpenAmipAntenna

    return OpenAmipAntenna(state_at, hardware.antenna)


def _beacon(state_at: StateAt, now_ns: int, hardware: Hardware) -> Stub:
    from firmware_stubs.beacon import BeaconReceiver

    return BeaconReceiver(hardware.level_at, now_ns)


def _slip(state_at: StateAt, now_ns: int, hardware: Hardware) -> Stub:
    from firmware_stubs.slip import SlipStub

    return SlipStub(hardware.packets)


KINDS: dict[str, StubKind] = {
    kind.name: kind
    for kind in (
        StubKind("nmea", "GNSS receiver: NMEA 0183 sentences at 1 Hz", 9600, _nmea),
        StubKind("ubx", "GNSS receiver: u-blox, NMEA 0183 and UBX NAV-PVT at 1 Hz", 9600, _ubx),
        StubKind("easycomm2", "antenna controller: EasyComm II", 19200, _easycomm(2)),
        StubKind("easycomm3", "antenna controller: EasyComm III", 19200, _easycomm(3)),
        StubKind("gs232b", "antenna controller: Yaesu GS-232B", 9600, _gs232b),
        StubKind("rotctld", "antenna controller: Hamlib's rotctld, over TCP only", 0, _rotctld, sessions=True),
        StubKind("openamip", "antenna that a modem commands: OpenAMIP", 115200, _openamip),
        StubKind("sbd", "Iridium 9602/9603: short burst data by AT commands", 19200, _sbd),
        StubKind("ntn", "3GPP NTN modem: messages over the control plane, by AT commands", 115200, _ntn_modem),
        StubKind("jspr", "Iridium 9704: messages by JSPR", 230400, _jspr),
        StubKind("beacon", "beacon receiver: how strongly the antenna hears its satellite, at 10 Hz", 9600, _beacon),
        StubKind("slip", "IP over the line (RFC 1055), to the link of a bench; alone, to nowhere", 115200, _slip),
    )
}


class NetworkServer(Protocol):
    """A stub that clients find at an address of its own, while it runs."""

    host: str
    port: int
    web_port: int

    def follow(self) -> None:
        """To be called several times a second: closes and opens the ports as the firmware would."""

    def stop(self) -> None:
        """Ends it. Twice is allowed."""


class Serve(Protocol):
    """Serves a dish at `host` and `port`; `commanded` is called when a client may have moved it.

    Raises EndpointError if the address cannot be had, ModuleNotFoundError if a package is missing.
    """

    def __call__(
        self,
        dish: DishTerminal,
        host: str,
        port: int,
        utc_ns: Callable[[], int],
        *,
        place: Place | None = None,
        commanded: Callable[[], None] | None = None,
    ) -> NetworkServer: ...


@dataclass(frozen=True, slots=True)
class NetworkKind:
    """A kind of firmware behind an IP address: where the hardware has it, and what serves it."""

    name: str
    summary: str
    host: str
    port: int
    serve: Serve


def _serve_dish(
    dish: DishTerminal,
    host: str,
    port: int,
    utc_ns: Callable[[], int],
    *,
    place: Place | None = None,
    commanded: Callable[[], None] | None = None,
) -> NetworkServer:
    from firmware_stubs.dish_server import DishServer, here

    return DishServer(dish, host, port, utc_ns, place=place or here, commanded=commanded or (lambda: None)).start()


NETWORK_KINDS: dict[str, NetworkKind] = {
    "dish": NetworkKind("dish", "Starlink dish: gRPC with reflection, gRPC-Web", "192.168.100.1", 9200, _serve_dish)
}


def find(name: str) -> StubKind:
    """The kind on a line or on TCP called `name`. Raises EndpointError naming all that there are."""
    if name not in KINDS:
        raise EndpointError(f"stub: expected one of {', '.join([*KINDS, *NETWORK_KINDS])}, got {name!r}")
    return KINDS[name]


class ServedStub(Protocol):
    """A stub for a bench, served from a thread between `start` and `stop`. `address`: what a client opens meanwhile."""

    @property
    def address(self) -> str: ...

    def start(self) -> object: ...

    def stop(self) -> None: ...


class AntennaLine(Protocol):
    """A bench's end of the line to an antenna's controller, stub or hardware; a context.

    `driver` makes the bytes of a command, `say` has them written; `oddities`: what the controller did wrong, and when
    (monotonic ns); `reports`: how many were heard.
    """

    driver: Driver
    oddities: deque[tuple[int, Oddity]]
    reports: int

    def say(self, command: bytes) -> None: ...

    def __enter__(self) -> AntennaLine: ...

    def __exit__(self, *failure: object) -> None: ...


def stub_on(
    kind: str,
    state_at: StateAt,
    port: str,
    *,
    hardware: Hardware,
    utc_ns: Callable[[], int],
    directory: Path | None = None,
    baud: int | None = None,
    faults: Sequence[tuple[str, float, float]] = (),
    record: Path | None = None,
) -> ServedStub:
    """A stub for a bench, at `port`. `faults` of its line: kind, beginning and duration in s.

    Raises EndpointError for an unknown kind.
    """
    from firmware_stubs.record import Recorder
    from firmware_stubs.transport import SerialStub
    from firmware_stubs.wire import LineFault

    return SerialStub(
        kind,
        state_at,
        port,
        hardware=hardware,
        utc_ns=utc_ns,
        directory=directory,
        baud=baud,
        faults=tuple(LineFault.parse(f"{name}@{at_s:f}+{lasts_s:f}") for name, at_s, lasts_s in faults),
        recorder=Recorder(record, utc_ns) if record is not None else None,
    )


def controller_line(
    protocol: str,
    url: str,
    baud: int | None,
    *,
    poll_ns: int,
    silence_ns: int,
    on_report: Callable[[Report, int], None],
    on_tick: Callable[[], None],
    utc_ns: Callable[[], int],
    record: Path | None = None,
    satellite_deg: float | None = None,
) -> AntennaLine:
    """A line to the antenna's controller at `url`, stub or hardware: see `attach.ControllerLine`."""
    from firmware_stubs.attach import ControllerLine
    from firmware_stubs.record import Recorder

    return ControllerLine(
        protocol,
        url,
        baud or KINDS[protocol].baud or 9600,
        poll_ns=poll_ns,
        silence_ns=silence_ns,
        on_report=on_report,
        on_tick=on_tick,
        utc_ns=utc_ns,
        recorder=Recorder(record, utc_ns) if record is not None else None,
        satellite_deg=satellite_deg,
    )


def bridge(
    kind: str,
    port: str,
    url: str,
    baud: int | None,
    *,
    silence_ns: int,
    utc_ns: Callable[[], int],
    directory: Path | None = None,
    record: Path | None = None,
) -> ServedStub:
    """Hardware at `url` behind a port of ours, watched: see `bridge.Bridge`. Raises EndpointError."""
    from firmware_stubs.bridge import Bridge
    from firmware_stubs.record import Recorder

    return Bridge(
        kind,
        port,
        url,
        baud or find(kind).baud,
        silence_ns=silence_ns,
        utc_ns=utc_ns,
        directory=directory,
        recorder=Recorder(record, utc_ns) if record is not None else None,
    )
