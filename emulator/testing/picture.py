"""The picture of a run: everything on one UTC axis, drawn from the record alone."""

from __future__ import annotations

import io
from datetime import UTC
from itertools import pairwise

import matplotlib as mpl
import numpy as np
from matplotlib import dates as mdates
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from emulator.testing.measure import dropped_by_cause
from emulator.testing.picture_hardware import hardware, has_antenna, has_hardware
from emulator.testing.picture_style import (
    BAND,
    COLOUR,
    COMMANDED,
    ELEVATION,
    EVENT_COLOUR,
    FAINT,
    LETTER,
    LOG_TICKS_MS,
    MOST_SLOT_LABELS,
    OTHER,
    OUTAGE,
    STYLE,
    Clock,
    Floats,
    legend,
)
from emulator.testing.picture_traffic import channel_of, drops, loss, throughput
from emulator.testing.record import DIRECTIONS, Direction, ProbeSeries, RunRecord
from emulator.timeline.causes import Gate
from emulator.units import NS_PER_MS, NS_PER_S

HEADING = 0.6  # inches
CROWD = 6_000  # probes whose points must be small, or they hide each other
SHORT_NS = 12 * NS_PER_S  # of a shorter run the axis counts tenths of seconds


def draw(record: RunRecord) -> Figure:
    """The figure, without a heading."""
    with mpl.rc_context(STYLE):
        heights = _heights(record)
        figure = Figure(figsize=(13.5, 1.25 * sum(heights)), layout=ConstrainedLayoutEngine(h_pad=0.03, hspace=0.02))
        axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        clock = Clock(record)
        _events(axes[0], record, clock)
        _serving(axes[1], record, clock)
        for axis, direction in zip(axes[2:4], reversed(DIRECTIONS), strict=True):
            _delay(axis, record, direction, clock)
        throughput(axes[4], record, clock)
        loss(axes[5], record, clock)
        drops(axes[6], record, clock)
        if has_hardware(record):
            hardware(axes[7], record, clock)
        for axis in axes[1:]:
            _mark(axis, record, clock)
        axes[-1].set_xlim(*clock.days([0, max(record.duration_ns, NS_PER_S)]))  # days: dates make all units anew
        axes[-1].xaxis.set_major_locator(mdates.AutoDateLocator(minticks=6, maxticks=14, tz=UTC))
        axes[-1].xaxis.set_major_formatter(FuncFormatter(_tenths if record.duration_ns < SHORT_NS else _seconds))
        axes[-1].set_xlabel(f"UTC, {clock.at(0):%Y-%m-%d}", color=FAINT)
        figure.align_ylabels(axes)
        return figure


def _heights(record: RunRecord) -> list[float]:
    """Of the panels; one that has nothing but a word to say is low."""
    satellites = max(record.states.satellite, default=-1) >= 0
    return [
        0.62 if record.events or _slot_labels(record) else 0.12,
        1.15 if satellites else 0.3,
        2.1,
        1.8,
        1.9 if record.transfer is not None else 1.1,
        1.1,
        1.25 if any(dropped_by_cause(record).values()) else 0.3,
        *([1.5 if has_antenna(record) else 0.4] if has_hardware(record) else []),
    ]


def _seconds(days: float, _: int) -> str:
    return f"{mdates.num2date(days):%H:%M:%S}"


def _tenths(days: float, _: int) -> str:
    return f"{mdates.num2date(days):%H:%M:%S.%f}"[:-5]


def pictures(record: RunRecord) -> tuple[str, bytes]:
    """The picture as an `<svg>` element for a page, and as a PNG that stands alone; drawn once for both."""
    figure = draw(record)
    svg = _svg(figure)
    with mpl.rc_context(STYLE):
        figure.suptitle(
            f"{record.title}  ·  {record.scenario_name}, seed {record.seed}",
            x=0.012,
            ha="left",
            fontsize=14,
            fontweight="bold",
        )
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + HEADING)
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=130)
    return svg, png.getvalue()


def to_svg(record: RunRecord) -> str:
    """An `<svg>` element for a page."""
    return _svg(draw(record))


