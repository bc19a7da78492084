"""The queue: wire packets wait here for service, up to a limit in packets; a packet that finds it full is dropped."""

from __future__ import annotations

from emulator.link.compiled import compiled
from emulator.link.ledger import note
from emulator.link.state import (
    OFFERED_PACKETS,
    Q_ARRIVAL,
    Q_BYTES,
    Q_HEAD,
    Q_INDEX,
    Q_NUMBER,
    Q_SUPER,
    Q_TAIL,
    QUEUE_LIMIT,
    WORST_QUEUE,
    LinkState,
)
from emulator.timeline.causes import Cause

QUEUE = int(Cause.QUEUE)


@compiled
def admit(link: LinkState, arrival: int, place: int, index: int, length: int) -> bool:
    """Wire packet `index` of the super-packet at `place` joins the queue at `arrival`; False: dropped, and counted.

    Its number counts the packets offered, dropped or not: one drop more does not shift the draws of all that follow.
    """
    reg = link.reg
    waiting = reg[Q_TAIL] - reg[Q_HEAD]
    if waiting >= reg[QUEUE_LIMIT]:
        link.dropped[QUEUE] += 1
        note(link, reg[OFFERED_PACKETS], QUEUE, arrival)
        return False
    queue, row = link.queue, reg[Q_TAIL] % len(link.queue)
    queue[row, Q_ARRIVAL] = arrival
    queue[row, Q_SUPER] = place
    queue[row, Q_INDEX] = index
    queue[row, Q_BYTES] = length
    queue[row, Q_NUMBER] = reg[OFFERED_PACKETS]
    reg[Q_TAIL] += 1
    reg[WORST_QUEUE] = max(reg[WORST_QUEUE], waiting + 1)
    return True
