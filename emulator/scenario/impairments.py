"""What a direction's packet path does beside its channel: queue, shaping, bursts of loss, damage, jitter, own stage.

One set of keys for every kind of link (docs/impairments.md shows each); a key that is not given is not there.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from emulator.scenario.fields import Milliseconds, Probability, Table

Shape = Literal["exponential", "uniform", "normal", "lognormal", "constant"]
Spread = Annotated[float, Field(ge=0, le=3)]
WIDEST = {  # as of emulator/link/distributions.py
    "uniform": 1 / math.sqrt(3),  # wider, and it would begin below 0
    "normal": math.sqrt(math.pi - 1),  # wider, and more than half of it would be cut off
}


def spread_fits(shape: str, spread: float) -> None:
    """Raises ValueError for a spread that the shape cannot have."""
    if spread > WIDEST.get(shape, spread):
        raise ValueError(f"spread: expected at most {WIDEST[shape]:.3f} with {shape!r}, got {spread}")


class LossBursts(Table):
    """Bursts of loss in time: the same burst spans 10 and 10,000 packets/s."""

    every_s: float = Field(
        ge=0.001, le=1e6, description="mean time between two bursts, from the end of one until the next begins"
    )
    length_ms: float = Field(
        ge=1,
        le=3.6e6,
        description="mean length of a burst; geometric: in steps of a 256th of the shorter of both means",
    )
    loss: Probability = Field(1.0, description="share of packets lost within a burst")
    lengths: Literal["geometric", "uniform", "normal", "lognormal", "constant", "histogram"] = Field(
        "geometric", description="law of the lengths; geometric: a Gilbert-Elliott process"
    )
    spread: Spread = Field(
        1.0, description="of uniform, normal (cut off at 0) and lognormal lengths: deviation over mean"
    )
    lengths_ms: tuple[Annotated[float, Field(ge=0, le=3.6e6)], ...] = Field(
        (), description="the lengths of a histogram, which length_ms then has no part in"
    )
    weights: tuple[Annotated[int, Field(ge=0, le=10**9)], ...] = Field(
        (), description="how often each of them occurs; all alike unless given"
    )

    @model_validator(mode="after")
    def fits_together(self) -> LossBursts:
        spread_fits(self.lengths, self.spread)
        if (self.lengths == "histogram") != bool(self.lengths_ms):
            raise ValueError("lengths_ms: expected with lengths 'histogram', and only there")
        if self.weights and (len(self.weights) != len(self.lengths_ms) or sum(self.weights) == 0):
            raise ValueError("weights: expected one for each of lengths_ms, not all 0")
        return self


class MarkovLoss(Table):
    """Loss that follows a Markov chain of two to four states in time."""

    step_ms: float = Field(1.0, ge=0.001, le=1e6, description="time from one transition to the next")
    loss: tuple[Probability, ...] = Field(min_length=2, max_length=4, description="share of packets lost in each state")
    transitions: tuple[tuple[Probability, ...], ...] = Field(
        min_length=2,
        max_length=4,
        description="a row for each state: the odds of each following one, 1 together",
    )

    @model_validator(mode="after")
    def fits_together(self) -> MarkovLoss:
        states = len(self.loss)
        if [len(row) for row in self.transitions] != [states] * states:
            raise ValueError(f"transitions: expected {states} rows of {states} odds, one for each state of `loss`")
        if bad := [row for row in self.transitions if abs(sum(row) - 1) > 1e-6]:
            raise ValueError(f"transitions: expected rows that add up to 1, got {list(bad[0])}")
        return self


class Shaper(Table):
    """A token bucket before the server: what leaves in any time is at most the bucket and what has flown into it."""

    rate_mbps: float = Field(ge=1e-6, le=100_000, description="what fills the bucket")
    burst_bytes: int = Field(ge=1, le=10**8, description="what it holds; a longer packet waits until it is full")


class OpportunityTrace(Table):
    """Mahimahi's packet-delivery trace, in the place of a rate."""

    file: str = Field(min_length=1, description="a line of milliseconds for each delivery opportunity; repeated")
    packet_bytes: int = Field(
        1504, ge=1, le=65_535, description="bytes that one opportunity carries; Mahimahi counts 4 more than IP does"
    )


