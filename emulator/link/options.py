"""What a direction of the link is: the options that Python callers give, checked where they are made."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from emulator.link import state
from emulator.link.distributions import Shape
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Ints
from emulator.units import NS_PER_MS, NS_PER_US

Discipline = Literal["drop_tail", "drop_front", "codel", "pie", "fq_codel"]
DISCIPLINES: dict[Discipline, int] = {
    "drop_tail": state.DROP_TAIL,
    "drop_front": state.DROP_FRONT,
    "codel": state.CODEL,
    "pie": state.PIE,
    "fq_codel": state.FQ_CODEL,
}
TARGET_NS: dict[Discipline, int] = {"pie": 15 * NS_PER_MS}  # RFC 8033 section 4.2
CODEL_TARGET_NS = 5 * NS_PER_MS  # RFC 8289 section 4.3


@dataclass(frozen=True)
class LaneOptions:
    """The queue of a class.

    queue_bytes, longest_wait_ns: 0 for no limit of that kind. target_ns: of the wait; 0 for what the discipline's RFC
    says. interval_ns: CoDel's (RFC 8289). ecn: mark what takes part, instead of dropping it (RFC 3168).
    flows, quantum_bytes: FQ-CoDel's (RFC 8290).
    """

    queue_packets: int = 1000
    queue_bytes: int = 0
    discipline: Discipline = "drop_tail"
    target_ns: int = 0
    interval_ns: int = 100 * NS_PER_MS
    longest_wait_ns: int = 0
    ecn: bool = False
    flows: int = 1024
    quantum_bytes: int = 1514


@dataclass(frozen=True)
class Rule:
    """Packets that fit go to `lane`. protocol: an IP protocol number; ports: first and last; −1 fits everything.

    network: (IP version, leading bits, address as a number) of the source or of the destination; version 0 fits all.
    """

    lane: int
    protocol: int = -1
    dscp: int = -1
    ports: tuple[int, int] = (-1, -1)
    network: tuple[int, int, int] = (0, 0, 0)


def _expect_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a loss from 0 to 1, got {value}")


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
        shortest = min(self.gap_ns, self.length_ns)
        bin_ns = self.bin_ns or max(NS_PER_US, shortest // 256)
        if not 0 < 2 * bin_ns <= shortest:
            raise ValueError(f"bursts: expected mean gap and length of at least two bins of {bin_ns} ns")
        object.__setattr__(self, "bin_ns", bin_ns)
        _expect_share("bursts", self.loss)


@dataclass(frozen=True)
class Markov:
    """Loss that follows a Markov chain of two to four states in time.

    losses: within each state. transitions: from each state to each, per step of `step_ns`; each row adds up to 1.
    Raises ValueError if the numbers do not fit together.
    """

    step_ns: int
    losses: tuple[float, ...]
    transitions: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        states = len(self.losses)
        if not 2 <= states <= 4 or [len(row) for row in self.transitions] != [states] * states:
            raise ValueError("markov: expected 2 to 4 losses and as many rows of as many transitions")
        if any(abs(sum(row) - 1) > 1e-6 or min(row) < 0 for row in self.transitions):
            raise ValueError("markov: expected transitions of 0 or more that add up to 1 in each row")
        if self.step_ns <= 0:
            raise ValueError(f"markov: expected a step of more than 0 ns, got {self.step_ns}")
        for loss in self.losses:
            _expect_share("markov", loss)


@dataclass(frozen=True)
class Spells:
    """Bursts of loss whose lengths follow any law: mean time from the end of one to the next, and the lengths' table.

    length_ns: mean; shape and spread as in `quantile_table`; or lengths_ns with weights, as measured.
    Raises ValueError for a mean below 1 µs, and for weights that do not fit the lengths.
    """

    gap_ns: int
    length_ns: int
    shape: Shape = "lognormal"
    spread: float = 1.0
    lengths_ns: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()
    loss: float = 1.0

    def __post_init__(self) -> None:
        if min(self.gap_ns, self.length_ns) < NS_PER_US:
            raise ValueError(f"bursts: expected mean gap and length of at least {NS_PER_US} ns")
        if self.weights and (
            len(self.weights) != len(self.lengths_ns) or min(self.weights) < 0 or not any(self.weights)
        ):
            raise ValueError("bursts: expected a weight of 0 or more for each length, and one above 0")
        _expect_share("bursts", self.loss)


@dataclass(frozen=True)
class Jitter:
    """What random delays are like, beside their mean, which the channel says.

    shape, spread: as in `quantile_table`; samples: measured values instead, of which only the shape counts.
    correlation: of the normal scores of consecutive bins, 0 to below 1. overtakes: a packet may overtake another.
    """

    shape: Shape = "exponential"
    spread: float = 1.0
    samples: tuple[float, ...] = ()
    correlation: float = 0.0
    overtakes: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.correlation <= 0.99:
            raise ValueError(f"jitter: expected a correlation from 0 to 0.99, got {self.correlation}")
        if self.samples and not (min(self.samples) >= 0 and sum(self.samples) > 0):
            raise ValueError("jitter: expected samples of 0 or more that are not all 0")


@dataclass(frozen=True)
class Bucket:
    """A token bucket before the server: bits per second that fill it, and how many bytes it holds."""

    rate_bps: int
    burst_bytes: int

    def __post_init__(self) -> None:
        if self.rate_bps < 1 or not 1 <= self.burst_bytes <= 10**8:
            raise ValueError("bucket: expected a rate of at least 1 bit/s and a burst of 1 to 10**8 bytes")


@dataclass(frozen=True)
class Opportunities:
    """Mahimahi's delivery opportunities: instants that repeat, the last one being the period, and bytes for each."""

    instants_ns: tuple[int, ...]
    packet_bytes: int = 1504

    def __post_init__(self) -> None:
        instants = np.array(self.instants_ns, np.int64)
        if len(instants) == 0 or instants[0] < 0 or instants[-1] <= 0 or np.any(np.diff(instants) < 0):
            raise ValueError("opportunities: expected instants from 0 on that do not fall, the last one above 0")
        if self.packet_bytes < 1:
            raise ValueError(f"opportunities: expected at least 1 byte for each, got {self.packet_bytes}")


