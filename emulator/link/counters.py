"""The counters of a direction, as immutable snapshots of the arrays that compiled code counts in."""

from __future__ import annotations

from dataclasses import dataclass

from emulator.link import state
from emulator.timeline.causes import Cause
from emulator.timeline.model import Ints


@dataclass(frozen=True)
class LaneCounters:
    """Wire packets of one class: offered to its queue, dropped there, waiting now, and the most that ever waited."""

    offered_packets: int
    dropped_packets: int
    queued_packets: int
    queued_bytes: int
    worst_queue_packets: int


@dataclass(frozen=True)
class DirectionCounters:
    """Wire packets and IP bytes of one direction: offered = delivered + dropped + held, always."""

    offered_packets: int
    offered_bytes: int
    delivered_packets: int
    delivered_bytes: int
    queued_packets: int
    flying_packets: int
    worst_queue_packets: int
    dropped: dict[Cause, int]
    lanes: tuple[LaneCounters, ...] = ()

    @property
    def held_packets(self) -> int:
        """Wire packets inside the link: in the queue and on the air."""
        return self.queued_packets + self.flying_packets

    @property
    def dropped_packets(self) -> int:
        return sum(self.dropped.values())


def direction_counters(registers: Ints, dropped: Ints, lanes: Ints) -> DirectionCounters:
    """The counters in a copy of a link's registers, drop counts and lanes."""
    value = [int(register) for register in registers]
    return DirectionCounters(
        offered_packets=value[state.OFFERED_PACKETS],
        offered_bytes=value[state.OFFERED_BYTES],
        delivered_packets=value[state.DELIVERED_PACKETS],
        delivered_bytes=value[state.DELIVERED_BYTES],
        queued_packets=value[state.QUEUED],
        flying_packets=value[state.F_TAIL] - value[state.F_HEAD],
        worst_queue_packets=value[state.WORST_QUEUE],
        dropped={cause: int(dropped[cause]) for cause in Cause if dropped[cause]},
        lanes=tuple(
            LaneCounters(
                offered_packets=lane[state.LANE_OFFERED],
                dropped_packets=lane[state.LANE_DROPPED],
                queued_packets=lane[state.LANE_TAIL] - lane[state.LANE_HEAD],
                queued_bytes=lane[state.LANE_BYTES],
                worst_queue_packets=lane[state.LANE_WORST],
            )
            for lane in lanes.tolist()
        ),
    )
