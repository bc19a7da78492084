"""What joins a running bench from outside: other namespaces, bridges and network cards, put on either side.

Everything hangs on a namespace that this process alone holds, so it goes with the process, however that ends.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import ipaddress
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from emulator.bench.riding import LARGEST_VLAN, ride_on
from emulator.errors import InterfaceError, PrivilegeError
from emulator.ports import wires
from emulator.ports.access import EVERYWHERE4, EVERYWHERE6, SATELLITE
from emulator.ports.namespace import Namespace
from emulator.ports.nic import ARPHRD_ETHER
from emulator.scenario.fields import of_hosts

if TYPE_CHECKING:
    from emulator.bench.bench import Bench

At = Literal["terminal", "datacenter"]
Kind = Literal["namespace", "bridge", "nic"]

RANGE4 = ipaddress.IPv4Network("198.18.64.0/18")  # RFC 2544, between the benches' own and the public addresses
RANGE6 = ipaddress.IPv6Network("2001:2:0:4000::/50")  # RFC 5180, the same
HUB_LINK4 = ipaddress.IPv4Network("198.18.63.0/24")  # between the machine's network and our hub beside it: /30s of it
LAN_PREFIX = 24
LARGEST_LAN_PREFIX = 30


@dataclass(frozen=True)
class Attachment:
    """One thing that is attached. `gateway`: the bench's address on that wire; `address`: the thing's own, or empty."""

    name: str
    at: At
    kind: Kind
    target: str
    network: str
    gateway: str
    address: str
    interface: str
    alive: bool = True


@dataclass
class _Held:
    shown: Attachment
    identity: tuple[int, int, str]
    place: Namespace  # where our end is
    near: str  # and its name
    undo: list[Callable[[], object]]


class Attachments:
    """All that is attached to one bench. Its methods may be called from any thread."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._held: dict[str, _Held] = {}
        self._hub: Namespace | None = None
        self._numbers = itertools.count()
        self._changing = threading.Lock()

    def attach(
        self,
        at: At,
        kind: Kind,
        where: str,
        target: str,
        *,
        device: str = "",
        network: str = "",
        interface: str = "",
        default_route: bool = False,
        vlan: int = 0,
    ) -> Attachment:
        """Puts something on one side.

        where: path of its network namespace, as /proc/1234/ns/net; device: there, the bridge or the card. target: as a
        person calls it. network: IPv4 of the new wire; default: a free /24. interface: what a namespace shall call its
        end of the wire. default_route: a namespace sends all that it has no route for.
        vlan: which VLAN of a card; 0 for none.
        Raises InterfaceError: gone, attached already, addresses overlapping or exhausted; PrivilegeError.
        """
        with self._changing, _opened(where, target) as place:
            status = os.fstat(place.descriptor)
            identity = status.st_dev, status.st_ino, f"{device}.{vlan}" if vlan else device
            if vlan and (kind != "nic" or not 1 <= vlan <= LARGEST_VLAN):
                raise InterfaceError(f"{target}: VLAN {vlan}: expected 1 to {LARGEST_VLAN}, of a network card")
            self._refuse(identity, target)
            side = self._side_of(at)
            undo: list[Callable[[], object]] = []
            lan4 = self._lan(network, side, place if kind == "namespace" else None)
            number = next(self._numbers)
            lan6 = _lan6(number) if self._six(at) else None
            near = f"at{number}"
            try:
                if kind == "namespace":
                    _, far = wires.cable(side, near, place, interface or "bp%d", mtu=self._bench.scenario.ports.mtu)
                    lan6 = lan6 if wires.carries_ipv6(place, far) else None
                elif kind == "bridge":
                    far = self._plug_into(side, near, place, device)
                else:
                    far = device
                    index = _index_of(place, device, "")
                    ride_on(side, near, place, index, device, vlan, self._bench.terminal.popen)
                undo.append(lambda: wires.delete_interface(side, near))
                self._connect(at, side, near, lan4, lan6, undo)
                if kind == "namespace":
                    self._equip(place, far, lan4, lan6, default_route)
            except BaseException:
                _undo(undo)
                raise
            shown = Attachment(
                name=near,
                at=at,
                kind=kind,
                target=target,
                network=str(lan4),
                gateway=str(lan4[1]),
                address=str(lan4[2]) if kind == "namespace" else "",
                interface=far,
            )
            self._held[near] = _Held(shown, identity, side, near, undo)
            return shown

    def detach(self, name: str) -> Attachment:
        """Takes it off, by its name or by its target. Raises InterfaceError if nothing is so called."""
        with self._changing:
            found = [held for held in self._held.values() if name in (held.shown.name, held.shown.target)]
            if not found:
                known = ", ".join(held.shown.target for held in self._held.values()) or "nothing"
                raise InterfaceError(f"{name}: expected something that is attached, which is: {known}")
            held = found[0]
            shown = self._show(held)
            _undo(held.undo)
            del self._held[held.near]
            return shown

    def listed(self) -> list[Attachment]:
        """What is attached; `alive` is false for what has gone away since."""
        with self._changing:
            return [self._show(held) for held in self._held.values()]

    def close(self) -> None:
        """Takes all of it off."""
        with self._changing:
            for held in self._held.values():
                _undo(held.undo)
            self._held.clear()
            if self._hub is not None:
                self._hub.close()
                self._hub = None

    def _show(self, held: _Held) -> Attachment:
        shown = held.shown
        return Attachment(**{**vars(shown), "alive": held.near in wires.interfaces(held.place)})

    def _refuse(self, identity: tuple[int, int, str], target: str) -> None:
        for held in self._held.values():
            if held.identity == identity and self._show(held).alive:
                raise InterfaceError(f"{target}: attached already, at the {held.shown.at}'s side as {held.near}")
        own = [side.namespace for side in (self._bench.terminal, self._bench.datacenter)]
        own += [self._bench.access.namespace] if self._bench.access is not None else []
        if not identity[2] and identity[1] in [namespace.inode for namespace in own]:
            raise InterfaceError(f"{target}: expected something outside the bench, got one of its sides")

    def _six(self, at: At) -> bool:
        """IPv6 is forwarded for a whole namespace or not at all: not in the machine's own."""
        side = self._bench.terminal if at == "terminal" else self._bench.datacenter
        return bool(side.ipv6) and self._bench.datacenter.own_namespace

    def _side_of(self, at: At) -> Namespace:
        """The namespace of ours that takes the wire: the side's own; beside the machine's network, a hub."""
        bench = self._bench
        side = bench.terminal if at == "terminal" else bench.datacenter
        if side.own_namespace:
            own = side.namespace
            wires.become_router(own, side.port.name)
            return own
        if self._hub is None:
            self._hub = self._make_hub()
        return self._hub

    def _make_hub(self) -> Namespace:
        """A router of ours beside the machine's own network, reached by a cable that goes when it goes."""
        bench, hub = self._bench, Namespace.create()
        try:
            machine = bench.datacenter.namespace
            taken = wires.networks_in(machine)
            free = (net for net in HUB_LINK4.subnets(new_prefix=30) if not any(_clash(net, other) for other in taken))
            link = next(free, None)
            if link is None:
                raise InterfaceError(f"{HUB_LINK4}: all its /30 are taken in the machine's own network")
            _, name = wires.cable(hub, "hub0", machine, "bph%d", mtu=bench.scenario.ports.mtu)
            wires.set_kernel(hub, {"ipv4.ip_forward": 1})
            wires.add_address(hub, "hub0", ipaddress.IPv4Interface(f"{link[2]}/30"))
            wires.add_address(machine, name, ipaddress.IPv4Interface(f"{link[1]}/30"))
            wires.add_route(hub, EVERYWHERE4, by="hub0", via=link[1])
            self._hub_address, self._hub_name = link[2], name
            for device in (name, link_interface(bench)):
                wires.forward(machine, device)
        except BaseException:
            hub.close()
            raise
        return hub

    def _lan(self, wanted: str, side: Namespace, place: Namespace | None) -> ipaddress.IPv4Network:
        """The new wire's network: the one that is wanted, or the first that is free everywhere."""
        bench = self._bench
        looked = {
            "at the terminal's side": bench.terminal.namespace,
            "at the datacenter's side": bench.datacenter.namespace,
        }
        looked |= {"at this side": side} | ({"of the target": place} if place is not None else {})
        taken = [
            (net, name, whose) for whose, space in looked.items() for net, name in wires.networks_in(space).items()
        ]
        held = [(ipaddress.ip_network(held.shown.network), held.near, "of the bench") for held in self._held.values()]
        if not wanted:
            whole = [f", by {net} of {name or 'a route'} {whose}" for net, name, whose in taken if _holds(net, RANGE4)]
            for candidate in RANGE4.subnets(new_prefix=LAN_PREFIX):
                if not any(_clash(candidate, net) for net, _, _ in [*taken, *held]):
                    return candidate
            raise InterfaceError(
                f"{RANGE4}: all its /{LAN_PREFIX} are taken{''.join(whole[:1])}; say which with --network"
            )
        try:
            network = of_hosts(ipaddress.IPv4Network(wanted))
            if network.prefixlen > LARGEST_LAN_PREFIX:
                raise ValueError
        except ValueError as error:
            raise InterfaceError(f"network {wanted}: expected an IPv4 network such as 10.1.2.0/24") from error
        for net, name, whose in [*taken, *held]:
            if _clash(network, net):
                raise InterfaceError(f"network {network}: overlaps {net} of {name or 'a route'} {whose}")
        return network

    def _plug_into(self, side: Namespace, near: str, place: Namespace, bridge: str) -> str:
        """A cable from our side into a bridge."""
        index = _index_of(place, bridge, "bridge")
        _, far = wires.cable(side, near, place, "bp%d", mtu=self._bench.scenario.ports.mtu)

        def plug(netlink: Any) -> None:
            netlink.link("set", index=netlink.link_lookup(ifname=far)[0], master=index)

        try:
            wires.with_netlink(place, f"bridge {bridge}", plug)
        except BaseException:
            wires.delete_interface(side, near)
            raise
        return far

    def _connect(
        self,
        at: At,
        side: Namespace,
        near: str,
        lan4: ipaddress.IPv4Network,
        lan6: ipaddress.IPv6Network | None,
        undo: list[Callable[[], object]],
    ) -> None:
        """Our end's addresses, and the routes by which the other side answers."""
        bench = self._bench
        lans: list[wires.Network] = [lan4, *([lan6] if lan6 is not None else [])]
        for lan in lans:
            wires.add_address(side, near, ipaddress.ip_interface(f"{lan[1]}/{lan.prefixlen}"))
            if at == "terminal":
                self._lead_back(lan, undo)
            elif side is self._hub:
                machine = bench.datacenter.namespace
                wires.add_route(machine, lan, by=self._hub_name, via=self._hub_address)
                undo.append(functools.partial(wires.remove_route, machine, lan))

    def _lead_back(self, lan: wires.Network, undo: list[Callable[[], object]]) -> None:
        """The way from the datacenter to a network at the terminal's side; behind a translation it needs none."""
        bench, far = self._bench, self._bench.datacenter.namespace

        def lead(space: Namespace, by: str, via: wires.Address | None) -> None:
            wires.add_route(space, lan, by=by, via=via)
            undo.append(lambda: wires.remove_route(space, lan))

        if bench.access is None:
            lead(far, bench.datacenter.port.name, None)
            return
        lead(bench.access.namespace, SATELLITE, None)
        plan = bench.access.plan
        router = plan.router4.ip if lan.version == 4 else plan.router6.ip if plan.router6 is not None else None
        if router is not None and (lan.version == 6 or not bench.access.access.nat44):
            lead(far, bench.access.datacenter_interface, router)

    def _equip(
        self,
        place: Namespace,
        far: str,
        lan4: ipaddress.IPv4Network,
        lan6: ipaddress.IPv6Network | None,
        default_route: bool,
    ) -> None:
        """Addresses and routes of an attached namespace: to the bench's networks, or everywhere."""
        ports, access = self._bench.scenario.ports, self._bench.scenario.access
        wires.add_address(place, far, ipaddress.IPv4Interface(f"{lan4[2]}/{lan4.prefixlen}"))
        to: list[wires.Network] = [EVERYWHERE4] if default_route else [ports.ipv4_network, RANGE4]
        if access is not None and not default_route:
            to.append(access.public_network)
        if lan6 is not None:
            wires.add_address(place, far, ipaddress.IPv6Interface(f"{lan6[2]}/{lan6.prefixlen}"))
            to += [EVERYWHERE6] if default_route else [ports.ipv6_network]
        for network in to:
            via = lan4[1] if network.version == 4 else lan6[1] if lan6 is not None else None
            wires.add_route(place, network, by=far, via=via, replace=False)


