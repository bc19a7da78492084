"""How sure a figure is: confidence intervals for quantiles, for shares and for any statistic of a sample.

Pure functions over arrays. None of them assumes a distribution: delays have long tails, and a mean with a normal
interval would be wrong about them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 2000
_TINY = 1e-300
_STEPS = 300  # of the continued fraction; it converges in O(sqrt(max(a, b))), and bisection takes over beyond
_BISECTIONS = 60


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval [low, high], which holds the true value with probability `confidence` or more.

    A bound is infinite where the sample is too small to give one.
    """

    estimate: float
    low: float
    high: float
    confidence: float

    def within(self, least: float, most: float) -> bool:
        """Whether the whole interval lies in [least, most]: the claim is proven at this confidence."""
        return least <= self.low and self.high <= most

    def outside(self, least: float, most: float) -> bool:
        """Whether the whole interval lies out of [least, most]: the claim is refuted at this confidence."""
        return self.high < least or self.low > most


def quantile_interval(values: npt.ArrayLike, share: float, confidence: float = CONFIDENCE) -> Interval:
    """The quantile at `share` (0 to 1) of what `values` (samples,) were drawn from, by order statistics.

    Exact for independent samples of any continuous distribution (David and Nagaraja, Order Statistics, 7.1): between
    the l-th and the u-th smallest lies the quantile unless fewer than l, or u and more, of n draws fall below it, and
    that number is binomial. Raises ValueError without values, or for a share outside of 0 to 1.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    count = len(ordered)
    if not count or not 0 <= share <= 1:
        raise ValueError(f"quantile: expected values and a share from 0 to 1, got {count} values and {share}")
    tail = (1 - confidence) / 2
    low, high = -math.inf, math.inf
    rank = _largest_rank(count, share, tail)
    if rank >= 1:
        low = float(ordered[rank - 1])
    mirrored = _largest_rank(count, 1 - share, tail)
    if mirrored >= 1:
        high = float(ordered[count - mirrored])
    return Interval(_quantile(ordered, share), low, high, confidence)


def _quantile(ordered: Floats, share: float) -> float:
    """By a straight line between two neighbours; NumPy's own does not take infinite values."""
    place = share * (len(ordered) - 1)
    below, rest = int(place), place - int(place)
    low = float(ordered[below])
    return low if not rest or low == ordered[below + 1] else low + rest * (float(ordered[below + 1]) - low)


def _largest_rank(count: int, share: float, tail: float) -> int:
    """The largest l with P(fewer than l of `count` fall below the quantile) ≤ tail; 0 if there is none."""
    low, high = 0, count + 1  # P is 0 at l = 0, and too large at the end
    while high - low > 1:
        middle = (low + high) // 2
        if binomial_at_most(middle - 1, count, share) <= tail:
            low = middle
        else:
            high = middle
    return low


def fewest_for_quantile(share: float, confidence: float = CONFIDENCE) -> int:
    """How many values `quantile_interval` takes for two finite bounds: 6 for the median with 95 %, 72 for p95.

    Raises ValueError for a share that is not between 0 and 1: no number of values bounds the least or the most.
    """
    if not 0 < share < 1:
        raise ValueError(f"quantile: expected a share between 0 and 1, got {share}")
    return max(1, math.ceil(math.log((1 - confidence) / 2) / math.log(max(share, 1 - share)) - 1e-9))


def share_interval(hits: int, count: int, confidence: float = CONFIDENCE) -> Interval:
    """The share of independent trials that come true, of which `hits` of `count` did: Clopper and Pearson, 1934.

    Raises ValueError for hits outside of 0 to count. Without trials, anything from 0 to 1.
    """
    if not 0 <= hits <= count:
        raise ValueError(f"share: expected from 0 to {count} hits, got {hits}")
    if count == 0:
        return Interval(math.nan, 0.0, 1.0, confidence)
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else _root(lambda share: 1 - binomial_at_most(hits - 1, count, share) - tail)
    high = 1.0 if hits == count else _root(lambda share: tail - binomial_at_most(hits, count, share))
    return Interval(hits / count, low, high, confidence)


def bootstrap_interval(
    values: npt.ArrayLike,
    statistic: Callable[[Floats], float],
    *,
    key: str,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Interval:
    """Any statistic of `values` (samples,), by Efron's percentile bootstrap over independent samples.

    The draws are keyed by `key`: the same values and key, the same interval. Raises ValueError without values.
    """
    sample = np.asarray(values, np.float64)
    if not len(sample):
        raise ValueError("bootstrap: expected values, got none")
    seed = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")
    random = np.random.Generator(np.random.Philox(seed))
    drawn = [float(statistic(sample[random.integers(0, len(sample), len(sample))])) for _ in range(resamples)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(float(statistic(sample)), float(low), float(high), confidence)


def binomial_at_most(hits: int, count: int, share: float) -> float:
    """P(at most `hits` of `count` independent trials come true, each with probability `share`)."""
    if hits < 0:
        return 0.0
    if hits >= count or share <= 0:
        return 1.0
    if share >= 1:
        return 0.0
    return _incomplete_beta(count - hits, hits + 1, 1 - share)


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction (DLMF 8.17.22)."""
    if x > (a + 1) / (a + b + 2):  # where the fraction converges fast
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    ) / a  # fmt: skip
    fraction, upper, lower = 1.0, 1.0, 0.0
    for step in range(_STEPS + round(4 * math.sqrt(max(a, b)))):
        half = step // 2
        if step == 0:
            term = 1.0
        elif step % 2 == 0:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        else:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        lower = 1 / _away_from_zero(1 + term * lower)
        upper = _away_from_zero(1 + term / upper)
        fraction *= upper * lower
        if abs(1 - upper * lower) < 1e-13:
            break
    return min(1.0, max(0.0, front * (fraction - 1)))


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _root(rising: Callable[[float], float]) -> float:
    """Where a rising function of [0, 1] crosses zero."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
