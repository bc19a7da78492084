"""The terminal's interfaces of a running bench: stubs that see the live link, or hardware behind the same ports."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from emulator.bench.loop import beside
from emulator.errors import EndpointError, InterfaceError
from emulator.ports.namespace import Namespace
from emulator.ports.tun import IFF_NO_PI, IFF_TUN, TUNSETIFF
from emulator.radio.modcod import LOWEST_CN_CENTIDB
from emulator.scenario.hardware import Device
from emulator.timeline.causes import Cause, Gate
from emulator.units import NS_PER_S
from firmware_stubs.registry import (
    Hardware,
    MessageGateway,
    NoPackets,
    PacketPort,
    ServedStub,
    Service,
    bridge,
    stub_on,
)

if TYPE_CHECKING:
    from emulator.bench.bench import Bench

SILENCE_NS = 3 * NS_PER_S
# ~5 s for a short message, ~20 s for the longest: NAL Research, Short Burst Data (nalresearch.com/NetRef_SBD.html)
SESSION_NS = 5 * NS_PER_S // 2  # a stated choice: with the round trips over iridium_certus, 5 s
ROUND_TRIPS = 6  # of a session, a stated choice: call, registration, message, acknowledgements
LONGEST_MESSAGE = 340  # bytes: 9602 SBD Transceiver Product Developers Guide
BYTE_NS = 15 * NS_PER_S // LONGEST_MESSAGE  # of short burst data; straight between the two, a stated choice
CENTIDB_PER_BAR = 300  # a stated choice: five bars from 12 dB above the most robust MODCOD on
MESSAGE_KINDS = ("sbd", "ntn", "jspr")
SLIP_INTERFACE = "sl0"
SLIP_MTU = 1500
ROUTERS_ADDRESS = "192.0.0.8"  # RFC 7600: of a router that has none of its own


class BenchDevices:
    """The devices of `bench`, which runs, for as long as the context lasts. `addresses`: of each, what clients open."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.served: list[ServedStub] = []
        self._sent_mail = 0
        self._gateways: dict[str, MessageGateway] = {}  # by the kind of the device, or kind and number
        self._stack = contextlib.ExitStack()

    @property
    def addresses(self) -> list[tuple[str, str]]:
        """(kind, what clients open) of each device."""
        return [
            (device.kind, served.address)
            for device, served in zip(self._bench.scenario.devices, self.served, strict=True)
        ]

    def __enter__(self) -> Self:
        with self._stack:
            for device in self._bench.scenario.devices:
                served = self._make(device)
                served.start()
                self._stack.callback(served.stop)
                self.served.append(served)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _make(self, device: Device) -> ServedStub:
        bench, source = self._bench, self._bench.scenario.source
        record = beside(source, device.record) if device.record else None
        if not device.firmware.is_stub:
            if device.kind == "slip":
                raise EndpointError(f"{device.firmware.serial}: slip: expected the stub: the line is at our end")
            return bridge(
                device.kind,
                device.port,
                device.firmware.serial,
                device.firmware.baud,
                silence_ns=SILENCE_NS,
                utc_ns=bench.utc_ns,
                directory=bench.runtime_dir,
                record=record,
            )
        packets: PacketPort = NoPackets()
        if device.kind == "slip":
            packets = SlipTun(bench.terminal.namespace, bench.scenario.ports.terminal_interface, bench.terminal.ipv4)
            self._stack.callback(packets.close)
        gateway = MessageGateway(beside(source, device.mailbox) if device.mailbox else None)
        if device.kind in MESSAGE_KINDS:
            number = sum(name.startswith(device.kind) for name in self._gateways)
            self._gateways[device.kind + (str(number) if number else "")] = gateway
        return stub_on(
            device.kind,
            bench.place.state,
            device.port,
            hardware=Hardware(gateway=gateway, service_at=self.service_at, packets=packets),
            utc_ns=bench.utc_ns,
            directory=bench.runtime_dir,
            baud=device.firmware.baud,
            record=record,
        )

    # the gateway of a message service, from the datacenter's side

    def mail(self, device: str = "") -> dict[str, Any]:
        """How many messages are there: from the terminal, and for it."""
        name, gateway = self._gateway(device)
        with _told_by(name):
            return {"device": name, "from_terminal": len(gateway.delivered()), "for_terminal": gateway.waiting()}

    def mail_send(self, message: bytes, device: str = "", topic: int | None = None) -> dict[str, Any]:
        """Leaves a message for the terminal, behind those that are there."""
        found, gateway = self._gateway(device)
        self._sent_mail += 1
        ending = f".topic{topic}" if topic is not None else ""
        name = f"{time.time_ns():020d}_{self._sent_mail}{ending}"
        with _told_by(found):
            gateway.send(name, message)
        return {"device": found, "name": name}

    def mail_take(self, device: str = "", done: str = "") -> dict[str, Any]:
        """The oldest message from the terminal, which stays until it is `done`; its name is empty if there is none."""
        found, gateway = self._gateway(device)
        with _told_by(found):
            if done and not gateway.remove(done):
                raise EndpointError(f"{found}: no message from the terminal is called {done!r}")
            name, message = gateway.oldest() or ("", b"")
        return {"device": found, "name": name, "message": message}

    def _gateway(self, device: str) -> tuple[str, MessageGateway]:
        names = ", ".join(self._gateways) or "none"
        if device in self._gateways:
            return device, self._gateways[device]
        if not device and len(self._gateways) == 1:
            return next(iter(self._gateways.items()))
        raise EndpointError(f"mail: device: expected one of this bench's message services ({names}), got {device!r}")

    def service_at(self, utc_ns: int) -> Service:
        """The message service that the live link gives: no bars while it is down, its delay in every session."""
        bench = self._bench
        up, down = bench.channel_at("uplink", utc_ns), bench.channel_at("downlink", utc_ns)
        closed = any(one.gate is Gate.DROP and one.cause is not Cause.HANDOVER for one in (up, down))
        latency_ns = session_ns(up.delay_ns + down.delay_ns)
        if closed:
            return Service(bars=0, latency_ns=latency_ns, byte_ns=BYTE_NS)
        channel = bench.timeline_at(utc_ns).downlink
        row = max(0, int(np.searchsorted(channel.start_ns, utc_ns, side="right")) - 1)
        loss_db = bench.antenna.state.receive_loss_db if bench.antenna is not None else 0.0
        over = int(channel.cn_centidb[row]) - round(loss_db * 100) - LOWEST_CN_CENTIDB
        bars = min(5, max(1, 1 + over // CENTIDB_PER_BAR))
        return Service(bars=bars, latency_ns=latency_ns, byte_ns=BYTE_NS)


def session_ns(round_trip_ns: int) -> int:
    """How long a session takes that carries no message, over a link of this round trip without queue and jitter."""
    return SESSION_NS + ROUND_TRIPS * round_trip_ns


@contextlib.contextmanager
def _told_by(device: str) -> Iterator[None]:
    try:
        yield
    except EndpointError:
        raise
    except OSError as error:
        raise EndpointError(f"{device}: the mailbox: {error}") from error


class SlipTun:
    """The terminal's address at the far end of a serial line: a TUN beside `interface`, and a router between the two.

    The router is the kernel's: each packet lives one hop shorter for it. IPv4 only.
    """

    def __init__(self, namespace: Namespace, interface: str, address: str) -> None:
        self.fd = -1
        try:
            namespace.run(lambda: self._open(interface, address))
        except BaseException:
            self.close()
            raise

    def _open(self, interface: str, address: str) -> None:
        from pyroute2 import IPRoute, NetlinkError

        self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(self.fd, TUNSETIFF, struct.pack("16sH22x", SLIP_INTERFACE.encode(), IFF_TUN | IFF_NO_PI))
            with IPRoute() as netlink:
                tun, link = (netlink.link_lookup(ifname=name)[0] for name in (SLIP_INTERFACE, interface))
                netlink.link("set", index=tun, mtu=SLIP_MTU, state="up")
                netlink.addr("add", index=tun, address=ROUTERS_ADDRESS, prefixlen=32)
                netlink.addr("del", index=link, address=address, prefixlen=30)
                netlink.route("replace", dst=f"{address}/32", oif=tun)
                netlink.route("replace", dst="0.0.0.0/0", oif=link)
            with open("/proc/sys/net/ipv4/ip_forward", "w", encoding="ascii") as forwarding:  # noqa: PTH123
                forwarding.write("1")
        except (OSError, NetlinkError) as error:
            raise InterfaceError(f"interface {SLIP_INTERFACE}: {error}") from error

    def read(self) -> bytes:
        try:
            return os.read(self.fd, 65_535)
        except BlockingIOError:
            return b""

    def write(self, packet: bytes) -> None:
        with contextlib.suppress(OSError):  # the kernel refuses what is no packet
            os.write(self.fd, packet)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
