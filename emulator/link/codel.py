"""CoDel (RFC 8289), on the link's logical time: what a packet waited is exact, whenever the decision is worked out."""

from __future__ import annotations

from emulator.link.compiled import compiled
from emulator.link.state import (
    CODEL_COUNT,
    CODEL_DROP_NEXT,
    CODEL_DROPPING,
    CODEL_FIRST_ABOVE,
    CODEL_INTERVAL,
    CODEL_LAST_COUNT,
    CODEL_TARGET,
    LANE_BYTES,
    Ints,
)

LEAST_BYTES = 1514  # RFC 8289 section 4.4: no drop while less than one full packet waits
RECENT_INTERVALS = 16  # RFC 8289 section 5.5: a drop state left so recently is taken up where it was


@compiled
def codel_drops(lanes: Ints, lane: int, sojourn: int, now: int) -> bool:
    """Whether the packet at the head of `lane`, which has waited `sojourn` ns at `now`, is to be dropped."""
    interval = lanes[lane, CODEL_INTERVAL]
    late = False
    if sojourn < lanes[lane, CODEL_TARGET] or lanes[lane, LANE_BYTES] <= LEAST_BYTES:
        lanes[lane, CODEL_FIRST_ABOVE] = 0
    elif lanes[lane, CODEL_FIRST_ABOVE] == 0:
        lanes[lane, CODEL_FIRST_ABOVE] = now + interval
    else:
        late = now >= lanes[lane, CODEL_FIRST_ABOVE]
    if not late:
        lanes[lane, CODEL_DROPPING] = 0
        return False
    if lanes[lane, CODEL_DROPPING]:
        if now < lanes[lane, CODEL_DROP_NEXT]:
            return False
        lanes[lane, CODEL_COUNT] += 1
        lanes[lane, CODEL_DROP_NEXT] += interval_over_root(interval, lanes[lane, CODEL_COUNT])
        return True
    lanes[lane, CODEL_DROPPING] = 1
    since = lanes[lane, CODEL_COUNT] - lanes[lane, CODEL_LAST_COUNT]
    recent = now - lanes[lane, CODEL_DROP_NEXT] < RECENT_INTERVALS * interval
    lanes[lane, CODEL_COUNT] = since if recent and since > 1 else 1
    lanes[lane, CODEL_LAST_COUNT] = lanes[lane, CODEL_COUNT]
    lanes[lane, CODEL_DROP_NEXT] = now + interval_over_root(interval, lanes[lane, CODEL_COUNT])
    return True


@compiled
def interval_over_root(interval: int, count: int) -> int:
    """interval ÷ √count, ns; integers alone, so that every machine agrees. count: 1 to 2²⁸."""
    count = min(count, 1 << 28)
    square = count << 32  # √(count · 2³²) = √count · 2¹⁶
    root = 1 << 32
    while True:  # Newton, from above
        better = (root + square // root) // 2
        if better >= root:
            break
        root = better
    return (interval << 16) // root
