"""What the figures are compared with: the kernel's own forwarding on this machine, in the same run.

    client ──veth── router ──veth── server        three unnamed namespaces, each packet routed once

With offloads on, TCP crosses it in super-packets of 64 KB. With offloads off each packet of 1500 bytes crosses alone:
the most that an emulator could carry that is made of the kernel's queues and works packet by packet.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import socket
import struct
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from emulator.bench.sides import Station
from emulator.errors import PrivilegeError
from emulator.ports.namespace import Namespace
from emulator.ports.wires import MAIN_TABLE
from emulator.testing.performance.loads import CONGESTION

SIOCETHTOOL = 0x8946  # linux/sockios.h
GET_AND_SET = {
    "tso": (0x1E, 0x1F),
    "gso": (0x23, 0x24),
    "gro": (0x2B, 0x2C),
}  # linux/ethtool.h, ETHTOOL_G… and ETHTOOL_S…
ROUTE_PARTS = ("dst", "oif", "gateway", "prefsrc", "priority")  # by which a route is known, and what leads over it
CLIENT, ROUTER_NEAR, ROUTER_FAR, SERVER = "198.18.0.2", "198.18.0.1", "198.18.0.5", "198.18.0.6"  # RFC 2544, two /30


class KernelForwarding:
    """A context: `client` and `server`, and a kernel that routes between them.

    Raises PrivilegeError if the kernel refuses veth pairs, or to switch their offloads.
    """

    def __init__(self, *, offloads: bool, mtu: int = 1500) -> None:
        self.offloads, self.mtu = offloads, mtu
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            near, router, far = (self._stack.enter_context(Namespace.create()) for _ in range(3))
            try:
                router.run(lambda: self._join(near, far))
                near.run(lambda: self._settle("client", CLIENT, ROUTER_NEAR))
                far.run(lambda: self._settle("server", SERVER, ROUTER_FAR))
            except (OSError, PrivilegeError) as error:
                raise PrivilegeError(f"kernel forwarding between two veth pairs: {error}") from error
            self.client, self.server = Station("client", near, CLIENT), Station("server", far, SERVER)
            for station in (self.client, self.server):
                self._stack.callback(station.close)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _join(self, near: Namespace, far: Namespace) -> None:
        """In the router's namespace: two veth pairs, their far ends at the client and the server."""
        for ours, address, theirs, place in (("near", ROUTER_NEAR, "client", near), ("far", ROUTER_FAR, "server", far)):
            with _netlink() as netlink:
                netlink.link(
                    "add",
                    ifname=ours,
                    kind="veth",
                    mtu=self.mtu,
                    peer={"ifname": theirs, "net_ns_fd": place.descriptor, "mtu": self.mtu},
                )
            self._settle(ours, address, None)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def _settle(self, interface: str, address: str, gateway: str | None) -> None:
        """In its namespace: offloads, address, and the way to the other end."""
        if not self.offloads:
            switch_off(interface)
        with _netlink() as netlink:
            index = netlink.link_lookup(ifname=interface)[0]
            netlink.addr("add", index=index, address=address, prefixlen=30)
            netlink.link("set", index=index, state="up")
            if gateway:
                netlink.route("add", dst="0.0.0.0/0", gateway=gateway)


@contextlib.contextmanager
def _netlink() -> Any:
    """pyroute2's connection; what the kernel refuses becomes an OSError like any other."""
    from pyroute2 import IPRoute, NetlinkError

    try:
        with IPRoute() as netlink:
            yield netlink
    except NetlinkError as error:
        raise OSError(error.code, str(error)) from error


def switch_off(interface: str) -> None:
    """Segmentation offloads off: what leaves and what arrives are single packets. Raises OSError if they stay on.

    Checksums stay as they are, to be completed by nobody, as on the TUN devices of a bench.
    """
    for name, (get, set_) in GET_AND_SET.items():
        _ethtool(interface, set_, 0)
        if _ethtool(interface, get, 0):
            raise OSError(f"{interface}: {name} cannot be switched off")


def _ethtool(interface: str, command: int, value: int) -> int:
    """One ioctl with a `struct ethtool_value`; returns the value after it."""
    words = array.array("I", (command, value))
    request = struct.pack("16sP16x", interface.encode(), words.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        fcntl.ioctl(link, SIOCETHTOOL, request)
    return words[1]


def settle_tcp(side: Station, most_bytes: int) -> list[str]:
    """TCP at a side that is ours alone as everything measured has it; returns what was refused."""
    refused = widen_tcp_buffers(side.namespace, most_bytes), pin_congestion(side.namespace, CONGESTION)
    return [f"{side.name}: {one}" for one in refused if one]


def widen_tcp_buffers(namespace: Namespace, most_bytes: int) -> str | None:
    """Lets TCP's buffers grow to `most_bytes` in a namespace; returns what was refused."""

    def widen() -> str | None:
        for name in ("tcp_rmem", "tcp_wmem"):
            setting = Path("/proc/sys/net/ipv4") / name
            try:
                least, usual, _ = setting.read_text().split()
                setting.write_text(f"{least} {usual} {most_bytes}")
            except OSError as error:
                return f"net.ipv4.{name} stays {setting.read_text().split()}: {error.strerror}"
        return None

    return namespace.run(widen)


def pin_congestion(namespace: Namespace, congestion: str) -> str | None:
    """TCP connections over IPv4 that begin in a namespace have this congestion control; returns what was refused.

    iperf3 asks for one when it has connected: by then BBR, where it is the default, has switched the kernel's pacing on
    for good, and each super-packet of whatever follows it sets a timer. A route's is in force from the first.
    """

    def pin() -> str | None:
        try:
            with _netlink() as netlink:
                for route in netlink.get_routes(family=socket.AF_INET, table=MAIN_TABLE):
                    wanted = {name: route[name] for name in ("family", "dst_len", "scope", "proto", "type")}
                    wanted |= {name: route.get(name) for name in ROUTE_PARTS if route.get(name) is not None}
                    netlink.route("change", **wanted, metrics={"cc_algo": congestion})
        except OSError as error:
            return f"congestion control {congestion}: {error}"
        return None

    return namespace.run(pin)


def fill_super_packets(namespace: Namespace) -> None:
    """TCP fills its super-packets in a namespace, however slow a flow and however long its round trip are.

    Left to itself, Linux since 5.18 fills them on a short round trip, as forwarding has it; on one of 20 ms a flow
    sends no more at once than it carries in a millisecond. Older kernels have no such setting: nothing happens.
    """
    setting = Path("/proc/sys/net/ipv4/tcp_tso_rtt_log")  # Linux: Documentation/networking/ip-sysctl.rst
    namespace.run(lambda: setting.write_text("31") if setting.exists() else None)
