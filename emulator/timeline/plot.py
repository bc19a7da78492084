"""A Timeline's table as a picture: delay, rate, elevation and who serves, over one clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import dates as mdates
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator

from emulator.errors import EndpointError
from emulator.output import require_place
from emulator.timeline.table import Table, stacked
from emulator.units import NS_PER_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.intp]

FORMATS = ("png", "svg", "pdf")

UP, DOWN = "#b8461b", "#1b6ca8"
INK, FAINT = "#2b2b2b", "#d9d9d9"
SERVING = ("#1b6ca8", "#5aa469", "#c98a1b", "#7d5ba6", "#c0504d", "#3a9a9a")  # neighbours in time differ
SHADES = {  # cause: colour and words of a closed gate
    "outage": ("#c0392b", "outage"),
    "no_pings": ("#c0392b", "no pings"),
    "no_schedule": ("#e67e22", "no schedule"),
    "booting": ("#7d3c98", "booting"),
    "obstruction": ("#795548", "obstructed"),
    "no_satellite": ("#8e44ad", "no satellite"),
    "handover": ("#7f8c8d", "handover"),
    "fade": ("#c98a1b", "no MODCOD closes"),
}
BETWEEN = ((10, (2, 3, 4, 5, 7)), (1000, (2, 5)))  # most over least rate: what is marked between powers of ten
BINS = 240  # of a plan with more changes than can be seen: of each, median and range are drawn
MOST_SLOTS = 64  # that are marked, named and shaded one by one; more would cover each other
SLOT_NS = 15 * NS_PER_S
DAY_NS = 86_400 * NS_PER_S


class Stint(NamedTuple):
    """A stretch of rows with the same satellite, or gateway: first row, row behind the last, and the name."""

    first: int
    last: int
    name: str


def require_format(path: Path) -> None:
    """Raises EndpointError if a picture cannot be written under that name, or not there."""
    if path.suffix[1:].lower() not in FORMATS:
        raise EndpointError(f"{path}: expected a picture's name, ending in .{', .'.join(FORMATS)}")
    require_place(path)


def draw(
    tables: Sequence[Table], file: BinaryIO, *, file_format: str, title: str, slot_phase_s: float | None = None
) -> None:
    """Draws consecutive tables of one plan into `file`. slot_phase_s: slots of 15 s begin there, if the link has any.

    Within a slot a line is drawn through; without slots, as long as the satellite and the gateway stay.
    """
    rows = stacked(list(tables))
    starts_ns = rows["utc"].astype(np.int64)
    edges_ns = np.append(starts_ns, starts_ns[-1] + NS_PER_S)  # the last row lasts up to a second
    edges = edges_ns / DAY_NS  # matplotlib's dates: days since 1970
    stints = _stints(_named(rows))
    slots_ns = _changes(edges_ns, rows) if slot_phase_s is None else _slots(edges_ns, slot_phase_s)
    slots = slots_ns / DAY_NS
    in_slot = np.searchsorted(slots_ns, starts_ns, side="right")
    has_sky = any(stint.name for stint in stints)
    near = has_sky and len(slots) <= MOST_SLOTS
    binned = has_sky and len(slots) > BINS and (rows["cause"] != "no_satellite").mean() > 0.5
    heights = [3, 3, 3, 2] if near else [3, 3, 3] if has_sky else [1, 1]
    with mpl.rc_context(
        {
            "font.size": 9,
            "axes.edgecolor": "#888888",
            "axes.labelcolor": INK,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "svg.hashsalt": "bentpipe",
        }
    ):
        figure = Figure(figsize=(12, 0.75 * sum(heights) if has_sky else 5), layout="constrained")
        panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        _draw_delay(panels[0], edges, rows, in_slot, binned=binned, steps=not has_sky)
        _draw_rate(panels[1], edges, rows, binned=binned)
        if has_sky:
            _draw_elevation(panels[2], edges, rows, in_slot, stints, binned=binned)
        if near:
            _draw_serving(panels[3], edges, rows, stints)
            for panel in panels:
                for at in slots:
                    panel.axvline(at, color=FAINT, lw=0.7, zorder=-1)
        shades = _shade_gates(panels, edges, rows, with_handovers=near)
        lines = "changes of path" if slot_phase_s is None else "slots of 15 s"
        remark = f"lines: {lines}" if near and len(slots) else ""
        if binned:
            remark = f"median and 10–90 % of each {(edges[-1] - edges[0]) * 1440 / BINS:.3g} min"
        _finish(figure, panels, edges, title, shades, remark)
        figure.savefig(file, format=file_format, dpi=130)


def _draw_binned(panel: Axes, edges: Floats, values: Floats, colour: str, label: str | None = None) -> None:
    """Median and 10–90 % of what the rows of each of BINS equal stretches say; a gap where none says anything."""
    bounds = np.linspace(edges[0], edges[-1], BINS + 1)
    places = np.searchsorted(edges[:-1], bounds[1:-1])
    known = [part[np.isfinite(part)] for part in np.split(values, places)]
    low, median, high = np.array([np.percentile(one, (10, 50, 90)) if len(one) else [np.nan] * 3 for one in known]).T
    middles = (bounds[:-1] + bounds[1:]) / 2
    panel.fill_between(middles, low, high, color=colour, alpha=0.22, lw=0)
    panel.plot(middles, median, color=colour, lw=1.4, label=label)


def _draw_delay(panel: Axes, edges: Floats, rows: Table, in_slot: Places, *, binned: bool, steps: bool) -> None:
    """steps: nobody knows how the delay gets from one row to the next."""
    for name, colour, width in (("downlink", DOWN, 1.8), ("uplink", UP, 1.1)):
        delay = np.where(rows["cause"] == "no_satellite", np.nan, rows[f"{name}_delay_ms"])
        if binned:
            _draw_binned(panel, edges, delay, colour, name)
        elif steps:
            panel.plot(edges, np.append(delay, delay[-1]), drawstyle="steps-post", color=colour, lw=width, label=name)
        else:
            panel.plot(*_broken(in_slot, edges, delay), color=colour, lw=width, label=name, solid_capstyle="butt")
    panel.set_ylabel("one-way delay, ms\n(without queue and jitter)")
    panel.set_ylim(0, max(1.0, 1.15 * panel.get_ylim()[1]))
    if (rows["cause"] == "no_satellite").all():
        panel.set_yticks([])


def _draw_rate(panel: Axes, edges: Floats, rows: Table, *, binned: bool) -> None:
    least, most = np.inf, 0.0
    for name, colour, width in (("downlink", DOWN, 1.8), ("uplink", UP, 1.1)):
        rate = rows[f"{name}_rate_mbps"]
        rate = np.where((rate > 0) & rows[f"{name}_open"], rate, np.nan)
        if np.isfinite(rate).any():
            least, most = min(least, float(np.nanmin(rate))), max(most, float(np.nanmax(rate)))
        if binned:
            _draw_binned(panel, edges, rate, colour)
        else:
            panel.plot(edges, np.append(rate, rate[-1]), drawstyle="steps-post", color=colour, lw=width)
    panel.set_ylabel("rate, Mbit/s")
    if most > 0:
        panel.set_yscale("log")
        panel.set_ylim(least / 1.5, most * 1.5)
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        between = next((digits for decades, digits in BETWEEN if most < decades * least), ())
        panel.yaxis.set_minor_locator(LogLocator(subs=between))
        panel.yaxis.set_minor_formatter(lambda value, _: f"{value:g}")
    else:
        panel.set_yticks([])
        words = "nobody serves" if (rows["cause"] == "no_satellite").all() else "no limit"
        panel.text(0.5, 0.5, words, transform=panel.transAxes, ha="center", va="center", color="#888888")


def _draw_elevation(
    panel: Axes, edges: Floats, rows: Table, in_slot: Places, stints: Sequence[Stint], *, binned: bool
) -> None:
    if binned:
        _draw_binned(panel, edges, rows["elevation_deg"], SERVING[-1])
    else:
        time, elevation = _broken(in_slot, edges, rows["elevation_deg"])
        colour = np.repeat(np.arange(len(stints)) % len(SERVING), [3 * (stint.last - stint.first) for stint in stints])
        for number in range(min(len(SERVING), len(stints))):
            own = np.where(colour == number, elevation, np.nan)
            panel.plot(time, own, color=SERVING[number], lw=2, solid_capstyle="butt")
    panel.set_ylabel("elevation of the\nserving satellite, °")
    panel.set_ylim(0, 90)
    panel.set_yticks(range(0, 91, 15))


def _draw_serving(panel: Axes, edges: Floats, rows: Table, stints: Sequence[Stint]) -> None:
    """Names where there is room: of satellite and gateway, or of what changes alone, along or across."""
    for number, stint in enumerate(stints):
        if not stint.name:
            continue
        left, right = edges[stint.first], edges[stint.last]
        panel.axvspan(left, right, color=SERVING[number % len(SERVING)], alpha=0.28, lw=0)
        share = (right - left) / (edges[-1] - edges[0])
        if share > 0.011:  # a line of text
            whole = {
                " · ".join(pair)
                for pair in zip(
                    rows["satellite"][stint.first : stint.last].tolist(),
                    rows["gateway"][stint.first : stint.last].tolist(),
                    strict=True,
                )
                if all(pair)
            }
            both = whole.pop() if len(whole) == 1 else stint.name
            words = both if share > 0.0062 * len(both) else stint.name  # a character
            flat = share > 0.0062 * len(words)
            panel.text(
                (left + right) / 2,
                0.5,
                words,
                ha="center",
                va="center",
                fontsize=6.5,
                clip_on=True,
                rotation=0 if flat else 90,
                transform=panel.get_xaxis_transform(),
            )
    panel.set_ylabel("satellite\n· gateway")
    panel.set_yticks([])


def _broken(in_slot: Places, edges: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Points of a line that is straight over each row, meets itself within a slot and jumps between slots.

    A row's end value is the next row's start; a slot's last row goes on as the row before it did.
    """
    starts, ends = edges[:-1], edges[1:]
    goes_on = np.append(in_slot[1:] == in_slot[:-1], False)
    before = np.maximum(np.arange(len(values)) - 1, 0)
    span = starts - starts[before]
    slope = np.divide(values - values[before], span, out=np.zeros(len(values)), where=(span > 0) & np.roll(goes_on, 1))
    end_values = np.where(goes_on, np.roll(values, -1), values + slope * (ends - starts))
    breaks = np.where(goes_on, ends, np.nan)
    return np.stack([starts, ends, breaks], axis=1).ravel(), np.stack([values, end_values, end_values], axis=1).ravel()


