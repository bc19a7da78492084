"""The queues: wire packets wait here for service, a lane for each class, each with a limit and a discipline.

    drop-tail    a packet that finds the lane full is dropped
    drop-front   the oldest packet of a full lane is dropped, and the new one joins: the wait stays the same, and the
                 sender learns of the loss a queue's length earlier
    CoDel        packets that waited longer than a target for an interval are dropped as they leave, ever more often

A lane stands before every lane behind it: while a packet waits in it, those do not move.
"""

from __future__ import annotations

from emulator.link.codel import codel_drops
from emulator.link.compiled import compiled
from emulator.link.ledger import note
from emulator.link.state import (
    CODEL,
    DROP_FRONT,
    LANE_BYTES,
    LANE_DISCIPLINE,
    LANE_DROPPED,
    LANE_HEAD,
    LANE_LIMIT,
    LANE_LIMIT_BYTES,
    LANE_OFFERED,
    LANE_TAIL,
    LANE_WORST,
    NEVER,
    OFFERED_PACKETS,
    Q_ARRIVAL,
    Q_BYTES,
    Q_INDEX,
    Q_NUMBER,
    Q_SUPER,
    QUEUED,
    WORST_QUEUE,
    LinkState,
)
from emulator.link.store import release
from emulator.timeline.causes import Cause

QUEUE, AQM = int(Cause.QUEUE), int(Cause.AQM)


@compiled
def admit(link: LinkState, lane: int, arrival: int, place: int, index: int, length: int) -> bool:
    """Wire packet `index` of the super-packet at `place` joins a lane at `arrival`; False: dropped, and counted.

    Its number counts the packets offered, dropped or not: one drop more does not shift the draws of all that follow.
    """
    reg, lanes, queue = link.reg, link.lanes, link.queue
    lanes[lane, LANE_OFFERED] += 1
    if lanes[lane, LANE_DISCIPLINE] == DROP_FRONT:
        while is_full(link, lane, length) and lanes[lane, LANE_HEAD] < lanes[lane, LANE_TAIL]:
            drop_head(link, lane, QUEUE, arrival)
    if is_full(link, lane, length):
        link.dropped[QUEUE] += 1
        lanes[lane, LANE_DROPPED] += 1
        note(link, reg[OFFERED_PACKETS], QUEUE, arrival)
        return False
    row = lanes[lane, LANE_TAIL] % queue.shape[1]
    queue[lane, row, Q_ARRIVAL] = arrival
    queue[lane, row, Q_SUPER] = place
    queue[lane, row, Q_INDEX] = index
    queue[lane, row, Q_BYTES] = length
    queue[lane, row, Q_NUMBER] = reg[OFFERED_PACKETS]
    lanes[lane, LANE_TAIL] += 1
    lanes[lane, LANE_BYTES] += length
    lanes[lane, LANE_WORST] = max(lanes[lane, LANE_WORST], lanes[lane, LANE_TAIL] - lanes[lane, LANE_HEAD])
    reg[QUEUED] += 1
    reg[WORST_QUEUE] = max(reg[WORST_QUEUE], reg[QUEUED])
    return True


@compiled
def is_full(link: LinkState, lane: int, length: int) -> bool:
    """Whether `length` bytes more do not fit."""
    lanes = link.lanes
    if lanes[lane, LANE_TAIL] - lanes[lane, LANE_HEAD] >= lanes[lane, LANE_LIMIT]:
        return True
    return 0 < lanes[lane, LANE_LIMIT_BYTES] < lanes[lane, LANE_BYTES] + length


@compiled
def take_head(link: LinkState, lane: int) -> int:
    """Takes the oldest packet out of a lane; returns its row, which stays readable until the lane's next `admit`."""
    lanes = link.lanes
    row = lanes[lane, LANE_HEAD] % link.queue.shape[1]
    lanes[lane, LANE_HEAD] += 1
    lanes[lane, LANE_BYTES] -= link.queue[lane, row, Q_BYTES]
    link.reg[QUEUED] -= 1
    return row


@compiled
def drop_head(link: LinkState, lane: int, cause: int, at: int) -> None:
    """Drops the oldest packet of a lane at `at`."""
    row = take_head(link, lane)
    link.dropped[cause] += 1
    link.lanes[lane, LANE_DROPPED] += 1
    note(link, link.queue[lane, row, Q_NUMBER], cause, at)
    release(link, link.queue[lane, row, Q_SUPER], 1)


@compiled
def first_arrival(link: LinkState) -> int:
    """When the packet arrived that would be served next, if the server were free; NEVER if none waits."""
    if link.reg[QUEUED] == 0:
        return NEVER
    lane = next_lane(link)
    return link.queue[lane, link.lanes[lane, LANE_HEAD] % link.queue.shape[1], Q_ARRIVAL]


@compiled
def next_lane(link: LinkState) -> int:
    """The lane whose turn it is; some packet must wait.

    All that wait have arrived: whatever could be served before an arrival has been served before it was admitted.
    """
    lanes = link.lanes
    lane = 0
    while lanes[lane, LANE_HEAD] == lanes[lane, LANE_TAIL]:
        lane += 1
    return lane


@compiled
def thin_out(link: LinkState, lane: int, now: int) -> bool:
    """Lets the lane's discipline drop packets that would be served at `now`; False if none is left in the lane."""
    lanes = link.lanes
    if lanes[lane, LANE_DISCIPLINE] == CODEL:
        while lanes[lane, LANE_HEAD] < lanes[lane, LANE_TAIL]:
            arrival = link.queue[lane, lanes[lane, LANE_HEAD] % link.queue.shape[1], Q_ARRIVAL]
            if not codel_drops(lanes, lane, now - arrival, now):
                return True
            drop_head(link, lane, AQM, now)
        return False
    return True
