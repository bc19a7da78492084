"""Multicast through a router of the kernel's: some groups, from either of two interfaces to the other.

Static routes of the kernel's own multicast forwarding; they last as long as the socket that asked for them.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable

from emulator.errors import InterfaceError
from emulator.ports.namespace import Namespace

MRT_INIT, MRT_ADD_VIF, MRT_ADD_MFC_PROXY = 200, 202, 210  # linux/mroute.h
VIFF_USE_IFINDEX = 8
UPSTREAM, DOWNSTREAM = 0, 1  # numbers of the two interfaces
LEAST_TTL, NEVER = 1, 255
LARGEST_VIFS = 32
ANYBODY = ipaddress.IPv4Address("0.0.0.0")


class MulticastRoutes:
    """`groups` cross between the interfaces `upstream` and `downstream` of a namespace, until `close`.

    Raises InterfaceError where the kernel does not route multicast.
    """

    def __init__(
        self, namespace: Namespace, upstream: str, downstream: str, groups: Iterable[ipaddress.IPv4Address]
    ) -> None:
        self._socket: socket.socket | None = None
        try:
            namespace.run(lambda: self._open(upstream, downstream, list(groups)))
        except OSError as error:
            self.close()
            raise InterfaceError(f"access.multicast_groups: routing multicast: {error.strerror}") from error

    def _open(self, upstream: str, downstream: str, groups: list[ipaddress.IPv4Address]) -> None:
        asking = self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
        asking.setsockopt(socket.IPPROTO_IP, MRT_INIT, 1)
        for number, name in ((UPSTREAM, upstream), (DOWNSTREAM, downstream)):
            index = socket.if_nametoindex(name)
            vif = struct.pack("HBBIi4s", number, VIFF_USE_IFINDEX, LEAST_TTL, 0, index, ANYBODY.packed)
            asking.setsockopt(socket.IPPROTO_IP, MRT_ADD_VIF, vif)
        asking.setsockopt(
            socket.IPPROTO_IP, MRT_ADD_MFC_PROXY, _route(ANYBODY)
        )  # what comes from downstream is welcome
        for group in groups:
            asking.setsockopt(socket.IPPROTO_IP, MRT_ADD_MFC_PROXY, _route(group))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _route(group: ipaddress.IPv4Address) -> bytes:
    """struct mfcctl: from whomever, to this group, out of either interface by which it did not come."""
    ttls = bytearray([NEVER] * LARGEST_VIFS)
    ttls[UPSTREAM] = ttls[DOWNSTREAM] = LEAST_TTL
    return struct.pack("4s4sH32s2xIIIi", ANYBODY.packed, group.packed, UPSTREAM, bytes(ttls), 0, 0, 0, 0)
