"""`Link`: one direction of the emulated link, for Python callers; the compiled loops work on its `state`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from emulator.link import channel, path, propagate, state, store, wire
from emulator.link.draws import exponential_table
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import LOSS_ONE, Channel, ChannelState, Ints
from emulator.units import NS_PER_MS

NO_HEADER = bytes(store.VNET_BYTES)
ROWS = 1 << 16  # the Timeline rows that are kept ready: hours of a link planned by the second
ROWS_BEHIND = 1 << 10  # rows behind the packets, kept for a world clock that is set back
EMPTY_TABLE = np.zeros(0, np.int64)


class Delivery(NamedTuple):
    """A wire packet that has crossed the link, its checksum complete, and the instant at which it was due."""

    due_ns: int
    packet: bytes


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

    Lengths and gaps are geometric, in bins. Raises ValueError if a mean is shorter than a bin.
    """

    gap_ns: int
    length_ns: int
    loss: float = 1.0
    bin_ns: int = NS_PER_MS

    def __post_init__(self) -> None:
        if not 0 < self.bin_ns <= min(self.gap_ns, self.length_ns):
            raise ValueError(f"bursts: expected mean gap and length of at least one bin of {self.bin_ns} ns")
        if not 0 <= self.loss <= 1:
            raise ValueError(f"bursts: expected a loss from 0 to 1, got {self.loss}")


