"""A link that does what a trace says: the Timeline of profile `trace`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path as FilePath

import numpy as np

from emulator.errors import TraceError
from emulator.scenario.links import TraceDirection, TraceLink
from emulator.timeline.budget import DelayPart
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.fixed import pick
from emulator.timeline.model import LOSS_ONE, UNLIMITED, Channel, Ints, Path, Timeline, Windows
from emulator.timeline.splice import joined_channels, moved_channel
from emulator.timeline.table import delay_at, rows_at
from emulator.timeline.traces.files import read_trace
from emulator.timeline.traces.rows import ReadOptions, channel
from emulator.units import NS_PER_MS, NS_PER_S, bits_per_s, parse_utc_ns

SHORTEST_LOOP_NS = 10 * NS_PER_MS  # rows of a window would fill the memory


@dataclass(frozen=True)
class Course:
    """One direction of a trace, as a channel that begins at 0, and how long it lasts."""

    channel: Channel
    length_ns: int


class TraceWindows(Windows):
    """Plans a link of profile `trace`; each direction repeats after the length of its own trace.

    Who served while it was measured is not in the windows. Raises TraceError for a trace that cannot be used.
    """

    def __init__(self, link: TraceLink, *, epoch_utc_ns: int) -> None:
        self._begins_ns = parse_utc_ns(link.starts_utc) if link.starts_utc else epoch_utc_ns
        self._loop = link.loop
        options = ReadOptions(gap_ns=round(link.gap_s * NS_PER_S), halve_rtt=link.halve_rtt)
        names = {way: getattr(link, way).file or link.file for way in ("uplink", "downlink")}
        lines = {name: read_trace(FilePath(name), options) for name in dict.fromkeys(names.values())}
        self._courses = {
            way: _course(getattr(lines[name], way), lines[name], link, getattr(link, way))
            for way, name in names.items()
        }
        for way, name in names.items():
            if link.loop and self._courses[way].length_ns < SHORTEST_LOOP_NS:
                raise TraceError(f"{name}: expected a trace of 10 ms or more, to repeat it, got a shorter one")
        then = "then repeats" if link.loop else "then the link is down"
        self.notes = tuple(
            f"trace {FilePath(name).name}: {(line.end_ns - line.start_ns) / NS_PER_S:g} s, {then}"
            for name, line in lines.items()
        )

    def window(self, start_ns: int, end_ns: int) -> Timeline:
        none, unknown = np.array([-1], np.int64), np.array([np.nan])
        path = Path(np.zeros(1, np.int64), none, none, unknown, unknown, unknown, np.zeros(1, np.int64))
        uplink, downlink = (self._channel(self._courses[way], start_ns, end_ns) for way in ("uplink", "downlink"))
        return Timeline(start_ns, end_ns, uplink, downlink, path, (), ())

    def delay_parts(self, start_ns: int, end_ns: int) -> list[DelayPart]:
        timeline = self.window(start_ns, end_ns)
        seconds_ns = np.arange(start_ns, end_ns, NS_PER_S, dtype=np.int64)
        ways = timeline.uplink, timeline.downlink
        return [
            DelayPart("trace", *(delay_at(one, seconds_ns) for one in ways)),
            DelayPart("jitter, mean", *(one.jitter_ns[rows_at(one.start_ns, seconds_ns)] for one in ways)),
        ]

    def _channel(self, course: Course, start_ns: int, end_ns: int) -> Channel:
        rounds = _repeated(course, self._begins_ns, start_ns, end_ns) if self._loop else self._once(course)
        first = max(0, int(np.searchsorted(rounds.start_ns, start_ns, side="right")) - 1)
        rows = slice(first, max(first + 1, int(np.searchsorted(rounds.start_ns, end_ns, side="left"))))
        return Channel(**{field.name: getattr(rounds, field.name)[rows].copy() for field in fields(Channel)})

    def _once(self, course: Course) -> Channel:
        one = course.channel
        after = _down(self._begins_ns + course.length_ns, int(one.delay_ns[-1]), int(one.rate_bps[-1]))
        parts = [moved_channel(one, self._begins_ns), after]
        if self._begins_ns > 0:
            parts.insert(0, _down(0, int(one.delay_ns[0]), int(one.rate_bps[0])))
        return joined_channels(parts)


def _repeated(course: Course, begins_ns: int, start_ns: int, end_ns: int) -> Channel:
    """All rounds of a course that a window touches."""
    numbers = np.arange((start_ns - begins_ns) // course.length_ns, (end_ns - begins_ns) // course.length_ns + 1)
    rows = len(course.channel)
    columns = {field.name: np.tile(getattr(course.channel, field.name), len(numbers)) for field in fields(Channel)}
    columns["start_ns"] += begins_ns + np.repeat(numbers.astype(np.int64), rows) * course.length_ns
    return Channel(**columns)


def _down(start_ns: int, delay_ns: int, rate_bps: int) -> Channel:
    def column(value: int) -> Ints:
        return np.array([value], np.int64)

    return channel(
        column(start_ns),
        column(delay_ns),
        rate_bps=column(rate_bps),
        gate=column(Gate.DROP),
        cause=column(Cause.OUTAGE),
    )


def _course(one: Channel, line: Timeline, link: TraceLink, own: TraceDirection) -> Course:
    """A direction of a trace from 0 on, with what the scenario adds to it."""
    columns = {field.name: getattr(one, field.name).copy() for field in fields(Channel)}
    columns["start_ns"] -= line.start_ns
    early_ns = -int(columns["start_ns"][0])
    columns["start_ns"][0] = 0  # a row of a plan may have begun before it
    columns["delay_ns"][0] += int(columns["delay_slope_ns_per_s"][0]) * max(0, early_ns) // NS_PER_S
    columns["delay_ns"] += round(pick(own.delay_ms, link.delay_ms) * NS_PER_MS)
    columns["jitter_ns"] += round(pick(own.jitter_ms, link.jitter_ms) * NS_PER_MS)
    kept = 1 - pick(own.loss, link.loss)
    columns["loss"] = LOSS_ONE - np.rint((LOSS_ONE - columns["loss"]) * kept).astype(np.int64)
    most_bps = bits_per_s(pick(own.rate_mbps, link.rate_mbps))
    if most_bps:
        rate_bps = columns["rate_bps"]
        columns["rate_bps"] = np.where(rate_bps == UNLIMITED, most_bps, np.minimum(rate_bps, most_bps))
    return Course(Channel(**columns), line.end_ns - line.start_ns)
