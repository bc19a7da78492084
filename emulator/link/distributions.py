"""Distributions as tables of quantiles: (QUANTILES,) int64, at the middles of equal shares, of mean JITTER_ONE.

Computed in decimal arithmetic, which rounds alike everywhere: another libm changes nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import Literal

import numpy as np

from emulator.link.draws import JITTER_ONE, QUANTILES, exponential_table
from emulator.timeline.model import Ints

Shape = Literal["exponential", "uniform", "normal", "lognormal", "constant"]

_BEYOND = 1 << 62
_DIGITS = 30


def quantile_table(shape: Shape, spread: float) -> Ints:
    """The table of a distribution; `spread` is its standard deviation over its mean, where the shape leaves it open.

    exponential: spread is 1. uniform: from 1 − √3·spread to 1 + √3·spread. normal: cut off at 0. constant: no spread.
    Raises ValueError for a spread that would go below zero (uniform: above 1/√3).
    """
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
            if width > 1:
                raise ValueError(f"uniform: expected a spread of at most {1 / Decimal(3).sqrt():.4f}, got {spread}")
            values = [1 + width * (Decimal(2 * index + 1) / QUANTILES - 1) for index in range(QUANTILES)]
        elif shape == "normal":
            values = [max(Decimal(0), 1 + spread * score) for score in _normal_scores(False)]
        else:
            sigma = (1 + spread * spread).ln().sqrt()
            values = [(sigma * score - sigma * sigma / 2).exp() for score in _normal_scores(False)]
        return np.array([int((value * JITTER_ONE).to_integral_value()) for value in values], np.int64)


def sample_table(samples: Sequence[float], weights: Sequence[int] = ()) -> Ints:
    """The table of measured values, each as often as its weight says; its mean is theirs, in 1/JITTER_ONE.

    Raises ValueError without samples, or where weights and samples are not as many, or all weights are 0.
    """
    counts = list(weights) or [1] * len(samples)
    if len(counts) != len(samples) or sum(counts) <= 0 or min(counts) < 0:
        raise ValueError("samples: expected at least one, each with a weight of 0 or more, and one above 0")
    rows = sorted(zip(samples, counts, strict=True))
    total, reached, found = sum(counts), 0, []
    place = 0
    for index in range(QUANTILES):
        while (reached + rows[place][1]) * 2 * QUANTILES <= (2 * index + 1) * total and place + 1 < len(rows):
            reached += rows[place][1]
            place += 1
        found.append(round(rows[place][0] * JITTER_ONE))
    return np.array(found, np.int64)


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
    root = (2 * Decimal("3.141592653589793238462643383279502884")).sqrt()
    score = near
    for _ in range(60):
        density = (-score * score / 2).exp() / root
        term, total, number = score, score, 1  # ∫ = density · (x + x³/3 + x⁵/15 + …)
        while term > total * Decimal("1e-22"):
            number += 2
            term = term * score * score / number
            total += term
        step = (share - density * total) / density
        score += step
        if abs(step) < Decimal("1e-15"):
            break
    return score


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
