"""The Scenario: every key that a TOML file may have, its unit, its bounds and its default.

One frozen tree of pydantic models. Units are in the keys, as a person types them (degrees, ms, Mbit/s); the rest of
the project takes SI from the properties. Nothing else in the project reads configuration.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from emulator.scenario.access import Access, Daemon, Pep, SitePath
from emulator.scenario.fields import (
    Altitude,
    Elevation,
    IPv4Hosts,
    IPv6Hosts,
    Latitude,
    Longitude,
    Megabits,
    Milliseconds,
    PortRange,
    Probability,
    QueueDiscipline,
    QueuePackets,
    Table,
    ports_in_order,
)
from emulator.scenario.hardware import AntennaTable, Device, DishEvent, GnssLoss
from emulator.scenario.impairments import QueueKeys
from emulator.scenario.links import LinkProfile
from emulator.scenario.script import AMOUNTS, Step
from emulator.units import parse_utc_ns

Network = Annotated[str, Field(pattern=r"^[0-9a-fA-F.:]+(/\d{1,3})?$", description="an IPv4 or IPv6 network")]
Protocol = Literal["icmp", "igmp", "tcp", "udp", "gre", "esp", "ah", "sctp"]
REST = "other"  # the queue of what fits no class
WITH_PORTS = frozenset({"tcp", "udp", "sctp"})
CARD = r"^[^\s/:]{0,15}$"  # what the kernel takes for an interface's name


class Site(Table):
    """A place on the earth."""

    latitude_deg: Latitude
    longitude_deg: Longitude
    altitude_m: Altitude = 0.0


class Horizon(Table):
    """A point of the edge of what stands around a site; straight lines lead from one to the next, all around."""

    azimuth_deg: float = Field(ge=0, lt=360, description="from north over east")
    elevation_deg: float = Field(ge=0, le=90, description="degrees above the horizon below which nothing is seen")


class Terminal(Site):
    """The user terminal; a link without a sky does not need one."""

    min_elevation_deg: Elevation | None = Field(None, description="mask of this site; default: each shell's own")
    antenna: AntennaTable | None = Field(None, description="one that is steered; default: pointing is perfect")
    horizon: tuple[Horizon, ...] = Field((), max_length=720, description="obstructions of this site, by azimuth")
    track: str = Field("", description="CSV, GPX or NMEA file of where it is when; then latitude and longitude are not")
    track_starts_utc: str = Field(
        "", description="the track's first point is moved to this UTC (text, in quotes); empty: its own times"
    )
    gnss_losses: tuple[GnssLoss, ...] = Field((), max_length=256, description="when its GNSS receiver has no fix")
    track_gap_s: float = Field(60.0, gt=0, le=86_400, description="longest time between two points of the track")

    @model_validator(mode="after")
    def track_can_start(self) -> Terminal:
        if self.track_starts_utc:
            parse_utc_ns(self.track_starts_utc)
        return self


class Gateway(Site):
    """A gateway of the operator's: what a satellite must see to serve the terminal."""

    name: str = Field(description="shown by `plan` and by the live view")
    min_elevation_deg: Elevation = Field(10.0, description="lowest elevation at which this gateway tracks")


class PointOfPresence(Site):
    """Where the operator's network meets the others; the fibre from each gateway ends here."""

    name: str = Field(description="for the reader")


class Datacenter(Table):
    """The far side of the link."""

    name: str = Field("datacenter", description="for the reader")
    fibre_ms: Milliseconds = Field(0.0, description="one-way delay between the point of presence and the datacenter")


class Shell(Table):
    """One shell of a Walker constellation."""

    name: str = Field(description="its satellites are called NAME p03 s17, by plane and place")
    altitude_km: float = Field(ge=160, le=50_000, description="above the equator's radius; the orbit is a circle")
    inclination_deg: float = Field(ge=0, le=180, description="against the equator; over 90 is retrograde")
    planes: int = Field(ge=1, le=200, description="orbital planes, evenly spaced")
    satellites_per_plane: int = Field(ge=1, le=200, description="evenly spaced within a plane")
    phasing: int = Field(1, ge=0, description="Walker's F: phase offset between planes in units of 360°/total")
    pattern: Literal["delta", "star"] = Field("delta", description="ascending nodes over 360° (delta) or 180° (star)")
    raan_offset_deg: float = Field(0.0, ge=0, lt=360, description="right ascension of the first plane's ascending node")
    min_elevation_deg: Elevation = Field(25.0, description="mask of this shell: lowest elevation at which it serves")


