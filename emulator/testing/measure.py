"""Compares what was measured outside the link with what the link was told to do.

Pure functions over arrays and over a `RunRecord`; nothing here reads a clock or a bench.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.testing.intervals import Interval, quantile_interval
from emulator.testing.record import DIRECTIONS, Direction, DirectionCounts, ProbeSeries, RunRecord
from emulator.timeline.causes import Cause
from emulator.units import NS_PER_MS, NS_PER_S, NS_PER_US

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BIN_S = 0.1  # resolution of the edge detection
SIDE_S = 2.0  # an edge is seen by the two seconds before it and the two seconds after
FEWEST_BINS = 5  # that must hold a sample, of the twenty on either side
TINY_MS = 1e-3  # spreads below a microsecond per sample are no evidence
GOODPUT_BIN_NS = 100 * NS_PER_MS
FLOOR_NS = 200 * NS_PER_MS  # a window, at least
FLOOR_PROBES = 10  # in a window, for one of them to have met an idle machine
FEWEST_FLOORS = 6  # fewer give no interval at 95 % confidence: 2 × 2⁻⁵ > 5 %
DELAY_BOUND_NS = 100 * NS_PER_US
"""Of the delay error that still holds. A quiet machine shows 9 µs, a busy one 10 to 30, of which the stamps and the
straight lines between the recorded delays are up to 25; a delay that is wrong is so by a slot's step, and more."""


@dataclass(frozen=True)
class SlotPhase:
    """phase_s: at which second, modulo the slot, the delay changes. confidence: 0 (chance) to 1; slots: seen whole."""

    phase_s: float
    confidence: float
    slots: int

    def error_s(self, expected_s: float, slot_s: float = 15.0) -> float:
        """Distance from `expected_s` on the circle of the slot, 0 or more."""
        return abs((self.phase_s - expected_s + slot_s / 2) % slot_s - slot_s / 2)


