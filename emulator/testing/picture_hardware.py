"""The panel of the terminal's hardware: how far the beam is off, what that costs, and what the dish does."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from emulator.testing.picture_style import BAND, ELEVATION, FADE, FAINT, OUTAGE, Clock, legend
from emulator.testing.record import RunRecord

TRACKING = "tracking"
LEAST_OFF_DEG, MOST_LOSS_DB = 0.01, 40.0  # of the axes: less, or more, tells nothing
NARROWEST = 0.06  # a word of what the dish does fits into this share of the width


def has_hardware(record: RunRecord) -> bool:
    """Whether there is anything for the panel."""
    return bool(record.hardware.at_ns)


def has_antenna(record: RunRecord) -> bool:
    """Whether there is more to draw than what the dish does."""
    return max(record.hardware.off_deg, default=-1.0) >= 0


def hardware(axis: Axes, record: RunRecord, clock: Clock) -> None:
    """Left, logarithmic: degrees off the satellite. Right: dB that this costs. Red: no lock. Above: the dish."""
    columns = record.hardware
    days = clock.days(columns.at_ns)
    off = np.array(columns.off_deg, float)
    known = off >= 0
    parts = ["antenna"] * bool(known.any()) + ["dish"] * (max(columns.dish, default=-1) >= 0)
    axis.set_title(f"The terminal's {' and '.join(parts)}")
    if known.any():
        shown = np.where(known, np.maximum(off, LEAST_OFF_DEG), np.nan)
        axis.plot(days, shown, color=ELEVATION, linewidth=1.5, label="beam off the satellite, °")
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(FixedLocator([0.01, 0.1, 1, 10, 100]))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_ylim(LEAST_OFF_DEG, max(10.0, 2 * float(off.max())))
        axis.set_ylabel("off, °")
        loss = axis.twinx()
        loss.plot(days, np.minimum(columns.loss_db, MOST_LOSS_DB), color=FADE, linewidth=1.2)
        axis.plot([], [], color=FADE, linewidth=1.2, label="loss of the downlink, dB (right)")
        loss.set_ylim(MOST_LOSS_DB, 0)
        loss.set_ylabel("dB")
        loss.grid(visible=False)
        shut = np.array(columns.locked, int) == 0
        axis.fill_between(
            days, 0, 1, where=shut.tolist(), transform=axis.get_xaxis_transform(), color=OUTAGE, alpha=0.16, linewidth=0
        )
        axis.fill_between([], [], [], color=OUTAGE, alpha=0.16, label="no lock")
    else:
        axis.set_yticks([])
    _dish(axis, record, clock)
    legend(axis)


def _dish(axis: Axes, record: RunRecord, clock: Clock) -> None:
    columns = record.hardware
    dish = np.array(columns.dish, int)
    if not len(dish) or dish.max() < 0:
        return
    edges = np.concatenate([[0], np.flatnonzero(np.diff(dish)) + 1, [len(dish)]])
    for number, (first, last) in enumerate(pairwise(edges)):
        if dish[first] < 0:
            continue
        end_ns = columns.at_ns[last] if last < len(dish) else record.duration_ns
        start, end, word = clock.days(columns.at_ns[first]), clock.days(end_ns), columns.words[dish[first]]
        colour = BAND[number % 2] if word == TRACKING else OUTAGE
        axis.axvspan(start, end, color=colour, alpha=1.0 if word == TRACKING else 0.3, linewidth=0, zorder=0.2)
        if end_ns - columns.at_ns[first] > NARROWEST * record.duration_ns:
            height = 0.12 if has_antenna(record) else 0.5
            colour = FAINT if word == TRACKING else OUTAGE
            where = {"transform": axis.get_xaxis_transform(), "ha": "center", "va": "center"}
            axis.text((start + end) / 2, height, word, fontsize=8.5, fontweight="bold", color=colour, **where)
