"""Virtual cables, addresses and routes of the kernel's, between and inside namespaces.

Every function does its work in the namespace that it is given. Both ends of a cable go when either goes, and with the
namespace of either.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from emulator.errors import InterfaceError, PrivilegeError
from emulator.ports.namespace import Namespace
from emulator.ports.tun import IFA_F_NODAD, Interface

Result = TypeVar("Result")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

IFF_MULTICAST = 0x1000  # linux/if.h
MTU_LOCKED = 1 << 2  # linux/rtnetlink.h: RTAX_LOCK with the bit of RTAX_MTU
HOST_SCOPE = 254  # linux/rtnetlink.h
MAIN_TABLE = 254  # linux/rtnetlink.h
PERMISSION_CODES = (1, 13)  # EPERM, EACCES


def with_netlink(namespace: Namespace, attempt: str, work: Callable[[Any], Result]) -> Result:
    """Does `work` with a netlink socket of the namespace. Raises InterfaceError or PrivilegeError, with the attempt."""

    def inside() -> Result:
        from pyroute2 import IPRoute, NetlinkError

        with IPRoute() as netlink:
            try:
                return work(netlink)
            except NetlinkError as error:
                kind = PrivilegeError if error.code in PERMISSION_CODES else InterfaceError
                raise kind(f"{attempt}: {error.args[-1]}") from error

    return namespace.run(inside)


def cable(near: Namespace, near_name: str, far: Namespace, far_name: str, *, mtu: int) -> tuple[str, str]:
    """A veth pair, up at both ends; the names that its ends got (`%d` in a name is the first free number).

    Raises InterfaceError if a name is taken.
    """

    def make(netlink: Any) -> tuple[str, int]:
        peer = {"ifname": far_name, "net_ns_fd": far.descriptor, "mtu": mtu}
        before = {link["index"] for link in netlink.get_links()}
        netlink.link("add", ifname=near_name, kind="veth", mtu=mtu, peer=peer)
        made = next(link for link in netlink.get_links() if link["index"] not in before)
        name = made.get("ifname")
        quieten(name)
        netlink.link("set", index=made["index"], state="up")
        return name, made.get("link")  # IFLA_LINK of a veth is its peer

    def finish(netlink: Any) -> str:
        name: str = netlink.get_links(index)[0].get("ifname")
        quieten(name)
        netlink.link("set", index=index, state="up")
        return name

    name, index = with_netlink(near, f"interfaces {near_name} and {far_name}", make)
    far_name = with_netlink(far, f"interface {far_name}", finish)
    ends = (near, name, "fe80::1/64"), (far, far_name, "fe80::2/64")
    if all(carries_ipv6(space, own) for space, own, _ in ends):
        for space, own, address in ends:  # who forwards IPv6 asks for its neighbours from a link-local address
            add_address(space, own, ipaddress.IPv6Interface(address))
    return name, far_name


def carries_ipv6(namespace: Namespace, name: str = "default") -> bool:
    """Whether IPv6 is on at an interface of the namespace; by default, at one that is yet to come.

    It is off where the kernel has none, the MTU is too small for it, or somebody has switched it off: an administrator
    for the machine, an engine in its containers.
    """
    setting = Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
    return namespace.run(lambda: setting.exists() and setting.read_text().strip() == "0")


def quieten(name: str) -> None:
    """No IPv6 traffic of the device's own, in the namespace that this thread is in, and no filter of return paths."""
    six = {"accept_ra": 0, "addr_gen_mode": 1, "router_solicitations": 0, "dad_transmits": 0}
    for family, values in (("ipv4", {"rp_filter": 0}), ("ipv6", six)):
        for key, value in values.items():
            path = Path(f"/proc/sys/net/{family}/conf/{name}/{key}")
            if path.exists():  # no IPv6 here: nothing to quieten
                path.write_text(str(value))


