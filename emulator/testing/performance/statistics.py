"""The arithmetic: medians with their spread, ratios taken round by round, percentiles of a histogram, targets.

Pure functions and values; nothing here measures anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Spread:
    """One quantity in all rounds: `values` in the order of the rounds, their median, and the range that they span."""

    values: tuple[float, ...]
    median: float
    low: float
    high: float

    def as_json(self) -> dict[str, Any]:
        return {"values": list(self.values), "median": self.median, "low": self.low, "high": self.high}


def spread(values: Sequence[float]) -> Spread | None:
    """None without values. Raises ValueError for one that is not finite."""
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"spread: expected finite values, got {list(values)}")
    if not values:
        return None
    return Spread(tuple(values), median(values), min(values), max(values))


def ratios(values: Sequence[float], baselines: Sequence[float]) -> tuple[float, ...]:
    """Each round's value over the baseline of the same round: what slows a whole round down cancels out.

    Rounds without a baseline above zero are left out. Raises ValueError for a different number of rounds.
    """
    if len(values) != len(baselines):
        raise ValueError(f"ratios: expected as many baselines as values, got {len(baselines)} for {len(values)}")
    return tuple(value / baseline for value, baseline in zip(values, baselines, strict=True) if baseline > 0)


def histogram_percentile(counts: npt.NDArray[np.int64], percent: float) -> int | None:
    """The lowest bin at or below which `percent` (0 to 100) of all lies; None if the histogram is empty.

    counts: (bins,), none negative. Bin n of a lateness histogram: n to n + 1 µs late; its last bin: all that is later.
    """
    cumulative = np.cumsum(counts)
    if not len(cumulative) or not cumulative[-1]:
        return None
    wanted = max(1, math.ceil(percent / 100 * int(cumulative[-1])))
    return int(np.searchsorted(cumulative, wanted))


@dataclass(frozen=True)
class Target:
    """What the median must reach, or with `every_round` each round: at least, or at most, `limit`."""

    sense: Literal["≥", "≤"]
    limit: float
    every_round: bool = False

    def met(self, values: Spread) -> bool:
        if self.sense == "≥":
            return (values.low if self.every_round else values.median) >= self.limit
        return (values.high if self.every_round else values.median) <= self.limit

    def __str__(self) -> str:
        return f"{self.sense} {self.limit:g}"
