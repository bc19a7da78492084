"""Distributions as tables of quantiles: (QUANTILES,) int64, of equal shares, of mean JITTER_ONE.

Computed in decimal arithmetic, which rounds alike everywhere: another libm changes nothing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np

from emulator.link.draws import JITTER_ONE, QUANTILES, exponential_table
from emulator.timeline.model import Ints

Shape = Literal["exponential", "uniform", "normal", "lognormal", "constant"]

_BEYOND = 1 << 62
_DIGITS = 30
_SPREAD_BITS = 40  # of the search for a spread
WIDEST = {
    "uniform": 1 / math.sqrt(3),  # wider, and it would begin below 0
    "normal": math.sqrt(math.pi - 1),  # there half of it is cut off
    "lognormal": 3.0,  # there what the table leaves out beyond its last share takes 8 % from the standard deviation
}


def expect_spread(shape: str, spread: float) -> None:
    """Raises ValueError for a spread that a shape cannot have."""
    if not 0 <= spread <= WIDEST.get(shape, math.inf):
        raise ValueError(f"spread: expected from 0 to {WIDEST.get(shape, math.inf):.4g} with {shape!r}, got {spread}")


def quantile_table(shape: Shape, spread: float) -> Ints:
    """The table of a distribution; `spread` is its standard deviation over its mean, where the shape leaves it open.

    exponential: spread is 1. uniform: from 1 − √3·spread to 1 + √3·spread. normal: what is below 0 is 0, and mean and
    spread are those of the outcome. lognormal: the mean of each share, so that the mean is right; of the spread, 0.5 %
    is missing at 1, 1.7 % at 1.5, 3.5 % at 2 and 8 % at 3: what the last share's own spread would be. constant: none.
    Raises ValueError for a spread above WIDEST.
    """
    expect_spread(shape, spread)
    if shape == "exponential":
        return exponential_table()
    if shape == "constant":
        return np.full(QUANTILES, JITTER_ONE, np.int64)
    return _spread_table(shape, Decimal(repr(spread)))


@functools.cache
def _spread_table(shape: Shape, spread: Decimal) -> Ints:
    with localcontext() as context:
        context.prec = _DIGITS
        if shape == "uniform":
            width = spread * Decimal(3).sqrt()
            values = [1 + width * (Decimal(2 * index + 1) / QUANTILES - 1) for index in range(QUANTILES)]
        elif shape == "normal":
            values = _cut_normal(spread)
        else:
            sigma = (1 + spread * spread).ln().sqrt()
            below = [_below(score - sigma) for score in _normal_scores(True)[:-1]]
            values = [QUANTILES * (end - start) for start, end in pairwise([Decimal(0), *below, Decimal(1)])]
        return np.array([int((value * JITTER_ONE).to_integral_value()) for value in values], np.int64)


def _cut_normal(spread: Decimal) -> list[Decimal]:
    """Quantiles of a normal distribution cut off at 0 whose mean is then 1 and its standard deviation `spread`."""
    if spread == 0:
        return [Decimal(1)] * QUANTILES
    scores = _normal_scores(False)
    low, high = Decimal(-1), 2 / spread  # the mean over the standard deviation, before the cut
    for _ in range(_SPREAD_BITS):
        middle = (low + high) / 2
        found = [max(Decimal(0), middle + score) for score in scores]
        mean = sum(found, Decimal(0)) / QUANTILES
        square = sum((value * value for value in found), Decimal(0)) / QUANTILES
        wide = square > (1 + spread * spread) * mean * mean
        low, high = (middle, high) if wide else (low, middle)
    found = [max(Decimal(0), high + score) for score in scores]
    mean = sum(found, Decimal(0)) / QUANTILES
    return [value / mean for value in found]


def sample_table(samples: Sequence[float]) -> Ints:
    """The table of measured values, scaled to a mean of 1: the mean of each share of them.

    Raises ValueError without samples, or where they are below 0 or all 0.
    """
    if not (samples and min(samples) >= 0 and sum(samples) > 0):
        raise ValueError("samples: expected at least one, none below 0 and not all 0")
    mean = math.fsum(samples) / len(samples)
    rising = [round(Fraction(sample) / Fraction(mean) * JITTER_ONE) for sample in sorted(samples)]
    sums = [0, *accumulate(rising)]

    def up_to(place: int) -> int:
        """The sum of what is below a place that counts in QUANTILES to a sample, times QUANTILES."""
        whole, rest = divmod(place, QUANTILES)
        return sums[whole] * QUANTILES + (rising[whole] * rest if rest else 0)

    reached = [up_to(index * len(rising)) for index in range(QUANTILES + 1)]
    return np.array([round(Fraction(end - start, len(rising))) for start, end in pairwise(reached)], np.int64)


@functools.cache
def normal_table() -> Ints:
    """(2, QUANTILES): a normal distribution's scores at the middles of equal shares, and at their upper ends."""
    with localcontext() as context:
        context.prec = _DIGITS
        rows = [[int((score * JITTER_ONE).to_integral_value()) for score in _normal_scores(ends)] for ends in (0, 1)]
        rows[1][-1] = _BEYOND
        return np.array(rows, np.int64)