def forward(namespace: Namespace, name: str) -> None:
    """What comes in at this interface may leave by another; no other interface is touched."""

    def switch() -> None:
        for family in ("ipv4", "ipv6"):
            path = Path(f"/proc/sys/net/{family}/conf/{name}/forwarding")
            if path.exists():
                path.write_text("1")

    namespace.run(switch)


def become_router(namespace: Namespace, silent: str) -> None:
    """The namespace forwards. `silent`: an interface, a link's end, that shall report no new groups if it is there.

    IPv6's routers join a group at each interface that does multicast, and say so. Raises InterfaceError.
    """

    def flag(value: int) -> Callable[[Any], None]:
        def change(netlink: Any) -> None:
            for index in netlink.link_lookup(ifname=silent):
                netlink.link("set", index=index, flags=value, change=IFF_MULTICAST)

        return change

    with_netlink(namespace, f"interface {silent}", flag(0))
    set_kernel(namespace, {"ipv4.ip_forward": 1, "ipv6.conf.all.forwarding": 1})
    with_netlink(namespace, f"interface {silent}", flag(IFF_MULTICAST))


def set_kernel(namespace: Namespace, values: Mapping[str, int | str]) -> None:
    """Sets keys of /proc/sys/net in the namespace; keys with dots. Those that this kernel has not are left out."""

    def write() -> None:
        for key, value in values.items():
            path = Path("/proc/sys/net", *key.split("."))
            if path.exists():
                path.write_text(str(value))

    namespace.run(write)


def add_address(namespace: Namespace, name: str, address: Interface) -> None:
    """Gives an interface an address, usable at once. Raises InterfaceError."""

    def add(netlink: Any) -> None:
        flags = {"flags": IFA_F_NODAD} if address.version == 6 else {}
        index = netlink.link_lookup(ifname=name)[0]
        netlink.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen, **flags)

    with_netlink(namespace, f"interface {name}: address {address}", add)


def remove_address(namespace: Namespace, name: str, address: Interface) -> None:
    """Takes it away; its connections live on without it. Raises InterfaceError."""

    def remove(netlink: Any) -> None:
        index = netlink.link_lookup(ifname=name)[0]
        netlink.addr("del", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)

    with_netlink(namespace, f"interface {name}: address {address}", remove)


def add_route(
    namespace: Namespace,
    to: Network,
    *,
    by: str = "",
    via: Address | None = None,
    mtu: int = 0,
    metric: int = 0,
    table: int = MAIN_TABLE,
    window_packets: int = 0,
    source: Address | None = None,
    replace: bool = True,
) -> None:
    """A route; neither `by` nor `via`: a black hole. `mtu` binds whoever forwards, too.

    source: which address connections take that begin here. replace: an equal one goes, else it is an error.
    window_packets: what TCP sends before its first acknowledgement.
    Raises InterfaceError.
    """

    def add(netlink: Any) -> None:
        wanted: dict[str, Any] = {"dst": str(to), "table": table, "family": 2 if to.version == 4 else 10}
        if metric:
            wanted["priority"] = metric
        if via is not None:
            wanted["gateway"] = str(via)
        if by:
            wanted["oif"] = netlink.link_lookup(ifname=by)[0]
        if source is not None:
            wanted["prefsrc"] = str(source)
        if not by and via is None:
            wanted["type"] = "blackhole"
        metrics = {"lock": MTU_LOCKED, "mtu": mtu} if mtu else {}
        if window_packets:
            metrics |= {"initcwnd": window_packets, "initrwnd": window_packets}
        if metrics:
            wanted["metrics"] = metrics
        netlink.route("replace" if replace else "add", **wanted)

    with_netlink(namespace, f"route to {to}", add)


