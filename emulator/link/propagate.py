"""Propagation: the delay of the moment, jitter that lives in time bins, and never an overtaking.

A packet that a falling delay would bring in front of an earlier one comes right behind it, at the distance that the
line behind the link needs for its bits.
"""

from __future__ import annotations

from emulator.link.compiled import compiled
from emulator.link.draws import JITTER_ONE, PURPOSE_JITTER, QUANTILES, draw32
from emulator.link.state import (
    CH_ANCHOR,
    CH_DELAY,
    CH_JITTER,
    CH_SLOPE,
    DIRECTION,
    EGRESS_RATE,
    F_BYTES,
    F_DUE,
    F_INDEX,
    F_SUPER,
    F_TAIL,
    JITTER_BIN,
    LAST_DUE,
    SEED,
    UTC_OFFSET,
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
        share = draw32(reg[SEED], reg[DIRECTION], PURPOSE_JITTER, time_bin) % QUANTILES
        delay += reg[CH_JITTER] * link.jitter[share] // JITTER_ONE
    return delay


@compiled
def launch(link: LinkState, at: int, place: int, index: int, length: int) -> int:
    """The packet is on the air from `at` on; it is due behind every packet before it. Returns when."""
    reg = link.reg
    earliest = reg[LAST_DUE]
    if reg[EGRESS_RATE] > 0:
        earliest += length * 8 * NS_PER_S // reg[EGRESS_RATE]
    due = max(at + delay_at(link, at), earliest)
    reg[LAST_DUE] = due
    flight, row = link.flight, reg[F_TAIL] % len(link.flight)
    flight[row, F_DUE] = due
    flight[row, F_SUPER] = place
    flight[row, F_INDEX] = index
    flight[row, F_BYTES] = length
    reg[F_TAIL] += 1
    return due
