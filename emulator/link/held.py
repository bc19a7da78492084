"""What a shut gate keeps for longer than its lane's longest wait is dropped when that time is up, and not later.

It is worked out in the order of time with all else, so that neither the drops nor their instants depend on when the
link is polled. Without a hold, or without a longest wait, nobody comes here, or finds nothing to do.
"""

from __future__ import annotations

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.fair import fair_oldest
from emulator.link.pie import pie_update
from emulator.link.queue import QUEUE, drop_head
from emulator.link.state import (
    FAIR_OLDEST,
    FQ_CODEL,
    LANE_DISCIPLINE,
    LANE_HEAD,
    LANE_LIMIT_NS,
    LANE_TAIL,
    LAST_START,
    NEVER,
    PIE,
    Q_ARRIVAL,
    LinkState,
)


@compiled
def oldest_arrival(link: LinkState, lane: int) -> int:
    """When the oldest packet of a lane came, which has one; under FQ-CoDel: not before."""
    if link.lanes[lane, LANE_DISCIPLINE] == FQ_CODEL:
        return link.lanes[lane, FAIR_OLDEST]
    return link.queue[lane, link.lanes[lane, LANE_HEAD] % link.queue.shape[1], Q_ARRIVAL]


@compiled
def next_overdue(link: LinkState) -> tuple[int, int]:
    """When a packet that waits will have waited too long, and its lane; NEVER without such limits.

    The first nanosecond beyond the longest wait counts. Under FQ-CoDel it may be later than told.
    """
    first, where, lanes = NEVER, 0, link.lanes
    for lane in range(len(lanes)):
        if lanes[lane, LANE_LIMIT_NS] == 0 or lanes[lane, LANE_HEAD] == lanes[lane, LANE_TAIL]:
            continue
        at = oldest_arrival(link, lane) + lanes[lane, LANE_LIMIT_NS] + 1
        if at < first:
            first, where = at, lane
    return first, where


@compiled_apart
def next_drop(link: LinkState, since: int) -> int:
    """When a packet will be dropped that a gate keeps since `since`, if it stays shut; not before."""
    at, _ = next_overdue(link)
    return max(at, since)


@compiled_apart
def drop_overdue(link: LinkState, since: int, until: int) -> bool:
    """Drops the first packet that is overdue by `until`; the gate has kept the one whose turn it is since `since`.

    False if there is none. True without a drop means: ask again, the lane's oldest packet is another one by now.
    """
    at, lane = next_overdue(link)
    if max(at, since) > until:
        return False
    lanes, before = link.lanes, oldest_arrival(link, lane)
    if lanes[lane, LANE_DISCIPLINE] == FQ_CODEL and fair_oldest(lanes, link.flows, link.queue, lane) > before:
        return True
    if lanes[lane, LANE_DISCIPLINE] == PIE:
        pie_update(lanes, lane, max(at, since))
    link.reg[LAST_START] = max(at, since)
    drop_head(link, lane, QUEUE, max(at, since))
    return True
