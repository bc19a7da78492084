"""The Scenario: every key that a TOML file may have, its unit, its bounds and its default.

One frozen tree of pydantic models. Units are in the keys, as a person types them (degrees, ms, Mbit/s); the rest of
the project takes SI from the properties. Nothing else in the project reads configuration.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Latitude = Annotated[float, Field(ge=-90, le=90, description="degrees north, WGS 84")]
Longitude = Annotated[float, Field(ge=-180, le=180, description="degrees east, WGS 84")]
Altitude = Annotated[float, Field(ge=-500, le=100_000, description="metres above the WGS 84 ellipsoid")]
Elevation = Annotated[float, Field(ge=0, lt=90, description="degrees above the horizon")]
Milliseconds = Annotated[float, Field(ge=0, le=60_000)]
QueuePackets = Annotated[int, Field(ge=1, le=1_000_000, description="wire packets that may wait; one more is dropped")]
OverheadBytes = Annotated[
    int, Field(ge=0, le=1000, description="added to each packet when its time on the air is counted")
]
Megabits = Annotated[float, Field(ge=0, le=100_000, description="counting IP bytes; 0 for no limit")]
QueueDiscipline = Annotated[
    Literal["drop_tail", "drop_front", "codel"],
    Field(description="which packet goes when the queue is full: the new one or the oldest; or CoDel (RFC 8289)"),
]
Cycle = Annotated[float, Field(ge=0, le=10_000)]
Probability = Annotated[float, Field(ge=0, le=1)]


Protocol = Literal["icmp", "igmp", "tcp", "udp", "gre", "esp", "ah", "sctp"]
PortRange = Annotated[str, Field(pattern=r"^\d{1,5}(-\d{1,5})?$", description="a port, or the first and the last")]


class Table(BaseModel):
    """A TOML table: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Site(Table):
    """A place on the earth."""

    latitude_deg: Latitude
    longitude_deg: Longitude
    altitude_m: Altitude = 0.0


class Terminal(Site):
    """The user terminal; a link without a sky does not need one."""

    min_elevation_deg: Elevation | None = Field(None, description="mask of this site; default: each shell's own")


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


class Ports(Table):
    """The two ends at which packets enter and leave, and their addresses."""

    mtu: int = Field(1500, ge=1280, le=65_535, description="largest IP packet of either interface")
    tx_queue_packets: int = Field(10_000, ge=1, le=1_000_000, description="txqueuelen of the TUN devices")
    terminal_interface: str = Field(
        "ut0", pattern=r"^[A-Za-z0-9_.-]{1,15}$", description="name of the interface at the terminal's side"
    )
    datacenter_interface: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_.-]{0,15}$",
        description="the same at the datacenter's side; empty: the first free bp0, bp1, …",
    )
    ipv4_network: ipaddress.IPv4Network = Field(
        ipaddress.IPv4Network("198.18.0.0/15"),  # RFC 2544: reserved for tests of network devices
        description="the bench takes a /30 of it: .1 datacenter, .2 terminal",
    )
    ipv6_network: ipaddress.IPv6Network = Field(
        ipaddress.IPv6Network("2001:2::/48"),  # RFC 5180: the same, for IPv6
        description="the bench takes a /64 of it: ::1 datacenter, ::2 terminal",
    )
    egress_rate_mbps: Megabits = Field(
        0.0, description="line rate of the far interface, which spaces what comes due together"
    )
    write_quantum_us: float = Field(
        0.0, ge=0, le=1000, description="packets due within this time of each other may leave in one write"
    )


class LossBursts(Table):
    """A Gilbert-Elliott process in time: the same bursts span 10 and 10,000 packets/s."""

    every_s: float = Field(ge=0.001, le=1e6, description="mean time between two bursts")
    length_ms: float = Field(ge=1, le=3.6e6, description="mean length of a burst; lengths are geometric, in ms")
    loss: Probability = Field(1.0, description="share of packets lost within a burst")


class FixedDirection(Table):
    """What one direction may say for itself; a missing key takes the value for both directions."""

    delay_ms: Milliseconds | None = Field(None, description="as link.delay_ms")
    rate_mbps: Megabits | None = Field(None, description="as link.rate_mbps")
    overhead_bytes: OverheadBytes | None = Field(None, description="as link.overhead_bytes")
    loss: Probability | None = Field(None, description="as link.loss")
    queue_packets: QueuePackets | None = Field(None, description="as link.queue_packets")
    queue_discipline: QueueDiscipline | None = Field(None, description="as link.queue_discipline")
    bursts: LossBursts | None = Field(None, description="as link.bursts")
    frame_ms: Cycle | None = Field(None, description="as link.frame_ms")
    grant_ms: Cycle | None = Field(None, description="as link.grant_ms")
    jitter_ms: Milliseconds | None = Field(None, description="as link.jitter_ms")


