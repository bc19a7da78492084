"""A sweep as a picture: for each figure a panel, in it a row for each scenario with its parameters.

A faint dot is a run, the dark one their median, with a line over its interval: where two lines lie side by side and do
not overlap, the parameters make a difference.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import BinaryIO

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from emulator.testing.picture_style import COLOUR, FAINT, INK, STYLE
from emulator.testing.sweeps.medians import FEWEST_RUNS, SHOWN, Group

ROW_INCHES, MARGIN_INCHES, PANEL_INCHES, LETTER_INCHES = 0.42, 1.4, 2.6, 0.085
LOG_FROM = 30.0  # most over least, all above 0, from which a panel counts in powers of ten
NEAR = 0.8  # least over most, from which a panel does not begin at 0
SPREAD = 0.26  # how far from their row's middle the dots lie


LEGEND = "a dot is a run; dark: the median of the runs, and the interval that holds it with 95 %"


def draw_sweep(groups: Sequence[Group], file: BinaryIO, *, file_format: str, title: str) -> None:
    """Draws the groups into `file`. Raises ValueError if there is none."""
    with mpl.rc_context(STYLE):
        picture_of(groups, title).savefig(file, format=file_format, dpi=130)


def picture_of(groups: Sequence[Group], title: str) -> Figure:
    """The groups from top to bottom, as the table has them. Raises ValueError if there is none."""
    if not groups:
        raise ValueError("a sweep's picture: expected at least one scenario with runs")
    names = [_in_lines(group) for group in groups]
    letters = max(len(line) for name in names for line in name.splitlines())
    left = 0.35 + LETTER_INCHES * letters
    width = left + PANEL_INCHES * len(SHOWN)
    height = MARGIN_INCHES + ROW_INCHES * sum(max(1.4, 0.55 * (1 + name.count("\n"))) for name in names)
    figure = Figure(figsize=(width, height))
    panels = figure.subplots(1, len(SHOWN), sharey=True, squeeze=False)[0]
    figure.subplots_adjust(
        left=left / width, right=1 - 0.2 / width, top=1 - 0.95 / height, bottom=0.45 / height, wspace=0.12
    )
    figure.text(0.2 / width, 1 - 0.24 / height, title, fontsize=11, fontweight="bold", va="center")
    figure.text(0.2 / width, 1 - 0.46 / height, LEGEND, color=FAINT, va="center")
    for axes, (key, heading) in zip(panels, SHOWN.items(), strict=True):
        _panel(axes, groups, key)
        axes.set_title(heading)
    panels[0].set_yticks(range(len(groups)), names)
    panels[0].set_ylim(len(groups) - 0.5, -0.5)
    return figure


def _panel(axes: Axes, groups: Sequence[Group], key: str) -> None:
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    for row in range(1, len(groups)):
        axes.axhline(row - 0.5, color="#eef2f6", linewidth=1, zorder=0)
    _scale(axes, [value for group in groups for value in group.values[key] if math.isfinite(value)])
    for row, group in enumerate(groups):
        values = [value for value in group.values[key] if math.isfinite(value)]
        median = group.median(key)
        if median is None or not values:
            axes.text(0.02, row, "no run has it", color=FAINT, va="center", transform=axes.get_yaxis_transform())
            continue
        axes.scatter(values, row + _apart(group.name, len(values)), s=9, color=COLOUR["downlink"], alpha=0.35, lw=0)
        if math.isfinite(median.low) and math.isfinite(median.high):
            axes.plot([median.low, median.high], [row, row], color=INK, linewidth=2.2, solid_capstyle="butt")
        if math.isfinite(median.estimate):
            axes.scatter([median.estimate], [row], s=30, color=INK, zorder=3)


def _scale(axes: Axes, values: Sequence[float]) -> None:
    """From 0 on; in powers of ten where little would be seen of the least; nearer where all are nearly the same."""
    if not values:
        return
    least, most = min(values), max(values)
    if least > 0 and most > LOG_FROM * least:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
        if 0 <= least <= most * NEAR:
            axes.set_xlim(-0.04 * (most or 1.0), 1.06 * (most or 1.0))


def _apart(name: str, count: int) -> npt.NDArray[np.float64]:
    """Offsets that keep dots of equal value apart; the same for the same runs."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).uniform(-SPREAD, SPREAD, count)


def _in_lines(group: Group) -> str:
    """The scenario, then a parameter a line, then how many runs."""
    scenario, _, parameters = group.name.partition(" ")
    runs = f"{group.runs} run{'s' if group.runs != 1 else ''}" + (f", {group.invalid} invalid" if group.invalid else "")
    if group.runs - group.invalid < FEWEST_RUNS:
        runs += f"; an interval needs {FEWEST_RUNS}"
    return "\n".join([scenario, *parameters.split(), runs])
