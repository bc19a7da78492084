"""What all formats of traces share: options of reading, faults with file and line, rows, samples."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from emulator.errors import TraceError
from emulator.radio.modcod import HIGHEST_CN_CENTIDB
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.draws import Purpose, Way, draw32
from emulator.timeline.model import Channel, Ints, Path, Timeline
from emulator.timeline.table import delay_at, rows_at
from emulator.units import NS_PER_MS, NS_PER_S

DEFAULT_GAP_S = 60.0
LONGEST_DELAY_NS = 600 * NS_PER_S  # what is more has the wrong unit


@dataclass(frozen=True)
class ReadOptions:
    """How a file is understood. gap_ns: the longest time between two samples; more is a hole.

    halve_rtt: one-way delays that were measured by two clocks are not believed; each direction gets half of the sum.
    bin_ns: in which the packets of a Mahimahi trace are counted.
    """

    gap_ns: int = round(DEFAULT_GAP_S * NS_PER_S)
    halve_rtt: bool = False
    bin_ns: int = 100 * NS_PER_MS


def fault(name: str, line: int | str, expected: str, got: object) -> TraceError:
    """The error for one place of a file. `line`: its number, or a path into JSON."""
    where = f"line {line}" if isinstance(line, int) else line
    shown = got if isinstance(got, str) else repr(got)
    return TraceError(f"{name}: {where}: expected {expected}, got {shown if len(shown) <= 60 else shown[:59] + '…'}")


def channel(
    start_ns: Ints,
    delay_ns: Ints,
    *,
    delay_slope_ns_per_s: Ints | None = None,
    rate_bps: Ints | None = None,
    loss: Ints | None = None,
    jitter_ns: Ints | None = None,
    cn_centidb: Ints | None = None,
    gate: Ints | None = None,
    cause: Ints | None = None,
) -> Channel:
    """A Channel of columns; what is not told is: no slope, no limit of rate, no loss, no jitter, an open gate.

    The C/N is the least that closes the most efficient MODCOD, so that a fade laid over a trace costs rate at once.
    """

    def column(given: Ints | None, otherwise: int = 0) -> Ints:
        return np.full(len(start_ns), otherwise, np.int64) if given is None else given.astype(np.int64)

    return Channel(
        start_ns,
        delay_ns.astype(np.int64),
        column(delay_slope_ns_per_s),
        column(rate_bps),
        column(loss),
        column(jitter_ns),
        column(cn_centidb, HIGHEST_CN_CENTIDB),
        column(gate, Gate.PASS),
        column(cause, Cause.NONE),
    )


def timeline(uplink: Channel, downlink: Channel, end_ns: int, path: Path | None = None) -> Timeline:
    """A Timeline without satellites that ends at `end_ns`; both directions begin at the same time."""
    start_ns = int(uplink.start_ns[0])
    if path is None:
        none, unknown = np.array([-1], np.int64), np.array([np.nan])
        path = Path(np.array([start_ns], np.int64), none, none, unknown, unknown, unknown, np.zeros(1, np.int64))
    return Timeline(start_ns, end_ns, uplink, downlink, path, (), ())


def require_rising(name: str, times_ns: list[int], places: list[int | str], gap_ns: int) -> None:
    """Raises TraceError where time goes back or stands still, or where more than gap_ns passes between two samples."""
    for (before, after), place in zip(pairwise(times_ns), places[1:], strict=True):
        if after <= before:
            raise fault(name, place, "a time after that of the sample before it", f"{(after - before) / NS_PER_S:g} s")
        if after - before > gap_ns:
            got = f"a hole of {(after - before) / NS_PER_S:g} s"
            raise fault(name, place, f"at most {gap_ns / NS_PER_S:g} s since the sample before it", got)


def end_after(times_ns: list[int]) -> int:
    """Where a trace ends that does not say so: its last sample lasts as long as half of the others or more."""
    if len(times_ns) < 2:
        return times_ns[0] + NS_PER_S
    return times_ns[-1] + int(np.sort(np.diff(times_ns))[(len(times_ns) - 1) // 2])


@dataclass(frozen=True)
class Probes:
    """Round trips of probes sent every `interval_ns` through a Timeline: what a light probe would see.

    Arrays (probes,): sent_ns UTC, the delay of each direction, and whether the probe is lost in it.
    """

    sent_ns: Ints
    up_ns: Ints
    down_ns: Ints
    up_lost: Ints
    down_lost: Ints


def probes(line: Timeline, interval_ns: int, *, seed: int = 1) -> Probes:
    """Samples of a Timeline. Both directions are looked at when the probe is sent; a loss between 0 and 1 is drawn."""
    sent_ns = np.arange(line.start_ns, line.end_ns, interval_ns, dtype=np.int64)

    def lost(one: Channel, way: Way) -> Ints:
        row = rows_at(one.start_ns, sent_ns)
        drawn = draw32(seed, way, Purpose.PROBE_LOSS, np.arange(len(sent_ns), dtype=np.int64)) < one.loss[row]
        return (drawn | (one.gate[row] == Gate.DROP)).astype(np.int64)

    return Probes(
        sent_ns,
        delay_at(line.uplink, sent_ns),
        delay_at(line.downlink, sent_ns),
        lost(line.uplink, Way.UP),
        lost(line.downlink, Way.DOWN),
    )


def carried(values_ns: list[int | None], name: str) -> Ints:
    """Delays, where a sample that was lost has that of the one before it; the first ones that of the first that came.

    Raises TraceError if none came.
    """
    first = next((value for value in values_ns if value is not None), None)
    if first is None:
        raise TraceError(f"{name}: expected at least one sample with a delay, got {len(values_ns)} that were all lost")
    filled, last = [], first
    for value in values_ns:
        last = last if value is None else value
        filled.append(last)
    return np.array(filled, np.int64)
