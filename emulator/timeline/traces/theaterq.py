"""Traces of TheaterQ, a queuing discipline of Linux: KEEP,LATENCY,RATE,LOSS,LIMIT, or with JITTER and more.

KEEP in µs, LATENCY and JITTER (a standard deviation) in ns, RATE in bit/s, LOSS as a share of 2³² − 1, LIMIT in
packets. Source: its README, github.com/cs7org/TheaterQ.
"""

from __future__ import annotations

import numpy as np

from emulator.errors import TraceError
from emulator.timeline.causes import Gate
from emulator.timeline.model import LOSS_ONE, Channel, Timeline
from emulator.timeline.table import delay_at, rows_at
from emulator.timeline.traces.rows import LONGEST_DELAY_NS, ReadOptions, channel, fault, timeline
from emulator.units import NS_PER_MS, NS_PER_US

SIMPLE, EXTENDED = 5, (8, 9)  # fields
LIMIT_PACKETS = 1000  # of a written trace: the default queue of a scenario
MOST_LOSS = (1 << 32) - 1
GRID_NS = 10 * NS_PER_MS  # of a written trace, while the delay moves


def read(name: str, text: str, options: ReadOptions) -> Timeline:
    """The same for both directions; the limit of the queue is the scenario's matter. Raises TraceError."""
    keeps, delays, jitters, rates, losses = [], [], [], [], []
    width = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line[:1].isdigit() and line[:1] != "-":
            continue  # as TheaterQ does: a comment
        fields = line.strip().rstrip(",").split(",")
        width = width or len(fields)
        if len(fields) != width or width not in (SIMPLE, *EXTENDED):
            raise fault(name, number, "5, 8 or 9 fields, the same in all lines", str(len(fields)))
        values = []
        for field in fields:
            if not (field.strip().isascii() and field.strip().isdigit() and len(field) < 20):
                raise fault(name, number, "whole numbers of 0 or more", repr(field))
            values.append(int(field))
        extended = width != SIMPLE
        keep_us, delay_ns, rate_bps, loss = values[0], values[1], values[2 + extended], values[3 + extended]
        if not 0 < keep_us < 10**15:
            raise fault(name, number, "KEEP above 0 µs", fields[0])
        if delay_ns > LONGEST_DELAY_NS:
            raise fault(name, number, f"LATENCY of at most {LONGEST_DELAY_NS} ns", fields[1])
        if loss > MOST_LOSS:
            raise fault(name, number, f"LOSS of at most {MOST_LOSS}", str(loss))
        if not 0 <= rate_bps <= 10**12:
            raise fault(name, number, "RATE of at most 10¹² bit/s", str(rate_bps))
        keeps.append(keep_us)
        delays.append(delay_ns)
        jitters.append(values[2] if extended else 0)
        rates.append(rate_bps)
        losses.append(loss + (loss == MOST_LOSS))
    if not keeps:
        raise TraceError(f"{name}: expected lines such as 1000000,20000000,100000000,0,1000, got none")
    edges_ns = np.cumsum([0, *keeps]).astype(np.int64) * NS_PER_US
    one = channel(
        edges_ns[:-1],
        np.array(delays, np.int64),
        jitter_ns=np.array(jitters, np.int64),
        rate_bps=np.array(rates, np.int64),
        loss=np.array(losses, np.int64),
    )
    return timeline(one, one, int(edges_ns[-1]))


def write(line: Timeline, one: Channel) -> str:
    """A line for each row, and every 10 ms where the delay moves; a shut gate is a loss of all.

    Extended lines if there is jitter. Raises TraceError for rows that are shorter than a microsecond.
    """
    starts = np.union1d(one.start_ns[one.start_ns > line.start_ns], [line.start_ns])
    if one.delay_slope_ns_per_s.any():
        starts = np.union1d(starts, np.arange(line.start_ns, line.end_ns, GRID_NS, dtype=np.int64))
    starts = starts[starts < line.end_ns]
    row = rows_at(one.start_ns, starts)
    edges_us = np.append(starts, line.end_ns) // NS_PER_US
    if np.any(np.diff(edges_us) == 0):
        raise TraceError("theaterq: expected rows of a microsecond or more, got a shorter one")
    loss = np.where(one.gate[row] == Gate.PASS, one.loss[row], LOSS_ONE)
    columns = [np.diff(edges_us), delay_at(one, starts), one.rate_bps[row], np.minimum(loss, MOST_LOSS)]
    columns.append(np.full(len(starts), LIMIT_PACKETS))
    if one.jitter_ns.any():
        columns.insert(2, one.jitter_ns[row])
        columns += [np.zeros(len(starts), np.int64)] * 2
    return "".join(",".join(map(str, fields)) + "\n" for fields in zip(*(c.tolist() for c in columns), strict=True))
