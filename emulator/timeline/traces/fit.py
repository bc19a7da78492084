"""A fixed profile from a measurement: floor of the delay, jitter, rate, loss and its bursts, the phase of slots."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from emulator.errors import TraceError
from emulator.timeline.causes import Gate
from emulator.timeline.model import Channel, Timeline
from emulator.timeline.traces.rows import probes
from emulator.timeline.traces.shapes import LEAST_CORRELATION, Jitter, candidates, correlation
from emulator.units import NS_PER_MS, NS_PER_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FINEST_NS, COARSEST_NS = 10 * NS_PER_MS, NS_PER_S
LEAST_PROBES = 20
STEP_MS = 20.0  # of a jitter that does not say how long a value lasts
SLOT_S, EDGE_S, LOOK_S = 15.0, 0.5, 3.0  # of a slot's phase: steps of half a second, three seconds on both sides
LEAST_SLOTS = 8
CLEAR_EDGE = 2.0  # how much more the delay must move at the boundary than elsewhere, on the median
DRAWS = 50_000  # of the fitted profile, for the quality


@dataclass(frozen=True)
class DirectionFit:
    """One direction. jitter: its floor is that of the direction; correlation: of a step of step_ms with the next.

    rate_mbps: median while open, 0 without one; loss: of its own; bursts: every_s 0 for none.
    """

    jitter: Jitter
    correlation: float
    step_ms: float
    rate_mbps: float
    rate_quantiles_mbps: tuple[float, ...]
    loss: float
    burst_every_s: float
    burst_length_ms: float

    @property
    def delay_ms(self) -> float:
        return self.jitter.floor_ms

    @property
    def jitter_ms(self) -> float:
        return self.jitter.mean_ms


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
    shapes: dict[str, tuple[Jitter, ...]]  # by direction: the one that was taken, then the others


@dataclass(frozen=True)
class Samples:
    """A trace as probes, (probes,): when each was sent, delays and losses by direction.

    halves: it is of round trips, of which either direction has half.
    """

    interval_ns: int
    sent_ns: Ints
    delay_ms: dict[str, Floats]
    lost: dict[str, Bools]
    halves: bool

    @property
    def came(self) -> Bools:
        return ~(self.lost["uplink"] | self.lost["downlink"])

    @property
    def rtt_ms(self) -> Floats:
        """NaN for those that were lost."""
        return np.where(self.came, self.delay_ms["uplink"] + self.delay_ms["downlink"], np.nan)

    def to_fit(self, way: str) -> Floats:
        """What a direction's jitter is fitted to: of halves, the round trip; NaN for those that were lost."""
        return self.rtt_ms if self.halves else np.where(self.came, self.delay_ms[way], np.nan)


def samples_of(line: Timeline, name: str = "fit") -> Samples:
    """Raises TraceError for fewer than 20 probes that came; it begins with `name`."""
    interval_ns = _interval_ns(line.uplink)
    seen = probes(line, interval_ns)
    lost = {"uplink": seen.up_lost.astype(bool), "downlink": seen.down_lost.astype(bool)}
    delays = {"uplink": seen.up_ns / NS_PER_MS, "downlink": seen.down_ns / NS_PER_MS}
    halves = np.array_equal(seen.up_ns, seen.down_ns) and np.array_equal(seen.up_lost, seen.down_lost)
    found = Samples(interval_ns, seen.sent_ns, delays, lost, halves)
    if found.came.sum() < LEAST_PROBES:
        told = f"expected at least {LEAST_PROBES} samples that came through, got {int(found.came.sum())}"
        raise TraceError(f"{name}: {told}")
    return found


def fit(line: Timeline, name: str = "fit") -> Fit:
    """Fits a profile to a trace. Raises TraceError, which begins with `name`, for fewer than 20 probes that came."""
    seen = samples_of(line, name)
    interval_ns, lost, came, halves = seen.interval_ns, seen.lost, seen.came, seen.halves
    together = (lost["uplink"] & lost["downlink"]).sum() > 0.5 * (~came).sum()
    ways: dict[str, DirectionFit] = {}
    shapes: dict[str, tuple[Jitter, ...]] = {}
    for way, one in (("uplink", line.uplink), ("downlink", line.downlink)):
        sample = seen.to_fit(way)
        shapes[way] = candidates(sample[came], halves=halves)
        taken = shapes[way][0]
        step_ms = max(STEP_MS, interval_ns / NS_PER_MS)
        related = correlation(sample) ** (step_ms * NS_PER_MS / interval_ns)
        related = round(related, 3) if related >= LEAST_CORRELATION else 0.0
        loss, every_s, length_ms = _losses(lost[way], interval_ns / NS_PER_S, halves=bool(together))
        rates = _rates_mbps(one, line)
        own = replace(taken, floor_ms=taken.floor_ms / 2) if halves else taken
        rate = rates[1] if rates else 0.0
        ways[way] = DirectionFit(own, related, step_ms if related else STEP_MS, rate, rates, loss, every_s, length_ms)
    rtt_ms = seen.rtt_ms
    edge_s = EDGE_S if interval_ns <= EDGE_S * NS_PER_S else 2 * EDGE_S
    phase_s, ratio, edge_ms = slot_phase(seen.sent_ns / NS_PER_S, rtt_ms, edge_s)
    quality = _quality(rtt_ms, came, ways["uplink"], ways["downlink"], interval_ns / NS_PER_S)
    duration_s = (line.end_ns - line.start_ns) / NS_PER_S
    up, down = ways["uplink"], ways["downlink"]
    return Fit(interval_ns / NS_PER_S, duration_s, up, down, phase_s, ratio, edge_ms, quality, shapes)


