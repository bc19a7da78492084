"""Adaptive coding: which MODCOD a modem uses while its C/N moves, with margin and hysteresis."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.radio.modcod import MODCODS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ORDER = sorted(MODCODS, key=lambda modcod: modcod.threshold_db)
_THRESHOLDS_DB = np.array([modcod.threshold_db for modcod in _ORDER])
# The best efficiency of all that close from each threshold on, × 10⁶; before the first, none closes.
_BEST = np.maximum.accumulate([0, *(round(modcod.efficiency * 1e6) for modcod in _ORDER)])
EFFICIENCY_ONE = 1_000_000


def best_efficiency(cn_db: Floats) -> Ints:
    """Efficiency × 10⁶ of the most efficient MODCOD that closes at each C/N; 0 where none does."""
    best: Ints = _BEST[np.searchsorted(_THRESHOLDS_DB, cn_db, side="right")]
    return best


def followed_efficiency(cn_db: Floats, margin_db: float, hysteresis_db: float) -> Ints:
    """The same for a modem that follows a series of C/N, (times,).

    It leaves a MODCOD as soon as the C/N is less than `margin_db` over its threshold, and takes a better one only when
    that closes with `hysteresis_db` more. At the first time it takes the best, without hysteresis.
    A MODCOD that was ever the best has a threshold below those of all better ones, so that it closes wherever the best
    is at least as good: the modem's state need not be more than its efficiency.
    """
    most, sure = best_efficiency(cn_db - margin_db), best_efficiency(cn_db - margin_db - hysteresis_db)
    if (most == most[0]).all():
        return most
    followed = np.empty_like(most)
    now = int(most[0])
    for at, (low, high) in enumerate(zip(sure.tolist(), most.tolist(), strict=True)):
        now = min(max(now, low), high)
        followed[at] = now
    return followed
