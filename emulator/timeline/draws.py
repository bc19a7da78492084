"""The planner's random draws: a value is a hash of what it is for, so that no draw depends on another.

The mixing is that of MurmurHash3's 32-bit variant (Austin Appleby, public domain), on 64-bit words whose products stay
below 2⁶⁴: nothing wraps. `emulator/link/draws.py` is its compiled twin; a test holds them together.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.scenario.laws import Quantiles

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Way(IntEnum):
    """The direction that a draw belongs to."""

    UP = 0
    DOWN = 1
    BOTH = 2


class Purpose(IntEnum):
    """What a draw is for. 1 to 15 are the packet path's; numbers are never used again for something else."""

    SERVING = 16  # counter: slot
    SPREAD = 17  # slot
    RATE = 18  # slot
    WOBBLE = 19  # second of all slots
    OUTAGE_START = 20  # UTC second
    OUTAGE_OFFSET = 21  # UTC second
    OUTAGE_DURATION = 22  # UTC second
    RAIN_RADIUS = 23  # UTC minute
    RAIN_ANGLE = 24  # UTC minute
    SCINTILLATION = 25  # UTC second
    PROBE_LOSS = 32  # number of the probe, where a Timeline is written as probes
    DISH_PING = 40  # number of the ping since 1970


_LOW = 0xFFFFFFFF
FEW = 8  # below that, Python's own integers are faster than arrays


def draw32(seed: int, way: Way, purpose: Purpose, counter: Ints) -> Ints:
    """Uniform integers in [0, 2³²) for each `counter` (any shape, 0 or more); `seed` is below 2⁶³."""
    state = _state_of(seed, (way << 16) | purpose)
    if counter.size < FEW:
        drawn = [_finish(_mix(_mix(state, one & _LOW), one >> 32)) for one in counter.ravel().tolist()]
        return np.array(drawn, np.int64).reshape(counter.shape)
    words = counter.astype(np.uint64)
    finished: Ints = _finish(_mix(_mix(state, words & _LOW), words >> 32)).astype(np.int64)
    return finished


def uniform(seed: int, way: Way, purpose: Purpose, counter: Ints) -> Floats:
    """The same as numbers in (0, 1): the middle of each of 2³² steps, exact in a float."""
    return (draw32(seed, way, purpose, counter).astype(np.float64) + 0.5) / 2.0**32


def quantile(distribution: Quantiles, share: Floats) -> Floats:
    """The value below which `share` (0 to 1) of the distribution lies."""
    shares, values = zip(*distribution.points, strict=True)
    return np.interp(share, shares, values)


@lru_cache(maxsize=256)
def _state_of(seed: int, purpose: int) -> int:
    """What all draws of a purpose begin with."""
    state = 0
    for word in (seed & _LOW, seed >> 32, purpose):
        state = _mix(state, word)
    return state


def _mix(state: Any, word: Any) -> Any:
    """One round: folds 32 bits into each state. Integers, or arrays of 64-bit words."""
    word = _rotate((word * 0xCC9E2D51) & _LOW, 15)
    return (_rotate(state ^ ((word * 0x1B873593) & _LOW), 13) * 5 + 0xE6546B64) & _LOW


def _finish(state: Any) -> Any:
    state = state ^ 20  # 20: bytes mixed in
    state = ((state ^ (state >> 16)) * 0x85EBCA6B) & _LOW
    state = ((state ^ (state >> 13)) * 0xC2B2AE35) & _LOW
    return state ^ (state >> 16)


def _rotate(word: Any, bits: int) -> Any:
    return ((word << bits) | (word >> (32 - bits))) & _LOW
