"""The counters of a direction, as immutable snapshots of the arrays that compiled code counts in."""

from __future__ import annotations

from dataclasses import dataclass

from emulator.link import state
from emulator.timeline.causes import Cause
from emulator.timeline.model import Ints


@dataclass(frozen=True)
class LaneCounters:
    """Wire packets of one class: offered to its queue, dropped or marked there, waiting now, the most that ever waited.

    worst_wait_ns, total_wait_ns: in the queue, of the served_packets that have left it. waits, delays: how many of them
    have waited, and how many have been under way from arrival until due, less than 1.024 µs, twice that, four times …
    (bin i: less than 1.024 µs × 2ⁱ, the last one the rest).
    """

    offered_packets: int
    dropped_packets: int
    queued_packets: int
    queued_bytes: int
    worst_queue_packets: int
    marked_packets: int = 0
    served_packets: int = 0
    worst_wait_ns: int = 0
    total_wait_ns: int = 0
    waits: tuple[int, ...] = ()
    delays: tuple[int, ...] = ()


@dataclass(frozen=True)
class DirectionCounters:
    """Wire packets and IP bytes of one direction: offered + copied = delivered + dropped + held, always.

    copied: made twice by the link. marked: congestion experienced. spoilt: a bit flipped. reordered: held back so
    that others may overtake them.
    """

    offered_packets: int
    offered_bytes: int
    delivered_packets: int
    delivered_bytes: int
    queued_packets: int
    flying_packets: int
    worst_queue_packets: int
    dropped: dict[Cause, int]
    lanes: tuple[LaneCounters, ...] = ()
    copied_packets: int = 0
    marked_packets: int = 0
    spoilt_packets: int = 0
    reordered_packets: int = 0

    @property
    def held_packets(self) -> int:
        """Wire packets inside the link: in the queue and on the air."""
        return self.queued_packets + self.flying_packets

    @property
    def dropped_packets(self) -> int:
        return sum(self.dropped.values())

    @property
    def add_up(self) -> bool:
        """Whether every packet is accounted for."""
        come = self.offered_packets + self.copied_packets
        return come == self.delivered_packets + self.dropped_packets + self.held_packets


def direction_counters(registers: Ints, dropped: Ints, lanes: Ints) -> DirectionCounters:
    """The counters in a copy of a link's registers, drop counts and lanes."""
    value = [int(register) for register in registers]
    return DirectionCounters(
        offered_packets=value[state.OFFERED_PACKETS],
        offered_bytes=value[state.OFFERED_BYTES],
        delivered_packets=value[state.DELIVERED_PACKETS],
        delivered_bytes=value[state.DELIVERED_BYTES],
        queued_packets=value[state.QUEUED],
        flying_packets=value[state.F_TAIL] - value[state.F_HEAD] + value[state.F_HEAPED],
        worst_queue_packets=value[state.WORST_QUEUE],
        dropped={cause: int(dropped[cause]) for cause in Cause if dropped[cause]},
        copied_packets=value[state.COPIED_PACKETS],
        marked_packets=value[state.MARKED_PACKETS],
        spoilt_packets=value[state.SPOILT_PACKETS],
        reordered_packets=value[state.LATE_PACKETS],
        lanes=tuple(
            LaneCounters(
                offered_packets=lane[state.LANE_OFFERED],
                dropped_packets=lane[state.LANE_DROPPED],
                queued_packets=lane[state.LANE_TAIL] - lane[state.LANE_HEAD],
                queued_bytes=lane[state.LANE_BYTES],
                worst_queue_packets=lane[state.LANE_WORST],
                marked_packets=lane[state.LANE_MARKED],
                served_packets=lane[state.LANE_SERVED],
                worst_wait_ns=lane[state.LANE_WAIT_WORST],
                total_wait_ns=lane[state.LANE_WAIT_SUM],
                waits=tuple(lane[state.LANE_WAITS : state.LANE_WAITS + state.HISTOGRAM_BINS]),
                delays=tuple(lane[state.LANE_DELAYS : state.LANE_DELAYS + state.HISTOGRAM_BINS]),
            )
            for lane in lanes.tolist()
        ),
    )
