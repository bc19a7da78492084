"""The proof behind a verdict: whether the emulation kept up while the link was judged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from emulator.ports.lateness import LATEST_US, lateness_in_words
from emulator.testing.performance.statistics import histogram_percentile
from emulator.testing.record import CAUSE_WORDS, Evidence
from emulator.timeline.causes import Cause
from emulator.units import count_of

if TYPE_CHECKING:
    from emulator.bench import Counters
    from emulator.link.link import DirectionCounters

BESIDE_THE_LINK = (Cause.PORT_QUEUE, Cause.EGRESS, Cause.MEMORY, Cause.TRANSPORT)


@dataclass(frozen=True)
class Limits:
    """How far the emulation may fall behind before nothing is proven any more.

    lateness_p99_us: what a delay of some ms can be wrong by and still be told from another. ingress_wait_us: the same
    for the one packet that waited longest.
    """

    lateness_p99_us: int = 5_000
    ingress_wait_us: int = 100_000
    starved: int = 0
    beside_the_link: int = 0


DEFAULT_LIMITS = Limits()


def evidence_between(before: Counters | None, after: Counters) -> Evidence:
    """What two snapshots of one bench prove of the time between them; `before` None: of all its life so far."""
    late = after.relay.lateness_us.copy()
    starved, broken = after.relay.starved, after.relay.broken_batches
    beside = {cause: sum(_dropped(after, cause)) for cause in BESIDE_THE_LINK}
    if before is not None:
        late -= before.relay.lateness_us
        starved -= before.relay.starved
        broken -= before.relay.broken_batches
        beside = {cause: count - sum(_dropped(before, cause)) for cause, count in beside.items()}
    percentiles = [histogram_percentile(late, percent) or 0 for percent in (50, 99, 100)]
    return Evidence(
        packets=int(late.sum()),
        lateness_p50_us=percentiles[0],
        lateness_p99_us=percentiles[1],
        lateness_worst_us=percentiles[2],
        ingress_wait_worst_us=after.relay.ingress_wait_worst_ns // 1000,
        starved=starved,
        broken_batches=broken,
        beside_the_link={cause.name: count for cause, count in beside.items() if count},
        conserved=after.uplink.add_up and after.downlink.add_up,
    )


def _dropped(counters: Counters, cause: Cause) -> tuple[int, int]:
    return counters.uplink.dropped.get(cause, 0), counters.downlink.dropped.get(cause, 0)


def faults(evidence: Evidence, limits: Limits | None = None) -> tuple[str, ...]:
    """Why nothing is proven, a line each; empty if the emulation kept up. Without limits: the evidence's own."""
    if limits is None:
        allowed_us = evidence.lateness_allowed_us
        limits = DEFAULT_LIMITS if allowed_us is None else replace(DEFAULT_LIMITS, lateness_p99_us=allowed_us)
    found = []
    if not evidence.conserved:
        found.append("packets are missing: offered + copied is not delivered + dropped + held")
    if evidence.lateness_p99_us > limits.lateness_p99_us:
        found.append(
            f"1 % of {evidence.packets:,} packets left more than {evidence.lateness_p99_us / 1000:g} ms after "
            f"their due time, allowed are {limits.lateness_p99_us / 1000:g} ms"
        )
    if evidence.ingress_wait_worst_us > limits.ingress_wait_us:
        found.append(
            f"a packet may have waited {evidence.ingress_wait_worst_us / 1000:.1f} ms before its arrival was stamped, "
            f"allowed are {limits.ingress_wait_us / 1000:g} ms"
        )
    if evidence.starved > limits.starved:
        found.append(f"{count_of(evidence.starved, 'packet')} came before the link was planned for their time")
    if evidence.broken_batches:
        found.append(f"not understood between the processes: {evidence.broken_batches} batches")
    beside = sum(evidence.beside_the_link.values())
    if beside > limits.beside_the_link:
        words = ", ".join(f"{CAUSE_WORDS[name]} {count}" for name, count in evidence.beside_the_link.items())
        found.append(f"dropped beside the link: {count_of(beside, 'packet')}: {words}")
    return tuple(found)


def in_words(evidence: Evidence) -> str:
    """The evidence on one line."""
    p50, p99, worst = (
        lateness_in_words(us) for us in (evidence.lateness_p50_us, evidence.lateness_p99_us, evidence.lateness_worst_us)
    )
    at_most = "at most" if evidence.lateness_worst_us < LATEST_US else "the latest"
    crossed = "no packet crossed"
    if evidence.packets:
        crossed = f"{count_of(evidence.packets, 'packet')} left late by p50 {p50}, p99 {p99}, {at_most} {worst}"
    return (
        f"{crossed}; {sum(evidence.beside_the_link.values())} dropped beside the link; "
        f"{'every packet accounted for' if evidence.conserved else 'packets are missing'}"
    )


def counted(name: str, direction: DirectionCounters) -> str:
    """What a direction was offered, and what became of it, on one line."""
    causes = ", ".join(f"{CAUSE_WORDS[cause.name]} {count}" for cause, count in direction.dropped.items() if count)
    return (
        f"{name}: {count_of(direction.offered_packets, 'packet')} offered, {direction.delivered_packets} delivered, "
        f"{direction.dropped_packets} dropped{f' ({causes})' if causes else ''}, {direction.held_packets} under way"
    )
