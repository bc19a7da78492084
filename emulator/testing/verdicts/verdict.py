"""A figure with its confidence interval, what was demanded of it, and the verdict.

    figure = delay_ms(records, "downlink", percentile=95)
    figure.at_most(60).require()

`passed`: the whole interval lies within the demand. `failed`: the whole interval lies outside. `undecided`: it holds
the bound, more repetitions would tell. `invalid`: the emulation fell behind, and nothing is said about what was tested.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from emulator.errors import EmulationError
from emulator.testing.intervals import Interval
from emulator.units import count_of

Outcome = Literal["passed", "failed", "undecided", "invalid"]


class NotProven(AssertionError):
    """A demand that the measured figure does not meet, or not surely; the message has the figure and its interval."""


class Invalid(EmulationError):
    """The emulation fell behind: what was measured proves nothing; the message says by how much."""


@dataclass(frozen=True)
class Verdict:
    """What was demanded of a figure, and what came of it. `least`, `most`: the demand, infinite for none.

    of: what the repetitions are, in the singular; fewest: how many of them an interval takes, 0 for unknown.
    """

    name: str
    outcome: Outcome
    interval: Interval
    least: float
    most: float
    unit: str
    repetitions: int
    faults: tuple[str, ...] = ()
    of: str = "repetition"
    fewest: int = 0

    def __bool__(self) -> bool:
        return self.outcome == "passed"

    def __str__(self) -> str:
        words = f"{self.name}: {_interval(self)}, demanded {_demand(self)}: {self.outcome}"
        return f"{words} ({'; '.join(self.faults)})" if self.faults else words

    @property
    def margin(self) -> float:
        """Distance from the nearer bound to the nearer end of the interval, in the figure's unit; below 0: beyond."""
        return min(self.interval.low - self.least, self.most - self.interval.high)

    def require(self, *, surely: bool = True) -> Verdict:
        """Itself, if it passed; not `surely`: also if it is undecided and the estimate meets the demand.

        Raises Invalid if the emulation fell behind, NotProven otherwise.
        """
        if self.outcome == "invalid":
            raise Invalid(str(self))
        met = self.least <= self.interval.estimate <= self.most
        if self.outcome == "passed" or (not surely and self.outcome == "undecided" and met):
            return self
        raise NotProven(str(self))

    def as_json(self) -> dict[str, Any]:
        """Plain values; None for a bound that there is not."""

        def bound(value: float) -> float | None:
            return value if math.isfinite(value) else None

        return {
            "name": self.name,
            "outcome": self.outcome,
            "estimate": bound(self.interval.estimate),
            "low": bound(self.interval.low),
            "high": bound(self.interval.high),
            "confidence": self.interval.confidence,
            "least": bound(self.least),
            "most": bound(self.most),
            "margin": bound(self.margin),
            "unit": self.unit,
            "repetitions": self.repetitions,
            "faults": list(self.faults),
        }


@dataclass(frozen=True)
class Figure:
    """A measured quantity with its interval over `repetitions`; with `faults`, every verdict is invalid.

    of, fewest: as a Verdict has them.
    """

    name: str
    interval: Interval
    unit: str
    repetitions: int
    faults: tuple[str, ...] = ()
    values: tuple[float, ...] = field(default=(), repr=False)
    of: str = "repetition"
    fewest: int = 0

    def at_most(self, most: float) -> Verdict:
        return self.between(-math.inf, most)

    def at_least(self, least: float) -> Verdict:
        return self.between(least, math.inf)

    def between(self, least: float, most: float) -> Verdict:
        """The verdict on the demand that the figure lies in [least, most]. Raises ValueError for an empty demand."""
        if not least <= most:
            raise ValueError(f"{self.name}: expected a demand with least ≤ most, got {least} to {most}")
        outcome: Outcome = "undecided"
        if self.faults:
            outcome = "invalid"
        elif self.interval.within(least, most):
            outcome = "passed"
        elif self.interval.outside(least, most):
            outcome = "failed"
        return Verdict(
            self.name,
            outcome,
            self.interval,
            least,
            most,
            self.unit,
            self.repetitions,
            self.faults,
            self.of,
            self.fewest,
        )


def _interval(verdict: Verdict) -> str:
    """The estimate and its interval; where that lacks a bound for want of repetitions, how many it would take."""
    interval = verdict.interval
    bounds = [f"{bound:.4g}" if math.isfinite(bound) else "?" for bound in (interval.low, interval.high)]
    sure = f"{interval.confidence:.0%} sure: {' to '.join(bounds)}"
    if "?" in bounds and verdict.repetitions < verdict.fewest:
        short = f"too short for an interval: {count_of(verdict.repetitions, verdict.of)}, {verdict.fewest} needed"
        sure = short if bounds == ["?", "?"] else f"{sure}; {short}"
    if math.isnan(interval.estimate):
        return f"nothing measured ({sure})"
    return f"{interval.estimate:.4g} {verdict.unit}".rstrip() + f" ({sure})"


def _demand(verdict: Verdict) -> str:
    if math.isinf(verdict.least):
        return f"at most {verdict.most:.4g} {verdict.unit}".rstrip()
    if math.isinf(verdict.most):
        return f"at least {verdict.least:.4g} {verdict.unit}".rstrip()
    return f"{verdict.least:.4g} to {verdict.most:.4g} {verdict.unit}".rstrip()
