"""The panels of what crossed the link: throughput under the rate, loss of the probes, drops by cause."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from emulator.testing.measure import GOODPUT_BIN_NS, drops_over_time, goodput
from emulator.testing.picture_style import (
    CAUSE_COLOUR,
    COLOUR,
    COMMANDED,
    FAINT,
    GOODPUT,
    OTHER,
    RATE,
    Clock,
    Floats,
    legend,
)
from emulator.testing.record import CAUSE_WORDS, DIRECTIONS, ChannelSeries, Direction, RunRecord, Transfer
from emulator.timeline.causes import Gate
from emulator.units import NS_PER_S

BINS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
MOST_DROP_BINS, MOST_LOSS_BINS = 300, 120  # more are thinner than can be seen
FEWEST_BITS = 20 * 1500 * 8  # 20 packets in a bin at the link's rate: fewer, and their arrivals are drawn, not the rate
FEWEST_PROBES = 50  # in a bin: less, and one lost probe is more than 2 %


def bin_of(duration_ns: int, most: int) -> int:
    """The shortest of BINS_S, in ns, of which `most` are enough for the duration."""
    return next_bin(-(-duration_ns // most))


def next_bin(least_ns: int) -> int:
    """The shortest of BINS_S, in ns, that is at least so long, or the longest."""
    return round(next((each for each in BINS_S if each * NS_PER_S >= least_ns), BINS_S[-1]) * NS_PER_S)


def channel_of(record: RunRecord, direction: Direction) -> ChannelSeries:
    return record.states.uplink if direction == "uplink" else record.states.downlink


def throughput_top(rate_mbps: Floats, goodput_mbps: Floats) -> float:
    """Where the axis ends: what is handed over at once behind a lost segment may leave it, the rate may not."""
    rate, goodput = (float(one.max(initial=0.0)) for one in (rate_mbps, goodput_mbps))
    return 1.22 * (max(rate, min(goodput, 1.6 * rate)) if rate > 0 else max(goodput, 1.0))


def throughput(axis: Axes, record: RunRecord, clock: Clock) -> None:
    transfer = record.transfer
    direction: Direction = transfer.direction if transfer else "downlink"
    axis.set_title(
        f"TCP throughput against the rate of the {direction}"
        if transfer
        else f"Rate of the {direction}; nothing was transferred"
    )
    rate = np.array(channel_of(record, direction).rate_bps, float) / 1e6
    rate[np.array(channel_of(record, direction).gate, int) != Gate.PASS] = 0.0
    open_rate = rate[rate > 0]
    packets_ns = round(FEWEST_BITS / (np.median(open_rate) * 1e6) * NS_PER_S) if len(open_rate) else 0
    bin_ns = max(GOODPUT_BIN_NS, next_bin(packets_ns))
    seconds, bits = goodput(record, bin_ns)
    if len(open_rate):
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
            label=f"TCP goodput ({_how(transfer)}), bins of {bin_ns / NS_PER_S:g} s" if transfer else "",
        )
        axis.plot(days, bits / 1e6, drawstyle="steps-mid", color=COLOUR["downlink"], linewidth=0.8)
    elif not len(open_rate):
        axis.text(0.5, 0.5, "a rate without end", transform=axis.transAxes, ha="center", va="center", color=FAINT)
    axis.set_ylim(0, throughput_top(rate, bits / 1e6))
    axis.set_ylabel("Mbit/s")
    legend(axis)


def _how(transfer: Transfer) -> str:
    name = transfer.congestion or "unknown"
    return name if transfer.connections == 1 else f"{transfer.connections} × {name}"


def loss(axis: Axes, record: RunRecord, clock: Clock) -> None:
    """Of the probes of each bin, against what the link was told; a shut gate loses all."""
    interval_ns = max(record.probes(direction).interval_ns for direction in DIRECTIONS)
    bin_ns = max(bin_of(record.duration_ns, MOST_LOSS_BINS), next_bin(FEWEST_PROBES * interval_ns))
    measured = f"Loss of the probes in bins of {bin_ns / NS_PER_S:g} s, against what was commanded"
    axis.set_title(measured if interval_ns else "Loss that was commanded; no probes ran")
    edges = np.arange(0, record.duration_ns + bin_ns, bin_ns)
    for direction in DIRECTIONS:
        probes, channel = record.probes(direction), channel_of(record, direction)
        sent = np.histogram(probes.sent_ns, edges)[0]
        lost = np.histogram(np.array(probes.sent_ns)[np.array(probes.delay_ns) < 0], edges)[0] if sent.any() else sent
        if sent.any():
            share = np.where(sent > 0, 100 * lost / np.maximum(sent, 1), np.nan)
            days = clock.days(edges)
            axis.stairs(
                share, days, baseline=None, linewidth=1.5, color=COLOUR[direction], label=f"measured, {direction}"
            )
        commanded = 100 * np.array(channel.loss, float)
        commanded[np.array(channel.gate, int) == Gate.DROP] = 100.0
        if len(commanded):
            label = "commanded (without bursts)" if direction == "downlink" else None
            days = clock.days(record.states.at_ns)
            dashed = (0, (3, 2))
            axis.plot(
                days, commanded, drawstyle="steps-post", color=COMMANDED, linewidth=0.9, linestyle=dashed, label=label
            )
    axis.set_yscale("symlog", linthresh=1.0)
    axis.set_ylim(0, 130)
    axis.yaxis.set_major_locator(FixedLocator([0, 1, 10, 100]))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_ylabel("%")
    legend(axis)


def drops(axis: Axes, record: RunRecord, clock: Clock) -> None:
    axis.set_title("Packets dropped, by cause, both directions")
    bin_ns = bin_of(record.duration_ns, MOST_DROP_BINS)
    edges = np.arange(0, record.duration_ns + bin_ns, bin_ns)
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
        axis.set_yticks([])
        return
    axis.set_ylim(0, max(1.0, bottom.max(initial=0.0) * 1.35))
    axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axis.set_ylabel(f"packets / {bin_ns / NS_PER_S:g} s")
    legend(axis)
