"""The channel at an instant: the Timeline's row, and what the overlay adds to it.

The answer holds until `CH_UNTIL`; most packets ask within that time and pay for one comparison.
"""

from __future__ import annotations

from emulator.link.compiled import compiled
from emulator.link.state import (
    CH_ANCHOR,
    CH_CAUSE,
    CH_DELAY,
    CH_FROM,
    CH_GATE,
    CH_GENERATION,
    CH_JITTER,
    CH_LOSS,
    CH_RATE,
    CH_SLOPE,
    CH_UNTIL,
    EFFICIENCY_ZERO,
    GENERATION,
    NEVER,
    O_CAUSE,
    O_DELAY,
    O_END,
    O_FADE,
    O_GATE,
    O_JITTER,
    O_LOSS,
    O_START,
    OVERLAY_VIEW,
    ROW_CAUSE,
    ROW_CN,
    ROW_CURSOR,
    ROW_DELAY,
    ROW_GATE,
    ROW_JITTER,
    ROW_LOSS,
    ROW_RATE,
    ROW_SLOPE,
    ROW_START,
    ROWS_OLDEST,
    ROWS_PUBLISHED,
    UTC_OFFSET,
    LinkState,
)
from emulator.timeline.causes import Cause, Gate

PASS, HOLD, DROP = int(Gate.PASS), int(Gate.HOLD), int(Gate.DROP)
FADE = int(Cause.FADE)
LOSS_ONE = 1 << 32


@compiled
def see(link: LinkState, at: int) -> None:
    """Sets the CH_ registers to the channel at monotonic time `at` ns."""
    reg = link.reg
    if reg[CH_FROM] <= at < reg[CH_UNTIL] and reg[CH_GENERATION] == reg[GENERATION]:
        return
    reg[CH_GENERATION] = reg[GENERATION]
    _see_row(link, at)
    _see_overlay(link, at)


@compiled
def _see_row(link: LinkState, at: int) -> None:
    reg, rows = link.reg, link.rows
    size = len(rows)
    utc = at + reg[UTC_OFFSET]
    published = reg[ROWS_PUBLISHED]
    row = max(reg[ROW_CURSOR], reg[ROWS_OLDEST])
    while row + 1 < published and rows[(row + 1) % size, ROW_START] <= utc:
        row += 1
    while row > reg[ROWS_OLDEST] and rows[row % size, ROW_START] > utc:
        row -= 1  # the world's clock was set back
    reg[ROW_CURSOR] = row
    place = row % size
    start = rows[place, ROW_START] - reg[UTC_OFFSET]
    reg[CH_FROM] = start
    reg[CH_UNTIL] = NEVER
    if row + 1 < published:
        reg[CH_UNTIL] = rows[(row + 1) % size, ROW_START] - reg[UTC_OFFSET]
    if at < start:
        reg[CH_FROM] = -NEVER  # before the first row its beginning holds
        reg[CH_UNTIL] = start
        reg[CH_SLOPE] = 0
    else:
        reg[CH_SLOPE] = rows[place, ROW_SLOPE]
    reg[CH_ANCHOR] = start
    reg[CH_DELAY] = rows[place, ROW_DELAY]
    reg[CH_RATE] = rows[place, ROW_RATE]
    reg[CH_LOSS] = rows[place, ROW_LOSS]
    reg[CH_JITTER] = rows[place, ROW_JITTER]
    reg[CH_GATE] = rows[place, ROW_GATE]
    reg[CH_CAUSE] = rows[place, ROW_CAUSE]


@compiled
def _see_overlay(link: LinkState, at: int) -> None:
    reg = link.reg
    side, count = reg[OVERLAY_VIEW] >> 32, reg[OVERLAY_VIEW] & 0xFFFFFFFF
    fade = 0
    for index in range(count):
        start, end = link.overlay[side, index, O_START], link.overlay[side, index, O_END]
        if at < start:
            reg[CH_UNTIL] = min(reg[CH_UNTIL], start)
        elif at >= end:
            reg[CH_FROM] = max(reg[CH_FROM], end)
        else:
            reg[CH_FROM] = max(reg[CH_FROM], start)
            reg[CH_UNTIL] = min(reg[CH_UNTIL], end)
            fade += link.overlay[side, index, O_FADE]
            reg[CH_DELAY] += link.overlay[side, index, O_DELAY]
            reg[CH_JITTER] += link.overlay[side, index, O_JITTER]
            loss = link.overlay[side, index, O_LOSS]
            # 1 − (1 − a)(1 − b), in 2⁻³²; halved before the product, which would not fit
            both = ((reg[CH_LOSS] >> 1) * (loss >> 1)) >> 30
            reg[CH_LOSS] = min(LOSS_ONE, reg[CH_LOSS] + loss - both)
            if link.overlay[side, index, O_GATE] > reg[CH_GATE]:
                reg[CH_GATE] = link.overlay[side, index, O_GATE]
                reg[CH_CAUSE] = link.overlay[side, index, O_CAUSE]
    if fade > 0 and len(link.efficiency) > 0:
        _fade(link, fade)


@compiled
def _fade(link: LinkState, fade_centidb: int) -> None:
    """The MODCOD follows the C/N: the rate falls by steps, and below the most robust MODCOD nothing passes."""
    reg, efficiency = link.reg, link.efficiency
    clear_cn = link.rows[reg[ROW_CURSOR] % len(link.rows), ROW_CN]
    last = len(efficiency) - 1
    clear = efficiency[min(last, max(0, clear_cn // 10 + reg[EFFICIENCY_ZERO]))]
    faded = efficiency[min(last, max(0, (clear_cn - fade_centidb) // 10 + reg[EFFICIENCY_ZERO]))]
    if faded == 0 or clear == 0:
        if reg[CH_GATE] != DROP:
            reg[CH_GATE] = DROP
            reg[CH_CAUSE] = FADE
    elif reg[CH_RATE] > 0:
        reg[CH_RATE] = max(1, reg[CH_RATE] * faded // clear)
