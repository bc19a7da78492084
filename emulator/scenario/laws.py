"""What happens to a link in time: quantiles of a random quantity, handovers, outages."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from emulator.scenario.fields import Milliseconds, Table


class Quantiles(Table):
    """A distribution given by its quantiles, straight lines between them."""

    p0: float = Field(ge=0, description="the least")
    p5: float = Field(ge=0, description="5 % lie below")
    p50: float = Field(ge=0, description="the median")
    p75: float | None = Field(None, ge=0, description="75 % lie below; unless given, on the line from p50 on")
    p90: float | None = Field(None, ge=0, description="90 % lie below; unless given, on the line to p95")
    p95: float = Field(ge=0, description="95 % lie below")
    p100: float = Field(ge=0, description="the most")
    most_share: float = Field(
        0.0, ge=0, lt=0.5, description="share of the draws that are the most itself; above 0, p95 must be p100"
    )

    @property
    def points(self) -> tuple[tuple[float, float], ...]:
        """Those that are given: (share below it, value), from the least on."""
        values = (self.p0, self.p5, self.p50, self.p75, self.p90, self.p95, self.p100)
        shares = (0.0, 0.05, 0.5, 0.75, 0.9, min(0.95, 1 - self.most_share), 1.0)
        return tuple((share, value) for share, value in zip(shares, values, strict=True) if value is not None)

    @model_validator(mode="after")
    def rising(self) -> Quantiles:
        values = [value for _, value in self.points]
        if values != sorted(values):
            raise ValueError(f"expected p0 ≤ p5 ≤ p50 ≤ p75 ≤ p90 ≤ p95 ≤ p100, got {tuple(values)}")
        if self.most_share and self.p95 < self.p100:
            raise ValueError(f"most_share: expected 0 where p95 is below p100, got {self.most_share:g}")
        if self.most_share and (self.p75, self.p90) != (None, None):
            raise ValueError(f"most_share: expected 0 beside p75 or p90, got {self.most_share:g}")
        return self


class Handover(Table):
    """What happens at a slot boundary, in phases: first drop, then hold, then the queue leaves in order."""

    drop_ms: Milliseconds = Field(0.0, description="after a change of satellite")
    drop_direction: Literal["both", "uplink", "downlink"] = Field(
        "both", description="in which packets are lost then; in the other they wait"
    )
    hold_ms: Milliseconds = Field(0.0, description="after the drop phase of a change of satellite")
    reconfigure_hold_ms: Milliseconds = Field(
        0.0, description="where the satellite stays: at each of Starlink's slot boundaries, else at a change of gateway"
    )


NO_TIME = Quantiles(p0=0, p5=0, p50=0, p95=0, p100=0)


class OutageKind(Table):
    """Outages of one cause, by the names that a Starlink dish gives to them."""

    cause: Literal["no_downlink", "no_pings", "obstructed", "no_schedule", "booting"] = Field(
        description="what the drops are counted as"
    )
    per_hour: float = Field(ge=0, le=3600, description="how many begin in an hour, on average")
    duration_s: Quantiles = Field(NO_TIME, description="how long they last")
    until_slot: bool = Field(False, description="go on until the next slot begins (Starlink: 15 s, else a minute)")
    direction: Literal["both", "uplink", "downlink"] = Field("both", description="in which nothing gets through")


class Outages(Table):
    """Times at which nothing gets through, in either direction, at random."""

    per_hour: float = Field(0.0, ge=0, le=3600, description="how many begin in an hour, on average")
    duration_s: Quantiles = Field(NO_TIME, description="how long they last")
    kinds: tuple[OutageKind, ...] = Field((), max_length=16, description="the same by cause, on top of these")


class Weather(Table):
    """Rain, clouds and scintillation over the terminal as a series in time, with the site's climate and seasons
    (ITU-R P.618, P.837, P.840, P.1853).
    """

    rain: bool = Field(False, description="whether there is weather; it takes from the C/N, which the rate follows")
    uplink_ghz: float = Field(14.25, ge=1, le=100, description="frequency at which the terminal sends")
    downlink_ghz: float = Field(11.7, ge=1, le=100, description="frequency at which the terminal receives")
    tilt_deg: float = Field(45.0, ge=0, le=90, description="of the polarization; 45 for circular")
    antenna_m: float = Field(0.6, gt=0, le=40, description="diameter of the terminal's: a larger one twinkles less")
    rain_rate_mm_h: float | None = Field(
        None, ge=0, le=300, description="exceeded 0.01 % of the time; default: of the site, by ITU-R P.837"
    )


class WetWeather(Weather):
    """What rain does beyond the C/N, as measured: links whose rate is drawn have no waveform that tells it."""

    wet_uplink_rate: float = Field(
        1.0, gt=0, le=1, description="share of the drawn rate that is left at most while it rains"
    )
    wet_downlink_rate: float = Field(1.0, gt=0, le=1, description="the same towards the terminal")
    wet_loss: float = Field(0.0, ge=0, le=1, description="what is lost in addition while it rains")


class Radio(Table):
    """Transmitter and receiver of a direction whose C/N follows from them, instead of from `clear_sky_cn_db`."""

    eirp_dbw: float = Field(ge=-50, le=120, description="of who sends, dBW")
    g_over_t_db: float = Field(ge=-60, le=60, description="of who receives, dB/K")
    frequency_ghz: float = Field(ge=0.1, le=100, description="carrier")
    bandwidth_mhz: float = Field(gt=0, le=5000, description="in which noise counts")
    pointing_loss_db: float = Field(0.0, ge=0, le=30, description="of both antennas together")
    scan_exponent: float = Field(0.0, ge=0, le=3, description="loss of an array that faces the zenith, as cosine to it")
    interference_db: float | None = Field(None, ge=-20, le=80, description="C/I that other beams leave; default: none")


class CellShare(Table):
    """How much of its rate a terminal gets by local solar time: least at the busy hour, all of it twelve hours away."""

    least: float = Field(1.0, gt=0, le=1, description="share of the drawn rate at the busy hour; 1: no sharing")
    busy_hour: float = Field(20.5, ge=0, lt=24, description="local solar time of the busiest hour")


class Unsettled(Table):
    """Seconds of a slot, counted from its boundary, in which loss is multiplied."""

    from_s: int = Field(0, ge=0, le=15, description="first second")
    to_s: int = Field(0, ge=0, le=15, description="second at which it is over")
    loss_factor: float = Field(1.0, ge=0, le=1000, description="times the direction's loss, to 1 at most")
