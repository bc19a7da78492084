"""Loss on the air: drawn by the packet's number at the channel's rate, and bursts, which are a matter of time.

Bursts live in link time and not in packets: the same burst spans 10 and 10,000 packets/s, and one packet more changes
nothing. They can be asked for any instant, in any order, without a memory of all that was before: one goes back from
the instant asked for as far as it matters, and no farther than to what is known from the last time.

A Markov chain of up to four states, each with its own loss; with two it is Gilbert's and Elliott's (E. N. Gilbert, BSTJ
39, 1960; E. O. Elliott, BSTJ 42, 1963). Each bin has a draw of its own that says where every state would lead. Going
back, these maps lead all states to fewer and fewer of them; when one is left, it is what the chain is in, wherever it
began: coupling from the past (J. G. Propp, D. B. Wilson, Random Structures & Algorithms 9, 1996). So the law holds
exactly, in the first bin and across all others.

Spells, bursts with lengths of any law: they may start at the instants of a Poisson process, each with a length of its
own, and do start there unless one lasts. Cells as long as the mean gap have a Poisson number of starts each, anywhere
in them, so that the work is one of starts, however short the spells are. Going back, an instant that no earlier start
would reach, even if all of them became spells, is one at which none lasts: from there on forward all is known. How many
starts that takes is bounded where the table is made (`emulator/link/tables.py`).

Beside them stand the loss that bit errors make of a packet's length, and packets that are lost by their number.
"""

from __future__ import annotations

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.draws import (
    PURPOSE_CHAIN,
    PURPOSE_CHAIN_LOW,
    PURPOSE_LOSS,
    PURPOSE_SPELL,
    PURPOSE_SPELL_LENGTH,
    PURPOSE_SPELL_START,
    draw32,
)
from emulator.link.state import (
    CH_LOSS,
    CHAIN_AT,
    CHAIN_BIN,
    CHAIN_STATE,
    DIRECTION,
    FEATURES,
    HAS_LOSSES,
    NEVER,
    OVERHEAD_BYTES,
    SEED,
    SPELL_END,
    SPELL_FROM,
    SPELL_GAP,
    SPELL_LONGEST,
    SPELL_LOSS,
    SPELL_NEXT,
    UTC_OFFSET,
    Ints,
    LinkState,
)

LOSS_ONE = 1 << 32
UNCHANGED = 0b11_10_01_00  # a map of states, two bits for where each of them leads
CHAIN_ONE_BITS = 62  # odds of a chain: a transition may be as rare as bursts that come once in weeks, by µs
LONGEST_MEMORY = 1 << 18  # bins; a chain that has not forgotten its beginning by then is taken to have begun in state 0

# how many starts a cell has: Poisson's odds, with mean 1, of so many or fewer, × 2³²
FEWER_STARTS = (
    1580030169, 3160060337, 3950075422, 4213413783, 4279248374, 4292415292, 4294609778, 4294923276, 4294962463,
    4294966817, 4294967253, 4294967292, 4294967296,
)  # fmt: skip
MOST_STARTS = 16  # numbers that the starts of a cell may have
FAR = (1 << 63) - 1  # beyond any instant


