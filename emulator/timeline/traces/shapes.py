"""Which shape a jitter has: floor and mean by least squares of quantiles, for each shape that a link can have.

The shapes are those of a scenario's `jitter` table. A round trip has two jitters, drawn apart: its quantiles are those
of their sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Shape = Literal["exponential", "uniform", "normal", "lognormal"]

SHARES = np.arange(0.05, 0.951, 0.01)  # quantiles that the delay is fitted to
CANDIDATES: tuple[tuple[Shape, float], ...] = (  # the first one is taken unless another is clearly better
    ("exponential", 1.0), ("uniform", 0.577), ("normal", 0.333), *(("lognormal", spread) for spread in
    (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)),
)  # fmt: skip
CLEARLY = 0.8  # times the first one's error, or less
FELT_MS = 0.001  # misses below that say nothing: of a path without jitter, they are rounding
POINTS = 400  # of a table of quantiles
LEAST_CORRELATION = 0.1  # of consecutive samples; less may be chance
_NORMAL = NormalDist()
_SCORES = np.array([_NORMAL.inv_cdf((place + 0.5) / POINTS) for place in range(POINTS)])


@dataclass(frozen=True)
class Jitter:
    """The shape of a direction's random delay, and how far the fitted quantiles are from the measured, ms."""

    floor_ms: float
    mean_ms: float
    shape: Shape
    spread: float
    error_ms: float

    def delays_ms(self, scores: Floats) -> Floats:
        """Delays for normal scores."""
        delays: Floats = self.floor_ms + self.mean_ms * np.interp(scores, _SCORES, unit_table(self.shape, self.spread))
        return delays


@cache
def unit_table(shape: Shape, spread: float) -> Floats:
    """Quantiles of a jitter of mean 1 at the middles of POINTS equal shares."""
    shares = (np.arange(POINTS) + 0.5) / POINTS
    if shape == "exponential":
        return np.asarray(-np.log1p(-shares))
    if shape == "uniform":
        return np.asarray(1 + math.sqrt(3) * spread * (2 * shares - 1))
    if shape == "normal":
        return np.maximum(0.0, 1 + spread * _SCORES)
    sigma = math.sqrt(math.log1p(spread**2))
    return np.asarray(np.exp(sigma * _SCORES - sigma**2 / 2))


@cache
def _unit_quantiles(shape: Shape, spread: float, halves: bool) -> Floats:
    """The same at SHARES; halves: of the sum of two."""
    table = unit_table(shape, spread)
    values = np.add.outer(table, table).ravel() if halves else table
    return np.quantile(values, SHARES)


def fitted(sample_ms: Floats, shape: Shape, spread: float, *, halves: bool) -> Jitter:
    """One shape by least squares; neither floor nor mean is below 0. halves: of a round trip; its floor is given."""
    quantiles = np.quantile(sample_ms, SHARES)
    unit = _unit_quantiles(shape, spread, halves)
    slope, floor = np.polyfit(unit, quantiles, 1)
    if floor < 0:
        floor, slope = 0.0, float((unit @ quantiles) / (unit @ unit))
    slope = max(0.0, float(slope))
    error = float(np.sqrt(np.mean((floor + slope * unit - quantiles) ** 2)))
    return Jitter(float(floor), slope, shape, spread, error)


def candidates(sample_ms: Floats, *, halves: bool) -> tuple[Jitter, ...]:
    """Every shape, the one to be taken first, then by their errors."""
    found = [fitted(sample_ms, shape, spread, halves=halves) for shape, spread in CANDIDATES]
    usual, others = found[0], sorted(found, key=lambda one: one.error_ms)
    matters = usual.error_ms > FELT_MS and others[0].error_ms < CLEARLY * usual.error_ms
    taken = others[0] if matters else usual
    return taken, *(one for one in others if one is not taken)


def correlation(sample_ms: Floats) -> float:
    """Of consecutive samples' normal scores, NaN for lost ones; 0 where it may be chance."""
    came = np.isfinite(sample_ms)
    scores = np.full(len(sample_ms), np.nan)
    ranks = np.empty(int(came.sum()))
    ranks[np.argsort(sample_ms[came], kind="stable")] = np.arange(len(ranks))
    scores[came] = np.interp((ranks + 0.5) / max(1, len(ranks)), (np.arange(POINTS) + 0.5) / POINTS, _SCORES)
    pairs = came[:-1] & came[1:]
    if pairs.sum() < len(sample_ms) // 4 or np.ptp(sample_ms[came]) == 0:
        return 0.0
    found = float(np.corrcoef(scores[:-1][pairs], scores[1:][pairs])[0, 1])
    return min(0.99, found) if found >= LEAST_CORRELATION else 0.0
