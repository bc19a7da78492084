"""One direction of the link, from arrival to delivery: the stages in travelling order, behind three verbs.

    offer      a packet has come at `now`           classify → queue
    due_run    what is due at `now`                 serve → lose → propagate
    next_event when to ask again

Time is an argument. Service is worked out when its time has come and not before, so that a change of the overlay acts
on every packet whose service starts at or after it; due times follow from arrivals and the channel alone, and never
from when these functions happened to be called.
"""

from __future__ import annotations

from emulator.link.channel import see
from emulator.link.classify import lane_of
from emulator.link.compiled import compiled, compiled_apart
from emulator.link.custom import consult
from emulator.link.cut_through import cut_through
from emulator.link.damage import is_copied, lateness_of, spoil
from emulator.link.flight import flying, gather, next_due
from emulator.link.held import drop_overdue, next_drop
from emulator.link.leave import undress
from emulator.link.ledger import note
from emulator.link.lose import is_lost
from emulator.link.propagate import launch
from emulator.link.queue import admit, count_time, take_head, thin_out
from emulator.link.serve import next_instant, serve, service_start
from emulator.link.state import (
    COPIED_PACKETS,
    COPY,
    DELIVERED_BYTES,
    DELIVERED_PACKETS,
    ETHERNET,
    F_BYTES,
    F_DUE,
    F_HEAD,
    F_HEAPED,
    F_INDEX,
    F_SUPER,
    F_TAIL,
    FEATURES,
    FRAME,
    FREE,
    HAS_DAMAGE,
    HAS_STAGE,
    HELD_SINCE,
    INDEX_MASK,
    LANE_DELAYS,
    LANE_SERVED,
    LANE_WAIT_SUM,
    LANE_WAIT_WORST,
    LANE_WAITS,
    LAST_START,
    LONGEST,
    NEVER,
    OFFERED_BYTES,
    OFFERED_PACKETS,
    Q_ARRIVAL,
    Q_BYTES,
    Q_INDEX,
    Q_NUMBER,
    Q_SUPER,
    REQUEST_HEAD,
    ROWS_END,
    RUN_BYTES,
    RUN_COUNT,
    RUN_DUE,
    RUN_FIRST,
    RUN_FLAGS,
    RUN_SUPER,
    SPOILT,
    STARVED,
    SUPER_LEFT,
    SUPER_SEGMENTS,
    SUPER_TAIL,
    TURN,
    UTC_OFFSET,
    Bytes,
    Ints,
    LinkState,
)
from emulator.link.store import VNET_BYTES, keep, release
from emulator.link.wire import all_wire_bytes, dissect_frame, wire_bytes
from emulator.timeline.causes import Cause

LOSS = int(Cause.LOSS)
MALFORMED = int(Cause.MALFORMED)
TOO_LONG = int(Cause.TOO_LONG)
MEMORY = int(Cause.MEMORY)
STAGE = int(Cause.STAGE)


@compiled
def offer(link: LinkState, now: int, offset: int, length: int) -> None:
    """The `length` bytes at `offset` of the ring (from `reserve`) arrived at `now`; later offers have a later `now`."""
    reg = link.reg
    entry = link.supers[reg[SUPER_TAIL] % len(link.supers)]
    if not dissect_frame(link.ring, offset, length, entry, reg[ETHERNET]):
        reg[OFFERED_PACKETS] += 1
        reg[OFFERED_BYTES] += max(0, length - VNET_BYTES)
        link.dropped[MALFORMED] += 1
        note(link, reg[OFFERED_PACKETS], MALFORMED, now)
        return
    if reg[LONGEST] != 0 and wire_bytes(entry, 0) > reg[LONGEST]:
        for index in range(entry[SUPER_SEGMENTS]):
            refuse(link, 1, wire_bytes(entry, index), TOO_LONG)
            note(link, reg[OFFERED_PACKETS], TOO_LONG, now)
        return
    if now + reg[UTC_OFFSET] >= reg[ROWS_END]:
        reg[STARVED] += 1  # the planner is late: the last row stays in force, and it is counted
    segments = entry[SUPER_SEGMENTS]
    place = keep(link, offset, length, segments)
    lane = lane_of(link, entry)
    advance(link, now)
    if cut_through(link, lane, now, place):
        return
    index = 0
    while True:
        advance(link, now)
        if index == segments:
            return
        wire = wire_bytes(entry, index)
        reg[OFFERED_PACKETS] += 1
        reg[OFFERED_BYTES] += wire
        if not admit(link, lane, now, place, index, wire):
            release(link, place, 1)
        index += 1


@compiled
def refuse(link: LinkState, wire_packets: int, length: int, cause: int) -> None:
    """Counts what arrived and could not even be stored."""
    link.reg[OFFERED_PACKETS] += wire_packets
    link.reg[OFFERED_BYTES] += max(0, length)
    link.dropped[cause] += wire_packets


@compiled
def refuse_frame(link: LinkState, data: Bytes, offset: int, length: int, entry: Ints, cause: int) -> None:
    """The same for the `length` bytes at `offset` of `data`, in as many packets as they stand for.

    entry: (SUPER_COLUMNS,), overwritten.
    """
    if dissect_frame(data, offset, length, entry, link.reg[ETHERNET]):
        refuse(link, entry[SUPER_SEGMENTS], all_wire_bytes(entry), cause)
    else:
        refuse(link, 1, length - VNET_BYTES, cause)


