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
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from emulator.testing.measure import drops_over_time, goodput
from emulator.testing.picture_hardware import hardware, has_hardware
from emulator.testing.picture_style import (
    BAND,
    CAUSE_COLOUR,
    COLOUR,
    COMMANDED,
    DROP_BIN_NS,
    ELEVATION,
    EVENT_COLOUR,
    FAINT,
    GOODPUT,
    LETTER,
    LOG_TICKS_MS,
    MOST_SLOT_LABELS,
    OTHER,
    OUTAGE,
    RATE,
    STYLE,
    Clock,
    Floats,
    legend,
)
from emulator.testing.record import CAUSE_WORDS, DIRECTIONS, ChannelSeries, Direction, ProbeSeries, RunRecord, Transfer
from emulator.timeline.causes import Gate
from emulator.units import NS_PER_MS, NS_PER_S

HEADING = 0.6  # inches
SHORT_NS = 12 * NS_PER_S  # of a shorter run the axis counts tenths of seconds


def draw(record: RunRecord) -> Figure:
    """The figure, without a heading."""
    with mpl.rc_context(STYLE):
        heights = [0.62, 1.15, 2.1, 1.8, 1.9, 1.1, 1.25, *([1.5] if has_hardware(record) else [])]
        figure = Figure(figsize=(13.5, 1.25 * sum(heights)), layout=ConstrainedLayoutEngine(h_pad=0.03, hspace=0.02))
        axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        clock = Clock(record)
        _events(axes[0], record, clock)
        _serving(axes[1], record, clock)
        for axis, direction in zip(axes[2:4], reversed(DIRECTIONS), strict=True):
            _delay(axis, record, direction, clock)
        _throughput(axes[4], record, clock)
        _loss(axes[5], record, clock)
        _drops(axes[6], record, clock)
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
    slots = record.slot_starts_ns()
    for at in slots if len(slots) <= MOST_SLOT_LABELS else ():
        axis.text(clock.days(at), 0.02, f"slot :{clock.at(at):%S}", ha="center", va="bottom", fontsize=8, color=FAINT)
    free_from = [0.0, 0.0]  # of either row, as a share of the width
    for event in record.events:
        label = event.label if event.duration_ns else f"▼ {event.label}"
        middle_ns = event.at_ns + event.duration_ns / 2
        if not 0 <= middle_ns <= record.duration_ns:  # a label out there would squeeze the panels to nothing
            continue
        middle, half = middle_ns / max(record.duration_ns, 1), (len(label) + 3) * LETTER / 2
        row = 0 if middle - half >= free_from[0] or middle - half < free_from[1] else 1
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
    lines, bands = [], []
    for number, (first, last) in enumerate(pairwise(edges)):
        end_ns = states.at_ns[last] if last < len(satellite) else record.duration_ns
        bands.append((states.at_ns[first], end_ns))
        start, end = clock.days(states.at_ns[first]), clock.days(end_ns)
        axis.axvspan(start, end, color=BAND[number % 2], linewidth=0, zorder=0.2)
        if satellite[first] >= 0:
            lines.append(
                (
                    start,
                    end,
                    states.satellites[satellite[first]],
                    states.gateways[gateway[first]] if gateway[first] >= 0 else "",
                )
            )
            axis.plot(clock.days(states.at_ns[first:last]), elevation[first:last], color=ELEVATION, linewidth=2)
    whole = bands[-1][1] - bands[0][0]
    for (begin, stop), (start, end, name, site) in zip(bands, lines, strict=False):
        if (stop - begin) / max(whole, 1) > 0.15:  # narrower, and the name would not fit
            axis.text(
                (start + end) / 2,
                0.90,
                f"{name}  ·  {site}" if site else name,
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
    probes, channel = record.probes(direction), _channel(record, direction)
    sent, delay = np.array(probes.sent_ns, float), np.array(probes.delay_ns, float)
    arrived = delay >= 0
    axis.set_title(f"One-way delay, {direction}")
    axis.plot(
        clock.days(sent[arrived]),
        delay[arrived] / NS_PER_MS,
        linestyle="none",
        marker=".",
        markersize=2.2,
        alpha=0.45,
        color=COLOUR[direction],
        rasterized=True,
        markeredgewidth=0,
    )
    commanded = np.array(channel.delay_ns, float) / NS_PER_MS
    shut = np.array(channel.gate, int) == Gate.DROP
    commanded[shut] = np.nan
    axis.plot(clock.days(record.states.at_ns), _broken_at_jumps(commanded), color=COMMANDED, linewidth=1.5)
    axis.plot(
        [],
        [],
        linestyle="none",
        marker="o",
        markersize=4,
        color=COLOUR[direction],
        label=f"measured by probes{_every(probes)}",
    )
    axis.plot([], [], color=COMMANDED, linewidth=1.5, label="commanded (without queue and jitter)")
    lowest, highest = _range(delay[arrived] / NS_PER_MS, commanded)
    if highest > 4 * lowest:
        axis.set_yscale("log")
        ticks = [tick for tick in LOG_TICKS_MS if lowest * 0.85 <= tick <= highest * 1.35]
        axis.yaxis.set_major_locator(FixedLocator(ticks))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_ylim(lowest * 0.85, highest * 1.35)
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


def _channel(record: RunRecord, direction: Direction) -> ChannelSeries:
    return record.states.uplink if direction == "uplink" else record.states.downlink


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


def throughput_top(rate_mbps: Floats, goodput_mbps: Floats) -> float:
    """Where the axis ends: what is handed over at once behind a lost segment may leave it, the rate may not."""
    rate, goodput = (float(one.max(initial=0.0)) for one in (rate_mbps, goodput_mbps))
    return 1.22 * (max(rate, min(goodput, 1.6 * rate)) if rate > 0 else max(goodput, 1.0))


def _throughput(axis: Axes, record: RunRecord, clock: Clock) -> None:
    transfer = record.transfer
    direction: Direction = transfer.direction if transfer else "downlink"
    axis.set_title(f"TCP throughput against the rate of the {direction}")
    seconds, bits = goodput(record)
    rate = np.array(_channel(record, direction).rate_bps, float) / 1e6
    rate[np.array(_channel(record, direction).gate, int) != Gate.PASS] = 0.0
    if len(rate) and rate.max() > 0:
        axis.plot(
            clock.days(record.states.at_ns),
            rate,
            color=RATE,
            linewidth=1.5,
            drawstyle="steps-post",
            label="rate of the link (IP bits)",
        )
    if len(bits):
        days = clock.days(seconds * NS_PER_S)
        axis.fill_between(
            days,
            bits / 1e6,
            step="mid",
            color=GOODPUT,
            alpha=0.55,
            linewidth=0,
            label=f"TCP goodput ({_how(transfer)}), bins of 100 ms" if transfer else "",
        )
        axis.plot(days, bits / 1e6, drawstyle="steps-mid", color=COLOUR["downlink"], linewidth=0.8)
    else:
        axis.text(0.5, 0.5, "no transfer", transform=axis.transAxes, ha="center", va="center", color=FAINT)
    axis.set_ylim(0, throughput_top(rate, bits / 1e6))
    axis.set_ylabel("Mbit/s")
    legend(axis)


def _how(transfer: Transfer) -> str:
    name = transfer.congestion or "unknown"
    return name if transfer.connections == 1 else f"{transfer.connections} × {name}"


def _loss(axis: Axes, record: RunRecord, clock: Clock) -> None:
    """Of the probes of each second, against what the link was told; a shut gate loses all."""
    axis.set_title("Loss of the probes, second by second, against what was commanded")
    edges = np.arange(0, record.duration_ns + NS_PER_S, NS_PER_S)
    for direction in DIRECTIONS:
        probes, channel = record.probes(direction), _channel(record, direction)
        sent = np.histogram(probes.sent_ns, edges)[0]
        lost = np.histogram(np.array(probes.sent_ns)[np.array(probes.delay_ns) < 0], edges)[0] if sent.any() else sent
        known = sent > 0
        share = 100 * lost[known] / sent[known]
        middle = clock.days(edges[:-1][known] + NS_PER_S / 2)
        axis.plot(middle, share, drawstyle="steps-mid", color=COLOUR[direction], label=f"measured, {direction}")
        commanded = 100 * np.array(channel.loss, float)
        commanded[np.array(channel.gate, int) == Gate.DROP] = 100.0
        if len(commanded):
            label = "commanded" if direction == "downlink" else None
            days = clock.days(record.states.at_ns)
            axis.plot(days, commanded, color=COMMANDED, linewidth=0.9, linestyle=(0, (3, 2)), label=label)
    axis.set_yscale("symlog", linthresh=1.0)
    axis.set_ylim(0, 130)
    axis.yaxis.set_major_locator(FixedLocator([0, 1, 10, 100]))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_ylabel("%")
    legend(axis)


def _drops(axis: Axes, record: RunRecord, clock: Clock) -> None:
    axis.set_title("Packets dropped, by cause, both directions")
    edges = np.arange(0, record.duration_ns + DROP_BIN_NS, DROP_BIN_NS)
    stacked: dict[str, Floats] = {}
    for direction in DIRECTIONS:
        for name, dropped in drops_over_time(record, direction, edges).items():
            stacked[name] = stacked.get(name, np.zeros(len(edges) - 1)) + dropped
    bottom = np.zeros(len(edges) - 1)
    for name in sorted(stacked, key=lambda cause: list(CAUSE_COLOUR).index(cause) if cause in CAUSE_COLOUR else 99):
        axis.stairs(  # one shape; a bar for each bin would take seconds to draw
            bottom + stacked[name],
            clock.days(edges),
            baseline=bottom,
            fill=True,
            linewidth=0,
            color=CAUSE_COLOUR.get(name, OTHER),
            label=f"{CAUSE_WORDS.get(name, name.lower())} ({stacked[name].sum():,.0f})",
        )
        bottom = bottom + stacked[name]
    if not stacked:
        axis.text(0.5, 0.5, "nothing was dropped", transform=axis.transAxes, ha="center", va="center", color=FAINT)
    axis.set_ylim(0, max(1.0, bottom.max(initial=0.0) * 1.35))
    axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axis.set_ylabel("packets / 0.5 s")
    legend(axis)
