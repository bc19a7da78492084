"""What stands between the link and the datacenter, and beside the link: access network, PEP, further paths."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import Field, model_validator

from emulator.scenario.fields import Address, IPv4Hosts, IPv6Hosts, PortRange, Table, ports_in_order

Timeout = Annotated[int, Field(ge=1, le=1_000_000)]

LARGEST_CARRIER_PREFIX = 30  # of the terminal's network: the gateway and the terminal need an address each
LINK_LOCAL_GROUPS = ipaddress.IPv4Network("224.0.0.0/24")
LINK_LOCAL_SCOPE = 2
POOL = 16  # public addresses of one bench, for its points of presence
PREFIXES = 8  # and delegated IPv6 prefixes


class Access(Table):
    """The operator's network between gateway and datacenter. Without this table there is none: plain addresses."""

    nat44: bool = Field(True, description="whether the terminal has a private address, translated by the carrier")
    terminal_network: IPv4Hosts = Field(
        ipaddress.IPv4Network("100.64.0.0/10"),  # RFC 6598: shared address space, for carriers' translation
        description="with nat44: .1 of it is the gateway, .2 the terminal",
    )
    public_network: IPv4Hosts = Field(
        ipaddress.IPv4Network("198.19.0.0/16"),  # RFC 2544, the half that the ports' networks do not reach
        description="public addresses; the bench takes a /28 of it, an address for each point of presence in turn",
    )
    delegated_network: IPv6Hosts = Field(
        ipaddress.IPv6Network("2001:2:0:8000::/49"),  # RFC 5180, above the ports' networks
        description="delegated prefixes; the bench takes eight /56 of it, one for each point of presence in turn",
    )
    dhcpv6_lifetime_s: int = Field(
        0, ge=0, le=1_000_000, description="so long a client has a delegated prefix by DHCPv6; 0: it is routed and told"
    )
    inbound: bool = Field(
        False, description="whether connections from outside reach the terminal: IPv6, and IPv4 without nat44"
    )
    max_mappings: int = Field(
        0, ge=0, le=65_535, description="connections at once; one more is dropped and counted; 0 for no limit"
    )
    tcp_timeout_s: Timeout = Field(7440, description="an idle mapping is forgotten: TCP, established")  # RFC 5382
    udp_timeout_s: Timeout = Field(300, description="UDP")  # RFC 4787 recommends 5 min
    icmp_timeout_s: Timeout = Field(60, description="ICMP")  # RFC 5508
    strays: Literal["translate", "drop"] = Field(
        "translate",
        description="TCP without a mapping: translated anew, so that its peer resets it; or dropped, so that it hangs",
    )
    blocked_ports: tuple[PortRange, ...] = Field((), description="destinations of TCP and UDP from the terminal")
    mtu: int | None = Field(
        None, ge=1280, le=65_535, description="largest IP packet beyond the terminal; default: ports.mtu"
    )
    path_mtu: Literal["told", "black_hole"] = Field(
        "told", description="what is too large: answered by ICMP, or dropped without a word"
    )
    mss_clamp: bool = Field(False, description="whether TCP's MSS is lowered to what the mtu carries")
    multicast_groups: tuple[Address, ...] = Field(
        (),
        max_length=64,
        description="groups that cross the router, both ways, to whoever has joined: no IGMP or MLD is asked",
    )
    dscp: Literal["keep", "bleach"] = Field("keep", description="bleach: every packet leaves with DSCP 0")
    new_address: Literal["never", "gateway"] = Field(
        "never", description="gateway: another gateway is another point of presence, hence another public address"
    )
    new_address_at_s: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (), description="changes of the point of presence, counted from the start of the bench"
    )

    @model_validator(mode="after")
    def fits(self) -> Access:
        ports_in_order(self.blocked_ports, "blocked_ports")
        if self.terminal_network.prefixlen > LARGEST_CARRIER_PREFIX:
            raise ValueError(f"terminal_network: expected room for two addresses, got {self.terminal_network}")
        for group in self.multicast_groups:
            if not group.is_multicast or _stays_on_its_link(group):
                raise ValueError(f"multicast_groups: expected a group that is routed, such as 239.1.2.3, got {group}")
        if self.delegated_network.prefixlen > 53:
            raise ValueError(f"delegated_network: expected room for eight /56, got {self.delegated_network}")
        return self


def _stays_on_its_link(group: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Never forwarded: RFC 5771 section 4; RFC 4291 section 2.7, by the group's scope."""
    if isinstance(group, ipaddress.IPv4Address):
        return group in LINK_LOCAL_GROUPS
    return group.packed[1] & 0x0F <= LINK_LOCAL_SCOPE


class Pep(Table):
    """A performance-enhancing proxy (RFC 3135): TCP from the terminal is split at terminal and gateway."""

    ports: tuple[PortRange, ...] = Field((), description="destinations whose connections are split; all unless given")
    congestion_control: str = Field(
        "cubic", pattern=r"^[A-Za-z0-9_.-]{1,15}$", description="between the two ends, as the kernel names it"
    )
    initial_window_packets: int = Field(
        100, ge=1, le=10_000, description="what either end sends before the first acknowledgement"
    )
    buffer_bytes: int = Field(
        8_000_000, ge=4096, le=1_000_000_000, description="of each socket between the ends; bounds rate × delay"
    )

    @model_validator(mode="after")
    def fits(self) -> Pep:
        ports_in_order(self.ports, "ports")
        return self


class Daemon(Table):
    """A program that runs at one side for as long as the bench does: a routing daemon, as a rule."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$", description="as it is told of")
    at: Literal["terminal", "datacenter"] = Field(description="at which side")
    command: tuple[str, ...] = Field(
        min_length=1, max_length=64, description="program and arguments; it starts in the scenario's folder"
    )
    routes: int = Field(
        0, ge=0, le=255, description="number of the protocol (12: bird) whose routes go if it dies; 0: none"
    )


class SitePath(Table):
    """Another way between the same two sides: a link of its own, of another scenario."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9_.-]{1,15}$", description="its interface is so called, at the terminal's side"
    )
    scenario: str = Field("", description="embedded scenario, or a file; empty: a cable without a link, the bypass")
    set: tuple[str, ...] = Field((), description="changes to it, KEY=VALUE as with --set")
    preference: int = Field(
        100,
        ge=1,
        le=1000,
        description="the lowest carries what nothing else sends elsewhere",
    )
