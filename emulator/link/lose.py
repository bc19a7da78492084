"""Loss on the air: the channel's loss rate, drawn by the packet's number, and bursts, which are a matter of time.

Bursts are a Markov chain over bins of link time and not over packets: the same burst spans 10 and 10,000 packets/s, and
one packet more changes nothing. With two states it is Gilbert's and Elliott's (E. N. Gilbert, BSTJ 39, 1960; E. O.
Elliott, BSTJ 42, 1963).

The chain can be asked for any bin, in any order, without a memory of all bins before. Each bin has a draw of its own
that says where every state would lead. Going back from the bin asked for, these maps lead all states to fewer and fewer
of them; when one is left, it is what the chain is in, wherever it began: coupling from the past (J. G. Propp, D. B.
Wilson, Random Structures & Algorithms 9, 1996). So the law holds exactly, in the first bin and across all others.
"""

from __future__ import annotations

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.draws import PURPOSE_CHAIN, PURPOSE_LOSS, draw32
from emulator.link.state import (
    CH_LOSS,
    CHAIN_AT,
    CHAIN_BIN,
    CHAIN_STATE,
    DIRECTION,
    SEED,
    UTC_OFFSET,
    Ints,
    LinkState,
)

MOST_STATES = 4
UNCHANGED = 0b11_10_01_00  # a map of states, two bits for where each of them leads
LONGEST_MEMORY = 1 << 22  # bins; a chain that has not forgotten its beginning by then is taken to have begun in state 0


@compiled
def is_lost(link: LinkState, number: int, at: int) -> bool:
    """Whether packet `number`, which leaves at `at`, is lost, given the channel that `see` found for that time."""
    reg, chain = link.reg, link.chain
    loss = reg[CH_LOSS]
    if len(chain) > 0:
        state = chain_state(reg, chain, (at + reg[UTC_OFFSET]) // reg[CHAIN_BIN])
        loss = max(loss, chain[state, len(chain)])
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