def slot_phase_s(times_utc_s: npt.ArrayLike, rtt_ms: npt.ArrayLike, *, slot_s: float = 15.0) -> SlotPhase:
    """The phase of the slots in a series of delays or round trips, by edge detection.

    times_utc_s, rtt_ms: shape (samples,), lost samples left out or NaN; several samples per second over two slots or
    more. Two signs of a slot's edge are looked for in every 0.1 s: the level of the delay (its lower quintile, since
    jitter and queue only add) changes there, by the 2 s on either side; and the delay has a spike there. Each 0.1 s is
    ranked among all by either sign, and the logarithm of its rank is the evidence: one big event (an outage, a queue
    that fills) counts no more than any other edge, and only what recurs at one phase in every slot adds up. Chance
    makes such a sum follow a gamma distribution, and that gives the confidence.
    Raises ValueError if there is less than one slot of samples, or less than some samples per second.
    """
    times, values = np.asarray(times_utc_s, np.float64), np.asarray(rtt_ms, np.float64)
    good = np.isfinite(times) & np.isfinite(values)
    times, values = times[good], values[good]
    if not len(times) or np.ptp(times) < slot_s:
        raise ValueError(f"slot phase: expected samples over at least {slot_s:g} s")
    side, period = round(SIDE_S / BIN_S), round(slot_s / BIN_S)
    first = int(np.floor(times.min() / BIN_S))
    low, high = _quantiles_by_bin(np.floor(times / BIN_S).astype(np.int64) - first, values, (0.2, 0.9))
    phases = (first + np.arange(len(low))) % period
    evidence, looks = np.zeros(period), np.zeros(period, np.int64)
    for sign in (_level_change(low, side), _excess(high, side)):
        known = np.isfinite(sign)
        evidence += np.bincount(phases[known], _surprise(sign[known]), period)
        looks += np.bincount(phases[known], minlength=period)
    if not looks.any():
        raise ValueError("slot phase: expected several samples per second")
    score = np.array([-_log_chance(int(shape), float(total)) for shape, total in zip(looks, evidence, strict=True)])
    score = np.convolve(np.concatenate([score[-1:], score, score[:1]]), [0.25, 0.5, 0.25], mode="valid")
    best = int(np.argmax(score))
    of_one = min(math.exp(-score[best]), 1.0 - 1e-12)
    return SlotPhase(
        phase_s=best * BIN_S, confidence=math.exp(period * math.log1p(-of_one)), slots=int(np.ptp(times) // slot_s)
    )


def _quantiles_by_bin(bins: Ints, values: Floats, quantiles: tuple[float, ...]) -> list[Floats]:
    """Quantiles of the values of each bin (0 … last); NaN where there is none."""
    order = np.lexsort((values, bins))
    bins, values = bins[order], values[order]
    starts = np.searchsorted(bins, np.arange(int(bins[-1]) + 2))
    counts = np.diff(starts)
    filled = counts > 0
    found = []
    for quantile in quantiles:
        level = np.full(len(counts), np.nan)
        level[filled] = values[starts[:-1][filled] + (quantile * (counts[filled] - 1)).astype(np.int64)]
        found.append(level)
    return found


def _level_change(level: Floats, side: int) -> Floats:
    """At the beginning of each bin: how much less two levels than one leave unexplained of the bins on either side."""
    change = np.full(len(level), np.nan)
    if len(level) < 2 * side:
        return change
    one_side, samples, _ = _spread(level, side)
    both_sides, _, _ = _spread(level, 2 * side)
    explained = np.log((both_sides + TINY_MS) / (one_side[:-side] + one_side[side:] + TINY_MS))
    explained[np.minimum(samples[:-side], samples[side:]) < FEWEST_BINS] = np.nan
    change[side : side + len(explained)] = explained
    return change


def _excess(level: Floats, side: int) -> Floats:
    """Each bin's height over the median of the bins around it."""
    _, _, median = _spread(np.pad(level, side, constant_values=np.nan), 2 * side + 1)
    return level - median


def _spread(level: Floats, length: int) -> tuple[Floats, Ints, Floats]:
    """Of each window of `length` bins: sum of the distances from the median, number of values, median."""
    windows = np.lib.stride_tricks.sliding_window_view(level, length)
    known = np.isfinite(windows)
    counts = known.sum(axis=1)
    ordered = np.sort(windows, axis=1)  # NaN goes last
    median = np.take_along_axis(ordered, np.maximum(counts - 1, 0)[:, None] // 2, axis=1)
    return np.where(known, np.abs(windows - median), 0.0).sum(axis=1), counts, median[:, 0]


def _surprise(values: Floats) -> Floats:
    """−log of the share of the values that are as large: exponentially distributed, whatever the values are."""
    rank = np.empty(len(values))
    rank[np.argsort(-values, kind="stable")] = np.arange(len(values))
    return -np.log((rank + 0.5) / len(values))


def _log_chance(shape: int, total: float) -> float:
    """Log of the probability that a sum of `shape` exponential variables of mean 1 reaches `total`."""
    if shape == 0 or total <= 0:
        return 0.0
    terms = np.array([count * math.log(total) - math.lgamma(count + 1) for count in range(shape)])
    return float(-total + terms.max() + np.log(np.exp(terms - terms.max()).sum()))


def expected_delay_ns(sent_ns: Ints, commanded_ns: Ints, added_ns: Ints, arrived: Mask) -> Ints:
    """The delay that the link owes to each packet, FIFO included; all arrays of shape (packets,).

    commanded_ns: of the delay line. added_ns: serialisation and jitter. A packet never overtakes an earlier one that
    `arrived`, so a delay that falls is felt only once the earlier ones are out. Exact for the only traffic of a link.
    """
    due = sent_ns + commanded_ns + added_ns
    floor = np.where(arrived, due, np.iinfo(np.int64).min)
    return np.maximum(due, np.maximum.accumulate(floor)) - sent_ns if len(due) else due


@dataclass(frozen=True)
class Service:
    """How a direction sends: each of its packets has `bits`; the rest as in `LinkOptions`. `epoch_utc_ns`: UTC of 0."""

    bits: int
    epoch_utc_ns: int
    frame_ns: int = 0
    grant_ns: int = 0
    request_ns: int = 0
    request_kept_ns: int = 0
    request_volume: bool = False

    @property
    def on_demand(self) -> bool:
        """Whether an idle link waits before it sends: then what else it carries makes a packet leave earlier."""
        return self.grant_ns > 0 or self.request_ns > 0

    def launches_ns(self, sent_ns: Ints, rate_bps: Ints) -> Ints:
        """When packets that are alone on the link leave it, waits for each other included; all arrays (packets,).

        rate_bps: at the sending, 0 for one without end. As the link does it, exact while the rate stays.
        """
        takes = np.where(rate_bps > 0, self.bits * NS_PER_S // np.maximum(rate_bps, 1), 0)
        ends = sent_ns + takes
        if self.on_demand or np.any(sent_ns[1:] < ends[:-1]):
            ends = self._one_after_the_other(sent_ns, takes)
        if self.frame_ns:  # what has been sent leaves with the end of its frame
            ends += -(self.epoch_utc_ns + ends) % self.frame_ns
        return ends

    def _one_after_the_other(self, sent_ns: Ints, takes_ns: Ints) -> Ints:
        free, ends = -math.inf, np.zeros(len(sent_ns), np.int64)
        for index, (at, takes) in enumerate(zip(sent_ns.tolist(), takes_ns.tolist(), strict=True)):
            start = at
            if at <= free and not self.request_volume:
                start = int(free)
            elif self.on_demand:
                asks = self.request_volume or at - free > self.request_kept_ns
                asked = at + self.request_ns if asks else at
                granted = asked + (-(self.epoch_utc_ns + asked) % self.grant_ns if self.grant_ns else 0)
                start = int(max(granted, free))
            free = ends[index] = start + takes
        return ends


def calm_probes(sent_ns: Ints, troubles: list[tuple[int, int]], settle_ns: int = NS_PER_S // 2) -> Mask:
    """Which packets were sent outside of every trouble [start, end) and of `settle_ns` around it, (packets,)."""
    calm = np.ones(len(sent_ns), np.bool_)
    for start, end in troubles:
        calm &= (sent_ns < start - settle_ns) | (sent_ns >= end + settle_ns)
    return calm


@dataclass(frozen=True)
class DelayVerdict:
    """One direction's probes. Errors are measured minus expected, ns, of calm probes; None without any.

    floor_error: the smallest error in each window, and the median of these with its interval; `floors` of them. A
    busy machine makes single probes late, never early, and seldom all of a window. measured_*: of all that arrived.
    """

    sent: int
    lost: int
    calm: int
    median_error_ns: float | None
    p99_error_ns: float | None
    floors: int
    floor_error: Interval | None
    measured_p50_ns: float | None
    measured_p99_ns: float | None

    @property
    def enough(self) -> bool:
        """Whether there is enough to judge by."""
        return self.floors >= FEWEST_FLOORS

    @property
    def holds(self) -> bool:
        """Whether the delay is proven to be the commanded one, within DELAY_BOUND_NS."""
        return self.enough and self.floor_error is not None and self.floor_error.within(-DELAY_BOUND_NS, DELAY_BOUND_NS)


def delay_verdict(probes: ProbeSeries) -> DelayVerdict:
    sent, delay = np.array(probes.sent_ns, np.int64), np.array(probes.delay_ns, np.int64)
    arrived = delay >= 0
    calm = arrived & (np.array(probes.calm, np.int64) == 1)
    error = (delay - np.array(probes.expected_ns, np.int64))[calm]
    window_ns = floor_window_ns(probes.interval_ns)
    floors = _floors(sent[calm], error, window_ns)
    return DelayVerdict(
        sent=len(sent),
        lost=int((~arrived).sum()),
        calm=int(calm.sum()),
        median_error_ns=_percentile(error, 50),
        p99_error_ns=_percentile(np.abs(error), 99),
        floors=len(floors),
        floor_error=quantile_interval(floors, 0.5) if len(floors) else None,
        measured_p50_ns=_percentile(delay[arrived], 50),
        measured_p99_ns=_percentile(delay[arrived], 99),
    )


def floor_window_ns(interval_ns: int) -> int:
    """FLOOR_NS, or what holds half as many probes again as there have to be, where they are sent more seldom."""
    return max(FLOOR_NS, FLOOR_PROBES * 3 // 2 * interval_ns)


def _floors(sent_ns: Ints, error_ns: Ints, window_ns: int) -> Ints:
    """The smallest error of each window that holds enough probes; both arrays of shape (calm probes,), in order."""
    if not len(sent_ns):
        return error_ns
    _, first, count = np.unique(sent_ns // window_ns, return_index=True, return_counts=True)
    return np.minimum.reduceat(error_ns, first)[count >= FLOOR_PROBES]


def _percentile(values: npt.NDArray[np.generic], percent: float) -> float | None:
    return float(np.percentile(values.astype(np.float64), percent)) if len(values) else None


@dataclass(frozen=True)
class Balance:
    """The conservation of one direction, in wire packets, at the end of the run."""

    offered: int
    copied: int
    delivered: int
    dropped: int
    held: int

    @property
    def holds(self) -> bool:
        return self.offered + self.copied == self.delivered + self.dropped + self.held


def balance(counts: DirectionCounts) -> Balance:
    return Balance(
        _last(counts.offered_packets),
        _last(counts.copied_packets),
        _last(counts.delivered_packets),
        sum(_last(column) for column in counts.dropped.values()),
        _last(counts.held_packets),
    )


def _last(column: list[int]) -> int:
    return column[-1] if column else 0


def counts_of(record: RunRecord, direction: Direction) -> DirectionCounts:
    return record.counters.uplink if direction == "uplink" else record.counters.downlink


def dropped_by_cause(record: RunRecord) -> dict[Direction, dict[str, int]]:
    """Packets dropped in the whole run, by direction and name of the cause, in the causes' order; zeros left out."""
    order = [cause.name for cause in Cause]
    return {
        direction: {
            name: column[-1]
            for name, column in sorted(
                counts_of(record, direction).dropped.items(),
                key=lambda item: order.index(item[0]) if item[0] in order else 99,
            )
            if column and column[-1]
        }
        for direction in DIRECTIONS
    }


def drops_over_time(record: RunRecord, direction: Direction, edges_ns: Ints) -> dict[str, Floats]:
    """Packets dropped between consecutive `edges_ns` (n + 1,) by cause: name → (n,), from the counters' snapshots."""
    at = np.array(record.counters.at_ns, np.int64)
    rates = {}
    for name, column in counts_of(record, direction).dropped.items():
        if len(at) and column[-1]:
            rates[name] = np.asarray(np.diff(np.interp(edges_ns, at, np.array(column))), np.float64)
    return rates


def goodput(record: RunRecord, bin_ns: int = GOODPUT_BIN_NS) -> tuple[Floats, Floats]:
    """(seconds from the start of the run at the middle of each bin, payload bit/s in it); empty without a transfer."""
    transfer = record.transfer
    if transfer is None or len(transfer.at_ns) < 2:
        return np.zeros(0), np.zeros(0)
    edges = np.arange(transfer.at_ns[0], transfer.at_ns[-1] + bin_ns, bin_ns)
    total = np.interp(edges, np.array(transfer.at_ns), np.array(transfer.bytes))
    return (edges[:-1] + bin_ns / 2) / NS_PER_S, np.diff(total) * 8e9 / bin_ns


def measured_slot_phase(record: RunRecord) -> SlotPhase | None:
    """The slot phase from the run's probes, of the direction that tells it more surely; None if neither can."""
    if not record.slot_s:
        return None
    found = []
    for direction in DIRECTIONS:
        probes = record.probes(direction)
        delay = np.array(probes.delay_ns, np.float64)
        arrived = delay >= 0
        start_s = record.start_utc_ns % (86_400 * NS_PER_S) / NS_PER_S  # 15 s divides the day, and floats stay exact
        times = start_s + np.array(probes.sent_ns, np.float64) / NS_PER_S
        with contextlib.suppress(ValueError):
            found.append(slot_phase_s(times[arrived], delay[arrived] / NS_PER_MS, slot_s=record.slot_s))
    return max(found, key=lambda phase: phase.confidence, default=None)