def _interval_ns(one: Channel) -> int:
    """The usual time between two samples; where the delay moves between two rows, a tenth of a second."""
    if len(one) < 2 or one.delay_slope_ns_per_s.any():
        return 100 * NS_PER_MS
    return int(np.clip(np.median(np.diff(one.start_ns)), FINEST_NS, COARSEST_NS))


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
    lasts = line.lasts_ns(one)
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
    model = np.zeros(DRAWS)
    for way in (uplink, downlink):
        model += way.jitter.delays_ms(wandering(random, way.correlation ** (1000 * interval_s / way.step_ms), DRAWS))
    kept = 1.0
    for way in (uplink, downlink):
        share = way.burst_length_ms / (way.burst_length_ms + 1000 * way.burst_every_s) if way.burst_every_s else 0.0
        kept *= (1 - way.loss) * (1 - share)
    found = [*compared_delays(rtt_ms, model), Compared("loss, %", 100 * float((~came).mean()), 100 * (1 - kept))]
    long = bursts_of(~came)
    if len(long):
        ways = [way.burst_length_ms for way in (uplink, downlink) if way.burst_every_s]
        length = float(long.mean()) * interval_s * 1000
        found.append(Compared("mean burst of loss, ms", length, float(np.mean(ways)) if ways else 0.0))
    return tuple(found)


def compared_delays(measured_ms: Floats, model_ms: Floats) -> list[Compared]:
    """Round trips, NaN for lost ones: their quantiles, and the mean of their steps."""
    found = [
        Compared(f"round trip p{share}, ms", *(float(np.nanpercentile(one, share)) for one in (measured_ms, model_ms)))
        for share in (5, 50, 95, 99)
    ]
    steps = [np.abs(np.diff(one)) for one in (measured_ms, model_ms)]
    if all(np.isfinite(one).any() for one in steps):
        found.append(Compared("mean step, ms", *(float(np.nanmean(one)) for one in steps)))
    return found


def bursts_of(lost: Bools) -> npt.NDArray[np.intp]:
    """Lengths of all losses of two probes or more."""
    runs = _runs(lost)
    return runs[runs >= 2]


def profile(found: Fit, name: str, source: str) -> str:
    """The scenario file of a fit, with what it is worth in its comments."""
    source = printable(source)
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
        f"name = {text_of(name)}",
        f"description = {text_of(f'Fitted to {source}')}",
        "",
        "[link]",
        'profile = "fixed"',
    ]
    for way in ("uplink", "downlink"):
        own: DirectionFit = getattr(found, way)
        lines += ["", f"[link.{way}]", f"delay_ms = {own.delay_ms:.3f}", f"jitter_ms = {own.jitter_ms:.3f}"]
        lines += jitter_lines(own)
        lines += [f"rate_mbps = {own.rate_mbps:.6g}", f"loss = {own.loss:.3g}"]
        if own.burst_every_s:
            lines.append(f"bursts = {{ every_s = {own.burst_every_s:.4g}, length_ms = {own.burst_length_ms:.4g} }}")
    return "\n".join(lines) + "\n"


def jitter_lines(own: DirectionFit) -> list[str]:
    """The `jitter` table of a direction, where it is not as it would be without."""
    keys = []
    if own.jitter.shape != "exponential":
        keys += [f'distribution = "{own.jitter.shape}"', f"spread = {own.jitter.spread:g}"]
    if own.correlation:
        keys += [f"correlation = {own.correlation:g}", f"step_ms = {own.step_ms:g}"]
    return [f"jitter = {{ {', '.join(keys)} }}"] if keys else []


def wandering(random: np.random.Generator, correlation: float, count: int) -> Floats:
    """Normal scores of which each is so correlated with the next."""
    noise = random.standard_normal(count)
    if not correlation:
        return noise
    share = (1 - correlation**2) ** 0.5
    scores = np.empty(count)
    now = noise[0]
    for at, more in enumerate(noise.tolist()):
        now = more if at == 0 else correlation * now + share * more
        scores[at] = now
    return scores


def text_of(text: str) -> str:
    """A TOML basic string."""
    return '"' + printable(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def printable(text: str) -> str:
    """Without line ends: a name goes into a comment."""
    return "".join(char if char.isprintable() else "?" for char in text)
