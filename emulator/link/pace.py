"""What may hold a packet back at the server apart from the rate: a token bucket, or a trace of delivery opportunities.

A packet starts when the bucket holds its bytes: what has left in any time is never more than the bucket and what its
rate has filled in.

A trace is Mahimahi's (R. Netravali et al., USENIX ATC 2015): instants at which so many bytes may leave. Packets share
an opportunity, and a packet may take several; what nobody waits for is wasted, and a packet that comes at the very
instant is too late. The trace is repeated; its instants count from UTC 0, modulo its length.
"""

from __future__ import annotations

from emulator.link.compiled import compiled_apart
from emulator.link.state import (
    BUCKET_AT,
    BUCKET_FULL,
    BUCKET_LEVEL,
    BUCKET_RATE,
    OPPORTUNITY_AT,
    OPPORTUNITY_BYTES,
    OPPORTUNITY_LEFT,
    OPPORTUNITY_NEXT,
    UTC_OFFSET,
    Ints,
)


@compiled_apart
def draw_tokens(reg: Ints, at: int, work: int) -> int:
    """Takes `work` (bits × 10⁹) out of the bucket as soon from `at` on as it holds them; returns when.

    What is more than the bucket can ever hold waits until it is full.
    """
    rate, full = reg[BUCKET_RATE], reg[BUCKET_FULL]
    elapsed = at - reg[BUCKET_AT]
    level = full
    if elapsed <= (full - reg[BUCKET_LEVEL]) // rate:  # more would not fit, in the bucket or in 64 bits
        level = reg[BUCKET_LEVEL] + elapsed * rate
    work = min(work, full)
    if level < work:
        wait = (work - level + rate - 1) // rate
        level += wait * rate
        at += wait
    reg[BUCKET_LEVEL] = level - work
    reg[BUCKET_AT] = at
    return at


@compiled_apart
def next_opportunity(reg: Ints, opportunities: Ints, start: int, arrival: int) -> int:
    """The first instant from `start` on, and after `arrival`, with an opportunity that is not used up."""
    if reg[OPPORTUNITY_LEFT] > 0 and arrival < reg[OPPORTUNITY_AT] and start <= reg[OPPORTUNITY_AT]:
        return reg[OPPORTUNITY_AT]
    after = max(arrival, start - 1) + reg[UTC_OFFSET]
    found = _instant(opportunities, reg[OPPORTUNITY_NEXT])
    if not after < found <= after + 1 + opportunities[-1]:  # wasted; or the world's clock was set back
        reg[OPPORTUNITY_NEXT] = _first_after(opportunities, after)
        found = _instant(opportunities, reg[OPPORTUNITY_NEXT])
    return found - reg[UTC_OFFSET]


@compiled_apart
def use_opportunities(reg: Ints, opportunities: Ints, at: int, length: int) -> int:
    """Sends `length` bytes from the opportunity at `at`, which `next_opportunity` found; returns when they are out."""
    if at != reg[OPPORTUNITY_AT] or reg[OPPORTUNITY_LEFT] == 0:
        reg[OPPORTUNITY_NEXT] += 1
        reg[OPPORTUNITY_LEFT] = reg[OPPORTUNITY_BYTES]
    while length > reg[OPPORTUNITY_LEFT]:
        length -= reg[OPPORTUNITY_LEFT]
        at = _instant(opportunities, reg[OPPORTUNITY_NEXT]) - reg[UTC_OFFSET]
        reg[OPPORTUNITY_NEXT] += 1
        reg[OPPORTUNITY_LEFT] = reg[OPPORTUNITY_BYTES]
    reg[OPPORTUNITY_LEFT] -= length
    reg[OPPORTUNITY_AT] = at
    return at


@compiled_apart
def _instant(opportunities: Ints, number: int) -> int:
    """UTC of opportunity `number`, counted from the first of the repetition that began at UTC 0."""
    size = len(opportunities)
    return number // size * opportunities[-1] + opportunities[number % size]


@compiled_apart
def _first_after(opportunities: Ints, utc: int) -> int:
    """The number of the first opportunity after `utc`."""
    size, period = len(opportunities), opportunities[-1]
    within = utc % period
    low, high = 0, size - 1  # the last one is at the period's end
    while low < high:
        middle = (low + high) // 2
        if opportunities[middle] > within:
            high = middle
        else:
            low = middle + 1
    return utc // period * size + low
