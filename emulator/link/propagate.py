"""Propagation: the delay of the moment, jitter that lives in time bins, and never an overtaking unless it is asked for.

A packet that a falling delay would bring in front of an earlier one comes right behind it, at the distance that the
line behind the link needs for its bits.

Jitter is a table of quantiles, drawn anew in each time bin. With a memory, what is drawn is the weighted sum of the
normal draws of this bin and of those before it, of which the rank is taken: so the bins are correlated, the
distribution is as it was, and any bin can be looked up by itself.
"""

from __future__ import annotations

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.draws import JITTER_ONE, PURPOSE_JITTER, QUANTILES, draw32
from emulator.link.flight import append, join
from emulator.link.state import (
    CH_ANCHOR,
    CH_DELAY,
    CH_JITTER,
    CH_SLOPE,
    DIRECTION,
    EGRESS_RATE,
    FEATURES,
    HAS_OVERTAKING,
    JITTER_AT,
    JITTER_BIN,
    JITTER_OVERTAKES,
    JITTER_SHARE,
    LAST_DUE,
    SEED,
    UTC_OFFSET,
    Ints,
    LinkState,
)

NS_PER_S = 1_000_000_000


@compiled
def delay_at(link: LinkState, at: int) -> int:
    """One-way delay, ns, of what enters the air at `at`, given the channel that `see` found for that time."""
    reg = link.reg
    seconds = (at - reg[CH_ANCHOR]) // NS_PER_S  # apart: slope × ns would not fit for long
    rest = at - reg[CH_ANCHOR] - seconds * NS_PER_S
    delay = max(0, reg[CH_DELAY] + reg[CH_SLOPE] * seconds + reg[CH_SLOPE] * rest // NS_PER_S)
    if reg[CH_JITTER] > 0:
        time_bin = (at + reg[UTC_OFFSET]) // reg[JITTER_BIN]
        if time_bin != reg[JITTER_AT]:
            reg[JITTER_AT] = time_bin
            reg[JITTER_SHARE] = share_of(reg, link.normal, link.weights, time_bin)
        delay += reg[CH_JITTER] * link.jitter[reg[JITTER_SHARE]] // JITTER_ONE
    return delay


@compiled_apart
def share_of(reg: Ints, normal: Ints, weights: Ints, time_bin: int) -> int:
    """Which of the QUANTILES equal shares of its distribution the jitter is in during a bin of UTC."""
    seed, direction = reg[SEED], reg[DIRECTION]
    if len(weights) == 0:
        return draw32(seed, direction, PURPOSE_JITTER, time_bin) % QUANTILES
    total = 0
    for back in range(len(weights)):
        drawn = draw32(seed, direction, PURPOSE_JITTER, time_bin - back) % QUANTILES
        total += weights[back] * normal[0, drawn]
    total = total // JITTER_ONE
    low, high = 0, QUANTILES - 1
    while low < high:
        middle = (low + high) // 2
        if total < normal[1, middle]:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def launch(link: LinkState, at: int, place: int, index: int, length: int, extra: int, late: int) -> int:
    """The packet is on the air from `at` on, for `extra` ns more than the channel says; returns when it is due.

    It is due behind every packet before it, unless those may overtake it that come while it is `late` ns late.
    """
    reg = link.reg
    due = at + delay_at(link, at) + extra
    if reg[JITTER_OVERTAKES] == 0:
        earliest = reg[LAST_DUE]
        if reg[EGRESS_RATE] > 0:
            earliest += length * 8 * NS_PER_S // reg[EGRESS_RATE]
        due = max(due, earliest)
        if late == 0:
            reg[LAST_DUE] = due
    due += late
    if reg[FEATURES] & HAS_OVERTAKING:
        join(reg, link.flight, link.overtaken, due, place, index, length, reg[LAST_DUE])
    else:
        append(reg, link.flight, due, place, index, length)
    return due
