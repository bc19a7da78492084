"""What the air does to packets that it does not lose: a bit flipped, a double behind, a place further back in the row.

Each is drawn by the packet's number. The bit flips in layer 4, and the checksum has been completed before, so that the
receiver sees it: what the receiver's IP would refuse anyway could not be told from loss.
"""

from __future__ import annotations

from emulator.link.compiled import compiled_apart
from emulator.link.draws import PURPOSE_COPY, PURPOSE_LATE, PURPOSE_SPOIL, PURPOSE_SPOIL_BIT, draw32
from emulator.link.state import (
    COPIED_PACKETS,
    COPY_ODDS,
    DIRECTION,
    LATE_NS,
    LATE_ODDS,
    LATE_PACKETS,
    SEED,
    SPOIL_ODDS,
    SPOILT,
    SPOILT_BIT,
    SPOILT_PACKETS,
    SUPER_L4,
    SUPER_LINK,
    Ints,
)


@compiled_apart
def spoil(reg: Ints, entry: Ints, number: int, length: int) -> int:
    """The flags of packet `number`, of `length` IP bytes: 0, or SPOILT and which bit it is."""
    bits = (length - entry[SUPER_L4] + entry[SUPER_LINK]) * 8
    if entry[SUPER_L4] == entry[SUPER_LINK] or bits <= 0 or not _drawn(reg, PURPOSE_SPOIL, number, reg[SPOIL_ODDS]):
        return 0
    reg[SPOILT_PACKETS] += 1
    return SPOILT | (draw32(reg[SEED], reg[DIRECTION], PURPOSE_SPOIL_BIT, number) % bits) << SPOILT_BIT


@compiled_apart
def lateness_of(reg: Ints, number: int) -> int:
    """By how many ns packet `number` is to be late, so that others may overtake it; mostly 0."""
    if not _drawn(reg, PURPOSE_LATE, number, reg[LATE_ODDS]):
        return 0
    reg[LATE_PACKETS] += 1
    return reg[LATE_NS]


@compiled_apart
def is_copied(reg: Ints, number: int) -> bool:
    """Whether packet `number` comes twice."""
    if not _drawn(reg, PURPOSE_COPY, number, reg[COPY_ODDS]):
        return False
    reg[COPIED_PACKETS] += 1
    return True


@compiled_apart
def _drawn(reg: Ints, purpose: int, number: int, odds: int) -> bool:
    return odds > 0 and draw32(reg[SEED], reg[DIRECTION], purpose, number) < odds
