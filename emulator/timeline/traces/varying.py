"""A profile that varies as the measured path did: stretch by stretch, with the outages where they were.

Within a stretch the delay is a floor and a jitter, as in a fixed profile; floor, jitter, loss and rate are the
stretch's own, so that slots, a load that comes and goes, and a route that changes stay where they were.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import LOSS_ONE, Channel, Timeline
from emulator.timeline.table import rows_at
from emulator.timeline.traces.fit import (
    STEP_MS,
    Bools,
    Compared,
    DirectionFit,
    Fit,
    Floats,
    Ints,
    Samples,
    bursts_of,
    compared_delays,
    jitter_lines,
    samples_of,
    text_of,
    wandering,
)
from emulator.timeline.traces.rows import channel, timeline
from emulator.timeline.traces.shapes import CANDIDATES, CLEARLY, LEAST_CORRELATION, correlation, fitted
from emulator.units import NS_PER_MS, NS_PER_S

LEAST_SAMPLES = 8  # of a stretch, to say something about it; else it goes on as the one before


@dataclass(frozen=True)
class Stretches:
    """One direction by stretch, (stretches,)."""

    floor_ms: Floats
    jitter_ms: Floats
    loss: Floats
    rate_bps: Ints


@dataclass(frozen=True)
class Varying:
    """The trace to be written, what jitter it needs by direction, and its quality. length_s: of a stretch."""

    line: Timeline
    ways: dict[str, DirectionFit]
    quality: tuple[Compared, ...]
    length_s: float


def varying(line: Timeline, found: Fit, length_ns: int) -> Varying:
    """Stretches of `length_ns` of a trace; slots begin stretches. The jitter's shape is one for all of them.

    Raises TraceError for fewer than 20 probes that came.
    """
    seen = samples_of(line)
    phase_ns = round((found.slot_phase_s or 0.0) * NS_PER_S)
    number = (seen.sent_ns - phase_ns) // length_ns
    place = number - number[0]
    starts_ns = np.maximum((number[0] + np.arange(place[-1] + 1)) * length_ns + phase_ns, line.start_ns)
    channels, ways = [], {}
    fits = {
        way: _within(seen, way, own, place) for way, own in (("uplink", found.uplink), ("downlink", found.downlink))
    }
    for way, own in fits.items():
        long = _long(seen.lost[way])
        ways[way] = _stretches(seen, way, own, place, long, getattr(line, way))
        channels.append(_channel(ways[way], starts_ns, seen, long, line.end_ns))
    model_ms = np.zeros(len(place))
    random = np.random.default_rng(1)
    gone = np.zeros(len(place), bool)
    for way, own in fits.items():
        step = own.correlation ** (seen.interval_ns / NS_PER_MS / own.step_ms)
        unit = replace(own.jitter, floor_ms=0.0, mean_ms=1.0).delays_ms(wandering(random, step, len(place)))
        model_ms += ways[way].floor_ms[place] + ways[way].jitter_ms[place] * unit
        gone |= _long(seen.lost[way]) | (random.random(len(place)) < ways[way].loss[place])
    model_ms = np.where(gone, np.nan, model_ms)
    rtt_ms = seen.rtt_ms
    quality = [*compared_delays(rtt_ms, model_ms), *_medians(rtt_ms, model_ms, place, length_ns / NS_PER_S)]
    quality.append(Compared("loss, %", 100 * float((~seen.came).mean()), 100 * float(gone.mean())))
    lengths = [bursts_of(one) for one in (~seen.came, gone)]
    if len(lengths[0]):
        means = (float(one.mean()) * seen.interval_ns / NS_PER_MS if len(one) else 0.0 for one in lengths)
        quality.append(Compared("mean burst of loss, ms", *means))
    return Varying(timeline(channels[0], channels[1], line.end_ns), fits, tuple(quality), length_ns / NS_PER_S)


def _long(lost: Bools) -> Bools:
    """Which probes are among losses of two or more."""
    before, behind = np.append(False, lost[:-1]), np.append(lost[1:], False)
    return lost & (before | behind)


def _within(seen: Samples, way: str, own: DirectionFit, place: Ints) -> DirectionFit:
    """The shape and the correlation that a jitter has once the stretches' own floors and means are taken out."""
    sample = seen.to_fit(way)
    parts = [sample[(place == number) & np.isfinite(sample)] for number in range(int(place[-1]) + 1)]
    parts = [part for part in parts if len(part) >= LEAST_SAMPLES]
    if not parts:
        return own
    errors = [
        sum(fitted(part, shape, spread, halves=seen.halves).error_ms ** 2 for part in parts)
        for shape, spread in CANDIDATES
    ]
    best = int(np.argmin(errors))
    best = best if errors[best] < CLEARLY**2 * errors[0] else 0
    shape, spread = CANDIDATES[best]
    level = sample.copy()
    for number in range(int(place[-1]) + 1):
        inside = (place == number) & np.isfinite(sample)
        level[inside] -= np.median(sample[inside]) if inside.any() else 0.0
    step_ms = max(STEP_MS, seen.interval_ns / NS_PER_MS)
    related = correlation(level) ** (step_ms * NS_PER_MS / seen.interval_ns)
    related = round(related, 3) if related >= LEAST_CORRELATION else 0.0
    jitter = replace(own.jitter, shape=shape, spread=spread, error_ms=float(np.sqrt(errors[best] / len(parts))))
    return replace(own, jitter=jitter, correlation=related, step_ms=step_ms if related else STEP_MS)


