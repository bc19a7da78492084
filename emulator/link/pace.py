"""What may hold a packet back at the server apart from the rate: a token bucket, or a trace of delivery opportunities.

A packet starts when the bucket holds its bytes, or, if it is larger than the bucket, when that is full; it takes them
all, and the bucket owes what it did not hold. So no more bytes start in any time than the bucket holds, or than the
last packet has if they are more, and its rate fills in. Until then the packet waits in its queue as any other.

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
    OPPORTUNITY_FOUND,
    OPPORTUNITY_LEFT,
    OPPORTUNITY_NEXT,
    UTC_OFFSET,
    Ints,
)


@compiled_apart
def tokens_from(reg: Ints, at: int, work: int) -> int:
    """The first instant from `at` on at which a packet of `work` (bits × 10⁹) may start."""
    missing = min(work, reg[BUCKET_FULL]) - reg[BUCKET_LEVEL]
    if missing <= 0:
        return at
    return max(at, reg[BUCKET_AT] + (missing - 1) // reg[BUCKET_RATE] + 1)


@compiled_apart
def draw_tokens(reg: Ints, at: int, work: int) -> None:
    """Takes `work` (bits × 10⁹) out of the bucket at `at`, where `tokens_from` allows it."""
    rate, full = reg[BUCKET_RATE], reg[BUCKET_FULL]
    elapsed = at - reg[BUCKET_AT]
    level = full
    if elapsed <= (full - reg[BUCKET_LEVEL]) // rate:  # more would not fit, in the bucket or in 64 bits
        level = reg[BUCKET_LEVEL] + elapsed * rate
    reg[BUCKET_LEVEL] = level - work
    reg[BUCKET_AT] = at


@compiled_apart
def next_opportunity(reg: Ints, opportunities: Ints, start: int, arrival: int) -> int:
    """The first instant from `start` on, and after `arrival`, with an opportunity that is not used up.

    Sets OPPORTUNITY_FOUND. What is found changes nothing: the gate may open earlier than it seemed.
    """
    if reg[OPPORTUNITY_LEFT] > 0 and arrival < reg[OPPORTUNITY_AT] and start <= reg[OPPORTUNITY_AT]:
        return reg[OPPORTUNITY_AT]
    after = max(arrival, start - 1) + reg[UTC_OFFSET]
    number = reg[OPPORTUNITY_NEXT]
    instant = _instant(opportunities, number)
    if not after < instant <= after + 1 + opportunities[-1]:  # wasted; or the world's clock was set back
        number = reg[OPPORTUNITY_FOUND]  # as the last time, in most cases
        instant = _instant(opportunities, number)
        if instant <= after or _instant(opportunities, number - 1) > after:
            number = _first_after(opportunities, after)
            instant = _instant(opportunities, number)
    reg[OPPORTUNITY_FOUND] = number
    return instant - reg[UTC_OFFSET]


@compiled_apart
def use_opportunities(reg: Ints, opportunities: Ints, at: int, length: int) -> int:
    """Sends `length` bytes from the opportunity at `at`, which `next_opportunity` found; returns when they are out."""
    if at != reg[OPPORTUNITY_AT] or reg[OPPORTUNITY_LEFT] == 0:
        reg[OPPORTUNITY_NEXT] = reg[OPPORTUNITY_FOUND] + 1
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
