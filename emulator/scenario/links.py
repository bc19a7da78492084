"""The `[link]` table: one model for each profile, chosen by `link.profile`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from emulator.scenario.fields import (
    Cycle,
    Elevation,
    Longitude,
    Megabits,
    Milliseconds,
    OverheadBytes,
    Probability,
    QueueDiscipline,
    QueuePackets,
    Table,
)
from emulator.scenario.impairments import Impairments
from emulator.scenario.laws import CellShare, Handover, Outages, Quantiles, Radio, Unsettled, Weather, WetWeather
from emulator.units import parse_utc_ns


class FixedDirection(Impairments):
    """What one direction may say for itself; a missing key takes the value for both directions."""

    delay_ms: Milliseconds | None = Field(None, description="as link.delay_ms")
    rate_mbps: Megabits | None = Field(None, description="as link.rate_mbps")
    overhead_bytes: OverheadBytes | None = Field(None, description="as link.overhead_bytes")
    loss: Probability | None = Field(None, description="as link.loss")
    queue_packets: QueuePackets | None = Field(None, description="as link.queue_packets")
    queue_discipline: QueueDiscipline | None = Field(None, description="as link.queue_discipline")
    frame_ms: Cycle | None = Field(None, description="as link.frame_ms")
    grant_ms: Cycle | None = Field(None, description="as link.grant_ms")
    jitter_ms: Milliseconds | None = Field(None, description="as link.jitter_ms")


class PlainLink(Impairments):
    """What every link without a sky has."""

    delay_ms: Milliseconds = Field(0.0, description="one way")
    rate_mbps: Megabits = 0.0
    overhead_bytes: OverheadBytes = 0
    loss: Probability = Field(0.0, description="share of packets lost, each on its own")
    queue_packets: QueuePackets = 1000
    queue_discipline: QueueDiscipline = "drop_tail"
    frame_ms: Cycle = Field(0.0, description="what is sent leaves at the end of its frame of this length; 0 for none")
    grant_ms: Cycle = Field(0.0, description="an idle link begins to send with the next grant, so often; 0 for none")
    jitter_ms: Milliseconds = Field(0.0, description="mean of the random delay, drawn anew every 20 ms; never reorders")
    uplink: FixedDirection = Field(FixedDirection(), description="what differs from terminal to datacenter")
    downlink: FixedDirection = Field(FixedDirection(), description="what differs from datacenter to terminal")


class FixedLink(PlainLink):
    """A link without a sky."""

    profile: Literal["fixed"] = Field("fixed", description="which kind of link this is, and which keys it has")


class TraceDirection(FixedDirection):
    """What one direction of a traced link may say for itself."""

    file: str = Field("", description="trace of this direction; empty: link.file")


class TraceLink(PlainLink):
    """A link that does what was measured on another one; the keys of a fixed link add to that."""

    profile: Literal["trace"] = Field(description="which kind of link this is, and which keys it has")
    file: str = Field("", description="trace: CSV, Mahimahi, TheaterQ, `ping -D`, irtt JSON, dish history, or plan.npz")
    loop: bool = Field(True, description="begin anew at the trace's end; else the link is down before and after")
    starts_utc: str = Field("", description="UTC at which the trace begins (text, in quotes); empty: with the run")
    gap_s: float = Field(60.0, gt=0, le=1e9, description="longest time between two samples; more is a hole")
    halve_rtt: bool = Field(False, description="of irtt: half of the round trip each way, in place of one-way delays")
    delay_ms: Milliseconds = Field(0.0, description="one way, added to the trace's")
    rate_mbps: Megabits = Field(0.0, description="the most, counting IP bytes; 0: the trace's own, or no limit")
    loss: Probability = Field(0.0, description="share of packets lost, on top of the trace's")
    jitter_ms: Milliseconds = Field(0.0, description="mean of the random delay, on top of the trace's")
    uplink: TraceDirection = Field(TraceDirection(), description="what differs from terminal to datacenter")
    downlink: TraceDirection = Field(TraceDirection(), description="what differs from datacenter to terminal")

    @model_validator(mode="after")
    def has_a_trace(self) -> TraceLink:
        if self.starts_utc:
            parse_utc_ns(self.starts_utc)
        if not self.file and not (self.uplink.file and self.downlink.file):
            raise ValueError("expected file, or uplink.file and downlink.file, got neither")
        return self


class SkyDirection(Impairments):
    """What every direction of a link with a sky has."""

    fixed_ms: Milliseconds = Field(description="scheduling and processing, on top of geometry and fibre")
    jitter_ms: Milliseconds = Field(
        0.0, description="mean of the scheduler's jitter, drawn anew every 20 ms; never reorders"
    )
    loss: Probability = Field(0.0, description="loss outside of handovers and outages")
    queue_packets: QueuePackets = 1000
    queue_discipline: QueueDiscipline = "drop_tail"
    frame_ms: Cycle = Field(0.0, description="what is sent leaves at the end of its frame of this length; 0 for none")
    grant_ms: Cycle = Field(0.0, description="an idle link begins to send with the next grant, so often; 0 for none")
    request_ms: Cycle = Field(0.0, description="an idle link asks for capacity and waits so long before it; 0 for none")
    request_kept_ms: Cycle = Field(0.0, description="capacity once given is kept for so long after the last packet")
    request_for: Literal["rate", "volume"] = Field(
        "rate", description="volume: each packet that waits asks for capacity, which serves whoever is next by then"
    )
    overhead_bytes: OverheadBytes = 0


class OrbitDirection(SkyDirection):
    """One direction of a link whose rate is drawn: a distribution stands for what the operator's network does."""

    slot_spread_ms: Milliseconds = Field(0.0, description="largest delay that a slot's schedule adds, drawn per slot")
    rate_mbps: Quantiles = Field(description="rate by slot (Starlink: 15 s, else a minute), counting IP bytes")
    rate_wobble: float = Field(0.0, ge=0, lt=1, description="largest relative change of the rate within a slot")
    clear_sky_cn_db: float = Field(
        12.0, ge=-10, le=40, description="C/N at link.cn_range_km; falls with the square of the range"
    )
    radio: Radio | None = Field(None, description="what the C/N follows from, if not from clear_sky_cn_db")


