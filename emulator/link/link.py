"""`Link`: one direction of the emulated link, for Python callers; the compiled loops work on its `state`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from emulator.link import channel, leave, path, propagate, state, store, wire
from emulator.link.counters import DirectionCounters, LaneCounters, direction_counters
from emulator.link.options import (
    Bucket,
    Bursts,
    Change,
    CustomStage,
    Discipline,
    Jitter,
    LaneOptions,
    LinkOptions,
    Markov,
    Opportunities,
    Rule,
    Spells,
    pack_options,
    unpack_options,
)
from emulator.link.tables import check_options, new_heap, new_state, power_of_two
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import LOSS_ONE, Channel, ChannelState

__all__ = [
    "Bucket",
    "Bursts",
    "Change",
    "CustomStage",
    "Delivery",
    "DirectionCounters",
    "Discipline",
    "Jitter",
    "LaneCounters",
    "LaneOptions",
    "Link",
    "LinkOptions",
    "Markov",
    "Opportunities",
    "Rule",
    "Spells",
    "check_options",
    "delay_line",
    "direction_counters",
    "pack_options",
    "power_of_two",
    "unpack_options",
]

NO_HEADER = bytes(store.VNET_BYTES)
ROWS = 1 << 16  # the Timeline rows that are kept ready: hours of a link planned by the second
ROWS_BEHIND = 1 << 10  # rows behind the packets, kept for a world clock that is set back


class Delivery(NamedTuple):
    """A wire packet that has crossed the link, its checksum complete, and the instant at which it was due."""

    due_ns: int
    packet: bytes


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
        self.options = options
        self.settle: Callable[[], None] = lambda: None
        self.state = new_state(options, ROWS)
        self._head = np.zeros(wire.LARGEST_HEADER + store.VNET_BYTES, np.uint8)
        registers = self.state.reg
        registers[state.SEED] = seed
        registers[state.DIRECTION] = direction
        registers[state.UTC_OFFSET] = utc_offset_ns
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

    @property
    def utc_offset_ns(self) -> int:
        """Simulated UTC − packets' clock, by which the Timeline is looked up."""
        return int(self.state.reg[state.UTC_OFFSET])

    def planned(self) -> Channel:
        """The Timeline rows that are kept, of the past and of what is planned."""
        registers = self.state.reg
        kept = np.arange(int(registers[state.ROWS_OLDEST]), int(registers[state.ROWS_PUBLISHED])) % ROWS
        rows = self.state.rows[kept]
        _, last = np.unique(
            rows[::-1, state.ROW_START], return_index=True
        )  # of two with one start the later is in force
        return Channel(*rows[len(rows) - 1 - last].T.copy())

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
        registers[state.RUN_COUNT] = 1
        registers[state.RUN_BYTES] = wire.wire_bytes(entry, registers[state.RUN_FIRST])
        leave.dress(self.state, self._head)
        body = int(registers[state.RUN_BODY_AT])
        parts = self._head[: registers[state.RUN_HEAD]], ring[body : body + int(registers[state.RUN_BODY])]
        frame = np.concatenate(parts)
        wire.complete_checksum(frame, 0, len(frame))
        return frame[store.VNET_BYTES :].tobytes()


def delay_line(options: LinkOptions) -> Link:
    """A link that is used for its memory and its flight only, and where anybody may overtake."""
    line = Link(Channel.constant(0, delay_ns=0), state.NEVER, seed=0, direction=0, options=options)
    line.state = line.state._replace(overtaken=new_heap(options.flight_packets))
    return line
