"""What the runs of a sweep have in common: by scenario and parameters, the median of each figure and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from emulator.testing.intervals import Interval, fewest_for_quantile, quantile_interval
from emulator.testing.store import Run
from emulator.units import count_of

FEWEST_RUNS = fewest_for_quantile(0.5)

SHOWN = {
    "downlink.delay_p50_ms": "delay p50, ms",
    "downlink.delay_p95_ms": "delay p95, ms",
    "downlink.loss_percent": "loss, %",
    "downlink.longest_gap_s": "longest gap, s",
}


@dataclass(frozen=True)
class Group:
    """The runs of one scenario with the same parameters: how many, how many of them invalid.

    values: by figure of SHOWN, what the valid runs that have it came to.
    """

    name: str
    runs: int
    invalid: int
    values: dict[str, list[float]]

    def median(self, figure: str) -> Interval | None:
        """Over the runs, with its interval; None if no run has the figure."""
        return quantile_interval(self.values[figure], 0.5) if self.values[figure] else None


def interval_in_words(found: Interval, runs: int) -> str:
    """`10 to 12`, or why there are no bounds: `3 runs; an interval needs 6`. runs: of which it is the median."""
    bounds = [f"{bound:.4g}" if math.isfinite(bound) else "?" for bound in (found.low, found.high)]
    if "?" in bounds and runs < FEWEST_RUNS:
        return f"{count_of(runs, 'run')}; an interval needs {FEWEST_RUNS}"
    return " to ".join(bounds)


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """In the order in which scenarios and parameters come first. What invalid runs say is left out."""
    together: dict[str, list[Run]] = {}
    for run in runs:
        together.setdefault(run.name, []).append(run)
    return [
        Group(
            name,
            runs=len(same),
            invalid=sum(run.outcome == "invalid" for run in same),
            values={figure: _said(same, figure) for figure in SHOWN},
        )
        for name, same in together.items()
    ]


def _said(runs: Sequence[Run], figure: str) -> list[float]:
    values = [run.figures.get(figure, math.nan) for run in runs if run.outcome != "invalid"]
    return [value for value in values if not math.isnan(value)]
