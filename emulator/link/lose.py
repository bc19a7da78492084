"""Loss on the air: the channel's loss rate, drawn by the packet's number, and bursts, which are a matter of time.

Bursts are a Gilbert-Elliott process (E. N. Gilbert, BSTJ 39, 1960; E. O. Elliott, BSTJ 42, 1963) over bins of link time
and not over packets: the same burst spans 10 and 10,000 packets/s, and one packet more changes nothing. It can be
looked up at any time: at the beginning of each block of bins its state is drawn anew from its long-run odds.
"""

from __future__ import annotations

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.draws import PURPOSE_BURST_BLOCK, PURPOSE_BURST_STEP, PURPOSE_LOSS, draw32
from emulator.link.state import (
    BURST_AT,
    BURST_BIN,
    BURST_ENTER,
    BURST_EXIT,
    BURST_IN,
    BURST_LOSS,
    CH_LOSS,
    DIRECTION,
    SEED,
    UTC_OFFSET,
    LinkState,
)

BLOCK_BINS = 4096


@compiled
def is_lost(link: LinkState, number: int, at: int) -> bool:
    """Whether packet `number`, which leaves at `at`, is lost, given the channel that `see` found for that time."""
    reg = link.reg
    loss = reg[CH_LOSS]
    if reg[BURST_BIN] > 0 and in_burst(link, (at + reg[UTC_OFFSET]) // reg[BURST_BIN]):
        loss = max(loss, reg[BURST_LOSS])
    return loss > 0 and draw32(reg[SEED], reg[DIRECTION], PURPOSE_LOSS, number) < loss


@compiled_apart
def in_burst(link: LinkState, time_bin: int) -> bool:
    """Whether the direction is in a burst during a bin of UTC."""
    reg = link.reg
    seed, direction = reg[SEED], reg[DIRECTION]
    block_start = time_bin // BLOCK_BINS * BLOCK_BINS
    if not block_start <= reg[BURST_AT] <= time_bin:
        odds = (reg[BURST_ENTER] << 30) // max(1, reg[BURST_ENTER] + reg[BURST_EXIT]) << 2
        reg[BURST_IN] = 1 if draw32(seed, direction, PURPOSE_BURST_BLOCK, block_start // BLOCK_BINS) < odds else 0
        reg[BURST_AT] = block_start
    while reg[BURST_AT] < time_bin:
        reg[BURST_AT] += 1
        drawn = draw32(seed, direction, PURPOSE_BURST_STEP, reg[BURST_AT])
        if reg[BURST_IN] == 1:
            reg[BURST_IN] = 0 if drawn < reg[BURST_EXIT] else 1
        else:
            reg[BURST_IN] = 1 if drawn < reg[BURST_ENTER] else 0
    return reg[BURST_IN] == 1