class FixedLink(Table):
    """A link without a sky."""

    profile: Literal["fixed"] = Field("fixed", description="which kind of link this is, and which keys it has")
    delay_ms: Milliseconds = Field(0.0, description="one way")
    rate_mbps: Megabits = 0.0
    overhead_bytes: OverheadBytes = 0
    loss: Probability = Field(0.0, description="share of packets lost, each on its own")
    queue_packets: QueuePackets = 1000
    queue_discipline: QueueDiscipline = "drop_tail"
    bursts: LossBursts | None = Field(None, description="bursts of loss, on top of `loss`; none unless given")
    frame_ms: Cycle = Field(0.0, description="what is sent leaves at the end of its frame of this length; 0 for none")
    grant_ms: Cycle = Field(0.0, description="an idle link begins to send with the next grant, so often; 0 for none")
    jitter_ms: Milliseconds = Field(0.0, description="mean of the random delay, drawn anew every 20 ms; never reorders")
    uplink: FixedDirection = Field(FixedDirection(), description="what differs from terminal to datacenter")
    downlink: FixedDirection = Field(FixedDirection(), description="what differs from datacenter to terminal")


class Quantiles(Table):
    """A distribution given by its quantiles, straight lines between them."""

    p0: float = Field(ge=0, description="the least")
    p5: float = Field(ge=0, description="5 % lie below")
    p50: float = Field(ge=0, description="the median")
    p95: float = Field(ge=0, description="95 % lie below")
    p100: float = Field(ge=0, description="the most")

    @model_validator(mode="after")
    def rising(self) -> Quantiles:
        values = (self.p0, self.p5, self.p50, self.p95, self.p100)
        if list(values) != sorted(values):
            raise ValueError(f"expected p0 ≤ p5 ≤ p50 ≤ p95 ≤ p100, got {values}")
        return self


class SkyDirection(Table):
    """What every direction of a link with a sky has."""

    fixed_ms: Milliseconds = Field(description="scheduling and processing, on top of geometry and fibre")
    jitter_ms: Milliseconds = Field(
        0.0, description="mean of the scheduler's jitter, drawn anew every 20 ms; never reorders"
    )
    loss: Probability = Field(0.0, description="loss outside of handovers and outages")
    queue_packets: QueuePackets = 1000
    queue_discipline: QueueDiscipline = "drop_tail"
    bursts: LossBursts | None = Field(None, description="bursts of loss, on top of `loss`; none unless given")
    frame_ms: Cycle = Field(0.0, description="what is sent leaves at the end of its frame of this length; 0 for none")
    grant_ms: Cycle = Field(0.0, description="an idle link begins to send with the next grant, so often; 0 for none")
    overhead_bytes: OverheadBytes = 0


class OrbitDirection(SkyDirection):
    """One direction of a link whose rate is drawn: a distribution stands for what the operator's network does."""

    slot_spread_ms: Milliseconds = Field(0.0, description="largest delay that a slot's schedule adds, drawn per slot")
    rate_mbps: Quantiles = Field(description="rate by slot (Starlink: 15 s, else a minute), counting IP bytes")
    rate_wobble: float = Field(0.0, ge=0, lt=1, description="largest relative change of the rate within a slot")
    clear_sky_cn_db: float = Field(
        12.0, ge=-10, le=40, description="C/N at link.cn_range_km; falls with the square of the range"
    )


class GeoDirection(SkyDirection):
    """One direction of a link with adaptive coding: its rate follows from symbol rate and C/N."""

    symbol_rate_mbaud: float = Field(gt=0, le=2000, description="millions of symbols per second")
    clear_sky_cn_db: float = Field(ge=-10, le=40, description="C/N of the whole path, both hops, in the symbol rate")
    receiver_antenna_m: float = Field(gt=0, le=40, description="diameter of the antenna on the ground that receives")
    receiver_ghz: float = Field(gt=0, le=100, description="frequency at which it receives")
    receiver_noise_k: float = Field(gt=0, le=10_000, description="its noise temperature under a clear sky")

    @property
    def rate_mbps(self) -> Quantiles:
        """The most that the direction carries (DVB-S2's 32APSK 9/10), as the one value of a distribution."""
        most = 4.453027 * self.symbol_rate_mbaud  # ETSI EN 302 307-1 Table 13
        return Quantiles(p0=0, p5=most, p50=most, p95=most, p100=most)

    @property
    def rate_wobble(self) -> float:
        """None: the rate changes with the MODCOD alone."""
        return 0.0


class RateStep(Table):
    """From an elevation on up, a rate."""

    elevation_deg: Elevation
    rate_mbps: float = Field(gt=0, le=100_000, description="counting IP bytes")


