"""A fixed profile from a measurement: floor of the delay, jitter, rate, loss and its bursts, the phase of slots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.errors import TraceError
from emulator.timeline.causes import Gate
from emulator.timeline.model import Channel, Timeline
from emulator.timeline.traces.rows import probes
from emulator.units import NS_PER_MS, NS_PER_S

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SHARES = np.arange(0.05, 0.951, 0.01)  # quantiles that the delay is fitted to
FINEST_NS, COARSEST_NS = 10 * NS_PER_MS, NS_PER_S
LEAST_PROBES = 20
SLOT_S, EDGE_S, LOOK_S = 15.0, 0.5, 3.0  # of a slot's phase: steps of half a second, three seconds on both sides
LEAST_SLOTS = 8
CLEAR_EDGE = 2.0  # how much more the delay must move at the boundary than elsewhere, on the median
DRAWS = 50_000  # of the fitted profile, for the quality


@dataclass(frozen=True)
class DirectionFit:
    """One direction. rate_mbps: median while open, 0 without one; loss: of its own; bursts: every_s 0 for none."""

    delay_ms: float
    jitter_ms: float
    rate_mbps: float
    rate_quantiles_mbps: tuple[float, ...]
    loss: float
    burst_every_s: float
    burst_length_ms: float


@dataclass(frozen=True)
class Compared:
    """A quantity as measured and as the fitted profile has it."""

    name: str
    measured: float
    fitted: float


@dataclass(frozen=True)
class Fit:
    """What was found. slot_phase_s: None if no edge stands out; edge_ratio: how much the best one does."""

    interval_s: float
    duration_s: float
    uplink: DirectionFit
    downlink: DirectionFit
    slot_phase_s: float | None
    edge_ratio: float
    edge_ms: float
    quality: tuple[Compared, ...]


def fit(line: Timeline) -> Fit:
    """Fits a profile to a trace. Raises TraceError for fewer than 20 probes that came."""
    interval_ns = _interval_ns(line.uplink)
    seen = probes(line, interval_ns)
    lost = {"uplink": seen.up_lost.astype(bool), "downlink": seen.down_lost.astype(bool)}
    came = ~(lost["uplink"] | lost["downlink"])
    if came.sum() < LEAST_PROBES:
        raise TraceError(f"fit: expected at least {LEAST_PROBES} samples that came through, got {int(came.sum())}")
    delays = {"uplink": seen.up_ns / NS_PER_MS, "downlink": seen.down_ns / NS_PER_MS}
    halves = np.array_equal(seen.up_ns, seen.down_ns) and np.array_equal(seen.up_lost, seen.down_lost)
    together = (lost["uplink"] & lost["downlink"]).sum() > 0.5 * (~came).sum()
    ways = {}
    for way, one in (("uplink", line.uplink), ("downlink", line.downlink)):
        # A round trip's two jitters are drawn apart: their sum has Erlang's distribution, and not twice the one.
        unit = _erlang2(SHARES) if halves else -np.log1p(-SHARES)
        sample = 2 * delays[way] if halves else delays[way]
        floor_ms, jitter_ms = _floor_and_mean(np.quantile(sample[came], SHARES), unit)
        loss, every_s, length_ms = _losses(lost[way], interval_ns / NS_PER_S, halves=bool(together))
        rates = _rates_mbps(one, line)
        ways[way] = DirectionFit(
            floor_ms / 2 if halves else floor_ms, jitter_ms, rates[1] if rates else 0.0, rates, loss, every_s, length_ms
        )
    rtt_ms = np.where(came, delays["uplink"] + delays["downlink"], np.nan)
    edge_s = EDGE_S if interval_ns <= EDGE_S * NS_PER_S else 2 * EDGE_S
    phase_s, ratio, edge_ms = slot_phase(seen.sent_ns / NS_PER_S, rtt_ms, edge_s)
    quality = _quality(rtt_ms, came, ways["uplink"], ways["downlink"], interval_ns / NS_PER_S)
    duration_s = (line.end_ns - line.start_ns) / NS_PER_S
    return Fit(interval_ns / NS_PER_S, duration_s, ways["uplink"], ways["downlink"], phase_s, ratio, edge_ms, quality)


def _interval_ns(one: Channel) -> int:
    """The usual time between two samples; where the delay moves between two rows, a tenth of a second."""
    if len(one) < 2 or one.delay_slope_ns_per_s.any():
        return 100 * NS_PER_MS
    return int(np.clip(np.median(np.diff(one.start_ns)), FINEST_NS, COARSEST_NS))


def _erlang2(shares: Floats) -> Floats:
    """Quantiles of the sum of two exponentials of mean 1."""
    at = np.linspace(0, 30, 30_001)
    return np.interp(shares, 1 - (1 + at) * np.exp(-at), at)


def _floor_and_mean(quantiles: Floats, unit: Floats) -> tuple[float, float]:
    """Least squares of quantiles against those of a unit jitter; neither is below 0."""
    slope, floor = np.polyfit(unit, quantiles, 1)
    if floor < 0:
        return 0.0, float((unit @ quantiles) / (unit @ unit))
    return float(floor), max(0.0, float(slope))


def _runs(lost: Bools) -> npt.NDArray[np.intp]:
    """Lengths of all stretches of losses, in probes."""
    bounds = np.flatnonzero(np.diff(np.concatenate([[False], lost, [False]]).astype(int)))
    return bounds[1::2] - bounds[::2]


def _losses(lost: Bools, interval_s: float, *, halves: bool) -> tuple[float, float, float]:
    """Loss of single probes, mean time between bursts (2 losses or more), mean length of a burst in ms.

    halves: what was lost was lost in both directions at once, as of a round trip, which does not tell the direction;
    each gets half.
    """
    runs = _runs(lost)
    bursts = runs[runs >= 2]
    outside = len(lost) - int(bursts.sum())
    single = float((runs == 1).sum() / outside) if outside else 0.0
    loss = 1 - (1 - single) ** 0.5 if halves else single
    if not len(bursts):
        return loss, 0.0, 0.0
    every_s = max(0.001, outside * interval_s / len(bursts)) * (2 if halves else 1)
    return loss, every_s, max(1.0, float(bursts.mean()) * interval_s * 1000)


def _rates_mbps(one: Channel, line: Timeline) -> tuple[float, ...]:
    """Quantiles 5, 50 and 95 % of the rate, by time, while the gate is open; empty without a rate."""
    lasts = np.diff(np.clip(np.append(one.start_ns, line.end_ns), line.start_ns, line.end_ns))
    usable = (one.rate_bps > 0) & (one.gate == Gate.PASS) & (lasts > 0)
    if not usable.any():
        return ()
    order = np.argsort(one.rate_bps[usable])
    cumulated = np.cumsum(lasts[usable][order])
    places = [min(len(order) - 1, int(np.searchsorted(cumulated, part * cumulated[-1]))) for part in (0.05, 0.5, 0.95)]
    return tuple(float(one.rate_bps[usable][order][place]) / 1e6 for place in places)


def slot_phase(sent_s: Floats, rtt_ms: Floats, edge_s: float = EDGE_S) -> tuple[float | None, float, float]:
    """The UTC second, modulo 15, at which the delay jumps: the phase, how clear it is, and the mean jump in ms.

    Arrays (probes,), NaN for lost ones; edge_s: the steps in which a phase is looked for. None if none stands
    out by CLEAR_EDGE, or there are fewer than 8 slots.
    """
    first = np.floor(sent_s[0] / edge_s)
    place = (np.floor(sent_s / edge_s) - first).astype(int)
    came = ~np.isnan(rtt_ms)
    sums = np.bincount(place[came], rtt_ms[came], place[-1] + 1)
    counts = np.bincount(place[came], minlength=place[-1] + 1)
    bins = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    per_slot, look = round(SLOT_S / edge_s), round(LOOK_S / edge_s)
    if len(bins) < LEAST_SLOTS * per_slot:
        return None, 0.0, 0.0
    windows = np.lib.stride_tricks.sliding_window_view(bins, 2 * look)
    sides = windows[:, :look], windows[:, look:]
    full = np.all([np.isfinite(side).sum(axis=1) > look // 2 for side in sides], axis=0)
    jumps = np.zeros(len(windows))
    jumps[full] = np.abs(np.nanmean(sides[1][full], axis=1) - np.nanmean(sides[0][full], axis=1))
    phases = (np.arange(len(windows)) + look + int(first)) % per_slot
    counts = np.array([int((full & (phases == phase)).sum()) for phase in range(per_slot)])
    if counts.min() < LEAST_SLOTS // 2:
        return None, 0.0, 0.0
    scores = np.array([float(jumps[full & (phases == phase)].mean()) for phase in range(per_slot)])
    best = int(scores.argmax())
    elsewhere = float(np.median(scores))
    ratio = float(scores[best]) / elsewhere if elsewhere > 0 else (np.inf if scores[best] > 0 else 0.0)
    return (best * edge_s if ratio >= CLEAR_EDGE else None), ratio, float(scores[best])


def _quality(
    rtt_ms: Floats, came: Bools, uplink: DirectionFit, downlink: DirectionFit, interval_s: float
) -> tuple[Compared, ...]:
    """What the fitted profile would have shown to the same probes, beside what was measured."""
    random = np.random.default_rng(1)
    model = uplink.delay_ms + downlink.delay_ms + random.exponential(1, DRAWS) * uplink.jitter_ms
    model += random.exponential(1, DRAWS) * downlink.jitter_ms
    measured = rtt_ms[came]
    found = [
        Compared(f"round trip p{share}, ms", *(float(np.percentile(values, share)) for values in (measured, model)))
        for share in (5, 50, 95, 99)
    ]
    steps = np.abs(np.diff(rtt_ms))
    if np.isfinite(steps).any():
        found.append(Compared("mean step, ms", float(np.nanmean(steps)), float(np.abs(np.diff(model)).mean())))
    runs = _runs(~came)
    kept = 1.0
    for way in (uplink, downlink):
        share = way.burst_length_ms / (way.burst_length_ms + 1000 * way.burst_every_s) if way.burst_every_s else 0.0
        kept *= (1 - way.loss) * (1 - share)
    found.append(Compared("loss, %", 100 * float((~came).mean()), 100 * (1 - kept)))
    long = runs[runs >= 2]
    if len(long):
        ways = [way.burst_length_ms for way in (uplink, downlink) if way.burst_every_s]
        length = float(long.mean()) * interval_s * 1000
        found.append(Compared("mean burst of loss, ms", length, float(np.mean(ways)) if ways else 0.0))
    return tuple(found)


def profile(found: Fit, name: str, source: str) -> str:
    """The scenario file of a fit, with what it is worth in its comments."""
    source = _printable(source)
    lines = [
        f"# Fitted to {source}: {found.duration_s:g} s, a sample every {found.interval_s * 1000:g} ms.",
        "#",
        "#   quantity                    measured      fitted",
        *(f"#   {one.name:<24}{one.measured:>12.2f}{one.fitted:>12.2f}" for one in found.quality),
    ]
    for way in ("uplink", "downlink"):
        rates = getattr(found, way).rate_quantiles_mbps
        if rates:
            lines.append(f"#   {way} rate, Mbit/s, p5 p50 p95: " + " ".join(f"{rate:.3g}" for rate in rates))
    if found.slot_phase_s is not None:
        lines.append(
            f"#   slots of 15 s begin at second {found.slot_phase_s:g}: the delay moves {found.edge_ms:.1f} ms there, "
            f"{found.edge_ratio:.1f} times as much as elsewhere;"
        )
        lines.append(f"#   a fixed link has none: `--set link.slot_phase_s={found.slot_phase_s:g}` for starlink_2025")
    else:
        lines.append("#   no slots of 15 s stand out")
    lines += [
        "",
        f"name = {_text(name)}",
        f"description = {_text(f'Fitted to {source}')}",
        "",
        "[link]",
        'profile = "fixed"',
    ]
    for way in ("uplink", "downlink"):
        own: DirectionFit = getattr(found, way)
        lines += ["", f"[link.{way}]", f"delay_ms = {own.delay_ms:.3f}", f"jitter_ms = {own.jitter_ms:.3f}"]
        lines += [f"rate_mbps = {own.rate_mbps:.6g}", f"loss = {own.loss:.3g}"]
        if own.burst_every_s:
            lines.append(f"bursts = {{ every_s = {own.burst_every_s:.4g}, length_ms = {own.burst_length_ms:.4g} }}")
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    """A TOML basic string."""
    return '"' + _printable(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _printable(text: str) -> str:
    """Without line ends: a name goes into a comment."""
    return "".join(char if char.isprintable() else "?" for char in text)