def _stretches(seen: Samples, way: str, own: DirectionFit, place: Ints, long: Bools, one: Channel) -> Stretches:
    sample, count = seen.to_fit(way), int(place[-1]) + 1
    floor_ms, jitter_ms, loss = np.empty(count), np.empty(count), np.zeros(count)
    rate_bps = np.zeros(count, np.int64)
    rates = one.rate_bps[rows_at(one.start_ns, seen.sent_ns)]
    now = own.jitter
    for number in range(count):
        inside = place == number
        came = sample[inside & np.isfinite(sample)]
        if len(came) >= LEAST_SAMPLES:
            now = fitted(came, own.jitter.shape, own.jitter.spread, halves=seen.halves)
            now = replace(now, floor_ms=now.floor_ms / 2) if seen.halves else now
        floor_ms[number], jitter_ms[number] = now.floor_ms, now.mean_ms
        usual = inside & ~long
        single = float(seen.lost[way][usual].mean()) if usual.any() else 0.0
        loss[number] = 1 - (1 - single) ** 0.5 if seen.halves else single
        known = rates[inside & (rates > 0)]
        rate_bps[number] = int(np.median(known)) if len(known) else 0
    return Stretches(floor_ms, jitter_ms, loss, rate_bps)


def _channel(own: Stretches, starts_ns: Ints, seen: Samples, long: Bools, end_ns: int) -> Channel:
    """Rows where a stretch begins, and where losses of two probes or more begin and end."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], long, [False]]).astype(int)))
    times_ns = np.append(seen.sent_ns, end_ns)[edges]
    at_ns = np.union1d(starts_ns, times_ns[times_ns < end_ns])
    stretch = rows_at(starts_ns, at_ns)
    shut = (np.searchsorted(times_ns, at_ns, side="right") % 2).astype(bool)
    return channel(
        at_ns,
        np.rint(own.floor_ms[stretch] * NS_PER_MS),
        rate_bps=own.rate_bps[stretch],
        loss=np.rint(own.loss[stretch] * LOSS_ONE).astype(np.int64),
        jitter_ns=np.rint(own.jitter_ms[stretch] * NS_PER_MS),
        gate=np.where(shut, int(Gate.DROP), int(Gate.PASS)),
        cause=np.where(shut, int(Cause.NO_PINGS), int(Cause.NONE)),
    )


def _medians(rtt_ms: Floats, model_ms: Floats, place: Ints, length_s: float) -> list[Compared]:
    """How far the stretches' medians lie from each other: nothing, in a profile that does not vary."""
    spreads = []
    for values in (rtt_ms, model_ms):
        parts = [values[(place == number) & np.isfinite(values)] for number in range(int(place[-1]) + 1)]
        medians = [float(np.median(part)) for part in parts if len(part) >= LEAST_SAMPLES]
        spreads.append(float(np.std(medians)) if len(medians) > 1 else 0.0)
    return [Compared(f"spread of {length_s:g} s medians, ms", spreads[0], spreads[1])]


def varying_profile(found: Fit, made: Varying, name: str, source: str, file: str) -> str:
    """The scenario file beside the trace `file`, with what it is worth in its comments."""
    lines = [
        f"# Fitted to {source}: {found.duration_s:g} s, in stretches of {made.length_s:g} s, which are in {file}.",
        "#",
        "#   quantity                    measured      fitted",
        *(f"#   {one.name:<26}{one.measured:>10.2f}{one.fitted:>12.2f}" for one in made.quality),
        "",
        f"name = {text_of(name)}",
        f"description = {text_of(f'Fitted to {source}, {made.length_s:g} s by {made.length_s:g} s')}",
        "",
        "[link]",
        'profile = "trace"',
        f"file = {text_of(file)}",
    ]
    for way in ("uplink", "downlink"):
        shape = jitter_lines(made.ways[way])
        lines += ["", f"[link.{way}]", *shape] if shape else []
    return "\n".join(lines) + "\n"