class ContactDirection(SkyDirection):
    """One direction between a spacecraft and a station on the ground."""

    rates: tuple[RateStep, ...] = Field(
        min_length=1, description="by elevation at the station; below the lowest step, that step's"
    )
    clear_sky_cn_db: float = Field(
        12.0, ge=-10, le=40, description="C/N at link.cn_range_km; falls with the square of the range"
    )

    @property
    def rate_mbps(self) -> Quantiles:
        """From the least to the most of the steps."""
        least, most = (pick(step.rate_mbps for step in self.rates) for pick in (min, max))
        return Quantiles(p0=least, p5=least, p50=most, p95=most, p100=most)

    @property
    def rate_wobble(self) -> float:
        """None: the rate changes with the elevation alone."""
        return 0.0


class Handover(Table):
    """What happens at a slot boundary, in phases: first drop, then hold, then the queue leaves in order."""

    drop_ms: Milliseconds = Field(0.0, description="after a change of satellite")
    hold_ms: Milliseconds = Field(0.0, description="after the drop phase of a change of satellite")
    reconfigure_hold_ms: Milliseconds = Field(
        0.0, description="where the satellite stays: at each of Starlink's slot boundaries, else at a change of gateway"
    )


class Outages(Table):
    """Times at which nothing gets through, in either direction, at random."""

    per_hour: float = Field(0.0, ge=0, le=3600, description="how many begin in an hour, on average")
    duration_s: Quantiles = Field(Quantiles(p0=0, p5=0, p50=0, p95=0, p100=0), description="how long they last")


class SkyLink(Table):
    """What every link with a sky has."""

    fibre_detour: float = Field(
        1.3, ge=1, le=5, description="length of the fibre over the great circle, gateway to PoP"
    )
    outages: Outages = Field(Outages(), description="when the link is down")


class OrbitLink(SkyLink):
    """Satellites that come and go."""

    cn_range_km: float = Field(550.0, gt=0, le=100_000, description="range at which the directions give their C/N")
    uplink: OrbitDirection = Field(description="from terminal to datacenter")
    downlink: OrbitDirection = Field(description="from datacenter to terminal")
    handover: Handover = Field(Handover(), description="what a change of satellite does to the packets")


class StarlinkLink(OrbitLink):
    """Slots of 15 s in UTC, a satellite for each, bent pipe to a gateway, fibre to the point of presence."""

    profile: Literal["starlink"] = Field(description="which kind of link this is, and which keys it has")
    slot_phase_s: float = Field(12.0, ge=0, lt=15, description="slots start at this UTC second, modulo 15")


class O3bLink(OrbitLink):
    """A ring of satellites over the equator, each followed from west to east by an antenna."""

    profile: Literal["o3b"] = Field(description="which kind of link this is, and which keys it has")
    antennas: int = Field(
        2, ge=1, le=2, description="2: the next satellite is held before the other is left; 1: link.handover applies"
    )
    handover_elevation_deg: Elevation = Field(
        40.0, description="a setting satellite is left when it stands lower than this, if there is another"
    )


class OneWebLink(OrbitLink):
    """Polar planes at 1,200 km without links between satellites: each satellite is bound to a portal."""

    profile: Literal["oneweb"] = Field(description="which kind of link this is, and which keys it has")


class KuiperLink(OrbitLink):
    """The filed shells and the highest satellite: geometry only."""

    profile: Literal["kuiper"] = Field(description="which kind of link this is, and which keys it has")


class IridiumLink(OrbitLink):
    """Polar planes at 780 km with links between satellites: a gateway need not be under the terminal's satellite."""

    profile: Literal["iridium"] = Field(description="which kind of link this is, and which keys it has")


class GeoLink(SkyLink):
    """A geostationary satellite: a fixed path, a MODCOD that follows the C/N, the sun behind the satellite."""

    profile: Literal["geo"] = Field(description="which kind of link this is, and which keys it has")
    satellite: str = Field("satellite", min_length=1, description="its name, shown by `plan` and by the live view")
    longitude_deg: Longitude = Field(description="its slot: degrees east")
    modcod_margin_db: float = Field(1.0, ge=0, le=20, description="C/N kept above a MODCOD's threshold")
    modcod_hysteresis_db: float = Field(0.5, ge=0, le=10, description="more than that before a better one is taken")
    sun_temperature_k: float = Field(
        0.0, ge=0, le=1e6, description="brightness of the quiet sun at the receivers' frequency; 0: no sun outages"
    )
    uplink: GeoDirection = Field(description="from terminal to datacenter: the gateway receives")
    downlink: GeoDirection = Field(description="from datacenter to terminal: the terminal receives")


