"""The ledger: what became of each wire packet, by its number, for who wants to know of every single one."""

from __future__ import annotations

from emulator.link.compiled import compiled
from emulator.link.state import L_AT, L_CAUSE, L_NUMBER, LEDGER_TAIL, LinkState


@compiled
def note(link: LinkState, number: int, cause: int, at: int) -> None:
    """Packet `number` was dropped for `cause` at `at`; a cause of 0: it is on the air and due at `at`."""
    if len(link.ledger) == 0:
        return
    row = link.reg[LEDGER_TAIL] % len(link.ledger)
    link.ledger[row, L_NUMBER] = number
    link.ledger[row, L_CAUSE] = cause
    link.ledger[row, L_AT] = at
    link.reg[LEDGER_TAIL] += 1