@dataclass(frozen=True)
class CustomStage:
    """A stage of the user's own: `package.module:function`, a folder to look in, and what its memory begins with."""

    name: str
    folder: str = ""
    values: tuple[int, ...] = ()


@dataclass(frozen=True)
class LinkOptions:
    """What a direction of the link is, apart from its channel.

    queue_packets: limit of the one drop-tail queue, unless there are lanes: queues in order of precedence, of which the
    last takes what no rule fits. overhead_bytes: added to each packet on the air. egress_rate_bps: line rate behind the
    link, 0 for none. frame_ns: what has been sent leaves at the end of its frame. grant_ns: an idle link begins to send
    with the next grant; 0 for none of either. request_ns: before that it asks for capacity, so long, unless it sent
    within request_kept_ns; request_volume: it asks for each packet anew. bursts, markov, spells: of loss, on top of the
    channel's; the first two exclude each other. lost_packets: numbers of packets that are lost, counted from 1 as they
    are offered. bit_error_rate: a packet is lost with any of its bits. spoilt, copied, late: shares of packets with a
    bit flipped, delivered twice, and `late_ns` late so that others may overtake them. jitter: what random delays are
    like; jitter_bin_ns: how long a value lasts. memory_bytes: ceiling of the delay line's bytes, a power of two.
    flight_packets: most wire packets on the air, a power of two. ethernet: frames begin with an Ethernet header, which
    travels along and does not count. longest_packet: longer IP packets are dropped, 0 for none. efficiency: spectral
    efficiency by C/N in steps of 0.1 dB, `efficiency_zero` the index of 0 dB; None: fades have no effect.
    ledger_events: room for notes of what became of each packet; 0: none.
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
    request_volume: bool = False
    bucket: Bucket | None = None
    opportunities: Opportunities | None = None
    bursts: Bursts | None = None
    markov: Markov | None = None
    spells: Spells | None = None
    lost_packets: tuple[int, ...] = ()
    bit_error_rate: float = 0.0
    spoilt: float = 0.0
    copied: float = 0.0
    late: float = 0.0
    late_ns: int = 0
    jitter: Jitter | None = None
    jitter_bin_ns: int = 20 * NS_PER_MS
    stage: CustomStage | None = None
    memory_bytes: int = 1 << 26
    flight_packets: int = 1 << 16
    ethernet: bool = False
    longest_packet: int = 0
    efficiency: Ints | None = None
    efficiency_zero: int = 0
    ledger_events: int = 0

    def __post_init__(self) -> None:
        if self.bursts is not None and self.markov is not None:
            raise ValueError("link options: expected bursts or markov, got both")
        if len(self.lanes) > state.MOST_LANES:
            raise ValueError(f"link options: expected at most {state.MOST_LANES} lanes, got {len(self.lanes)}")


_PARTS: dict[str, type[Any]] = {
    "bucket": Bucket,
    "opportunities": Opportunities,
    "bursts": Bursts,
    "markov": Markov,
    "spells": Spells,
    "jitter": Jitter,
    "stage": CustomStage,
}


def pack_options(options: LinkOptions) -> dict[str, Any]:
    """The options as plain tables, numbers and bytes, for another process."""
    packed = {field.name: getattr(options, field.name) for field in fields(options)}
    packed["efficiency"] = None if options.efficiency is None else options.efficiency.tobytes()
    packed["lanes"] = [asdict(lane) for lane in options.lanes]
    packed["rules"] = [{**asdict(rule), "network": [*rule.network[:2], str(rule.network[2])]} for rule in options.rules]
    for name in _PARTS:
        packed[name] = None if packed[name] is None else asdict(packed[name])
    return packed


def unpack_options(packed: dict[str, Any]) -> LinkOptions:
    """What `pack_options` packed; lists stand for tuples."""
    unpacked = {name: _tupled(value) for name, value in packed.items()}
    efficiency = packed["efficiency"]
    unpacked["efficiency"] = None if efficiency is None else np.frombuffer(efficiency, np.int64).copy()
    unpacked["lanes"] = tuple(LaneOptions(**lane) for lane in packed["lanes"])
    unpacked["rules"] = tuple(
        Rule(**{**_tupled(rule), "network": (*rule["network"][:2], int(rule["network"][2]))})
        for rule in packed["rules"]
    )
    for name, part in _PARTS.items():
        unpacked[name] = None if packed[name] is None else part(**_tupled(packed[name]))
    return LinkOptions(**unpacked)


def _tupled(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_tupled(one) for one in value)
    if isinstance(value, dict):
        return {key: _tupled(one) for key, one in value.items()}
    return value


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