class ContactLink(SkyLink):
    """A spacecraft, at the terminal's side, in contact with stations on the ground, the gateways."""

    profile: Literal["ground_station"] = Field(description="which kind of link this is, and which keys it has")
    acquisition_s: float = Field(0.0, ge=0, le=600, description="from the first sight until the modems are locked")
    cn_range_km: float = Field(1000.0, gt=0, le=100_000, description="range at which the directions give their C/N")
    uplink: ContactDirection = Field(description="from the spacecraft to the datacenter")
    downlink: ContactDirection = Field(description="from the datacenter to the spacecraft")


LinkProfile = Annotated[
    FixedLink | StarlinkLink | GeoLink | O3bLink | OneWebLink | KuiperLink | IridiumLink | ContactLink,
    Field(discriminator="profile"),
]


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


class TrafficClass(Table):
    """Traffic with a queue of its own, which goes before that of the classes behind it, and before all other traffic.

    A packet belongs to the first class that it fits: one of the protocols, one of the DSCPs and one of the ports, where
    an empty list fits everything.
    """

    name: str = Field(description="for the reader")
    direction: Literal["both", "uplink", "downlink"] = Field("both", description="in which direction it has its queue")
    protocols: tuple[Protocol, ...] = Field((), description="icmp stands for ICMPv6 too")
    dscp: tuple[Annotated[int, Field(ge=0, le=63)], ...] = Field((), description="differentiated services code points")
    ports: tuple[PortRange, ...] = Field((), description="source or destination, of TCP, UDP and SCTP")
    queue_packets: QueuePackets = 1000
    queue_discipline: QueueDiscipline = "drop_tail"

    @model_validator(mode="after")
    def ports_in_order(self) -> TrafficClass:
        for text in self.ports:
            first, _, last = text.partition("-")
            if not int(first) <= int(last or first) <= 65_535:
                raise ValueError(f"ports: expected a port up to 65535, or first-last, got {text!r}")
        return self


class OverlayEvent(Table):
    """A timed change on top of the Timeline; times count from the start of the bench."""

    kind: Literal["outage", "hold", "fade", "extra_delay", "loss"] = Field(
        description="outage: what is sent is lost; hold: packets wait, and leave in order when it ends"
    )
    at_s: float = Field(ge=0, description="when it begins")
    duration_s: float = Field(gt=0, description="how long it lasts")
    direction: Literal["both", "uplink", "downlink"] = Field("both", description="what it acts on")
    fade_db: float = Field(0.0, ge=0, le=100, description="for kind fade: taken from the C/N, which the rate follows")
    extra_delay_ms: Milliseconds = Field(0.0, description="for kind extra_delay")
    loss: Probability = Field(0.0, description="for kind loss: added to the Timeline's")


class Scenario(Table):
    """A whole bench: who talks to whom, through which link."""

    name: str = Field("", description="shown when a bench starts")
    description: str = Field("", description="one line for the reader; titles of pictures and reports")
    seed: int = Field(1, ge=0, lt=2**63, description="of all random draws: the same seed and UTC, the same channel")
    terminal: Terminal | None = Field(None, description="where the user terminal stands")
    constellation: Constellation | None = Field(None, description="its satellites")
    gateways: tuple[Gateway, ...] = Field((), description="the operator's gateways, any of which may serve")
    pop: PointOfPresence | None = Field(None, description="the point of presence")
    datacenter: Datacenter = Field(Datacenter(), description="the far side")
    link: LinkProfile = Field(description="delay, rate, loss, queue")
    ports: Ports = Field(Ports(), description="interfaces and addresses")
    dish: Dish = Field(Dish(), description="the Starlink dish, where it is served")
    classes: tuple[TrafficClass, ...] = Field((), max_length=64, description="traffic with queues of its own")
    overlay: tuple[OverlayEvent, ...] = Field((), description="timed changes on top of the link, at most 256")
    source: Path | None = Field(None, exclude=True, description="the file; relative paths in it count from there")

    @model_validator(mode="after")
    def orbit_needs_a_sky(self) -> Scenario:
        missing = missing_for_a_sky(self.link.profile, vars(self))
        if missing:
            raise ValueError(f"link.profile {self.link.profile!r} needs {', '.join(missing)}")
        return self


NEEDED_TABLES = {  # by profile; a profile that is not named here needs all of ALL_OF_A_SKY
    None: (),
    "fixed": (),
    "geo": ("terminal", "gateways", "pop"),
    "ground_station": ("constellation", "gateways", "pop"),
}
ALL_OF_A_SKY = ("terminal", "constellation", "gateways", "pop")


def missing_for_a_sky(profile: object, tables: Mapping[str, object]) -> list[str]:
    """The tables that a link with orbits needs and that are absent or empty. Works on a file's tables as on fields."""
    needed = NEEDED_TABLES.get(profile if isinstance(profile, str) else None, ALL_OF_A_SKY)
    return [key for key in needed if tables.get(key) in (None, (), [])]
