"""The access network: what the operator does to packets between the gateway and the rest of the world.

A namespace of its own between link and datacenter, a router of the kernel's: its nftables translate addresses, its
ICMP tells what does not fit. Read it as: the addresses (`AccessPlan`), the rules (`ruleset`), the router itself.
"""

from __future__ import annotations

import contextlib
import ipaddress
import threading
from dataclasses import dataclass
from typing import Any

from emulator.errors import InterfaceError
from emulator.ports import wires
from emulator.ports.delegation import Delegation, DelegationServer
from emulator.ports.multicast import MulticastRoutes
from emulator.ports.namespace import Namespace
from emulator.ports.nft import apply_rules, read_counters
from emulator.ports.tun import TunPort
from emulator.scenario.access import POOL, PREFIXES, Access
from emulator.scenario.model import Ports, Scenario

SATELLITE, WORLD = "sat0", "net0"  # the router's interfaces: toward the link, toward the datacenter
PEP_MARK = 0x5045  # on what a proxy of ours has sent
DELEGATED_BITS, LAN_BITS = 56, 64
EVERYWHERE4, EVERYWHERE6 = ipaddress.IPv4Network("0.0.0.0/0"), ipaddress.IPv6Network("::/0")
ROUTER_ON_LINK, TERMINAL_ON_LINK = (ipaddress.IPv6Interface(f"fe80::{end}/64") for end in (1, 2))  # for DHCPv6 alone
COUNTERS = ("inbound_refused", "mappings_full", "port_blocked", "stray_dropped", "too_large_hidden")


def access_of(scenario: Scenario) -> Access | None:
    """The scenario's access network; a plain router where only its proxy needs a place to stand."""
    if scenario.access is None and scenario.pep is not None:
        return Access(nat44=False, inbound=True)
    return scenario.access


@dataclass(frozen=True)
class AccessPlan:
    """The addresses around one router. `public`: a /28; `delegated`: PREFIXES × /56, None without IPv6."""

    gateway4: ipaddress.IPv4Interface
    terminal4: ipaddress.IPv4Interface
    router4: ipaddress.IPv4Interface
    datacenter4: ipaddress.IPv4Interface
    public: ipaddress.IPv4Network
    router6: ipaddress.IPv6Interface | None
    datacenter6: ipaddress.IPv6Interface | None
    delegated: ipaddress.IPv6Network | None

    def public4(self, number: int) -> ipaddress.IPv4Address:
        """The public address at the `number`-th point of presence."""
        return self.public[number % POOL]

    def prefix6(self, number: int) -> ipaddress.IPv6Network | None:
        """The delegated prefix there."""
        if self.delegated is None:
            return None
        base = int(self.delegated.network_address) + (number % PREFIXES << 128 - DELEGATED_BITS)
        return ipaddress.IPv6Network((base, DELEGATED_BITS))

    def terminal6(self, number: int) -> ipaddress.IPv6Interface | None:
        """The terminal's own address in it: ::1 of the first /64."""
        prefix = self.prefix6(number)
        return None if prefix is None else ipaddress.IPv6Interface((int(prefix.network_address) + 1, LAN_BITS))


