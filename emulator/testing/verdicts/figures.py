"""The figures of a run, or of its repetitions: delay, jitter, loss, reordering, throughput, recovery time.

Probes of one run that follow each other are not independent: the jitter of 20 ms is one draw, an outage is one event.
So a figure is worked out per repetition, and the interval is over repetitions: the runs that are given or, of a single
run, its stretches of a second each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from emulator.testing.intervals import (
    CONFIDENCE,
    Interval,
    bootstrap_interval,
    fewest_for_quantile,
    quantile_interval,
    share_interval,
)
from emulator.testing.measure import goodput
from emulator.testing.record import Direction, ProbeSeries, RunRecord
from emulator.testing.verdicts.evidence import Limits, faults
from emulator.testing.verdicts.verdict import Figure
from emulator.units import NS_PER_MS, NS_PER_S

Floats = npt.NDArray[np.float64]
Runs = RunRecord | Sequence[RunRecord]

STRETCH_NS = NS_PER_S
FEWEST_IN_STRETCH = 5  # probes; fewer have no percentile worth the name
RECOVERY_SHARE = 0.5  # of the rate before the event: from there on the application has its link back
RECOVERY_BIN_NS = 100 * NS_PER_MS


def delay_ms(
    runs: Runs,
    direction: Direction,
    *,
    percentile: float = 50,
    confidence: float = CONFIDENCE,
    limits: Limits | None = None,
) -> Figure:
    """One-way delay of the probes that arrived, its `percentile` (0 to 100)."""

    def of(probes: ProbeSeries, rows: slice) -> float | None:
        delay = np.array(probes.delay_ns[rows], np.float64)
        delay = delay[delay >= 0]
        return float(np.percentile(delay, percentile)) / NS_PER_MS if len(delay) >= FEWEST_IN_STRETCH else None

    return _by_probes(f"delay {direction} p{percentile:g}", "ms", runs, direction, of, confidence, limits)


def jitter_ms(
    runs: Runs,
    direction: Direction,
    *,
    percentile: float = 95,
    confidence: float = CONFIDENCE,
    limits: Limits | None = None,
) -> Figure:
    """Change of the delay from one probe to the next, its size (RFC 3393, consecutive packets)."""

    def of(probes: ProbeSeries, rows: slice) -> float | None:
        delay = np.array(probes.delay_ns[rows], np.float64)
        change = np.abs(np.diff(delay))[(delay[1:] >= 0) & (delay[:-1] >= 0)]
        return float(np.percentile(change, percentile)) / NS_PER_MS if len(change) >= FEWEST_IN_STRETCH else None

    return _by_probes(f"jitter {direction} p{percentile:g}", "ms", runs, direction, of, confidence, limits)


def loss_percent(
    runs: Runs, direction: Direction, *, confidence: float = CONFIDENCE, limits: Limits | None = None
) -> Figure:
    """Probes that never arrived, of 100 that were sent."""

    def of(probes: ProbeSeries, rows: slice) -> tuple[int, int]:
        delay = np.array(probes.delay_ns[rows], np.int64)
        return int((delay < 0).sum()), len(delay)

    return _share(f"loss {direction}", runs, direction, of, confidence, limits)


def reordered_percent(
    runs: Runs, direction: Direction, *, confidence: float = CONFIDENCE, limits: Limits | None = None
) -> Figure:
    """Probes that arrived after one that was sent later (RFC 4737, reordered), of 100 that arrived."""

    def of(probes: ProbeSeries, rows: slice) -> tuple[int, int]:
        sent, delay = np.array(probes.sent_ns[rows], np.int64), np.array(probes.delay_ns[rows], np.int64)
        arrival = (sent + delay)[delay >= 0]
        latest = np.maximum.accumulate(arrival)
        return int((arrival[1:] < latest[:-1]).sum()), len(arrival)

    return _share(f"reordered {direction}", runs, direction, of, confidence, limits)


def goodput_mbps(
    runs: Runs, *, percentile: float = 50, confidence: float = CONFIDENCE, limits: Limits | None = None
) -> Figure:
    """What the receiving program of the transfer got, its `percentile` over seconds."""
    records = _records(runs)

    def of_run(record: RunRecord) -> list[float]:
        _, bits = goodput(record, STRETCH_NS)
        return (bits[:-1] / 1e6).tolist()  # the last second is cut off

    per_run = [of_run(record) for record in records]
    values = per_run[0] if len(records) == 1 else [float(np.percentile(each, percentile)) for each in per_run if each]
    name = f"goodput p{percentile:g}"
    share = percentile / 100 if len(records) == 1 else 0.5
    return _quantile(name, "Mbit/s", records, values, share, confidence, limits, _repetition(records))


def recovery_s(
    runs: Runs, direction: Direction, *, confidence: float = CONFIDENCE, limits: Limits | None = None
) -> Figure:
    """From the end of each commanded outage or hold until traffic flows again; the median over all of them.

    With a transfer in that direction: until it has half of the rate that it had before. Otherwise: until a probe that
    was sent after the end has arrived, one-way delay included.
    """
    records = _records(runs)
    values = [
        recovery
        for record in records
        for event in record.events
        if event.kind in ("outage", "hold") and event.direction in ("both", direction) and event.duration_ns
        for recovery in (_recovery(record, direction, event.at_ns, event.at_ns + event.duration_ns),)
        if recovery is not None
    ]
    return _quantile(f"recovery {direction}", "s", records, values, 0.5, confidence, limits, "outage")


def _recovery(record: RunRecord, direction: Direction, start_ns: int, end_ns: int) -> float | None:
    if record.transfer is not None and record.transfer.direction == direction:
        seconds, bits = goodput(record, RECOVERY_BIN_NS)
        at_ns = seconds * NS_PER_S
        before = bits[(at_ns < start_ns) & (at_ns >= start_ns - NS_PER_S)]
        if len(before) and before.mean() > 0:
            back = np.flatnonzero((at_ns >= end_ns) & (bits >= RECOVERY_SHARE * before.mean()))
            return float(at_ns[back[0]] - end_ns) / NS_PER_S if len(back) else math.inf
    probes = record.probes(direction)
    sent, delay = np.array(probes.sent_ns, np.int64), np.array(probes.delay_ns, np.int64)
    back = np.flatnonzero((sent >= end_ns) & (delay >= 0))
    if len(back):
        return float((sent + delay)[back].min() - end_ns) / NS_PER_S
    return math.inf if len(sent) and sent[-1] > end_ns else None


def _by_probes(
    name: str,
    unit: str,
    runs: Runs,
    direction: Direction,
    of: Callable[[ProbeSeries, slice], float | None],
    confidence: float,
    limits: Limits | None,
) -> Figure:
    """The figure of each repetition, and the median of these with its interval."""
    records = _records(runs)
    values = [value for probes, rows in _repetitions(records, direction) if (value := of(probes, rows)) is not None]
    return _quantile(name, unit, records, values, 0.5, confidence, limits, _repetition(records))


def _share(
    name: str,
    runs: Runs,
    direction: Direction,
    of: Callable[[ProbeSeries, slice], tuple[int, int]],
    confidence: float,
    limits: Limits | None,
) -> Figure:
    """The mean share of the repetitions, in percent.

    The interval is the wider one of two: that over repetitions, which sees events that hit many probes at once; and
    that over probes as if each had its own luck, which knows that no loss in few probes proves little.
    """
    records = _records(runs)
    counts = [(hits, count) for hits, count in (of(*each) for each in _repetitions(records, direction)) if count]
    hits, total = sum(each for each, _ in counts), sum(each for _, each in counts)

    def interval(all_: Floats) -> Interval:
        key = f"{name}:{records[0].seed}"
        over = bootstrap_interval(all_, lambda sample: float(sample.mean()), key=key, confidence=confidence)
        each = share_interval(hits, total, confidence)
        low, high = min(over.low, 100 * each.low), max(over.high, 100 * each.high)
        return Interval(100 * each.estimate, low, high, confidence)

    each = [100 * each / count for each, count in counts]
    return _figure(name, "%", records, each, interval, limits, _repetition(records), 1)


def _repetitions(records: list[RunRecord], direction: Direction) -> list[tuple[ProbeSeries, slice]]:
    if len(records) > 1:
        return [(record.probes(direction), slice(None)) for record in records]
    probes = records[0].probes(direction)
    return [(probes, rows) for rows in _stretches(probes)]


def _stretches(probes: ProbeSeries) -> list[slice]:
    """The rows of each second; without the first and the last, which are seldom whole."""
    sent = np.array(probes.sent_ns, np.int64)
    if not len(sent):
        return []
    edges = np.flatnonzero(np.diff(sent // STRETCH_NS)) + 1
    return [slice(int(first), int(last)) for first, last in pairwise(edges)]


def _repetition(records: list[RunRecord]) -> str:
    return "whole second" if len(records) == 1 else "run"


def _quantile(
    name: str,
    unit: str,
    records: list[RunRecord],
    values: list[float],
    share: float,
    confidence: float,
    limits: Limits | None,
    of: str,
) -> Figure:
    def interval(all_: Floats) -> Interval:
        return quantile_interval(all_, share, confidence)

    fewest = fewest_for_quantile(share, confidence) if 0 < share < 1 else 0
    return _figure(name, unit, records, values, interval, limits, of, fewest)


def _figure(
    name: str,
    unit: str,
    records: list[RunRecord],
    values: list[float],
    interval: Callable[[Floats], Interval],
    limits: Limits | None,
    of: str,
    fewest: int,
) -> Figure:
    found = tuple(fault for record in records if record.evidence for fault in faults(record.evidence, limits))
    if not values:
        return Figure(name, Interval(math.nan, -math.inf, math.inf, CONFIDENCE), unit, 0, found, (), of, fewest)
    return Figure(name, interval(np.array(values)), unit, len(values), found, tuple(values), of, fewest)


def _records(runs: Runs) -> list[RunRecord]:
    records = [runs] if isinstance(runs, RunRecord) else list(runs)
    if not records:
        raise ValueError("figures: expected at least one run")
    return records
