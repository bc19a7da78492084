"""From the keys that every direction may have to the options of its link."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emulator.errors import ScenarioError
from emulator.link.distributions import Shape
from emulator.link.link import (
    Bucket,
    Bursts,
    CustomStage,
    Discipline,
    Jitter,
    LaneOptions,
    LinkOptions,
    Markov,
    Opportunities,
    Spells,
    check_options,
)
from emulator.scenario.impairments import Impairments, JitterShape, LossBursts, MarkovLoss, QueueKeys
from emulator.scenario.opportunities import read_opportunities
from emulator.units import NS_PER_MS, NS_PER_S, bits_per_s

SHORTEST_PACKET_BYTES = 60
MOST_QUEUE_PACKETS = 1 << 20  # of a queue that is limited in bytes


def lane_options(
    keys: QueueKeys, packets: int, discipline: Discipline, bdp_bytes: float, least_bytes: int
) -> LaneOptions:
    """The queue that the keys describe. packets: as given, or by default; bdp_bytes: rate × round trip.

    A limit in bytes takes the place of a default one in packets, and is at least `least_bytes`: one packet must fit.
    """
    limit = keys.queue_bytes or 0
    if keys.queue_bdp is not None:
        if bdp_bytes == 0:
            raise ValueError("queue_bdp: expected a link with a rate and a delay")
        limit = min(limit or 1 << 40, max(1, round(keys.queue_bdp * bdp_bytes)))
    if limit:
        limit = max(limit, least_bytes)
        if "queue_packets" not in keys.model_fields_set:
            packets = min(MOST_QUEUE_PACKETS - 1, limit // SHORTEST_PACKET_BYTES + 1)
    return LaneOptions(
        packets,
        queue_bytes=limit,
        discipline=discipline,
        target_ns=_ns(keys.queue_target_ms or 0),
        interval_ns=_ns(keys.queue_interval_ms or 100),
        longest_wait_ns=_ns(keys.queue_ms or 0),
        ecn=bool(keys.ecn),
        flows=keys.queue_flows or 1024,
    )


def impairment_options(keys: Impairments, folder: Path | None) -> dict[str, Any]:
    """What the keys say beside the queue, by the names of `LinkOptions`. folder: where the scenario is.

    Raises ScenarioError for a trace of opportunities that cannot be read.
    """
    found: dict[str, Any] = {
        "lost_packets": keys.lost_packets or (),
        "bit_error_rate": keys.bit_error_rate or 0.0,
        "spoilt": keys.corrupt or 0.0,
        "copied": keys.duplicate or 0.0,
    }
    if keys.shaper is not None:
        found["bucket"] = Bucket(bits_per_s(keys.shaper.rate_mbps), keys.shaper.burst_bytes)
    if keys.opportunities is not None:
        instants = read_opportunities(Path(keys.opportunities.file))
        found["opportunities"] = Opportunities(instants, keys.opportunities.packet_bytes)
    if keys.bursts is not None:
        found |= _bursts(keys.bursts)
    if keys.markov is not None:
        found["markov"] = _markov(keys.markov)
    if keys.reorder is not None:
        found |= {"late": keys.reorder.share, "late_ns": _ns(keys.reorder.late_ms)}
    if keys.jitter is not None:
        found |= {"jitter": _jitter(keys.jitter), "jitter_bin_ns": _ns(keys.jitter.step_ms)}
    if keys.stage is not None:
        found["stage"] = CustomStage(keys.stage, "" if folder is None else str(folder), keys.stage_values or ())
    return found


def checked(options: LinkOptions, where: str) -> LinkOptions:
    """The options, if a link can be made of them. Raises ScenarioError, whose message begins with `where`, if not."""
    try:
        check_options(options)
    except ScenarioError:
        raise
    except ValueError as error:
        raise ScenarioError([f"{where}: {error}"]) from error
    return options


def _bursts(keys: LossBursts) -> dict[str, Any]:
    gap_ns, length_ns = round(keys.every_s * NS_PER_S), _ns(keys.length_ms)
    if keys.lengths == "geometric":
        return {"bursts": Bursts(gap_ns, length_ns, keys.loss)}
    shape: Shape = "constant" if keys.lengths == "histogram" else keys.lengths
    lengths_ns = tuple(_ns(length) for length in keys.lengths_ms)
    return {"spells": Spells(gap_ns, length_ns, shape, keys.spread, lengths_ns, keys.weights, keys.loss)}


def _markov(keys: MarkovLoss) -> Markov:
    return Markov(_ns(keys.step_ms), keys.loss, keys.transitions)


def _jitter(keys: JitterShape) -> Jitter:
    return Jitter(keys.distribution, keys.spread, keys.samples_ms, keys.correlation, keys.overtakes)


def _ns(milliseconds: float) -> int:
    return round(milliseconds * NS_PER_MS)
