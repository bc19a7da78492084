"""Service: packets leave the queue one after the other, each taking its bits at the rate of the moment.

The gate stands before the server: held packets wait, and one that is in service when the hold begins is let out;
dropped ones take their time on the air and are lost. A rate that changes while a packet is in service is counted to the
nanosecond, and what integer division cuts off is carried on.

Where the medium is shared in cycles, an idle server begins with the next grant, and what it has sent leaves with the
frame that holds its last bit. Where capacity is assigned on demand, it has asked for it first, and waited for it; where
that is for a volume, for each packet.
"""

from __future__ import annotations

from emulator.link.channel import DROP, HOLD, see
from emulator.link.compiled import compiled
from emulator.link.pace import draw_tokens, next_opportunity, use_opportunities
from emulator.link.queue import first_arrival
from emulator.link.state import (
    CH_CAUSE,
    CH_GATE,
    CH_RATE,
    CH_UNTIL,
    FEATURES,
    FREE,
    GRANT,
    HAS_BUCKET,
    HAS_OPPORTUNITIES,
    HELD_SINCE,
    NEVER,
    OVERHEAD_BYTES,
    REQUEST,
    REQUEST_KEPT,
    RESIDUE,
    RESIDUE_RATE,
    UTC_OFFSET,
    LinkState,
)

NS_PER_S = 1_000_000_000


@compiled
def service_start(link: LinkState) -> int:
    """When the next packet enters service: its turn, or when the gate opens. NEVER if none waits. Sets HELD_SINCE."""
    reg = link.reg
    reg[HELD_SINCE] = NEVER
    arrival = first_arrival(link)
    if arrival == NEVER:
        return NEVER
    start = reg[FREE]
    if arrival > start or reg[REQUEST_KEPT] < 0:  # idle, or every packet asks for itself: begins with the next grant
        asked = arrival + reg[REQUEST] if arrival - start > reg[REQUEST_KEPT] else arrival
        start = max(start, next_instant(link, asked, reg[GRANT]))
    while True:
        if reg[FEATURES] & HAS_OPPORTUNITIES:
            start = next_opportunity(reg, link.opportunities, start, arrival)
        see(link, start)
        if reg[CH_GATE] != HOLD:
            return start
        reg[HELD_SINCE] = min(reg[HELD_SINCE], start)
        start = reg[CH_UNTIL]
        if start >= NEVER:
            return NEVER


@compiled
def next_instant(link: LinkState, at: int, cycle: int) -> int:
    """The first instant from `at` on that begins a cycle of UTC; `at` itself without a cycle (0)."""
    if cycle == 0:
        return at
    return at + -(at + link.reg[UTC_OFFSET]) % cycle


@compiled
def serve(link: LinkState, start: int, length: int) -> int:
    """Serves `length` IP bytes from `start`, when the gate is not shut; sets FREE.

    Returns 0, or the cause if a dropping gate was met before the last bit was out.
    """
    reg = link.reg
    at = start
    if reg[FEATURES] & HAS_BUCKET:
        at = draw_tokens(reg, start, (length + reg[OVERHEAD_BYTES]) * 8 * NS_PER_S)
    elif reg[FEATURES] & HAS_OPPORTUNITIES:
        at = use_opportunities(reg, link.opportunities, start, length + reg[OVERHEAD_BYTES])
    see(link, at)
    cause = reg[CH_CAUSE] if reg[CH_GATE] == DROP else 0
    if reg[FEATURES] & HAS_OPPORTUNITIES:
        reg[FREE] = at
        return cause
    work = (length + reg[OVERHEAD_BYTES]) * 8 * NS_PER_S  # bit·ns/s: below 2⁶³ for every IP packet
    if reg[RESIDUE_RATE] == reg[CH_RATE] and reg[FREE] == at:
        work += reg[RESIDUE]
    while reg[CH_RATE] > 0:
        rate = reg[CH_RATE]
        left = reg[CH_UNTIL] - at
        needed = work // rate
        if needed <= left:
            at += needed
            reg[RESIDUE] = work - needed * rate
            reg[RESIDUE_RATE] = rate
            break
        work -= left * rate
        at = reg[CH_UNTIL]
        see(link, at)
        if reg[CH_GATE] == DROP and cause == 0:
            cause = reg[CH_CAUSE]
    reg[FREE] = at
    return cause
