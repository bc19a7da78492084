"""Loss on the air: drawn by the packet's number at the channel's rate, and bursts, which are a matter of time.

Bursts live in bins of link time and not in packets: the same burst spans 10 and 10,000 packets/s, and one packet more
changes nothing. They can be asked for any bin, in any order, without a memory of all bins before: one goes back from
the bin asked for as far as it matters, and no farther than to the bin that was asked for last.

A Markov chain of up to four states, each with its own loss; with two it is Gilbert's and Elliott's (E. N. Gilbert, BSTJ
39, 1960; E. O. Elliott, BSTJ 42, 1963). Each bin has a draw of its own that says where every state would lead. Going
back, these maps lead all states to fewer and fewer of them; when one is left, it is what the chain is in, wherever it
began: coupling from the past (J. G. Propp, D. B. Wilson, Random Structures & Algorithms 9, 1996). So the law holds
exactly, in the first bin and across all others.

Spells, bursts with lengths of any law: in each bin one may begin, unless one lasts. Where none has begun for as long as
the longest lasts, none lasts: from there on forward all is known.

Beside them stand the loss that bit errors make of a packet's length, and packets that are lost by their number.
"""

from __future__ import annotations

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.draws import PURPOSE_CHAIN, PURPOSE_LOSS, PURPOSE_SPELL, PURPOSE_SPELL_LENGTH, QUANTILES, draw32
from emulator.link.state import (
    CH_LOSS,
    CHAIN_AT,
    CHAIN_BIN,
    CHAIN_STATE,
    DIRECTION,
    FEATURES,
    HAS_LOSSES,
    OVERHEAD_BYTES,
    SEED,
    SPELL_AT,
    SPELL_BIN,
    SPELL_END,
    SPELL_LONGEST,
    SPELL_LOSS,
    SPELL_ODDS,
    UTC_OFFSET,
    Ints,
    LinkState,
)

LOSS_ONE = 1 << 32
MOST_STATES = 4
UNCHANGED = 0b11_10_01_00  # a map of states, two bits for where each of them leads
LONGEST_MEMORY = 1 << 22  # bins; a chain that has not forgotten its beginning by then is taken to have begun in state 0


@compiled
def is_lost(link: LinkState, number: int, at: int, length: int) -> bool:
    """Whether packet `number`, of `length` IP bytes, which leaves at `at`, is lost, given what `see` found for then."""
    reg = link.reg
    loss = reg[CH_LOSS]
    if reg[FEATURES] & HAS_LOSSES:
        if len(link.chain) > 0:
            state = chain_state(reg, link.chain, (at + reg[UTC_OFFSET]) // reg[CHAIN_BIN])
            loss = max(loss, link.chain[state, len(link.chain)])
        if len(link.spells) > 0 and in_spell(reg, link.spells, (at + reg[UTC_OFFSET]) // reg[SPELL_BIN]):
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
        drawn = draw32(reg[SEED], reg[DIRECTION], PURPOSE_CHAIN, at)
        before, together = 0, True
        for state in range(states):
            following = 0
            while drawn >= chain[state, following]:
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
def in_spell(reg: Ints, spells: Ints, time_bin: int) -> bool:
    """Whether a spell lasts during a bin of UTC."""
    at, quiet = time_bin, 0
    while quiet < reg[SPELL_LONGEST] and at != reg[SPELL_AT]:
        quiet = 0 if _begins(reg, at) else quiet + 1
        at -= 1
    end = reg[SPELL_END] if at == reg[SPELL_AT] else at
    while at < time_bin:
        at += 1
        if at >= end and _begins(reg, at):
            end = at + spells[draw32(reg[SEED], reg[DIRECTION], PURPOSE_SPELL_LENGTH, at) % QUANTILES]
    reg[SPELL_AT] = time_bin
    reg[SPELL_END] = end
    return time_bin < end


@compiled
def _begins(reg: Ints, time_bin: int) -> bool:
    return draw32(reg[SEED], reg[DIRECTION], PURPOSE_SPELL, time_bin) < reg[SPELL_ODDS]


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