def add_local_route(namespace: Namespace, to: Network, *, table: int) -> None:
    """Packets to any of these addresses are for this namespace itself. Raises InterfaceError."""

    def add(netlink: Any) -> None:
        index = netlink.link_lookup(ifname="lo")[0]
        family = 2 if to.version == 4 else 10
        netlink.route("add", dst=str(to), type="local", scope=HOST_SCOPE, oif=index, table=table, family=family)

    with_netlink(namespace, f"local route to {to}", add)


def lead_marked(namespace: Namespace, mark: int, table: int, *, family: int) -> None:
    """What carries the mark takes its routes from a table of its own. Raises InterfaceError."""
    with_netlink(
        namespace,
        f"rule for mark {mark:#x}",
        lambda netlink: netlink.rule("add", fwmark=mark, table=table, priority=table, family=family),
    )


def lead_from(namespace: Namespace, source: Address, table: int) -> None:
    """What has this source takes its routes from a table of its own. Raises InterfaceError."""
    wanted = {"src": str(source), "table": table, "priority": table, "family": 2 if source.version == 4 else 10}
    wanted["src_len"] = source.max_prefixlen
    with_netlink(namespace, f"rule for {source}", lambda netlink: netlink.rule("add", **wanted))


def remove_route(namespace: Namespace, to: Network, *, metric: int = 0, table: int = MAIN_TABLE) -> None:
    """Takes a route away. Raises InterfaceError if there is none."""

    def remove(netlink: Any) -> None:
        more = {"priority": metric} if metric else {}
        netlink.route("del", dst=str(to), table=table, family=2 if to.version == 4 else 10, **more)

    with_netlink(namespace, f"route to {to}", remove)


def remove_routes_of(namespace: Namespace, protocol: int) -> int:
    """Takes away what a routing daemon (by its number: linux/rtnetlink.h, RTPROT_…) has put in; returns how many.

    Raises InterfaceError.
    """

    def remove(netlink: Any) -> int:
        found = [route for route in netlink.get_routes() if route["proto"] == protocol]
        for route in found:
            netlink.route("del", **route)
        return len(found)

    return with_netlink(namespace, f"routes of protocol {protocol}", remove)


def delete_interface(namespace: Namespace, name: str) -> bool:
    """Deletes it, and whatever hangs on it; False if it was gone already."""

    def delete(netlink: Any) -> bool:
        found = netlink.link_lookup(ifname=name)
        if not found:
            return False
        netlink.link("del", index=found[0])
        return True

    return with_netlink(namespace, f"interface {name}", delete)


def interfaces(namespace: Namespace) -> set[str]:
    """Names of what is there."""
    return with_netlink(namespace, "interfaces", lambda netlink: {link.get("ifname") for link in netlink.get_links()})


def networks_in(namespace: Namespace) -> dict[Network, str]:
    """What the namespace reaches, but for default routes: network → the interface. Addresses and routes of its own."""

    def look(netlink: Any) -> dict[Network, str]:
        names = {link["index"]: link.get("ifname") for link in netlink.get_links()}
        found: dict[Network, str] = {}
        for message in netlink.get_addr():
            address = ipaddress.ip_interface(f"{message.get('address')}/{message['prefixlen']}")
            found[address.network] = names.get(message["index"], "")
        for message in netlink.get_routes(table=MAIN_TABLE):
            if (to := message.get("dst")) and message["dst_len"]:
                network = ipaddress.ip_network(f"{to}/{message['dst_len']}", strict=False)
                found.setdefault(network, names.get(message.get("oif"), ""))
        return found

    return with_netlink(namespace, "addresses and routes", look)


def require_free(namespace: Namespace, wanted: Iterable[Network], whose: str, key: str) -> None:
    """Raises InterfaceError if one of `wanted` overlaps what the namespace reaches already."""
    known = networks_in(namespace)
    for network in wanted:
        for other, name in known.items():
            if other.version == network.version and other.overlaps(network) and not other.is_loopback:
                raise InterfaceError(f"{key}: {network} overlaps {other} of {name or 'a route'} {whose}")