MOST_EFFICIENT = {"dvb_s2": 4.453027, "dvb_s2x": 5.900855, "dvb_rcs2": 2.965347}  # bit/symbol; emulator/radio/modcod.py


class GeoDirection(SkyDirection):
    """One direction of a link with adaptive coding: its rate follows from symbol rate and C/N."""

    waveform: Literal["dvb_s2", "dvb_s2x", "dvb_rcs2"] = Field(
        "dvb_s2", description="whose MODCODs follow the C/N; dvb_rcs2 is for the return link"
    )
    symbol_rate_mbaud: float = Field(gt=0, le=2000, description="millions of symbols per second")
    clear_sky_cn_db: float = Field(ge=-10, le=40, description="C/N of the whole path, both hops, in the symbol rate")
    receiver_antenna_m: float = Field(gt=0, le=40, description="diameter of the antenna on the ground that receives")
    receiver_ghz: float = Field(gt=0, le=100, description="frequency at which it receives")
    receiver_noise_k: float = Field(gt=0, le=10_000, description="its noise temperature under a clear sky")

    @property
    def rate_mbps(self) -> Quantiles:
        """The most that the direction carries, as the one value of a distribution."""
        most = MOST_EFFICIENT[self.waveform] * self.symbol_rate_mbaud
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


class SkyLink(Table):
    """What every link with a sky has."""

    fibre_detour: float = Field(
        1.3, ge=1, le=5, description="length of the fibre over the great circle, gateway to PoP"
    )
    outages: Outages = Field(Outages(), description="when the link is down")
    weather: Weather = Field(Weather(), description="what rain takes")


class OrbitLink(SkyLink):
    """Satellites that come and go."""

    cn_range_km: float = Field(550.0, gt=0, le=100_000, description="range at which the directions give their C/N")
    uplink: OrbitDirection = Field(description="from terminal to datacenter")
    downlink: OrbitDirection = Field(description="from datacenter to terminal")
    cell_share: CellShare = Field(CellShare(), description="what sharing a cell leaves, by time of day")
    handover: Handover = Field(Handover(), description="what a change of satellite does to the packets")
    weather: WetWeather = Field(WetWeather(), description="what rain takes")


class StarlinkLink(OrbitLink):
    """Slots of 15 s in UTC, a satellite for each, bent pipe to a gateway, fibre to the point of presence."""

    profile: Literal["starlink"] = Field(description="which kind of link this is, and which keys it has")
    slot_phase_s: float = Field(12.0, ge=0, lt=15, description="slots start at this UTC second, modulo 15")
    gso_exclusion_deg: float = Field(  # 18: as recalled of the operator's filings, not verified
        18.0, ge=0, le=40, description="no satellite serves so near to the geostationary arc, seen from the site"
    )
    isl: bool = Field(False, description="the way may lead over other satellites to a gateway")
    boundary_lead_ms: float = Field(
        0.0, ge=0, le=1000, description="how long before a slot's boundary begins what link.handover says"
    )
    unsettled: Unsettled = Field(Unsettled(), description="seconds of each slot in which more is lost")


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
    FixedLink | TraceLink | StarlinkLink | GeoLink | O3bLink | OneWebLink | KuiperLink | IridiumLink | ContactLink,
    Field(discriminator="profile"),
]


def direction_keys(link: LinkProfile, direction: Literal["uplink", "downlink"]) -> Impairments:
    """The keys of a direction; on a link without a sky, its own in front of those for both."""
    own: Impairments = getattr(link, direction)
    if not isinstance(link, PlainLink):
        return own
    return link.model_copy(update={name: value for name, value in own if value is not None})
