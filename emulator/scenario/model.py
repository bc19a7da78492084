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
Megabits = Annotated[float, Field(ge=0, le=100_000, description="Mbit/s, counting IP bytes; 0 for no limit")]
Probability = Annotated[float, Field(ge=0, le=1)]


class Table(BaseModel):
    """A TOML table: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Site(Table):
    latitude_deg: Latitude
    longitude_deg: Longitude
    altitude_m: Altitude = 0.0


class Terminal(Site):
    min_elevation_deg: Elevation | None = Field(None, description="mask of this site; default: each shell's own")


class Gateway(Site):
    name: str
    min_elevation_deg: Elevation = Field(10.0, description="lowest elevation at which this gateway tracks")


class PointOfPresence(Site):
    name: str


class Datacenter(Table):
    name: str = "datacenter"
    fibre_ms: Milliseconds = Field(0.0, description="one-way delay between the point of presence and the datacenter")


class Shell(Table):
    """One shell of a Walker constellation."""

    name: str
    altitude_km: float = Field(ge=160, le=50_000)
    inclination_deg: float = Field(ge=0, le=180)
    planes: int = Field(ge=1, le=200)
    satellites_per_plane: int = Field(ge=1, le=200)
    phasing: int = Field(1, ge=0, description="Walker's F: phase offset between planes in units of 360°/total")
    pattern: Literal["delta", "star"] = "delta"
    raan_offset_deg: float = Field(0.0, ge=0, lt=360)
    min_elevation_deg: Elevation = 25.0


class Constellation(Table):
    elements: str = Field("", description="TLE or OMM file; empty: the shells below are generated")
    names: str = Field(
        "*", min_length=1, description="objects of the elements file that belong: a shell pattern, STARLINK*"
    )
    max_age_days: float = Field(14.0, gt=0, description="largest distance from the elements' epoch that is accepted")
    min_elevation_deg: Elevation | None = Field(None, description="mask with an elements file; default: by altitude")
    shells: tuple[Shell, ...] = ()

    @model_validator(mode="after")
    def has_satellites(self) -> Constellation:
        if not self.elements and not self.shells:
            raise ValueError("expected elements or shells, got neither")
        return self


class Ports(Table):
    """The two ends at which packets enter and leave, and their addresses."""

    mtu: int = Field(1500, ge=1280, le=65_535)
    tx_queue_packets: int = Field(10_000, ge=1, le=1_000_000, description="txqueuelen of the TUN devices")
    terminal_interface: str = Field("ut0", pattern=r"^[A-Za-z0-9_.-]{1,15}$")
    datacenter_interface: str = Field(
        "", pattern=r"^[A-Za-z0-9_.-]{0,15}$", description="empty: the first free bp0, bp1, …"
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


class FixedDirection(Table):
    """What one direction may say for itself; a missing key takes the value for both directions."""

    delay_ms: Milliseconds | None = None
    rate_mbps: Megabits | None = None
    overhead_bytes: int | None = Field(None, ge=0, le=1000)
    loss: Probability | None = None
    queue_packets: int | None = Field(None, ge=1, le=1_000_000)
    jitter_ms: Milliseconds | None = None


class FixedLink(Table):
    """A link without a sky."""

    profile: Literal["fixed"] = "fixed"
    delay_ms: Milliseconds = Field(0.0, description="one way")
    rate_mbps: Megabits = 0.0
    overhead_bytes: int = Field(
        0, ge=0, le=1000, description="added to each packet when its time on the air is counted"
    )
    loss: Probability = Field(0.0, description="share of packets lost, each on its own")
    queue_packets: int = Field(1000, ge=1, le=1_000_000)
    jitter_ms: Milliseconds = Field(0.0, description="mean of the delay added per jitter bin; never reorders")
    uplink: FixedDirection = FixedDirection()
    downlink: FixedDirection = FixedDirection()


class Quantiles(Table):
    """A distribution given by its quantiles, straight lines between them."""

    p0: float = Field(ge=0)
    p5: float = Field(ge=0)
    p50: float = Field(ge=0)
    p95: float = Field(ge=0)
    p100: float = Field(ge=0)

    @model_validator(mode="after")
    def rising(self) -> Quantiles:
        values = (self.p0, self.p5, self.p50, self.p95, self.p100)
        if list(values) != sorted(values):
            raise ValueError(f"expected p0 ≤ p5 ≤ p50 ≤ p95 ≤ p100, got {values}")
        return self


class OrbitDirection(Table):
    fixed_ms: Milliseconds = Field(description="scheduling and processing, on top of geometry and fibre")
    slot_spread_ms: Milliseconds = Field(0.0, description="largest delay that a slot's schedule adds, drawn per slot")
    jitter_ms: Milliseconds = Field(0.0, description="mean of the scheduler's jitter, drawn per jitter bin")
    rate_mbps: Quantiles = Field(description="rate by slot, counting IP bytes")
    rate_wobble: float = Field(0.0, ge=0, lt=1, description="largest relative change of the rate within a slot")
    loss: Probability = Field(0.0, description="loss outside of handovers and outages")
    clear_sky_cn_db: float = Field(12.0, ge=-10, le=40, description="C/N at 550 km range; falls with its square")
    queue_packets: int = Field(1000, ge=1, le=1_000_000)
    overhead_bytes: int = Field(0, ge=0, le=1000)


class Handover(Table):
    """What happens at a slot boundary, in phases: first drop, then hold, then the queue leaves in order."""

    drop_ms: Milliseconds = Field(0.0, description="after a change of satellite")
    hold_ms: Milliseconds = Field(0.0, description="after the drop phase of a change of satellite")
    reconfigure_hold_ms: Milliseconds = Field(0.0, description="at a slot boundary where the satellite stays")


class Outages(Table):
    per_hour: float = Field(0.0, ge=0, le=3600)
    duration_s: Quantiles = Quantiles(p0=0, p5=0, p50=0, p95=0, p100=0)


class StarlinkLink(Table):
    """Slots of 15 s in UTC, a satellite for each, bent pipe to a gateway, fibre to the point of presence."""

    profile: Literal["starlink"]
    slot_phase_s: float = Field(12.0, ge=0, lt=15, description="slots start at this UTC second, modulo 15")
    fibre_detour: float = Field(
        1.3, ge=1, le=5, description="length of the fibre over the great circle, gateway to PoP"
    )
    uplink: OrbitDirection
    downlink: OrbitDirection
    handover: Handover = Handover()
    outages: Outages = Outages()


LinkProfile = Annotated[FixedLink | StarlinkLink, Field(discriminator="profile")]


class OverlayEvent(Table):
    """A timed change on top of the Timeline; times count from the start of the bench."""

    kind: Literal["outage", "hold", "fade", "extra_delay", "loss"]
    at_s: float = Field(ge=0)
    duration_s: float = Field(gt=0)
    direction: Literal["both", "uplink", "downlink"] = "both"
    fade_db: float = Field(0.0, ge=0, le=100, description="for kind fade")
    extra_delay_ms: Milliseconds = Field(0.0, description="for kind extra_delay")
    loss: Probability = Field(0.0, description="for kind loss: added to the Timeline's")


class Scenario(Table):
    """A whole bench: who talks to whom, through which link."""

    name: str = ""
    description: str = ""
    seed: int = Field(1, ge=0, lt=2**63)
    terminal: Terminal | None = None
    constellation: Constellation | None = None
    gateways: tuple[Gateway, ...] = ()
    pop: PointOfPresence | None = None
    datacenter: Datacenter = Datacenter()
    link: LinkProfile
    ports: Ports = Ports()
    overlay: tuple[OverlayEvent, ...] = ()
    source: Path | None = Field(None, exclude=True, description="the file; relative paths in it count from there")

    @model_validator(mode="after")
    def orbit_needs_a_sky(self) -> Scenario:
        missing = missing_for_a_sky(self.link.profile, vars(self))
        if missing:
            raise ValueError(f"link.profile {self.link.profile!r} needs {', '.join(missing)}")
        return self


def missing_for_a_sky(profile: object, tables: Mapping[str, object]) -> list[str]:
    """The tables that a link with orbits needs and that are absent or empty. Works on a file's tables as on fields."""
    if profile in (None, "fixed"):
        return []
    return [key for key in ("terminal", "constellation", "gateways", "pop") if tables.get(key) in (None, (), [])]