def _shade_gates(panels: Sequence[Axes], edges: Floats, rows: Table, *, with_handovers: bool) -> list[Patch]:
    """Bands where the gate is shut or holds; the legend's entries for those that occur."""
    patches = []
    for cause, (colour, words) in SHADES.items():
        closed = (rows["gate"] != "pass") & (rows["cause"] == cause)
        if not closed.any() or (cause == "handover" and not with_handovers):
            continue
        patches.append(Patch(color=colour, alpha=0.35, lw=0, label=words))
        bounds = np.flatnonzero(np.diff(np.concatenate([[False], closed, [False]]).astype(int)))
        for first, last in zip(bounds[::2], bounds[1::2], strict=True):
            for panel in panels:
                panel.axvspan(edges[first], edges[last], color=colour, alpha=0.35, lw=0.3, zorder=0)
    return patches


def _finish(
    figure: Figure, panels: Sequence[Axes], edges: Floats, title: str, shades: list[Patch], remark: str
) -> None:
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlim(edges[0], edges[-1])
    lines, _ = panels[0].get_legend_handles_labels()
    figure.legend(handles=[*lines, *shades], loc="outside upper right", ncols=6, frameon=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=min(12.0, 12.0 * 80 / len(title or " ")), fontweight="bold")
    locator = mdates.AutoDateLocator(tz=UTC, minticks=5, maxticks=13)
    seconds = edges[-1] - edges[0] < 900 / 86_400
    panels[-1].xaxis.set_major_locator(locator)
    clock = mdates.DateFormatter("%H:%M:%S" if seconds else "%H:%M", tz=UTC)
    panels[-1].xaxis.set_major_formatter(clock)
    days = np.array([edges[0], edges[-1] - 1e-9]).astype("datetime64[D]").astype(str)  # dates count days since 1970
    day = days[0] if days[0] == days[1] else " to ".join(days)
    panels[-1].set_xlabel(f"UTC, {day}" + (f"      {remark}" if remark else ""))


def _named(rows: Table) -> npt.NDArray[Any]:
    """What tells stretches apart: the satellite, or where it is always the same one, the gateway that has it."""
    satellite, gateway = rows["satellite"], rows["gateway"]
    served = satellite != ""
    return gateway if len(set(satellite[served].tolist())) == 1 and (gateway[served] != "").all() else satellite


def _stints(names: npt.NDArray[Any]) -> list[Stint]:
    bounds = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
    return [Stint(first, last, str(names[first])) for first, last in pairwise(bounds)]


def _slots(edges_ns: Ints, phase_s: float) -> Ints:
    """The boundaries of slots, UTC ns, inside of the picture."""
    phase_ns = round(phase_s * NS_PER_S)
    first = -((phase_ns - edges_ns[0]) // SLOT_NS)
    return np.arange(first * SLOT_NS + phase_ns, edges_ns[-1], SLOT_NS, dtype=np.int64)


def _changes(edges_ns: Ints, rows: Table) -> Ints:
    """Where the satellite or the gateway changes, UTC ns."""
    changed = (rows["satellite"][1:] != rows["satellite"][:-1]) | (rows["gateway"][1:] != rows["gateway"][:-1])
    return edges_ns[1:-1][changed]
