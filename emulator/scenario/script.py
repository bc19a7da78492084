"""The `[[script]]` of a scenario: what is done to a running bench, and when; the same words in TOML and in Python."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from emulator.scenario.fields import Altitude, Latitude, Longitude, Milliseconds, Probability, Table

AMOUNTS = {"fade": "fade_db", "extra_delay": "extra_delay_ms", "loss": "loss", "jitter": "jitter_ms"}
"""Kind of a change → the key that says how much."""
OVERLAY_ACTIONS = ("outage", "hold", "fade", "extra_delay", "jitter", "loss")
AT = r"^(\d+(\.\d+)?s|next-(slot|handover|outage|contact))$"
COUNTER = (
    r"^(uplink|downlink)\.((offered|delivered|held|dropped|queued)_packets|(offered|delivered)_bytes|dropped\.[a-z_]+)$"
)


class Condition(Table):
    """What a step waits for: the first moment at which all that is said here holds."""

    elevation_deg_above: float | None = Field(None, ge=-90, le=90, description="of the serving satellite")
    elevation_deg_below: float | None = Field(None, ge=-90, le=90, description="the same, or none serves")
    counter: Annotated[str, Field(pattern=COUNTER)] | None = Field(
        None, description="such as downlink.delivered_packets or uplink.dropped.queue, since the start of the bench"
    )
    above: float | None = Field(None, ge=0, description="what the counter passes")
    within_s: float = Field(3600.0, gt=0, le=864_000, description="then it never happens, and the next step follows")

    @model_validator(mode="after")
    def says_something(self) -> Condition:
        if (self.counter is None) != (self.above is None):
            raise ValueError("expected counter and above together")
        if self.counter is None and self.elevation_deg_above is None and self.elevation_deg_below is None:
            raise ValueError("expected an elevation or a counter, got neither")
        return self


class Step(Table):
    """One step. Steps follow each other: `next-…` and `when` look from the moment of the step before."""

    at: Annotated[str, Field(pattern=AT)] | None = Field(
        None, description="30s after the start of the bench; next-slot, next-handover, next-outage, next-contact"
    )
    when: Condition | None = Field(None, description="in place of `at`")
    action: Literal[
        "outage", "hold", "fade", "extra_delay", "jitter", "loss", "obstruct", "reboot", "move", "inject", "mark"
    ] = Field(description="obstruct: as an outage, by an obstacle; reboot: of the terminal; mark: only a note")
    duration_s: float = Field(
        1.0, gt=0, le=864_000, description="of what lasts; reboot: until it carries traffic again"
    )
    direction: Literal["both", "uplink", "downlink"] = Field("both", description="what it acts on; inject: not both")
    fade_db: float = Field(0.0, ge=0, le=100, description="for fade")
    extra_delay_ms: Milliseconds = Field(0.0, description="for extra_delay")
    jitter_ms: Milliseconds = Field(0.0, description="for jitter: mean of what is added to the access jitter")
    loss: Probability = Field(0.0, description="for loss")
    packet: str = Field("", description="for inject: an expression of scapy")
    latitude_deg: Latitude | None = Field(None, description="for move")
    longitude_deg: Longitude | None = Field(None, description="for move")
    altitude_m: Altitude = Field(0.0, description="for move")
    label: str = Field("", description="what reports call it")

    @model_validator(mode="after")
    def fits_together(self) -> Step:
        if (self.at is None) == (self.when is None):
            raise ValueError("expected either at or when")
        if self.action == "inject" and (not self.packet or self.direction == "both"):
            raise ValueError("inject: expected packet, and direction 'uplink' or 'downlink'")
        if self.action == "move" and (self.latitude_deg is None or self.longitude_deg is None):
            raise ValueError("move: expected latitude_deg and longitude_deg")
        amount = AMOUNTS.get(self.action)
        if amount is not None and not getattr(self, amount) > 0:
            raise ValueError(f"{self.action}: expected {amount} above 0, got {getattr(self, amount):g}")
        return self

    @property
    def trigger(self) -> str:
        """When it is done, in words."""
        if self.at is not None:
            return self.at
        assert self.when is not None
        said = self.when.model_dump(exclude_none=True, exclude={"within_s"})
        return "when " + ", ".join(f"{key} {value}" for key, value in said.items())

    @property
    def name(self) -> str:
        """What reports call it."""
        if self.label:
            return self.label
        return f"{self.action}, {self.duration_s:g} s" if self.action not in ("mark", "inject", "move") else self.action
