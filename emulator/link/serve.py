"""Service: packets leave the queue one after the other, each taking its bits at the rate of the moment.

The gate stands before the server: held packets wait, and one that is in service when the hold begins is let out;
dropped ones take their time on the air and are lost. A rate that changes while a packet is in service is counted to the
nanosecond, and what integer division cuts off is carried on.

Whatever else holds packets back stands before the gate, and holds back the queue, not a packet: who is served is
decided when service begins, and who comes before that instant takes part.

Where the medium is shared in cycles, a server that stood still begins with the next grant, and what it has sent leaves
with the frame that holds its last bit. Where capacity is assigned on demand, it has asked for it first, when packets
began to wait, and waited for it; where that is for a volume, there is a request for each packet that waits, and the
oldest one serves whoever is next.
"""

from __future__ import annotations

from emulator.link.channel import DROP, HOLD, see
from emulator.link.compiled import compiled, compiled_apart
from emulator.link.pace import draw_tokens, next_opportunity, tokens_from, use_opportunities
from emulator.link.queue import next_bytes
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
    LAST_ARRIVAL,
    LAST_START,
    NEVER,
    OVERHEAD_BYTES,
    QUEUED,
    REQUEST,
    REQUEST_HEAD,
    REQUEST_KEPT,
    RESIDUE,
    RESIDUE_RATE,
    UTC_OFFSET,
    WAITING_SINCE,
    LinkState,
)

NS_PER_S = 1_000_000_000


@compiled
def service_start(link: LinkState) -> int:
    """When the next packet enters service: its turn, or when the gate opens. NEVER if none waits. Sets HELD_SINCE."""
    reg = link.reg
    reg[HELD_SINCE] = NEVER
    if reg[QUEUED] == 0:
        return NEVER
    start, since = reg[FREE], reg[WAITING_SINCE]
    one_by_one = len(link.requests) > 0
    if one_by_one:
        since = link.requests[reg[REQUEST_HEAD] % len(link.requests)]
    if since > start or one_by_one:
        asked = since + reg[REQUEST] if since - start > reg[REQUEST_KEPT] else since
        start = max(start, next_instant(link, asked, reg[GRANT]))
    if reg[FEATURES] & HAS_BUCKET:
        start = wait_for_tokens(link, start)
    while True:
        if reg[FEATURES] & HAS_OPPORTUNITIES:
            start = next_opportunity(reg, link.opportunities, start, since)
        see(link, start)
        if reg[CH_GATE] != HOLD:
            return start
        reg[HELD_SINCE] = min(reg[HELD_SINCE], start)
        if reg[CH_UNTIL] >= NEVER:
            return NEVER
        start = next_instant(link, reg[CH_UNTIL], reg[GRANT])


@compiled_apart
def wait_for_tokens(link: LinkState, start: int) -> int:
    """When the server, ready at `start`, finds the tokens for the packet whose turn it is.

    Another packet may need fewer; but whose turn it is has been so since the queues changed last, and not before.
    """
    reg = link.reg
    turn = max(reg[LAST_START], reg[LAST_ARRIVAL])
    begin = tokens_from(reg, max(start, turn), (next_bytes(link) + reg[OVERHEAD_BYTES]) * 8 * NS_PER_S)
    return start if begin == start else next_instant(link, begin, reg[GRANT])


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
        draw_tokens(reg, start, (length + reg[OVERHEAD_BYTES]) * 8 * NS_PER_S)
    if reg[FEATURES] & HAS_OPPORTUNITIES:
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