def plan_access(access: Access, ports: Ports, number: int, *, ipv6: bool) -> AccessPlan:
    """The addresses of bench `number`. Raises InterfaceError if the networks are too small for so many, or overlap."""
    base4 = int(ports.ipv4_network.network_address) + 4 * number
    base6 = int(ports.ipv6_network.network_address) + (number << 64)
    pool = int(access.public_network.network_address) + POOL * number
    prefixes = int(access.delegated_network.network_address) + (number * PREFIXES << 128 - DELEGATED_BITS)
    try:
        link = ipaddress.IPv4Network((base4, 30))
        public = ipaddress.IPv4Network((pool, 28))
        delegated = ipaddress.IPv6Network((prefixes, 53)) if ipv6 else None
        fits = link.subnet_of(ports.ipv4_network) and public.subnet_of(access.public_network)
        fits &= delegated is None or delegated.subnet_of(access.delegated_network)
        if not fits:
            raise ValueError
    except ValueError as error:
        raise InterfaceError(
            f"access.public_network {access.public_network}, access.delegated_network {access.delegated_network}: "
            f"expected room for a /28 and eight /56 number {number}"
        ) from error
    inside = access.terminal_network
    for key, network, others in (("terminal_network", inside, (link, public)), ("public_network", public, (link,))):
        for other in others if access.nat44 or network != inside else ():
            if network.overlaps(other):
                raise InterfaceError(f"access.{key}: {network} overlaps {other}, which the bench uses too")
    return AccessPlan(
        gateway4=ipaddress.IPv4Interface(f"{inside[1]}/{inside.prefixlen}"),
        terminal4=ipaddress.IPv4Interface(f"{inside[2]}/{inside.prefixlen}" if access.nat44 else f"{public[0]}/32"),
        router4=ipaddress.IPv4Interface(f"{link[2]}/30"),
        datacenter4=ipaddress.IPv4Interface(f"{link[1]}/30"),
        public=public,
        router6=ipaddress.IPv6Interface((base6 + 2, 64)) if ipv6 else None,
        datacenter6=ipaddress.IPv6Interface((base6 + 1, 64)) if ipv6 else None,
        delegated=delegated,
    )


def ruleset(access: Access, public: ipaddress.IPv4Network) -> str:
    """The router's rules, all but the address that it translates to (`translation`). `public`: the bench's pool."""
    chains: dict[str, tuple[str, list[str]]] = {
        "entry": ("prerouting priority -160", []),  # before the proxy takes connections, at -150
        "mangle": ("forward priority mangle", []),
        "forward": ("forward priority filter", []),
        "input": ("input priority filter", []),
        "output": ("output priority filter", []),
        "full": ("postrouting priority 90", []),  # before translation, at 100
    }

    def rule(chain: str, text: str) -> None:
        chains[chain][1].append(text)

    from_link, from_world = f'iifname "{SATELLITE}"', f'iifname "{WORLD}"'
    if access.blocked_ports:
        ports = ", ".join(access.blocked_ports)
        named = f"meta l4proto {{ tcp, udp }} th dport {{ {ports} }}"
        rule("entry", f"{from_link} {named} counter name port_blocked drop")
    if access.mss_clamp:
        rule("mangle", "tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu")
    if access.dscp == "bleach":
        rule("mangle", "ip dscp set cs0")
        rule("mangle", "ip6 dscp set cs0")
    if tracks(access):
        if access.strays == "drop":
            rule("forward", f"{from_link} ct state invalid counter name stray_dropped drop")
        rule("forward", "ct state established,related accept")
        if access.multicast_groups:
            for version, family in ((4, "ip"), (6, "ip6")):
                if groups := [str(group) for group in access.multicast_groups if group.version == version]:
                    rule("forward", f"{family} daddr {{ {', '.join(groups)} }} accept")
        if not access.inbound:
            rule("forward", f"{from_world} counter name inbound_refused drop")
        if access.nat44:  # what has no mapping goes to the router itself, which keeps silent
            rule("input", f"{from_world} ip daddr {public} ct state new counter name inbound_refused drop")
        if access.max_mappings:
            limit = f"ct state new ct count over {access.max_mappings}"
            rule("full", f'oifname "{WORLD}" {limit} counter name mappings_full drop')
    if access.dhcpv6_lifetime_s:  # the kernel would tell the link which group we have joined there
        rule("output", f'oifname "{SATELLITE}" icmpv6 type mld2-listener-report drop')
    if access.path_mtu == "black_hole":
        rule("output", "icmp type destination-unreachable icmp code frag-needed counter name too_large_hidden drop")
        rule("output", "icmpv6 type packet-too-big counter name too_large_hidden drop")
    lines = [f"counter {name} {{}}" for name in COUNTERS]
    for name, (hook, rules) in chains.items():
        if rules:
            lines += [f"chain {name} {{", f"type filter hook {hook}; policy accept;", *rules, "}"]
    if access.nat44:
        lines += ["chain translate {", "type nat hook postrouting priority srcnat; policy accept;", "}"]
    return "\n".join(["table inet access {", *lines, "}", ""])


def tracks(access: Access) -> bool:
    """Whether the router remembers connections at all."""
    return access.nat44 or not access.inbound


