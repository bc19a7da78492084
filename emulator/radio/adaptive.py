"""Adaptive coding: which MODCOD a modem uses while its C/N moves, with margin and hysteresis."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from emulator.radio.modcod import DVB_S2, Waveform

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

EFFICIENCY_ONE = 1_000_000


@cache
def _steps(waveform: Waveform) -> tuple[Floats, Ints]:
    """Rising thresholds, and the best efficiency × 10⁶ of all that close from each on; before the first, none."""
    order = sorted(waveform.modcods, key=lambda modcod: modcod.threshold_db)
    best = np.maximum.accumulate([0, *(round(modcod.efficiency * EFFICIENCY_ONE) for modcod in order)])
    return np.array([modcod.threshold_db for modcod in order]), best


def best_efficiency(cn_db: Floats, waveform: Waveform = DVB_S2) -> Ints:
    """Efficiency × 10⁶ of the most efficient MODCOD that closes at each C/N; 0 where none does."""
    thresholds_db, efficiency = _steps(waveform)
    best: Ints = efficiency[np.searchsorted(thresholds_db, cn_db, side="right")]
    return best


def followed_efficiency(cn_db: Floats, margin_db: float, hysteresis_db: float, waveform: Waveform = DVB_S2) -> Ints:
    """The same for a modem that follows a series of C/N, (times,).

    It leaves a MODCOD as soon as the C/N is less than `margin_db` over its threshold, and takes a better one only when
    that closes with `hysteresis_db` more. At the first time it takes the best, without hysteresis.
    A MODCOD that was ever the best has a threshold below those of all better ones, so that it closes wherever the best
    is at least as good: the modem's state need not be more than its efficiency.
    """
    most, sure = (best_efficiency(cn_db - lower_db, waveform) for lower_db in (margin_db, margin_db + hysteresis_db))
    if (most == most[0]).all():
        return most
    followed = np.empty_like(most)
    now = int(most[0])
    for at, (low, high) in enumerate(zip(sure.tolist(), most.tolist(), strict=True)):
        now = min(max(now, low), high)
        followed[at] = now
    return followed