@compiled
def advance(link: LinkState, now: int) -> None:
    """Serves every packet whose service starts at or before `now`."""
    reg = link.reg
    while True:
        start = service_start(link)
        if reg[HELD_SINCE] <= now and drop_overdue(link, reg[HELD_SINCE], min(start - 1, now)):
            continue
        if start > now:
            return
        reg[LAST_START] = start
        lane = reg[TURN]
        if not thin_out(link, lane, start):
            continue
        queue, row, lanes = link.queue, take_head(link, lane), link.lanes
        length, place, number = queue[lane, row, Q_BYTES], queue[lane, row, Q_SUPER], queue[lane, row, Q_NUMBER]
        index, arrival = queue[lane, row, Q_INDEX], queue[lane, row, Q_ARRIVAL]
        lanes[lane, LANE_WAIT_WORST] = max(lanes[lane, LANE_WAIT_WORST], start - arrival)
        lanes[lane, LANE_WAIT_SUM] += start - arrival
        lanes[lane, LANE_SERVED] += 1
        count_time(lanes, lane, LANE_WAITS, start - arrival)
        if len(link.requests) > 0:
            reg[REQUEST_HEAD] += 1
        cause = serve(link, start, length)
        sent = reg[FREE]
        see(link, sent)
        if cause == 0 and is_lost(link, number, sent, length):
            cause = LOSS
        extra, late, copied = 0, 0, False
        if reg[FEATURES] & HAS_STAGE and cause == 0:
            entry = link.supers[place]
            extra = consult(reg, link.words, link.ring, entry, index, number, sent, length, lane, start - arrival)
            if extra < 0:
                cause = STAGE
        if reg[FEATURES] & HAS_DAMAGE and cause == 0:
            index |= spoil(reg, link.supers[place], number, length)
            late = lateness_of(reg, number)
            copied = is_copied(reg, number)
        if cause == 0 and flying(reg) >= len(link.flight):
            cause = MEMORY
        if cause != 0:
            link.dropped[cause] += 1
            note(link, number, cause, sent)
            release(link, place, 1)
        else:
            on_air = next_instant(link, sent, reg[FRAME])
            see(link, on_air)
            due = launch(link, on_air, place, index, length, extra, late)
            if copied:
                launch_copy(link, on_air, place, index, length, extra, number)
            note(link, number, 0, due)
            count_time(lanes, lane, LANE_DELAYS, due - arrival)


@compiled_apart
def launch_copy(link: LinkState, on_air: int, place: int, index: int, length: int, extra: int, number: int) -> None:
    """The same packet once more, right behind itself; one that finds no room on the air was never made."""
    if flying(link.reg) >= len(link.flight):
        link.reg[COPIED_PACKETS] -= 1
        return
    link.supers[place, SUPER_LEFT] += 1
    note(link, number, COPY, launch(link, on_air, place, index, length, extra, 0))


@compiled
def due_run(link: LinkState, now: int, quantum: int) -> bool:
    """Finds the next run of wire packets of one super-packet, due at `now`; the rest of the run up to `quantum` later.

    Sets the RUN_ registers. The run stays where it is until `depart` or `discard` takes it.
    """
    advance(link, now)
    if next_due(link) > now:
        return False
    first_run(link, now + quantum)
    return True


@compiled
def first_run(link: LinkState, until: int) -> None:
    """Sets the RUN_ registers to the first run on the air, as far as it is due by `until`; there must be one."""
    reg, flight = link.reg, link.flight
    if reg[F_HEAPED] > 0:
        gather(reg, flight, link.overtaken, until)
    head, tail, size = reg[F_HEAD], reg[F_TAIL], len(flight)
    first = head % size
    place, index, length = flight[first, F_SUPER], flight[first, F_INDEX], flight[first, F_BYTES]
    count, row = 1, first
    while head + count < tail and index & SPOILT == 0:
        row = row + 1 if row + 1 < size else 0  # a division for each would take as long as all the rest
        if flight[row, F_SUPER] != place or flight[row, F_INDEX] != index + count or flight[row, F_DUE] > until:
            break
        length += flight[row, F_BYTES]
        count += 1
    reg[RUN_SUPER], reg[RUN_FIRST], reg[RUN_FLAGS] = place, index & INDEX_MASK, index & ~INDEX_MASK
    reg[RUN_COUNT], reg[RUN_BYTES] = count, length
    reg[RUN_DUE] = flight[first, F_DUE]


@compiled
def depart(link: LinkState) -> None:
    """The run was delivered."""
    reg = link.reg
    undress(link)
    reg[DELIVERED_PACKETS] += reg[RUN_COUNT]
    reg[DELIVERED_BYTES] += reg[RUN_BYTES]
    reg[F_HEAD] += reg[RUN_COUNT]
    release(link, reg[RUN_SUPER], reg[RUN_COUNT])


@compiled
def discard(link: LinkState, cause: int) -> None:
    """The run could not be delivered."""
    reg = link.reg
    undress(link)
    link.dropped[cause] += reg[RUN_COUNT]
    reg[F_HEAD] += reg[RUN_COUNT]
    release(link, reg[RUN_SUPER], reg[RUN_COUNT])


@compiled
def next_event(link: LinkState) -> int:
    """When `due_run` may have something to do: a packet due, or one to be served. NEVER if nothing is under way."""
    reg = link.reg
    start = service_start(link)
    if reg[HELD_SINCE] < NEVER:
        start = min(start, next_drop(link, reg[HELD_SINCE]))
    return min(next_due(link), start)