def translation(public: ipaddress.IPv4Address) -> str:
    """The rules that translate to `public` what comes from the link, or from a proxy at the router."""
    inside = f'oifname "{WORLD}" meta nfproto ipv4'
    return "\n".join(
        [
            "flush chain inet access translate",
            f'add rule inet access translate {inside} iifname "{SATELLITE}" snat ip to {public}',
            f"add rule inet access translate {inside} meta mark {PEP_MARK} snat ip to {public}",
            "",
        ]
    )


@dataclass(frozen=True)
class AccessState:
    """A snapshot: which point of presence it is (a count), its addresses, and what the router has refused.

    `refused`: by the rules' counters, and "table_full": no room in the kernel's table of connections, or no port left.
    """

    point_of_presence: int
    public_ipv4: str
    prefix_ipv6: str
    mappings: int
    refused: dict[str, int]


class AccessNetwork:
    """The router, in the namespace of `device`, the link's far end; it reaches the datacenter by a cable.

    terminal: the terminal's device, whose addresses the operator gives and changes. datacenter: the far namespace;
    `datacenter_name`: how its interface shall be called. window_packets: what a proxy at the router sends toward the
    terminal before it hears from there; 0 for the kernel's own. default_route: whether the terminal sends everything
    this way. Everything goes with the namespace of the router;
    `close` is for the datacenter's side where that is the machine's own network. Raises InterfaceError,
    ToolMissingError.
    """

    def __init__(
        self,
        access: Access,
        plan: AccessPlan,
        device: TunPort,
        terminal: TunPort,
        datacenter: Namespace,
        datacenter_name: str,
        ports: Ports,
        window_packets: int = 0,
        default_route: bool = True,
    ) -> None:
        self.access, self.plan, self.namespace, self.terminal = access, plan, device.namespace, terminal
        self._mtu = min(access.mtu or ports.mtu, ports.mtu)
        self._toward: Any = {"by": SATELLITE, "mtu": self._mtu, "window_packets": window_packets}
        self._number, self._default = 0, default_route
        self._multicast: MulticastRoutes | None = None
        self._delegation: DelegationServer | None = None
        self._changing = threading.Lock()
        wanted: list[wires.Network] = [plan.public]
        if plan.delegated is not None:
            wanted.append(plan.delegated)
        wires.require_free(datacenter, wanted, "at the datacenter's side", "access.public_network")
        _, self.datacenter_interface = wires.cable(self.namespace, WORLD, datacenter, datacenter_name, mtu=ports.mtu)
        self._datacenter = datacenter
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise

    def _set_up(self) -> None:
        access, plan, own = self.access, self.plan, self.namespace
        wires.become_router(own, SATELLITE)
        wires.set_kernel(
            own,
            {
                "netfilter.nf_conntrack_tcp_timeout_established": access.tcp_timeout_s,
                "netfilter.nf_conntrack_udp_timeout": access.udp_timeout_s,
                "netfilter.nf_conntrack_udp_timeout_stream": access.udp_timeout_s,
                "netfilter.nf_conntrack_icmp_timeout": access.icmp_timeout_s,
                "netfilter.nf_conntrack_icmpv6_timeout": access.icmp_timeout_s,
                "netfilter.nf_conntrack_tcp_loose": int(access.strays == "translate"),
            },
        )
        apply_rules(own, ruleset(access, plan.public))
        far = self._datacenter
        wires.add_address(own, WORLD, plan.router4)
        wires.add_address(far, self.datacenter_interface, plan.datacenter4)
        wires.add_route(far, plan.public, by=self.datacenter_interface, via=plan.router4.ip)
        wires.add_route(own, ipaddress.IPv4Network(plan.datacenter4.ip), by=WORLD, mtu=self._mtu)
        wires.add_route(own, EVERYWHERE4, by=WORLD, via=plan.datacenter4.ip, mtu=self._mtu)
        wires.add_route(own, plan.public)  # a black hole: an address that nobody has is not sent back
        if access.nat44:
            wires.add_address(own, SATELLITE, plan.gateway4)
            wires.add_route(own, plan.gateway4.network, **self._toward)
            self.terminal.add_address(plan.terminal4, default_route=self._default)
        if plan.router6 is not None and plan.datacenter6 is not None and plan.delegated is not None:
            wires.add_address(own, WORLD, plan.router6)
            wires.add_address(far, self.datacenter_interface, plan.datacenter6)
            wires.add_route(far, plan.delegated, by=self.datacenter_interface, via=plan.router6.ip)
            wires.add_route(own, ipaddress.IPv6Network(plan.datacenter6.ip), by=WORLD, mtu=self._mtu)
            wires.add_route(own, EVERYWHERE6, by=WORLD, via=plan.datacenter6.ip, mtu=self._mtu)
            wires.add_route(own, plan.delegated)
        self._take_addresses(0, first=True)
        if access.multicast_groups:
            self._multicast = MulticastRoutes(own, WORLD, SATELLITE, access.multicast_groups)
        if access.dhcpv6_lifetime_s and plan.delegated is not None:
            wires.add_address(own, SATELLITE, ROUTER_ON_LINK)
            self.terminal.add_address(TERMINAL_ON_LINK)
            delegation = Delegation(lambda: plan.prefix6(self._number), access.dhcpv6_lifetime_s)
            self._delegation = DelegationServer(own, SATELLITE, delegation)

    @property
    def public_ipv4(self) -> str:
        """By which the world knows the terminal now."""
        return str(self.plan.public4(self._number))

    @property
    def terminal_ipv6(self) -> str:
        own = self.plan.terminal6(self._number)
        return str(own.ip) if own else ""

    def change_point_of_presence(self) -> AccessState:
        """The terminal comes out elsewhere: another public address and prefix, and every mapping is forgotten."""
        with self._changing:
            self._take_addresses(self._number + 1, first=False)
            if tracks(self.access):
                self.namespace.run(_forget_mappings)
        return self.state()

    def _take_addresses(self, number: int, *, first: bool) -> None:
        """The operator's addresses of the `number`-th point of presence, in place of those before."""
        own, plan, before = self.namespace, self.plan, self._number
        public = ipaddress.IPv4Interface(plan.public4(number))
        old_public = ipaddress.IPv4Interface(plan.public4(before))
        if self.access.nat44:
            wires.add_address(own, "lo", public)
            apply_rules(own, translation(public.ip))
            if not first:
                wires.remove_address(own, "lo", old_public)
        else:
            wires.add_route(own, public.network, **self._toward)
            self.terminal.add_address(public, default_route=first and self._default)
            if not first:
                wires.remove_route(own, old_public.network)
                wires.remove_address(self.terminal.namespace, self.terminal.name, old_public)
        prefix, address = plan.prefix6(number), plan.terminal6(number)
        if prefix is not None and address is not None:
            wires.add_route(own, prefix, **self._toward)
            self.terminal.add_address(address, default_route=first and self._default)
            old_prefix, old_address = plan.prefix6(before), plan.terminal6(before)
            if not first and old_prefix is not None and old_address is not None:
                wires.remove_route(own, old_prefix)
                wires.remove_address(self.terminal.namespace, self.terminal.name, old_address)
        self._number = number

    def state(self) -> AccessState:
        """A snapshot; asks the kernel."""
        refused = read_counters(self.namespace)
        prefix = self.plan.prefix6(self._number)
        mappings, refused["table_full"] = self.namespace.run(_mappings) if tracks(self.access) else (0, 0)
        return AccessState(self._number, self.public_ipv4, str(prefix or ""), mappings, refused)

    def close(self) -> None:
        """Takes the cable, and with it the datacenter's addresses and routes, away."""
        for service in (self._multicast, self._delegation):
            if service is not None:
                service.close()
        with contextlib.suppress(InterfaceError, OSError):
            wires.delete_interface(self.namespace, WORLD)


def _mappings() -> tuple[int, int]:
    """How many connections this namespace knows, and how many packets it dropped because it could learn no more."""
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

    with NFCTSocket() as conntrack:
        (count,), cores = conntrack.count(), conntrack.stat()
        return count.get_attr("CTA_STATS_GLOBAL_ENTRIES"), sum(core.get_attr("CTA_STATS_DROP") for core in cores)


def _forget_mappings() -> None:
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

    with NFCTSocket() as conntrack:
        conntrack.flush()
