"""What a turn of the packet loops does at one port: read what waits and offer it, write what is due; both bounded."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.leave import dress
from emulator.link.ledger import note
from emulator.link.path import depart, discard, due_run, offer, refuse_frame
from emulator.link.state import (
    LAST_START,
    OFFERED_PACKETS,
    RUN_BODY,
    RUN_BODY_AT,
    RUN_COUNT,
    RUN_DUE,
    RUN_HEAD,
    SUPER_COLUMNS,
    Bytes,
    Ints,
    LinkState,
)
from emulator.link.store import LARGEST_SUPER, VNET_BYTES, reserve
from emulator.link.wire import LARGEST_HEADER
from emulator.ports.capture_ring import ON, CaptureRing, remember
from emulator.ports.frames import DEVICE_MARGIN_NS, read_frame
from emulator.ports.lateness import LATENESS_BINS
from emulator.ports.stamp_ring import NO_STAMPS
from emulator.ports.syscalls import (
    EMPTY_AT,
    EMPTY_SINCE,
    FRAME_ARRIVAL,
    FRAME_OFFSET,
    GUESSED,
    PORT_KIND,
    READING_WORDS,
    monotonic_ns,
    write_two,
)
from emulator.timeline.causes import Cause

EGRESS, MEMORY = int(Cause.EGRESS), int(Cause.MEMORY)

READS_PER_TURN = 16  # 16 super-packets of 64 KB: 1 MB, about 0.5 ms at the fastest
WRITES_PER_TURN = 64
WAKE_EARLY_NS = 60_000  # to begin with: a sleep this much shorter is made up for by spinning
# On a quiet machine one sleep in a hundred ends more than 115 µs late (`bentpipe doctor`); on a busy one, more spinning
# would only make it busier.
WAKE_EARLIEST_NS, WAKE_LATEST_NS, WAKE_STEP_NS = 150_000, 20_000, 200


class Scratch(NamedTuple):
    """What the loop needs room for: compiled functions allocate nothing."""

    clock: Ints  # (2,) struct timespec
    reading: Ints  # (READING_WORDS,) for `read_frame`
    arrived: Ints  # (2,) the latest arrival by direction
    vector: Ints  # (4,) two struct iovec
    events: Ints  # (4,) poll events by port
    poll: Ints  # (6,) for `wait_readable`
    empty_since: Ints  # (4,) when each port was last seen empty
    stamps: tuple[Ints, Ints, Ints, Ints]  # of each port, the kernel's notes of what came when
    entry: Ints  # (SUPER_COLUMNS,)
    head: Bytes  # headers of a run
    spare: Bytes  # a super-packet that found no memory


def new_scratch(terminal: Ints = NO_STAMPS, datacenter: Ints = NO_STAMPS) -> Scratch:
    """terminal, datacenter: rings of stamps (`stamp_ring`); an end of the fabric has the first alone, its own."""

    def ints(length: int) -> Ints:
        return np.zeros(length, np.int64)

    return Scratch(
        clock=ints(2),
        reading=ints(READING_WORDS),
        arrived=ints(2),
        vector=ints(4),
        events=ints(4),
        poll=ints(6),
        empty_since=ints(4),
        stamps=(terminal, datacenter, NO_STAMPS, NO_STAMPS),
        entry=ints(SUPER_COLUMNS),
        head=np.zeros(LARGEST_HEADER + VNET_BYTES, np.uint8),
        spare=np.zeros(LARGEST_SUPER, np.uint8),
    )


@compiled
def latest(link: LinkState, arrived: Ints, way: int, at: int) -> int:
    """`at`, but never before the arrival before it in the same direction, nor before what the link has done already."""
    arrived[way] = max(arrived[way], at, link.reg[LAST_START])
    return arrived[way]


@compiled_apart
def refuse_noted(link: LinkState, data: Bytes, at: int, length: int, entry: Ints, now: int) -> None:
    """Counts the frame at `at` of `data`, which came at `now` and found no memory, and notes it for who captures."""
    number = link.reg[OFFERED_PACKETS]
    refuse_frame(link, data, at, length, entry, MEMORY)
    while number < link.reg[OFFERED_PACKETS]:
        number += 1
        note(link, number, MEMORY, now)


@compiled_apart
def take_in(link: LinkState, capture: CaptureRing, descriptor: int, kind: int, port: int, scratch: Scratch) -> int:
    """Reads what waits at a port and offers it to the link; at most READS_PER_TURN. Returns how many were read.

    `reading` of the scratch: LOOKED is set by who calls; GUESSED and EMPTY_AT tell as `read_frame` says.
    """
    reading, way, stamps = scratch.reading, port % 2, scratch.stamps[port]
    reading[PORT_KIND], reading[EMPTY_SINCE] = kind, scratch.empty_since[port]
    reading[GUESSED] = reading[EMPTY_AT] = 0
    for count in range(READS_PER_TURN):
        offset = reserve(link, LARGEST_SUPER)
        if offset < 0:
            length = read_frame(descriptor, scratch.spare, 0, reading, stamps)
            if length <= 0:
                return count
            at, now = reading[FRAME_OFFSET], latest(link, scratch.arrived, way, reading[FRAME_ARRIVAL])
            if capture.reg[ON]:
                remember(link, capture, scratch.spare, at, length, now, port // 2, scratch.entry)
            refuse_noted(link, scratch.spare, at, length, scratch.entry, now)
            continue
        length = read_frame(descriptor, link.ring, offset, reading, stamps)
        if length <= 0:
            return count
        at, now = reading[FRAME_OFFSET], latest(link, scratch.arrived, way, reading[FRAME_ARRIVAL])
        if capture.reg[ON]:
            remember(link, capture, link.ring, at, length, now, port // 2, scratch.entry)
        offer(link, now, at, length)
    return READS_PER_TURN


@compiled
def write_run(link: LinkState, descriptor: int, scratch: Scratch) -> int:
    """Writes the run that `due_run` found, in one call: whole, or behind headers of its own."""
    reg = link.reg
    dress(link, scratch.head)
    return write_two(
        descriptor, scratch.head, reg[RUN_HEAD], link.ring, reg[RUN_BODY_AT], reg[RUN_BODY], scratch.vector
    )


@compiled_apart
def give_out(link: LinkState, descriptor: int, quantum: int, chase: int, lateness: Ints, scratch: Scratch) -> int:
    """Writes what is due, at most WRITES_PER_TURN runs. Returns how many were written.

    chase: what falls due within so many ns while it writes goes, too. With packets that fall due every µs, who runs
    after them comes to read only when WRITES_PER_TURN are written, and what the sender has sent waits at the port.
    """
    now = monotonic_ns(scratch.clock)
    latest_due = now + chase
    for count in range(WRITES_PER_TURN):
        if not due_run(link, min(now, latest_due), quantum):
            return count
        late = min(LATENESS_BINS - 1, max(0, now - link.reg[RUN_DUE]) // 1000)
        lateness[late] += link.reg[RUN_COUNT]
        if write_run(link, descriptor, scratch) < 0:
            discard(link, EGRESS)
        else:
            depart(link)
        now = monotonic_ns(scratch.clock)
    return WRITES_PER_TURN


@compiled
def looked_at(now: int, woken: int) -> int:
    """Since when a port is known to be empty that ppoll, called at `now`, had found empty before it was `woken`.

    Behind its last look a thread may be stopped, or have to wait for a processor: then nobody knows when that was.
    """
    return woken if woken - now <= DEVICE_MARGIN_NS else now


@compiled
def wake_early(early: int, overslept: int) -> int:
    """By how much to end the next sleep before something is due, after one that ended `overslept` ns too late.

    In the long run one sleep in a hundred ends later than that: the quantile to which such steps lead.
    """
    if overslept > early:
        return min(WAKE_EARLIEST_NS, early + 99 * WAKE_STEP_NS)
    return max(WAKE_LATEST_NS, early - WAKE_STEP_NS)


@compiled
def rest_ns(spun: int, free: int, longest: int, rest: int) -> int:
    """How long to rest after `spun` ns without sleep, when nothing is due for `free` ns: `rest`, or not at all.

    After `longest` in the first gap between two packets that holds it, without one after four times that.
    """
    return rest if spun > longest and (free > rest or spun > 4 * longest) else 0