class Constellation(Table):
    """The satellites: generated from shells, or read from a file."""

    elements: str = Field("", description="TLE or OMM file; empty: the shells below are generated")
    names: str = Field(
        "*", min_length=1, description="objects of the elements file that belong: a shell pattern, STARLINK*"
    )
    max_age_days: float = Field(14.0, gt=0, description="largest distance from the elements' epoch that is accepted")
    min_altitude_km: float = Field(300.0, ge=100, le=50_000, description="of such a file: lower ones do not serve")
    max_altitude_km: float = Field(650.0, ge=100, le=50_000, description="the same: higher ones do not serve")
    max_eccentricity: float = Field(0.005, ge=0, lt=1, description="the same: more eccentric ones do not serve")
    min_elevation_deg: Elevation | None = Field(None, description="mask with an elements file; default: by altitude")
    shells: tuple[Shell, ...] = Field((), description="not looked at when there is an elements file")

    @model_validator(mode="after")
    def has_satellites(self) -> Constellation:
        if not self.elements and not self.shells:
            raise ValueError("expected elements or shells, got neither")
        return self


class Host(Table):
    """Who is wired to a card: where tests run their programs, and reach them."""

    ipv4: str = Field("", pattern=r"^(\d{1,3}(\.\d{1,3}){3})?$", description="its address")
    ipv6: str = Field("", pattern=r"^[0-9a-fA-F:]*$", description="the same")
    namespace: str = Field(
        "", description="its network namespace on this machine: a name as `ip netns` has it, or a path; empty: our own"
    )
    remote: tuple[str, ...] = Field(
        (),
        description="another machine: the command that has it run a shell line, which follows, such as "
        '["ssh", "-tt", "-o", "BatchMode=yes", "root@terminal"]',
    )

    @model_validator(mode="after")
    def is_in_one_place(self) -> Host:
        if self.namespace and self.remote:
            raise ValueError("expected namespace or remote, got both")
        return self


class Ports(Table):
    """The two ends at which packets enter and leave, and their addresses."""

    kind: Literal["tun", "tap", "nic"] = Field(
        "tun", description="where packets enter and leave: TUN (IP), TAP (Ethernet), or two network cards, inline"
    )
    terminal: str = Field("", pattern=CARD, description="for kind nic: the card to which the terminal's side is wired")
    datacenter: str = Field("", pattern=CARD, description="for kind nic: the card to the datacenter's side")
    terminal_host: Host = Field(Host(), description="for kind nic: who is wired to the terminal's card")
    datacenter_host: Host = Field(Host(), description="for kind nic: who is wired to the datacenter's card")
    force: bool = Field(False, description="for kind nic: take cards that this machine seems to need itself, too")
    mtu: int = Field(1500, ge=1280, le=65_535, description="largest IP packet of either interface")
    tx_queue_packets: int = Field(
        10_000, ge=1, le=1_000_000, description="txqueuelen of the devices; for kind nic, room in the socket's queue"
    )
    terminal_interface: str = Field(
        "ut0", pattern=r"^[A-Za-z0-9_.-]{1,15}$", description="name of the interface at the terminal's side"
    )
    datacenter_interface: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_.-]{0,15}$",
        description="the same at the datacenter's side; empty: the first free bp0, bp1, …",
    )
    ipv4_network: IPv4Hosts = Field(
        ipaddress.IPv4Network("198.18.0.0/15"),  # RFC 2544: reserved for tests of network devices
        description="the bench takes a /30 of it: .1 datacenter, .2 terminal",
    )
    ipv6_network: IPv6Hosts = Field(
        ipaddress.IPv6Network("2001:2::/48"),  # RFC 5180: the same, for IPv6
        description="the bench takes a /64 of it: ::1 datacenter, ::2 terminal",
    )
    arrival: Literal["kernel", "loop"] = Field(
        "kernel",
        description="who says when a packet came to a TUN or TAP device: the kernel, where it lets us ask for that "
        "(root), or the packet loop as it reads the packet",
    )
    egress_rate_mbps: Megabits | None = Field(
        None,
        description="line rate of the far interface, which spaces what falls due together; 0: no spacing; not given: "
        "1, 10 or 100 Gbit/s, the least that the link fills to at most half",
    )
    write_quantum_us: float = Field(
        0.0, ge=0, le=1000, description="packets due within this time of each other may leave in one write"
    )


