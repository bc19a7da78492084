"""Loss on the air: the channel's loss rate at the end of service, drawn by the packet's number."""

from __future__ import annotations

from emulator.link.compiled import compiled
from emulator.link.draws import PURPOSE_LOSS, draw32
from emulator.link.state import CH_LOSS, DIRECTION, SEED, LinkState


@compiled
def is_lost(link: LinkState, number: int) -> bool:
    """Whether packet `number` is lost, given the channel that `see` found last."""
    reg = link.reg
    return reg[CH_LOSS] > 0 and draw32(reg[SEED], reg[DIRECTION], PURPOSE_LOSS, number) < reg[CH_LOSS]