@compiled
def is_lost(link: LinkState, number: int, at: int, length: int) -> bool:
    """Whether packet `number`, of `length` IP bytes, which leaves at `at`, is lost, given what `see` found for then."""
    reg = link.reg
    loss = reg[CH_LOSS]
    if reg[FEATURES] & HAS_LOSSES:
        if len(link.chain) > 0:
            state = chain_state(reg, link.chain, (at + reg[UTC_OFFSET]) // reg[CHAIN_BIN])
            loss = max(loss, link.chain[state, len(link.chain)])
        if len(link.spells) > 0 and in_spell(reg, link.spells, at + reg[UTC_OFFSET]):
            loss = max(loss, reg[SPELL_LOSS])
        if len(link.bit_errors) > 0:
            errors = link.bit_errors[min(len(link.bit_errors) - 1, length + reg[OVERHEAD_BYTES])]
            both = ((loss >> 1) * (errors >> 1)) >> 30  # 1 − (1 − a)(1 − b), halved before the product
            loss = min(LOSS_ONE, loss + errors - both)
        if len(link.doomed) > 0 and is_doomed(link.doomed, number):
            return True
    return loss > 0 and draw32(reg[SEED], reg[DIRECTION], PURPOSE_LOSS, number) < loss


@compiled_apart
def chain_state(reg: Ints, chain: Ints, time_bin: int) -> int:
    """The state that the chain is in during a bin of UTC."""
    states = len(chain)
    came_to = UNCHANGED  # the states after bin `at`, and where they have led by `time_bin`
    at = time_bin
    found = -1
    while found < 0:
        if at == reg[CHAIN_AT]:
            found = (came_to >> 2 * reg[CHAIN_STATE]) & 3
            break
        drawn = draw32(reg[SEED], reg[DIRECTION], PURPOSE_CHAIN, at) << CHAIN_ONE_BITS - 32
        in_full = False
        before, together = 0, True
        for state in range(states):
            following = 0
            while True:
                bound = chain[state, following]
                if not in_full and drawn >> CHAIN_ONE_BITS - 32 == bound >> CHAIN_ONE_BITS - 32:
                    drawn |= draw32(reg[SEED], reg[DIRECTION], PURPOSE_CHAIN_LOW, at) >> 64 - CHAIN_ONE_BITS
                    in_full = True  # 32 bits of the draw do not say on which side of the bound it is
                if drawn < bound:
                    break
                following += 1
            end = (came_to >> 2 * following) & 3
            before |= end << 2 * state
            together = together and end == before & 3
        came_to = before
        at -= 1
        if together or time_bin - at > LONGEST_MEMORY:
            found = came_to & 3
    reg[CHAIN_AT] = time_bin
    reg[CHAIN_STATE] = found
    return found


@compiled_apart
def in_spell(reg: Ints, spells: Ints, at: int) -> bool:
    """Whether a spell lasts at an instant of UTC, ns.

    From SPELL_FROM until before SPELL_NEXT, the next start, all is known: what lasts there ends at SPELL_END.
    """
    if reg[SPELL_FROM] <= at < reg[SPELL_NEXT]:
        return at < reg[SPELL_END]
    known = reg[SPELL_NEXT] if at >= reg[SPELL_NEXT] else -NEVER
    quiet = at  # at last an instant at which none lasts that began before
    start = _last_start(reg, at)
    while start >= known and start + reg[SPELL_LONGEST] > quiet:
        if start + _length(reg, spells, start) > quiet:
            quiet = start
        start = _last_start(reg, start - 1)
    if start < known:
        since, end = known, reg[SPELL_END]
    else:
        since, end = quiet, quiet
    start = _next_start(reg, since)
    while start <= at:
        if start >= end:
            end = start + _length(reg, spells, start)
        since = start
        start = _next_start(reg, start + 1)
    reg[SPELL_FROM] = since
    reg[SPELL_NEXT] = start
    reg[SPELL_END] = end
    return at < end


@compiled_apart
def _last_start(reg: Ints, at: int) -> int:
    """When the last start is that is not after `at`."""
    cell, found = at // reg[SPELL_GAP], -FAR
    while found == -FAR:
        for number in range(_starts(reg, cell)):
            start = _start(reg, cell, number)
            if start <= at:
                found = max(found, start)
        cell -= 1
    return found


@compiled_apart
def _next_start(reg: Ints, at: int) -> int:
    """When the first start is that is not before `at`."""
    cell, found = at // reg[SPELL_GAP], FAR
    while found == FAR:
        for number in range(_starts(reg, cell)):
            start = _start(reg, cell, number)
            if start >= at:
                found = min(found, start)
        cell += 1
    return found


@compiled
def _starts(reg: Ints, cell: int) -> int:
    """How many starts a cell has."""
    drawn = draw32(reg[SEED], reg[DIRECTION], PURPOSE_SPELL, cell)
    starts = 0
    while drawn >= FEWER_STARTS[starts]:
        starts += 1
    return starts


@compiled
def _start(reg: Ints, cell: int, number: int) -> int:
    """Where in UTC one of a cell's starts is, to a 2³¹st of the cell."""
    gap = reg[SPELL_GAP]
    drawn = draw32(reg[SEED], reg[DIRECTION], PURPOSE_SPELL_START, cell * MOST_STARTS + number) >> 1
    return cell * gap + drawn * (gap >> 31) + (drawn * (gap & 0x7FFFFFFF) >> 31)


@compiled
def _length(reg: Ints, spells: Ints, start: int) -> int:
    """How long the spell lasts, ns, that starts at `start`."""
    drawn = draw32(reg[SEED], reg[DIRECTION], PURPOSE_SPELL_LENGTH, start)
    low, high = 0, len(spells) - 1
    while low < high:
        middle = (low + high) // 2
        if drawn < spells[middle, 0]:
            high = middle
        else:
            low = middle + 1
    return spells[low, 1]


@compiled_apart
def is_doomed(doomed: Ints, number: int) -> bool:
    """Whether `number` is among rising numbers."""
    low, high = 0, len(doomed)
    while low < high:
        middle = (low + high) // 2
        if doomed[middle] < number:
            low = middle + 1
        else:
            high = middle
    return low < len(doomed) and doomed[low] == number
