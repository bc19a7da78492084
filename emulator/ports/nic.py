"""The NIC port: a network card read and written past this machine's own stack, at layer 2, inline.

An AF_PACKET socket with PACKET_VNET_HDR: what the card's driver has merged (GRO) comes as the super-packet that it is,
and goes out for the driver to cut (TSO). Promiscuous while the socket is open: the kernel takes that back when it is
closed, or its holder dies. What this machine sends on the card itself is not seen.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from dataclasses import dataclass
from typing import Any

from emulator.errors import InterfaceError, PrivilegeError
from emulator.ports.frames import PACKET, PACKET_AUXDATA, SOL_PACKET
from emulator.ports.namespace import Namespace
from emulator.ports.stamp_ring import NO_STAMPS
from emulator.ports.tun import KernelDrops

# linux/if_packet.h, linux/if_ether.h, asm-generic/socket.h, linux/sockios.h, linux/if.h, linux/ethtool.h
PACKET_ADD_MEMBERSHIP, PACKET_STATISTICS, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING, PACKET_MR_PROMISC = 1, 6, 15, 23, 1
ETH_P_ALL = 0x0003
SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_TIMESTAMPNS = 32, 33, 35
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCETHTOOL = 0x8913, 0x8914, 0x8946
IFF_UP, IFF_RUNNING = 0x1, 0x40
ETHTOOL_GFLAGS, ETH_FLAG_LRO = 0x25, 1 << 15
ARPHRD_ETHER = 1
# linux/rtnetlink.h, linux/netlink.h, linux/if_link.h; places in struct rtnl_link_stats64
RTM_NEWSTATS, RTM_GETSTATS, NLM_F_REQUEST, IFLA_STATS_LINK_64 = 92, 94, 1, 1
TX_DROPPED, RX_FIFO_ERRORS, RX_MISSED_ERRORS = 7, 14, 15

SEND_BUFFER_BYTES = 16 << 20
RECEIVE_BYTES_PER_PACKET = 2304  # what the kernel charges for a packet of 1500 bytes
LEAST_RECEIVE_BYTES, MOST_RECEIVE_BYTES = 4 << 20, 256 << 20


@dataclass(frozen=True)
class Card:
    """What the kernel says of a network card. uses: why this machine seems to need it; `route`: its default route."""

    name: str
    index: int
    mtu: int
    up: bool
    addresses: tuple[str, ...]
    master: str
    route: bool


def look_at(namespace: Namespace, name: str) -> Card:
    """The card `name`. Raises InterfaceError if there is none, or if it is no Ethernet."""
    return namespace.run(lambda: _look_at(name))


def _look_at(name: str) -> Card:
    from pyroute2 import IPRoute

    with IPRoute() as netlink:
        found = netlink.link_lookup(ifname=name)
        if not found:
            known = ", ".join(sorted(each for _, each in socket.if_nameindex() if each != "lo"))
            raise InterfaceError(f"interface {name}: there is none; this machine has {known or 'none but lo'}")
        link = netlink.get_links(found[0])[0]
        if link["ifi_type"] != ARPHRD_ETHER:
            raise InterfaceError(f"interface {name}: expected an Ethernet card, this one has no Ethernet header")
        master = link.get_attr("IFLA_MASTER")
        return Card(
            name=name,
            index=found[0],
            mtu=link.get_attr("IFLA_MTU"),
            up=bool(link["flags"] & IFF_UP),
            addresses=tuple(
                f"{message.get_attr('IFA_ADDRESS')}/{message['prefixlen']}"
                for message in netlink.get_addr(index=found[0])
            ),
            master=netlink.get_links(master)[0].get_attr("IFLA_IFNAME") if master else "",
            route=any(_leaves_by(route, found[0]) for route in netlink.get_default_routes()),
        )


def _leaves_by(route: Any, index: int) -> bool:
    """Whether a route, or one of its ways, leaves by an interface."""
    ways = route.get_attr("RTA_MULTIPATH") or []
    return route.get_attr("RTA_OIF") == index or any(way["oif"] == index for way in ways)


def refuse_needed(card: Card) -> None:
    """Raises InterfaceError if this machine seems to need the card itself."""
    if card.route:
        raise InterfaceError(
            f"interface {card.name}: this machine's default route leaves by it; expected a spare card, "
            "or ports.force = true"
        )
    if card.master:
        raise InterfaceError(
            f"interface {card.name}: it belongs to {card.master}; expected a spare card, or ports.force = true"
        )


class CardDrops:
    """What a card and our socket's queue have dropped since this was made; one of a socket, for asking it begins anew.

    statistics: a netlink socket of the card's namespace, closed by `close`.

    Not the kernel's `rx_dropped`: it counts, among others, each frame that no protocol of this machine wanted.
    """

    def __init__(self, port: socket.socket, statistics: socket.socket, index: int) -> None:
        self._port, self._statistics, self._index = port, statistics, index
        self._queue, self._before = 0, (0, 0)
        self._before = self._of_interface()

    @property
    def descriptor(self) -> int:
        """That of the netlink socket, for a process that is to ask in our place."""
        return self._statistics.fileno()

    def look(self) -> KernelDrops:
        self._queue += struct.unpack("II", self._port.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
        received, sent = self._of_interface()
        return KernelDrops(
            transmit=self._queue + max(0, received - self._before[0]), receive=max(0, sent - self._before[1])
        )

    def _of_interface(self) -> tuple[int, int]:
        """Packets so far that the card had no room to receive, and that were dropped before they were sent."""
        request = struct.pack("=BxxxII", socket.AF_UNSPEC, self._index, IFLA_STATS_LINK_64)
        header = struct.pack("=IHHII", 16 + len(request), RTM_GETSTATS, NLM_F_REQUEST, 0, 0)
        self._statistics.send(header + request)
        answer = self._statistics.recv(1 << 16)
        if struct.unpack_from("=H", answer, 4)[0] != RTM_NEWSTATS:  # it has gone
            return self._before
        counts = struct.unpack_from("=16Q", answer, 16 + 12 + 4)  # nlmsghdr, if_stats_msg, nlattr
        return counts[RX_FIFO_ERRORS] + counts[RX_MISSED_ERRORS], counts[TX_DROPPED]

    def close(self) -> None:
        self._statistics.close()


class NicPort:
    """A card in a network namespace. `descriptor` is non-blocking and carries virtio_net_hdr and Ethernet frames.

    Sets the card up, if it is down; `restore` undoes that. notes: what the person should know about it.
    Raises InterfaceError if there is no such card or this machine needs it (unless `force`), PrivilegeError.
    """

    kind = PACKET
    stamps, stamps_descriptor = NO_STAMPS, -1  # each frame brings its own

    def __init__(self, namespace: Namespace, name: str, *, queue_packets: int, force: bool = False) -> None:
        self.namespace, self.name = namespace, name
        self.card = look_at(namespace, name)
        self.mtu = self.card.mtu
        self.notes: list[str] = []
        if not force:
            refuse_needed(self.card)
        self._drops: CardDrops | None = None
        self._socket: socket.socket | None = None
        room = min(MOST_RECEIVE_BYTES, max(LEAST_RECEIVE_BYTES, queue_packets * RECEIVE_BYTES_PER_PACKET))
        try:
            namespace.run(lambda: self._open(room))
        except BaseException:
            self.close()
            raise

    def _open(self, room: int) -> None:
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # protocol 0: nothing before it is bound
        except PermissionError as error:
            raise PrivilegeError(f"interface {self.name}: network cards need root ({error.strerror})") from error
        port = self._socket
        port.setblocking(False)
        try:
            port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            port.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            port.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            port.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            for forced, plain, size in (
                (SO_RCVBUFFORCE, socket.SO_RCVBUF, room),
                (SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER_BYTES),
            ):
                try:
                    port.setsockopt(socket.SOL_SOCKET, forced, size)
                except PermissionError:  # root of a user namespace
                    port.setsockopt(socket.SOL_SOCKET, plain, size)
            membership = struct.pack("iHH8x", self.card.index, PACKET_MR_PROMISC, 0)
            port.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
            if not self.card.up:
                self.set_up(True)
            netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._drops = CardDrops(port, netlink, self.card.index)
            port.bind((self.name, ETH_P_ALL))
        except OSError as error:
            raise InterfaceError(f"interface {self.name}: cannot be taken inline: {error.strerror}") from error
        if self.card.addresses:
            self.notes.append(
                f"{self.name} has {', '.join(self.card.addresses)}: this machine answers there too; "
                f"`ip addr flush dev {self.name}` makes it a bare wire"
            )
        if self._merges_in_hardware():
            self.notes.append(f"{self.name}: large receive offload loses packets; `ethtool -K {self.name} lro off`")

    @property
    def descriptor(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    # link state

    def running(self) -> bool:
        """Whether the card is up and has carrier. Raises InterfaceError if it has gone."""
        return self._flags() & (IFF_UP | IFF_RUNNING) == IFF_UP | IFF_RUNNING

    def set_up(self, up: bool) -> None:
        """Sets the card up, or down: then who is wired to it sees the carrier go. Raises InterfaceError."""
        flags = self._flags()
        wanted = flags | IFF_UP if up else flags & ~IFF_UP
        self._ioctl(SIOCSIFFLAGS, wanted)

    def restore(self) -> None:
        """Puts the card back into the state in which it was found; nothing, if it has gone."""
        try:
            self.set_up(self.card.up)
        except InterfaceError:
            return

    def _flags(self) -> int:
        return int(struct.unpack_from("16xH", self._ioctl(SIOCGIFFLAGS, 0))[0])

    def _ioctl(self, request: int, flags: int) -> bytes:
        assert self._socket is not None
        try:
            return fcntl.ioctl(self._socket, request, struct.pack("16sH14x8x", self.name.encode(), flags))
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise InterfaceError(f"interface {self.name} has gone") from error
            raise InterfaceError(f"interface {self.name}: {error.strerror}") from error

    def _merges_in_hardware(self) -> bool:
        """Large receive offload keeps no lengths of what it merged: the kernel does not hand that to us."""
        import ctypes

        assert self._socket is not None
        answer = ctypes.create_string_buffer(struct.pack("II", ETHTOOL_GFLAGS, 0), 8)
        request = struct.pack("16sQ16x", self.name.encode(), ctypes.addressof(answer))
        try:
            fcntl.ioctl(self._socket, SIOCETHTOOL, request)
        except OSError:
            return False
        return bool(struct.unpack_from("4xI", answer)[0] & ETH_FLAG_LRO)

    # counters

    def kernel_drops(self) -> KernelDrops:
        """What the card and our socket's queue dropped since we opened it."""
        return KernelDrops(0, 0) if self._drops is None else self._drops.look()

    @property
    def statistics(self) -> int:
        """The descriptor by which another process asks for these drops in our place, of `CardDrops`."""
        return -1 if self._drops is None else self._drops.descriptor

    def close(self) -> None:
        """Gives the card back: no longer promiscuous, no longer read."""
        if self._drops is not None:
            self._drops.close()
            self._drops = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