@dataclass(frozen=True)
class LinkOptions:
    """What a direction of the link is, apart from its channel.

    queue_packets: limit of the one drop-tail queue, unless there are lanes: queues in order of precedence, of which the
    last takes what no rule fits. overhead_bytes: added to each packet on the air. egress_rate_bps: line rate behind the
    link, 0 for none. frame_ns: what has been sent leaves at the end of its frame. grant_ns: an idle link begins to send
    with the next grant; 0 for none of either. bursts: of loss, on top of the channel's. jitter_bin_ns: how long a value
    of the jitter lasts. memory_bytes: ceiling of the delay line's bytes, a power of two. flight_packets: most wire
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


def power_of_two(least: int) -> int:
    """The smallest power of two that is `least` or more."""
    return 1 << max(0, least - 1).bit_length()


def lane_table(options: tuple[LaneOptions, ...]) -> Ints:
    """The lanes as compiled code reads them."""
    table = np.zeros((len(options), state.LANE_COLUMNS), np.int64)
    for row, lane in zip(table, options, strict=True):
        row[state.LANE_LIMIT] = lane.queue_packets
        row[state.LANE_LIMIT_BYTES] = lane.queue_bytes
        row[state.LANE_DISCIPLINE] = DISCIPLINES[lane.discipline]
        row[state.CODEL_TARGET] = lane.target_ns
        row[state.CODEL_INTERVAL] = lane.interval_ns
    return table


def rule_table(rules: tuple[Rule, ...]) -> Ints:
    """The rules as compiled code reads them."""
    table = np.zeros((len(rules), state.RULE_COLUMNS), np.int64)
    for row, rule in zip(table, rules, strict=True):
        row[state.RULE_LANE] = rule.lane
        row[state.RULE_PROTOCOL] = rule.protocol
        row[state.RULE_DSCP] = rule.dscp
        row[state.RULE_PORT_FIRST], row[state.RULE_PORT_LAST] = rule.ports
    return table


class Link:
    """One direction of a link, in anybody's time: three verbs, and the channel's future fed in as it is planned.

    `beginning` starts the Timeline; `extend` goes on with it. `direction` (0 up, 1 down) keeps the draws of the two
    directions apart. Not thread-safe but for `extend`, `overlay` and `set_utc_offset`, which one other thread may call
    while a compiled loop works, provided that `settle` waits until that loop has finished a turn.
    """

    def __init__(
        self,
        beginning: Channel,
        end_ns: int,
        *,
        seed: int,
        direction: int,
        options: LinkOptions | None = None,
        utc_offset_ns: int = 0,
    ) -> None:
        options = options or LinkOptions()
        efficiency = EMPTY_TABLE if options.efficiency is None else options.efficiency
        lanes = options.lanes or (LaneOptions(options.queue_packets),)
        longest = max(lane.queue_packets for lane in lanes)
        supers = max(1 << 10, options.memory_bytes >> 8)
        self.options = options
        self.settle: Callable[[], None] = lambda: None
        self.state = state.LinkState(
            ring=np.zeros(options.memory_bytes, np.uint8),
            supers=np.zeros((supers, state.SUPER_COLUMNS), np.int64),
            queue=np.zeros((len(lanes), power_of_two(longest + 1), state.Q_COLUMNS), np.int64),
            lanes=lane_table(lanes),
            rules=rule_table(options.rules),
            flight=np.zeros((options.flight_packets, state.F_COLUMNS), np.int64),
            rows=np.zeros((ROWS, state.ROW_COLUMNS), np.int64),
            overlay=np.zeros((2, state.OVERLAY_ROWS, state.O_COLUMNS), np.int64),
            efficiency=efficiency,
            jitter=exponential_table(),
            dropped=np.zeros(state.CAUSES, np.int64),
            ledger=np.zeros((options.ledger_events, state.L_COLUMNS), np.int64),
            reg=np.zeros(state.REGISTERS, np.int64),
        )
        registers = self.state.reg
        registers[state.SEED] = seed
        registers[state.DIRECTION] = direction
        registers[state.OVERHEAD_BYTES] = options.overhead_bytes
        registers[state.EGRESS_RATE] = options.egress_rate_bps
        registers[state.ETHERNET], registers[state.LONGEST] = options.ethernet, options.longest_packet
        registers[state.JITTER_BIN] = options.jitter_bin_ns
        registers[state.FRAME], registers[state.GRANT] = options.frame_ns, options.grant_ns
        if options.bursts is not None:
            registers[state.BURST_BIN] = options.bursts.bin_ns
            registers[state.BURST_ENTER] = options.bursts.bin_ns * LOSS_ONE // options.bursts.gap_ns
            registers[state.BURST_EXIT] = options.bursts.bin_ns * LOSS_ONE // options.bursts.length_ns
            registers[state.BURST_LOSS] = round(options.bursts.loss * LOSS_ONE)
            registers[state.BURST_AT] = -1
        registers[state.EFFICIENCY_ZERO] = options.efficiency_zero
        registers[state.UTC_OFFSET] = utc_offset_ns
        registers[state.CH_FROM] = registers[state.CH_UNTIL] = -state.NEVER
        registers[state.LAST_DUE] = registers[state.FREE] = -state.NEVER
        self.extend(beginning, end_ns)

    # the three verbs

    def offer(self, packet: bytes, now_ns: int) -> None:
        """An IP packet, or an Ethernet frame, arrives at `now_ns` (not before the offer before)."""
        self.offer_super(NO_HEADER + packet, now_ns)

    def offer_super(self, frame: bytes, now_ns: int) -> None:
        """A packet behind its 10-byte virtio_net_hdr arrives; segmentation offload makes it stand for many."""
        if len(frame) > store.LARGEST_SUPER:
            raise ValueError(f"packet: expected at most {store.LARGEST_SUPER} bytes with its header, got {len(frame)}")
        data = np.array(bytearray(frame), np.uint8)
        offset = store.reserve(self.state, len(data))
        if offset < 0:
            path.refuse_frame(
                self.state, data, 0, len(data), np.zeros(state.SUPER_COLUMNS, np.int64), int(Cause.MEMORY)
            )
            return
        self.state.ring[offset : offset + len(data)] = data
        path.offer(self.state, now_ns, offset, len(frame))

    def poll(self, now_ns: int) -> list[Delivery]:
        """The wire packets due at `now_ns`, in the order in which they leave."""
        deliveries = []
        while path.due_run(self.state, now_ns, 0):
            registers = self.state.reg
            due, frame = int(registers[state.RUN_DUE]), self._frame()
            path.depart(self.state)
            deliveries.append(Delivery(due, frame))
        return deliveries

    def next_event_ns(self) -> int | None:
        """When to poll next; None if nothing is under way."""
        at = int(path.next_event(self.state))
        return None if at >= state.NEVER else at

    # the channel's future

    def extend(self, window: Channel, end_ns: int, now_ns: int | None = None) -> bool:
        """Appends Timeline rows, valid until UTC `end_ns`; False if there is no room yet, and nothing is changed.

        Rows make room when a packet has passed them, or when UTC `now_ns` has. A window that begins before the last row
        does starts the Timeline anew: the world's clock was set back.
        """
        registers = self.state.reg
        published = int(registers[state.ROWS_PUBLISHED])
        last_ns = int(self.state.rows[(published - 1) % ROWS, state.ROW_START])
        goes_back = published > 0 and int(window.start_ns[0]) < last_ns
        return self._publish(window, end_ns, published if goes_back else self._needed_from(now_ns), goes_back, None)

    def replan(self, window: Channel, end_ns: int, utc_offset_ns: int) -> None:
        """Puts a Timeline in the place of all that was planned, and simulated UTC at this distance from the packets'
        clock, both at once. What a packet of an earlier time is to meet must be in the window, at its new UTC.
        """
        self._publish(window, end_ns, int(self.state.reg[state.ROWS_PUBLISHED]), True, utc_offset_ns)

    def _publish(self, window: Channel, end_ns: int, needed_from: int, anew: bool, utc_offset_ns: int | None) -> bool:
        """Writes rows behind those that are there, and keeps none before `needed_from`; False if there is no room."""
        registers, rows = self.state.reg, self.state.rows
        published = int(registers[state.ROWS_PUBLISHED])
        if published + len(window) - needed_from > ROWS:
            if len(window) > ROWS - ROWS_BEHIND:
                raise ValueError(f"timeline window: expected at most {ROWS - ROWS_BEHIND} rows, got {len(window)}")
            return False
        registers[state.ROWS_OLDEST] = max(int(registers[state.ROWS_OLDEST]), published + len(window) - ROWS)
        places = np.arange(published, published + len(window)) % ROWS
        columns = (
            window.start_ns,
            window.delay_ns,
            window.delay_slope_ns_per_s,
            window.rate_bps,
            window.loss,
            window.jitter_ns,
            window.cn_centidb,
            window.gate,
            window.cause,
        )
        rows[places] = np.stack(columns, axis=1)
        if utc_offset_ns is not None:
            registers[state.UTC_OFFSET] = utc_offset_ns
        registers[state.ROWS_PUBLISHED] = published + len(window)
        if anew:
            registers[state.ROWS_OLDEST] = published
        registers[state.ROWS_END] = end_ns
        registers[state.GENERATION] += 1  # last: until then the loop goes by what it has looked up before
        return True

    def set_limit(self, lane: int, packets: int | None = None, queue_bytes: int | None = None) -> None:
        """Another limit for the queue of a lane, for what comes from now on; what waits there already stays.

        Raises ValueError for more packets than the lane was made for.
        """
        most = self.state.queue.shape[1] - 1
        if packets is not None and not 1 <= packets <= most:
            raise ValueError(f"queue limit: expected 1 to {most} packets, for which the queue was made, got {packets}")
        if packets is not None:
            self.state.lanes[lane, state.LANE_LIMIT] = packets
        if queue_bytes is not None:
            self.state.lanes[lane, state.LANE_LIMIT_BYTES] = queue_bytes

    def _needed_from(self, now_ns: int | None) -> int:
        """The oldest row that somebody may still ask for."""
        registers = self.state.reg
        oldest, passed = int(registers[state.ROWS_OLDEST]), int(registers[state.ROW_CURSOR])
        if now_ns is not None:
            kept = np.arange(oldest, int(registers[state.ROWS_PUBLISHED])) % ROWS
            starts = self.state.rows[kept, state.ROW_START]
            passed = max(passed, oldest + int(np.searchsorted(starts, now_ns, side="right")) - 1)
        return max(oldest, passed - ROWS_BEHIND)

    def overlay(self, changes: Sequence[Change]) -> None:
        """Replaces the overlay. Changes that are over may be left out; nothing may begin before now.

        Raises ValueError with more changes than `OVERLAY_ROWS`, or with one that drops for no cause.
        """
        if any(change.gate == Gate.DROP and change.cause == Cause.NONE for change in changes):
            raise ValueError("overlay: expected a cause wherever packets are dropped")
        if len(changes) > state.OVERLAY_ROWS:
            raise ValueError(f"overlay: expected at most {state.OVERLAY_ROWS} changes at once, got {len(changes)}")
        registers = self.state.reg
        side = 1 - (int(registers[state.OVERLAY_VIEW]) >> 32)
        for index, change in enumerate(changes):
            row = self.state.overlay[side, index]
            row[state.O_START], row[state.O_END] = change.start_ns, change.end_ns
            row[state.O_GATE], row[state.O_CAUSE] = change.gate, change.cause
            row[state.O_FADE], row[state.O_DELAY] = change.fade_centidb, change.extra_delay_ns
            row[state.O_LOSS] = round(change.loss * LOSS_ONE)
            row[state.O_JITTER] = change.jitter_ns
        registers[state.OVERLAY_VIEW] = (side << 32) | len(changes)
        registers[state.GENERATION] += 1
        self.settle()  # the other side may be written again only when nobody reads it any more

    def set_utc_offset(self, utc_minus_monotonic_ns: int) -> None:
        """The world's clock has moved against the packets' clock: the Timeline is looked up by the new difference."""
        self.state.reg[state.UTC_OFFSET] = utc_minus_monotonic_ns
        self.state.reg[state.GENERATION] += 1

    def channel_at(self, monotonic_ns: int, *, jitter: bool = False) -> ChannelState:
        """The channel, overlay included, at any time whose Timeline rows are still kept.

        Jitter is left out of the delay, unless it is asked for.
        """
        looking = self.state._replace(reg=self.state.reg.copy())
        looking.reg[state.CH_GENERATION] = -1
        channel.see(looking, monotonic_ns)
        if not jitter:
            looking.reg[state.CH_JITTER] = 0
        return ChannelState(
            delay_ns=int(propagate.delay_at(looking, monotonic_ns)),
            rate_bps=int(looking.reg[state.CH_RATE]),
            loss=int(looking.reg[state.CH_LOSS]) / LOSS_ONE,
            gate=Gate(int(looking.reg[state.CH_GATE])),
            cause=Cause(int(looking.reg[state.CH_CAUSE])),
        )

    def counters(self) -> DirectionCounters:
        """The counters at this moment; while a compiled loop works, ask the loop instead."""
        return direction_counters(self.state.reg, self.state.dropped, self.state.lanes)

    # inside

    def _frame(self) -> bytes:
        """The first wire packet of the run found last, its checksum complete; the run is cut to that one packet."""
        registers, ring = self.state.reg, self.state.ring
        entry = self.state.supers[registers[state.RUN_SUPER]]
        first = int(registers[state.RUN_FIRST])
        registers[state.RUN_COUNT] = 1
        registers[state.RUN_BYTES] = wire.wire_bytes(entry, first)
        offset, length = int(entry[state.SUPER_OFFSET]), int(entry[state.SUPER_LENGTH])
        if entry[state.SUPER_SEGMENTS] == 1:
            frame = ring[offset : offset + store.VNET_BYTES + length].copy()
        else:
            length = int(entry[state.SUPER_LINK] + registers[state.RUN_BYTES])
            frame = np.zeros(store.VNET_BYTES + length, np.uint8)
            headers = int(entry[state.SUPER_HEADER])
            payload = int(wire.build_run(ring, entry, first, 1, frame))
            start = offset + store.VNET_BYTES + headers + first * int(entry[state.SUPER_SEGMENT])
            frame[store.VNET_BYTES + headers :] = ring[start : start + payload]
        wire.complete_checksum(frame, 0, len(frame))
        return frame[store.VNET_BYTES :].tobytes()