def memory_weights(correlation: float) -> Ints:
    """What the draws of a bin and of those before it weigh, so that consecutive sums are correlated; none for 0.

    The weights fall by `correlation` from bin to bin, until less than 1 in 1,000 is left; their squares sum to 1.
    """
    if correlation == 0:
        return np.zeros(0, np.int64)
    with localcontext() as context:
        context.prec = _DIGITS
        rho = Decimal(repr(correlation))
        weights = [Decimal(1)]
        while weights[-1] * rho > Decimal("0.001"):
            weights.append(weights[-1] * rho)
        length = sum((weight * weight for weight in weights), Decimal(0)).sqrt()
        return np.array([int((weight / length * JITTER_ONE).to_integral_value()) for weight in weights], np.int64)


@functools.cache
def _normal_scores(ends: bool) -> tuple[Decimal, ...]:
    """Where a normal distribution reaches (index + 1/2) / QUANTILES, or (index + 1) / QUANTILES; at last 9."""
    with localcontext() as context:
        context.prec = _DIGITS
        half = []
        score = Decimal(0)
        for index in range(QUANTILES // 2):
            share = Decimal(2 * index + (2 if ends else 1)) / (2 * QUANTILES)
            score = Decimal(9) if ends and index == QUANTILES // 2 - 1 else _score_at(share, score)
            half.append(score)
        if ends:
            return (*(-score for score in half[-2::-1]), Decimal(0), *half)
        return (*(-score for score in half[::-1]), *half)


def _score_at(share: Decimal, near: Decimal) -> Decimal:
    """The score above 0 up to which a normal distribution has `share`, from 0 on: Newton's method from `near`."""
    score = near
    for _ in range(60):
        density, within = _normal(score)
        step = (share - within) / density
        score += step
        if abs(step) < Decimal("1e-15"):
            break
    return score


def _normal(score: Decimal) -> tuple[Decimal, Decimal]:
    """Density of a normal distribution at a score of 0 or more, and its share from 0 to there."""
    root = (2 * Decimal("3.141592653589793238462643383279502884")).sqrt()
    density = (-score * score / 2).exp() / root
    term, total, number = score, score, 1  # ∫ = density · (x + x³/3 + x⁵/15 + …)
    while term > total * Decimal("1e-22"):
        number += 2
        term = term * score * score / number
        total += term
    return density, density * total


def _below(score: Decimal) -> Decimal:
    """The share of a normal distribution below a score."""
    half = Decimal("0.5")
    return half + _normal(score)[1] if score > 0 else half - _normal(-score)[1]


@functools.cache
def bit_error_table(rate: float, longest_bytes: int) -> Ints:
    """Odds × 2³² that at least one bit of a packet is wrong, by its length from 0 to `longest_bytes` bytes."""
    one = 1 << 128
    right = one - round(Decimal(repr(rate)) * one)
    byte_right = one
    for _ in range(8):
        byte_right = byte_right * right >> 128
    all_right, odds = one, []
    for _ in range(longest_bytes + 1):
        odds.append((one - all_right) >> 96)
        all_right = all_right * byte_right >> 128
    return np.array(odds, np.int64)