def _svg(figure: Figure) -> str:
    """Text as outlines, the clouds of points as bitmaps inside it."""
    with mpl.rc_context(STYLE | {"svg.hashsalt": "bentpipe"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", dpi=170, metadata={"Date": None})
        text = buffer.getvalue()
        return text[text.index("<svg") :]


def _events(axis: Axes, record: RunRecord, clock: Clock) -> None:
    """A strip above the panels: slot boundaries by their second, and what was done to the link."""
    axis.set_ylim(0, 1)
    axis.axis("off")
    for at in _slot_labels(record):
        axis.text(clock.days(at), 0.02, f"slot :{clock.at(at):%S}", ha="center", va="bottom", fontsize=8, color=FAINT)
    free_from = [-1.0, -1.0]  # of either row, as a share of the width
    for event in sorted(record.events, key=lambda event: event.at_ns):
        label = event.label if event.duration_ns else f"▼ {event.label}"
        begins_ns, ends_ns = max(event.at_ns, 0), min(event.at_ns + event.duration_ns, record.duration_ns)
        if begins_ns > ends_ns:  # a label out there would squeeze the panels to nothing
            continue
        middle_ns = (begins_ns + ends_ns) / 2
        middle, half = middle_ns / max(record.duration_ns, 1), (len(label) + 3) * LETTER / 2
        row = next((each for each in (0, 1) if middle - half >= free_from[each]), None)
        if row is None:  # no room: it has its line in the panels, and its row in the page's table
            continue
        free_from[row] = middle + half
        axis.text(
            clock.days(middle_ns),
            (0.48, 0.87)[row],
            label,
            ha="center",
            va="center",
            fontsize=8.5,
            fontweight="bold",
            color="white",
            bbox={"boxstyle": "round,pad=0.28", "facecolor": EVENT_COLOUR.get(event.kind, OTHER), "edgecolor": "none"},
        )


def _slot_labels(record: RunRecord) -> list[int]:
    """The slot boundaries that are told by their seconds, ns; none where they are too many."""
    slots = record.slot_starts_ns()
    return slots if len(slots) <= MOST_SLOT_LABELS else []


def _mark(axis: Axes, record: RunRecord, clock: Clock) -> None:
    for at in record.slot_starts_ns():
        axis.axvline(clock.days(at), color="#8b97a3", linewidth=0.9, linestyle=(0, (4, 3)), zorder=0.5)
    for event in record.events:
        colour = EVENT_COLOUR.get(event.kind, OTHER)
        if event.duration_ns:
            axis.axvspan(
                clock.days(event.at_ns),
                clock.days(event.at_ns + event.duration_ns),
                color=colour,
                alpha=0.16,
                linewidth=0,
                zorder=0.4,
            )
        else:
            axis.axvline(clock.days(event.at_ns), color=colour, linewidth=1.2, zorder=0.6)


def _serving(axis: Axes, record: RunRecord, clock: Clock) -> None:
    states = record.states
    axis.set_title("Serving satellite, gateway and elevation")
    satellite, gateway = np.array(states.satellite, int), np.array(states.gateway, int)
    if not len(satellite) or satellite.max() < 0:
        axis.text(
            0.5, 0.5, "a link without satellites", transform=axis.transAxes, ha="center", va="center", color=FAINT
        )
        axis.set_yticks([])
        return
    changes = np.flatnonzero((np.diff(satellite) != 0) | (np.diff(gateway) != 0)) + 1
    edges = np.concatenate([[0], changes, [len(satellite)]])
    elevation = np.array(states.elevation_deg, float)
    lines = []
    for number, (first, last) in enumerate(pairwise(edges)):
        end_ns = states.at_ns[last] if last < len(satellite) else record.duration_ns
        start, end = clock.days(states.at_ns[first]), clock.days(end_ns)
        axis.axvspan(start, end, color=BAND[number % 2], linewidth=0, zorder=0.2)
        if satellite[first] >= 0:
            lines.append(
                (
                    start,
                    end,
                    (end_ns - states.at_ns[first]) / max(record.duration_ns, 1),
                    states.satellites[satellite[first]],
                    states.gateways[gateway[first]] if gateway[first] >= 0 else "",
                )
            )
            axis.plot(clock.days(states.at_ns[first:last]), elevation[first:last], color=ELEVATION, linewidth=2)
    for start, end, share, name, site in lines:
        room = share / LETTER
        if text := next((each for each in (f"{name}  ·  {site}" if site else name, name) if len(each) + 1 < room), ""):
            axis.text(
                (start + end) / 2,
                0.90,
                text,
                ha="center",
                va="center",
                transform=axis.get_xaxis_transform(),
                fontsize=8.5,
                fontweight="bold",
                zorder=3,
                bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
            )
    axis.set_ylim(0, 118)
    axis.set_yticks([0, 30, 60, 90])
    axis.set_ylabel("elevation, °")


def _delay(axis: Axes, record: RunRecord, direction: Direction, clock: Clock) -> None:
    """Probes as points, the delay line as a dark line; logarithmic when a queue makes the range wide."""
    probes, channel = record.probes(direction), channel_of(record, direction)
    sent, delay = np.array(probes.sent_ns, float), np.array(probes.delay_ns, float)
    arrived = delay >= 0
    crowded = len(sent) > CROWD
    axis.set_title(f"One-way delay, {direction}")
    axis.plot(
        clock.days(sent[arrived]),
        delay[arrived] / NS_PER_MS,
        linestyle="none",
        marker=".",
        markersize=2.2 if crowded else 4.5,
        alpha=0.45 if crowded else 0.8,
        color=COLOUR[direction],
        rasterized=True,
        markeredgewidth=0,
    )
    commanded = np.array(channel.delay_ns, float) / NS_PER_MS
    shut = np.array(channel.gate, int) == Gate.DROP
    commanded[shut] = np.nan
    axis.plot(clock.days(record.states.at_ns), _broken_at_jumps(commanded), color=COMMANDED, linewidth=1.5)
    if len(sent):
        label = f"measured by probes{_every(probes)}"
        axis.plot([], [], linestyle="none", marker="o", markersize=4, color=COLOUR[direction], label=label)
    else:
        axis.text(0.5, 0.5, "no probes", transform=axis.transAxes, ha="center", va="center", color=FAINT)
    axis.plot([], [], color=COMMANDED, linewidth=1.5, label="commanded (without queue and jitter)")
    lowest, highest = _range(delay[arrived] / NS_PER_MS, commanded)
    if highest > 4 * lowest:
        axis.set_yscale("log")
        ticks = [tick for tick in LOG_TICKS_MS if lowest * 0.85 <= tick <= highest * 1.35]
        axis.yaxis.set_major_locator(FixedLocator(ticks))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_ylim(lowest * (0.85 if arrived.all() else 0.7), highest * 1.35)  # room for what was lost
    else:
        room = 0.12 * max(highest - lowest, 1.0)
        axis.set_ylim(max(0.0, lowest - room), highest + 2 * room)
    lost = sent[~arrived]
    if len(lost):
        axis.plot(
            clock.days(lost),
            np.full(len(lost), 0.025),
            transform=axis.get_xaxis_transform(),
            linestyle="none",
            marker="|",
            markersize=6,
            color=OUTAGE,
            rasterized=True,
        )
        axis.plot(
            [], [], linestyle="none", marker="|", markersize=7, color=OUTAGE, label=f"lost probes ({len(lost):,})"
        )
    axis.set_ylabel("ms")
    legend(axis)


def _every(probes: ProbeSeries) -> str:
    return f", one every {probes.interval_ns / NS_PER_MS:g} ms" if probes.interval_ns else ""


def _broken_at_jumps(values: Floats, jump: float = 0.3) -> Floats:
    """NaN where the delay steps, so that a step is not drawn as a flank."""
    broken = values.copy()
    broken[1:][np.abs(np.diff(values)) > jump] = np.nan
    return broken


def _range(measured: Floats, commanded: Floats) -> tuple[float, float]:
    known = np.concatenate([measured, commanded[np.isfinite(commanded)]])
    if not len(known):
        return 1.0, 10.0
    top = float(np.percentile(measured, 99.97)) if len(measured) else float(known.max())
    return max(0.1, float(known.min())), max(top, float(known.min()) + 1.0)