class Reordering(Table):
    """Packets that others may overtake."""

    share: Probability = Field(description="of packets, each on its own")
    late_ms: Milliseconds = Field(description="how late they come")


class JitterShape(Table):
    """What the random delay is like; `jitter_ms` is its mean."""

    distribution: Shape = Field("exponential", description="of the delay")
    spread: Spread = Field(0.5, description="of uniform, normal (cut off at 0) and lognormal: deviation over mean")
    samples_ms: tuple[Annotated[float, Field(ge=0, le=60_000)], ...] = Field(
        (), max_length=100_000, description="measured delays instead, of which the shape counts, scaled to jitter_ms"
    )
    correlation: float = Field(0.0, ge=0, le=0.99, description="of one step with the next")
    step_ms: float = Field(20.0, ge=0.001, le=60_000, description="how long a value lasts")
    overtakes: bool = Field(False, description="whether a packet may overtake another; egress_rate_mbps is then moot")

    @model_validator(mode="after")
    def fits_together(self) -> JitterShape:
        spread_fits(self.distribution, self.spread)
        if self.samples_ms and sum(self.samples_ms) == 0:
            raise ValueError("samples_ms: expected delays that are not all 0")
        return self


class QueueKeys(Table):
    """What every queue may have."""

    queue_bytes: Annotated[int, Field(ge=1, le=10**9)] | None = Field(
        None, description="IP bytes that may wait; takes the place of queue_packets unless that is given, too"
    )
    queue_bdp: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        None, description="the same, as a multiple of rate × round trip"
    )
    queue_ms: Annotated[float, Field(gt=0, le=60_000)] | None = Field(
        None, description="longest wait: what has waited longer when its turn comes, or during a hold, is dropped"
    )
    queue_target_ms: Annotated[float, Field(gt=0, le=10_000)] | None = Field(
        None, description="wait that CoDel (5 unless given), FQ-CoDel (5) and PIE (15) aim at"
    )
    queue_interval_ms: Annotated[float, Field(gt=0, le=60_000)] | None = Field(
        None, description="CoDel's interval, 100 unless given"
    )
    queue_flows: Annotated[int, Field(ge=1, le=65_536)] | None = Field(
        None, description="FQ-CoDel's queues for flows, 1024 unless given"
    )
    ecn: bool | None = Field(None, description="CoDel, FQ-CoDel and PIE mark what takes part in ECN (RFC 3168)")


class Impairments(QueueKeys):
    """What every direction may have."""

    shaper: Shaper | None = Field(None, description="a token bucket")
    opportunities: OpportunityTrace | None = Field(None, description="a trace of delivery opportunities")
    bursts: LossBursts | None = Field(
        None, description="bursts of loss; in one, the larger of its loss and `loss` counts"
    )
    markov: MarkovLoss | None = Field(
        None, description="a Markov chain of loss; the larger of its state's and `loss` counts"
    )
    lost_packets: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, max_length=1_000_000, description="numbers of packets that are lost, counted from 1 as they are offered"
    )
    bit_error_rate: Annotated[float, Field(ge=0, le=0.01)] | None = Field(
        None, description="a packet is lost with any of its bits, overhead_bytes included"
    )
    corrupt: Probability | None = Field(None, description="share of packets with a bit flipped, checksum made before")
    duplicate: Probability | None = Field(None, description="share of packets that come twice")
    reorder: Reordering | None = Field(None, description="packets that others overtake")
    jitter: JitterShape | None = Field(None, description="what the random delay of jitter_ms is like")
    stage: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = Field(
        None, description="a function of your own in the path: package.module:function (docs/custom_stage.md)"
    )
    stage_values: tuple[int, ...] | None = Field(None, max_length=64, description="what its memory begins with")

    @model_validator(mode="after")
    def exclude_each_other(self) -> Impairments:
        geometric = self.bursts is not None and self.bursts.lengths == "geometric"
        if geometric and self.markov is not None:
            raise ValueError("markov: expected instead of bursts of geometric lengths, not beside them")
        if self.opportunities is not None and self.shaper is not None:
            raise ValueError("opportunities: expected instead of a shaper, not beside it")
        return self