def link_interface(bench: Bench) -> str:
    """The datacenter's interface toward the link."""
    return bench.datacenter.port.name if bench.access is None else bench.access.datacenter_interface


def _lan6(number: int) -> ipaddress.IPv6Network:
    return ipaddress.IPv6Network((int(RANGE6.network_address) + (number << 64), 64))


def _clash(one: wires.Network, other: wires.Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _holds(one: wires.Network, other: wires.Network) -> bool:
    return one.version == other.version and one.supernet_of(other)  # type: ignore[arg-type]


def _index_of(place: Namespace, name: str, kind: str) -> int:
    """The index of an interface, of that kind; of a card, if none is asked for. Raises InterfaceError."""

    def look(netlink: Any) -> tuple[int, str, int] | None:
        for link in netlink.get_links():
            if link.get("ifname") == name:
                info = link.get("linkinfo")
                return link["index"], (info.get("kind") or "") if info is not None else "", link["ifi_type"]
        return None

    found = wires.with_netlink(place, f"interface {name}", look)
    if found is None:
        raise InterfaceError(f"{name}: expected an interface that exists, but there is none of this name")
    if kind and found[1] != kind:
        raise InterfaceError(f"{name}: expected a {kind}, got {found[1] or 'another interface'}")
    if found[2] != ARPHRD_ETHER:
        raise InterfaceError(f"{name}: expected a card of Ethernet's, got {found[1] or 'another kind'}")
    return found[0]


@contextlib.contextmanager
def _opened(path: str, target: str) -> Iterator[Namespace]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise PrivilegeError(f"{target}: its network belongs to somebody else: run the bench as root") from error
    except OSError as error:
        gone = error.errno in (errno.ENOENT, errno.ESRCH, errno.EINVAL)
        raise InterfaceError(f"{target}: {'it is gone' if gone else error.strerror}") from error
    with Namespace(descriptor) as place:
        yield place


def _undo(steps: list[Callable[[], object]]) -> None:
    """All of them, the last first; what is gone already needs none."""
    while steps:
        with contextlib.suppress(InterfaceError, PrivilegeError, OSError):
            steps.pop()()