Duration = Annotated[float, Field(ge=0, le=86_400)]


class Dish(Table):
    """The Starlink dish that `--dish` serves to its clients. Its times are guesses: nothing published was found."""

    location_consent: bool = Field(False, description="whether the owner lets clients on the local network see where")
    at_start: Literal["tracking", "booting"] = Field("tracking", description="what the dish is found doing")
    boot_s: Duration = Field(60.0, description="from power, or an order to reboot, until the dish searches")
    unreachable_s: Duration = Field(20.0, description="at the beginning of a boot: no client gets an answer")
    search_s: Duration = Field(15.0, description="from boot, unstowing or waking until traffic flows")
    power_w: float = Field(75.0, ge=0, le=1000, description="drawn while it tracks; half as much while not")
    id: str = Field("ut00000000-00000000-00000000", description="as clients know the dish")
    hardware_version: str = Field("rev3_proto2", description="as clients show it")
    country_code: str = Field("", description="two letters")
    utc_offset_s: int = Field(0, ge=-86_400, le=86_400, description="of the owner's clock")
    events: tuple[DishEvent, ...] = Field((), max_length=64, description="what befalls it, and when")


class TrafficClass(QueueKeys):
    """Traffic with a queue of its own, which goes before that of the classes behind it, and before all other traffic.

    A packet belongs to the first class that it fits: one of the protocols, one of the DSCPs, one of the ports and one
    of the networks. An empty list fits everything.
    """

    name: str = Field(description="for the reader")
    direction: Literal["both", "uplink", "downlink"] = Field("both", description="in which direction it has its queue")
    protocols: tuple[Protocol, ...] = Field((), description="icmp stands for ICMPv6 too")
    dscp: tuple[Annotated[int, Field(ge=0, le=63)], ...] = Field((), description="differentiated services code points")
    ports: tuple[PortRange, ...] = Field((), description="source or destination, of TCP, UDP and SCTP")
    networks: tuple[Network, ...] = Field((), max_length=64, description="of the source or of the destination")
    queue_packets: QueuePackets = 1000
    queue_discipline: QueueDiscipline = "drop_tail"

    @model_validator(mode="after")
    def ports_are_ranges(self) -> TrafficClass:
        ports_in_order(self.ports)
        if self.ports and self.protocols and not set(self.protocols) & WITH_PORTS:
            got = self.protocols[0]
            raise ValueError(f"ports: expected with a protocol that has any (tcp, udp, sctp), got {got!r}")
        return self

    @model_validator(mode="after")
    def networks_are_networks(self) -> TrafficClass:
        for text in self.networks:
            try:
                ipaddress.ip_network(text)
            except ValueError as error:
                raise ValueError(f"networks: expected a network such as 10.0.0.0/8, got {text!r}") from error
        return self


LONGEST_S = 3.2e9  # of a run: a century, and three of them fit into 63 bits of ns


class OverlayEvent(Table):
    """A timed change on top of the Timeline; times count from the start of the bench."""

    kind: Literal["outage", "hold", "fade", "extra_delay", "loss", "jitter"] = Field(
        description="outage: what is sent is lost; hold: packets wait, and leave in order when it ends"
    )
    at_s: float = Field(ge=0, le=LONGEST_S, description="when it begins")
    duration_s: float = Field(gt=0, le=LONGEST_S, description="how long it lasts")
    direction: Literal["both", "uplink", "downlink"] = Field("both", description="what it acts on")
    fade_db: float = Field(0.0, ge=0, le=100, description="for kind fade: taken from the C/N, which the rate follows")
    extra_delay_ms: Milliseconds = Field(0.0, description="for kind extra_delay")
    loss: Probability = Field(0.0, description="for kind loss: added to the Timeline's")
    cause: Literal["command", "outage", "obstruction", "no_satellite", "handover", "fade"] = Field(
        "command", description="for kind outage: as what it is shown and counted"
    )
    jitter_ms: Milliseconds = Field(0.0, description="for kind jitter: mean of what is added to the access jitter")

    @model_validator(mode="after")
    def says_how_much(self) -> OverlayEvent:
        for kind, key in AMOUNTS.items():
            amount = getattr(self, key)
            if kind != self.kind and amount > 0:
                raise ValueError(f"{key}: expected with kind {kind!r} only, got {amount:g} with {self.kind!r}")
        key = AMOUNTS.get(self.kind, "")
        if key and self.kind != "jitter" and not getattr(self, key) > 0:
            raise ValueError(f"kind {self.kind!r} needs {key}: expected a number above 0, got {getattr(self, key):g}")
        return self


