"""Random draws without a state: a value is a hash of what it is for, so that order and batching change nothing.

All arithmetic stays below 2⁶³, so that nothing wraps, compiled or interpreted. The mixing is that of MurmurHash3's
32-bit variant (Austin Appleby, public domain); `emulator/timeline/draws.py` draws the planner's values.
"""

from __future__ import annotations

import functools
from decimal import Decimal, localcontext

import numpy as np
import numpy.typing as npt

from emulator.link.compiled import compiled

PURPOSE_LOSS = 1
PURPOSE_JITTER = 2
PURPOSE_CHAIN = 4
PURPOSE_SPELL = 5
PURPOSE_SPELL_LENGTH = 6
PURPOSE_PIE = 7
PURPOSE_SPOIL = 8
PURPOSE_SPOIL_BIT = 9
PURPOSE_COPY = 10
PURPOSE_LATE = 11
PURPOSE_CHAIN_LOW = 12
PURPOSE_SPELL_START = 13

MASK32 = 0xFFFFFFFF
QUANTILES = 1024
JITTER_ONE = 1 << 20  # the mean, in units of the jitter table


@compiled
def mul32(a: int, b: int) -> int:
    """a·b modulo 2³² for a, b < 2³², through 16-bit halves."""
    return ((a & 0xFFFF) * b + ((((a >> 16) * b) & 0xFFFF) << 16)) & MASK32


@compiled
def mix_word(state: int, word: int) -> int:
    """One round of MurmurHash3: folds 32 bits of `word` into `state`."""
    word = mul32(word, 0xCC9E2D51)
    word = ((word << 15) | (word >> 17)) & MASK32
    state ^= mul32(word, 0x1B873593)
    state = ((state << 13) | (state >> 19)) & MASK32
    return (mul32(state, 5) + 0xE6546B64) & MASK32


@compiled
def finish(state: int) -> int:
    """MurmurHash3's final avalanche."""
    state = mul32(state ^ (state >> 16), 0x85EBCA6B)
    state = mul32(state ^ (state >> 13), 0xC2B2AE35)
    return state ^ (state >> 16)


@compiled
def draw32(seed: int, direction: int, purpose: int, counter: int) -> int:
    """A uniform integer in [0, 2³²) for (seed, direction, purpose, counter); seed and counter are below 2⁶³."""
    state = mix_word(0, seed & MASK32)
    state = mix_word(state, (seed >> 32) & MASK32)
    state = mix_word(state, (direction << 16) | purpose)
    state = mix_word(state, counter & MASK32)
    state = mix_word(state, (counter >> 32) & MASK32)
    return finish(state ^ 20)


@functools.cache
def exponential_table() -> npt.NDArray[np.int64]:
    """Quantiles of an exponential distribution of mean `JITTER_ONE`, (QUANTILES,), at the middles of equal shares.

    Computed in decimal arithmetic, which rounds alike everywhere: another libm changes nothing.
    """
    with localcontext() as context:
        context.prec = 20
        steps = [-(Decimal(2 * index + 1) / (2 * QUANTILES)).ln() for index in range(QUANTILES - 1, -1, -1)]
        return np.array([int((step * JITTER_ONE).to_integral_value()) for step in steps], np.int64)
