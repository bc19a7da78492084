"""The TUN port: a layer-3 interface of the kernel whose packets we read and write, segmentation offload included."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from emulator.errors import InterfaceError, PrivilegeError
from emulator.link.store import VNET_BYTES
from emulator.ports.frames import DEVICE
from emulator.ports.namespace import Namespace
from emulator.ports.stamp_ring import NO_STAMPS
from emulator.ports.stamper import Stamper

# linux/if_tun.h
TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ = 0x400454CA, 0x400454D0, 0x400454D8
IFF_TUN, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x0002, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN, TUN_F_USO4, TUN_F_USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
TCP_OFFLOADS = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN
UDP_OFFLOADS = TUN_F_USO4 | TUN_F_USO6
IFA_F_NODAD = 0x02  # linux/if_addr.h: the address serves at once, without duplicate address detection

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True)
class KernelDrops:
    """What the kernel dropped at the device: `transmit` before we could read it, `receive` after we wrote it.

    The kernel counts super-packets: each may have been up to 44 and more packets on the wire.
    """

    transmit: int
    receive: int


class TunPort:
    """A TUN device in a network namespace. `descriptor` is non-blocking and carries virtio_net_hdr.

    stamped: the kernel shall note when packets come to it, in the ring `stamps`; `stamps_fault` tells why it does not.
    With `%d` in its name the kernel puts the first free number there, whoever else may be looking for one.
    The device is gone when the descriptor is closed, or its holder dies.
    Raises InterfaceError if the name is taken, PrivilegeError if the kernel refuses.
    """

    layer = IFF_TUN
    kind = DEVICE

    def __init__(self, namespace: Namespace, name: str, *, mtu: int, queue_packets: int, stamped: bool = True) -> None:
        self.namespace, self.name, self.mtu, self.queue_packets = namespace, name, mtu, queue_packets
        self.sees_udp_segments = False
        self.stamps, self.stamps_fault = NO_STAMPS, "" if stamped else "not asked for"
        self.stamps_warning = ""
        self._stamper: Stamper | None = None
        self.descriptor = -1
        self._statistics: TextIO | None = None
        try:
            namespace.run(lambda: self._open(stamped=stamped))
        except BaseException:
            self.close()
            raise

    def _open(self, *, stamped: bool) -> None:
        from pyroute2 import IPRoute

        try:
            self.descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise PrivilegeError(f"/dev/net/tun: {error.strerror}; see `bentpipe doctor`") from error
        request = struct.pack("16sH22x", self.name.encode(), self.layer | IFF_NO_PI | IFF_VNET_HDR)
        with IPRoute() as netlink:
            if netlink.link_lookup(ifname=self.name):
                raise InterfaceError(f"interface {self.name}: expected a free name, but it exists already")
            try:
                answer = fcntl.ioctl(self.descriptor, TUNSETIFF, request)
            except OSError as error:
                if error.errno in (errno.EPERM, errno.EACCES):
                    raise PrivilegeError(
                        f"interface {self.name}: {error.strerror}; try as root or with --isolate"
                    ) from error
                raise InterfaceError(f"interface {self.name}: {error.strerror}") from error
            self.name = answer[:16].rstrip(b"\0").decode()
            fcntl.ioctl(self.descriptor, TUNSETVNETHDRSZ, struct.pack("i", VNET_BYTES))
            try:
                fcntl.ioctl(self.descriptor, TUNSETOFFLOAD, TCP_OFFLOADS | UDP_OFFLOADS)
                self.sees_udp_segments = True
            except OSError:  # kernels before 6.2 do not know UDP segmentation
                fcntl.ioctl(self.descriptor, TUNSETOFFLOAD, TCP_OFFLOADS)
            index = netlink.link_lookup(ifname=self.name)[0]
            self._stay_apart()
            if stamped:
                self._have_arrivals_stamped()
            netlink.link("set", index=index, mtu=self.mtu, txqlen=self.queue_packets, state="up")
        # an open file of /proc/net stays with the namespace in which it was opened
        self._statistics = Path("/proc/thread-self/net/dev").open(encoding="ascii")  # noqa: SIM115

    def _stay_apart(self) -> None:
        """What comes out of the device is for this machine: one that routes must not send it on to its own networks.

        And the device's own IPv6 traffic (solicitations, link-local addresses) would be packets that nobody sent.
        """
        Path(f"/proc/sys/net/ipv4/conf/{self.name}/forwarding").write_text("0")
        six = {"forwarding": 0, "accept_ra": 0, "addr_gen_mode": 1, "router_solicitations": 0, "dad_transmits": 0}
        for key, value in six.items():
            try:
                Path(f"/proc/sys/net/ipv6/conf/{self.name}/{key}").write_text(str(value))
            except OSError:  # no IPv6 here: nothing to quieten
                return

    def _have_arrivals_stamped(self) -> None:
        """From before the device is up, so that no packet is without."""
        try:
            self._stamper = Stamper(self.descriptor, self.queue_packets)
        except OSError as error:
            self.stamps_fault = error.strerror or str(error)
            self.stamps_warning = (
                ""  # an ordinary user's: `bentpipe doctor` tells
                if isinstance(error, PermissionError)
                else f"interface {self.name}: a packet's arrival is when the loop reads it ({self.stamps_fault})"
            )
        else:
            self.stamps = self._stamper.ring

    @property
    def stamps_descriptor(self) -> int:
        """By which another process finds the ring (`stamper.ring_of`); −1: there is none."""
        return -1 if self._stamper is None else self._stamper.descriptor

    def add_address(self, address: Interface, *, default_route: bool = False, gateway: str = "") -> None:
        """Gives the device an address, usable at once; with `default_route` all that is not local goes this way.

        gateway: who takes what is not local, where the device needs to know that (TAP).
        Raises InterfaceError if the kernel refuses, as it does for IPv6 where that is switched off.
        """
        self.namespace.run(lambda: self._add_address(address, default_route, gateway))

    def _add_address(self, address: Interface, default_route: bool, gateway: str) -> None:
        from pyroute2 import IPRoute, NetlinkError

        with IPRoute() as netlink:
            index = netlink.link_lookup(ifname=self.name)[0]
            flags = {"flags": IFA_F_NODAD} if address.version == 6 else {}
            try:
                netlink.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen, **flags)
                if default_route:
                    everything = "0.0.0.0/0" if address.version == 4 else "::/0"
                    netlink.route("add", dst=everything, oif=index, **({"gateway": gateway} if gateway else {}))
            except NetlinkError as error:
                raise InterfaceError(f"interface {self.name}: address {address}: {error.args[-1]}") from error

    @property
    def statistics(self) -> int:
        """The descriptor of the namespace's open /proc/net/dev."""
        return -1 if self._statistics is None else self._statistics.fileno()

    def kernel_drops(self) -> KernelDrops:
        """The device's own drop counters."""
        if self._statistics is None:
            return KernelDrops(0, 0)
        self._statistics.seek(0)
        for line in self._statistics:
            name, _, numbers = line.partition(":")
            if name.strip() == self.name:
                columns = numbers.split()
                return KernelDrops(transmit=int(columns[11]), receive=int(columns[3]))
        return KernelDrops(0, 0)

    def close(self) -> None:
        """Removes the device."""
        if self._stamper is not None:
            self._stamper.close()
            self._stamper, self.stamps = None, NO_STAMPS
        if self._statistics is not None:
            self._statistics.close()
            self._statistics = None
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
