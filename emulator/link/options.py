"""What a direction of the link is: the options that Python callers give, checked where they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from emulator.link import state
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Ints
from emulator.units import NS_PER_MS, NS_PER_US

Discipline = Literal["drop_tail", "drop_front", "codel"]
DISCIPLINES: dict[Discipline, int] = {
    "drop_tail": state.DROP_TAIL,
    "drop_front": state.DROP_FRONT,
    "codel": state.CODEL,
}


@dataclass(frozen=True)
class LaneOptions:
    """The queue of a class. queue_bytes: 0 for no limit of its own. target_ns, interval_ns: CoDel's (RFC 8289)."""

    queue_packets: int = 1000
    queue_bytes: int = 0
    discipline: Discipline = "drop_tail"
    target_ns: int = 5 * NS_PER_MS
    interval_ns: int = 100 * NS_PER_MS


@dataclass(frozen=True)
class Rule:
    """Packets that fit go to `lane`. protocol: an IP protocol number; ports: first and last; −1 fits everything."""

    lane: int
    protocol: int = -1
    dscp: int = -1
    ports: tuple[int, int] = (-1, -1)


@dataclass(frozen=True)
class Bursts:
    """Bursts of loss in time: mean time between two, mean length, loss within, and the bin in which time is counted.

    Lengths and gaps are geometric, in bins; a bin of 0 stands for a 256th of the shorter mean, at least 1 µs.
    Raises ValueError if a mean is shorter than two bins.
    """

    gap_ns: int
    length_ns: int
    loss: float = 1.0
    bin_ns: int = 0

    def __post_init__(self) -> None:
        shorter = min(self.gap_ns, self.length_ns)
        if self.bin_ns == 0:
            object.__setattr__(self, "bin_ns", max(NS_PER_US, shorter // 256))
        if not 0 < 2 * self.bin_ns <= shorter:
            raise ValueError(f"bursts: expected mean gap and length of at least two bins of {self.bin_ns} ns")
        if not 0 <= self.loss <= 1:
            raise ValueError(f"bursts: expected a loss from 0 to 1, got {self.loss}")


@dataclass(frozen=True)
class LinkOptions:
    """What a direction of the link is, apart from its channel.

    queue_packets: limit of the one drop-tail queue, unless there are lanes: queues in order of precedence, of which the
    last takes what no rule fits. overhead_bytes: added to each packet on the air. egress_rate_bps: line rate behind the
    link, 0 for none. frame_ns: what has been sent leaves at the end of its frame. grant_ns: an idle link begins to send
    with the next grant; 0 for none of either. request_ns: before that it asks for capacity, so long, unless it sent
    within request_kept_ns. bursts: of loss, on top of the channel's. jitter_bin_ns: how long a value of the jitter
    lasts. memory_bytes: ceiling of the delay line's bytes, a power of two. flight_packets: most wire
    packets on the air, a power of two. ethernet: frames begin with an Ethernet header, which travels along and does not
    count. longest_packet: longer IP packets are dropped, 0 for none. efficiency: spectral efficiency by C/N in steps of
    0.1 dB, `efficiency_zero` the index of 0 dB; None: fades have no effect. ledger_events: room for notes of what
    became of each packet; 0: none.
    """

    queue_packets: int = 1000
    lanes: tuple[LaneOptions, ...] = ()
    rules: tuple[Rule, ...] = ()
    overhead_bytes: int = 0
    egress_rate_bps: int = 0
    frame_ns: int = 0
    grant_ns: int = 0
    request_ns: int = 0
    request_kept_ns: int = 0
    bursts: Bursts | None = None
    jitter_bin_ns: int = 20 * NS_PER_MS
    memory_bytes: int = 1 << 26
    flight_packets: int = 1 << 16
    ethernet: bool = False
    longest_packet: int = 0
    efficiency: Ints | None = None
    efficiency_zero: int = 0
    ledger_events: int = 0


@dataclass(frozen=True)
class Change:
    """A timed change of one direction, [start_ns, end_ns) of the monotonic clock."""

    start_ns: int
    end_ns: int
    gate: Gate = Gate.PASS
    cause: Cause = Cause.NONE
    fade_centidb: int = 0
    extra_delay_ns: int = 0
    loss: float = 0.0
    jitter_ns: int = 0
