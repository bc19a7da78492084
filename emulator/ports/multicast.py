"""Multicast through a router of the kernel's: some groups, from either of two interfaces to the other.

Static routes of the kernel's own multicast forwarding; they last as long as the sockets that asked for them.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable, Sequence

from emulator.errors import InterfaceError
from emulator.ports.namespace import Namespace

INIT, ADD_INTERFACE, ADD_ROUTE = 200, 202, 210  # linux/mroute.h, linux/mroute6.h: MRT_INIT, MRT6_INIT, … alike
VIFF_USE_IFINDEX = 8
UPSTREAM, DOWNSTREAM = 0, 1  # numbers of the two interfaces
LEAST_TTL, NEVER = 1, 255
LARGEST_VIFS = 32

Group = ipaddress.IPv4Address | ipaddress.IPv6Address


class MulticastRoutes:
    """`groups` cross between the interfaces `upstream` and `downstream` of a namespace, until `close`.

    Raises InterfaceError where the kernel does not route multicast.
    """

    def __init__(self, namespace: Namespace, upstream: str, downstream: str, groups: Sequence[Group]) -> None:
        self._sockets: list[socket.socket] = []
        try:
            for version, open_routes in ((4, self._open4), (6, self._open6)):
                if wanted := [group.packed for group in groups if group.version == version]:
                    namespace.run(lambda: open_routes(upstream, downstream, wanted))  # noqa: B023 (run at once)
        except OSError as error:
            self.close()
            raise InterfaceError(f"access.multicast_groups: routing multicast: {error.strerror}") from error

    def _open4(self, upstream: str, downstream: str, groups: Sequence[bytes]) -> None:
        ask = self._asking(socket.AF_INET, socket.IPPROTO_IGMP, socket.IPPROTO_IP)
        for number, name in ((UPSTREAM, upstream), (DOWNSTREAM, downstream)):
            index = socket.if_nametoindex(name)
            ask(ADD_INTERFACE, struct.pack("HBBIi4x", number, VIFF_USE_IFINDEX, LEAST_TTL, 0, index))
        ttls = bytearray([NEVER] * LARGEST_VIFS)
        ttls[UPSTREAM] = ttls[DOWNSTREAM] = LEAST_TTL
        for group in (bytes(4), *groups):  # the first route: what comes from downstream is welcome
            # struct mfcctl: from whomever, to this group, out of either interface by which it did not come
            ask(ADD_ROUTE, struct.pack("4x4sH32s2x16x", group, UPSTREAM, bytes(ttls)))

    def _open6(self, upstream: str, downstream: str, groups: Sequence[bytes]) -> None:
        ask = self._asking(socket.AF_INET6, socket.IPPROTO_ICMPV6, socket.IPPROTO_IPV6)
        for number, name in ((UPSTREAM, upstream), (DOWNSTREAM, downstream)):
            ask(ADD_INTERFACE, struct.pack("HBBH2xI", number, 0, LEAST_TTL, socket.if_nametoindex(name), 0))
        out_of = 1 << UPSTREAM | 1 << DOWNSTREAM
        for group in (bytes(16), *groups):
            # struct mf6cctl: two struct sockaddr_in6, the parent, a set of interfaces
            origin, target = (struct.pack("H6x16s4x", socket.AF_INET6, address) for address in (bytes(16), group))
            ask(ADD_ROUTE, struct.pack("28s28sH2xI28x", origin, target, UPSTREAM, out_of))

    def _asking(self, family: int, protocol: int, level: int) -> Callable[[int, bytes], None]:
        """Asks the kernel for one thing after another, having asked it to route this family's multicast."""
        asking = socket.socket(family, socket.SOCK_RAW, protocol)
        self._sockets.append(asking)
        asking.setsockopt(level, INIT, 1)
        return lambda option, value: asking.setsockopt(level, option, value)

    def close(self) -> None:
        while self._sockets:
            self._sockets.pop().close()
