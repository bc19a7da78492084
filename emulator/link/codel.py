"""CoDel (RFC 8289), on the link's logical time: what a packet waited is exact, whenever the decision is worked out."""

from __future__ import annotations

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.state import (
    CODEL_COUNT,
    CODEL_DROP_NEXT,
    CODEL_DROPPING,
    CODEL_FIRST_ABOVE,
    CODEL_LAST_COUNT,
    Ints,
)

LEAST_BYTES = 1514  # RFC 8289 section 4.4: no drop while less than one full packet stays behind
RECENT_INTERVALS = 16  # RFC 8289 section 5.5: a drop state left so recently is taken up where it was


@compiled_apart
def codel_drops(
    table: Ints, row: int, column: int, behind: int, sojourn: int, now: int, target: int, interval: int
) -> bool:
    """Whether the packet at the head of a queue, which has waited `sojourn` ns at `now`, is to be dropped.

    table, row, column: where the five numbers of the queue's state are. behind: bytes that wait behind the packet.
    """
    first_above, drop_next, dropping = column + CODEL_FIRST_ABOVE, column + CODEL_DROP_NEXT, column + CODEL_DROPPING
    count, last_count = column + CODEL_COUNT, column + CODEL_LAST_COUNT
    late = False
    if sojourn < target or behind <= LEAST_BYTES:
        table[row, first_above] = 0
    elif table[row, first_above] == 0:
        table[row, first_above] = now + interval
    else:
        late = now >= table[row, first_above]
    if not late:
        table[row, dropping] = 0
        return False
    if table[row, dropping]:
        if now < table[row, drop_next]:
            return False
        table[row, count] += 1
        table[row, drop_next] += interval_over_root(interval, table[row, count])
        return True
    table[row, dropping] = 1
    since = table[row, count] - table[row, last_count]
    recent = now - table[row, drop_next] < RECENT_INTERVALS * interval
    table[row, count] = since if recent and since > 1 else 1
    table[row, last_count] = table[row, count]
    table[row, drop_next] = now + interval_over_root(interval, table[row, count])
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