class Scenario(Table):
    """A whole bench: who talks to whom, through which link."""

    name: str = Field("", description="shown when a bench starts; if it is empty, the file's name without its ending")
    description: str = Field("", description="one line for the reader; titles of pictures and reports")
    seed: int = Field(1, ge=0, lt=2**63, description="of all random draws: the same seed and UTC, the same channel")
    weather_seed: int | None = Field(
        None, ge=0, lt=2**63, description="of rain and clouds, which the paths of one site share; default: seed"
    )
    terminal: Terminal | None = Field(None, description="where the user terminal stands")
    constellation: Constellation | None = Field(None, description="its satellites")
    gateways: tuple[Gateway, ...] = Field((), description="the operator's gateways, any of which may serve")
    pop: PointOfPresence | None = Field(None, description="the point of presence")
    datacenter: Datacenter = Field(Datacenter(), description="the far side")
    link: LinkProfile = Field(description="delay, rate, loss, queue")
    ports: Ports = Field(Ports(), description="interfaces and addresses")
    dish: Dish = Field(Dish(), description="the Starlink dish, where it is served")
    devices: tuple[Device, ...] = Field((), max_length=16, description="the terminal's interfaces, as a bench has them")
    classes: tuple[TrafficClass, ...] = Field((), max_length=127, description="traffic with queues of its own")
    access: Access | None = Field(None, description="the operator's network beyond the link; none unless given")
    pep: Pep | None = Field(None, description="splits TCP at both ends of the link")
    paths: tuple[SitePath, ...] = Field((), max_length=16, description="further ways between the same two sides")
    daemons: tuple[Daemon, ...] = Field((), max_length=16, description="programs that run at the sides")
    overlay: tuple[OverlayEvent, ...] = Field(
        (), max_length=256, description="timed changes on top of the link, at most 256"
    )
    script: tuple[Step, ...] = Field((), max_length=256, description="what is done to the link, and when")
    source: Path | None = Field(None, exclude=True, description="the file; relative paths in it count from there")

    @field_validator("classes")
    @classmethod
    def names_differ(cls, classes: tuple[TrafficClass, ...]) -> tuple[TrafficClass, ...]:
        for direction in ("uplink", "downlink"):
            names = [one.name for one in classes if one.direction in ("both", direction)]
            if twice := [name for number, name in enumerate(names) if name in names[:number]]:
                raise ValueError(f"expected a name of its own for each class of a direction, got {twice[0]!r} twice")
            if REST in names:
                raise ValueError(f"expected other names than {REST!r}, which is all that no class takes")
        return classes

    def class_names(self, direction: Literal["uplink", "downlink"]) -> tuple[str, ...]:
        """The queues of a direction in their order: its classes, and REST for all that fits none."""
        return *(one.name for one in self.classes if one.direction in ("both", direction)), REST

    @property
    def rain_seed(self) -> int:
        """The seed of the weather over the site."""
        return self.seed if self.weather_seed is None else self.weather_seed

    @model_validator(mode="after")
    def orbit_needs_a_sky(self) -> Scenario:
        missing = missing_for_a_sky(self.link.profile, vars(self))
        if missing:
            raise ValueError(f"link.profile {self.link.profile!r} needs {', '.join(missing)}")
        return self


NEEDED_TABLES = {  # by profile; a profile that is not named here needs all of ALL_OF_A_SKY
    None: (),
    "fixed": (),
    "trace": (),
    "geo": ("terminal", "gateways", "pop"),
    "ground_station": ("constellation", "gateways", "pop"),
}
ALL_OF_A_SKY = ("terminal", "constellation", "gateways", "pop")


def missing_for_a_sky(profile: object, tables: Mapping[str, object]) -> list[str]:
    """The tables that a link with orbits needs and that are absent or empty. Works on a file's tables as on fields."""
    needed = NEEDED_TABLES.get(profile if isinstance(profile, str) else None, ALL_OF_A_SKY)
    return [key for key in needed if tables.get(key) in (None, (), [])]
