"""Mahimahi's packet-delivery opportunities: a line for each, the ms at which a packet of 1,500 bytes may leave.

The trace repeats after its last line. Counted in bins it gives a rate; in a bin without opportunities packets wait.
"""

from __future__ import annotations

import numpy as np

from emulator.errors import TraceError
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Channel, Timeline
from emulator.timeline.table import rows_at
from emulator.timeline.traces.rows import ReadOptions, channel, fault, timeline
from emulator.units import NS_PER_MS, NS_PER_S

PACKET_BITS = 8 * 1500  # IP bytes; Mahimahi counts 1,504 with the header of its TUN device (mahimahi, linkshell)
SLACK = 1e-3  # of an opportunity: rates are rounded to whole bit/s
MOST_OPPORTUNITIES = 50_000_000  # of a written trace


def read(name: str, text: str, options: ReadOptions) -> Timeline:
    """The same rate for both directions, no delay. Raises TraceError."""
    milliseconds: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        field = line.strip()
        if not field:
            continue
        if not (field.isascii() and field.isdigit() and len(field) < 13):
            raise fault(name, number, "a whole number of milliseconds", repr(field))
        if milliseconds and int(field) < milliseconds[-1]:
            raise fault(name, number, f"a time not before that of the line before it, {milliseconds[-1]} ms", field)
        if int(field) - (milliseconds[-1] if milliseconds else 0) > options.gap_ns / NS_PER_MS:
            raise fault(name, number, f"at most {options.gap_ns / NS_PER_S:g} s without an opportunity", f"{field} ms")
        milliseconds.append(int(field))
    if not milliseconds or milliseconds[-1] == 0:
        raise TraceError(f"{name}: expected opportunities up to a millisecond after 0, got none")
    end_ns = milliseconds[-1] * NS_PER_MS
    edges_ns = np.union1d(np.arange(0, end_ns, options.bin_ns, dtype=np.int64), [end_ns])
    # The last instant of one round is the first of the next one: a bin has its end, and not its beginning.
    at_ns = np.maximum(np.array(milliseconds, np.int64) * NS_PER_MS, 1)
    counts = np.bincount(np.searchsorted(edges_ns, at_ns, side="left") - 1, minlength=len(edges_ns) - 1)
    bits = [int(count) * PACKET_BITS for count in counts]
    rate_bps = [round(sent * NS_PER_S / int(span)) for sent, span in zip(bits, np.diff(edges_ns), strict=True)]
    shut = counts == 0
    one = channel(
        edges_ns[:-1],
        np.zeros(len(counts), np.int64),
        rate_bps=np.array(rate_bps, np.int64),
        gate=np.where(shut, Gate.HOLD, Gate.PASS),
        cause=np.where(shut, Cause.OUTAGE, Cause.NONE),
    )
    return timeline(one, one, end_ns)


def write(line: Timeline, one: Channel) -> str:
    """The opportunities that a direction's rate gives while its gate is open. Raises TraceError without a rate.

    The last line, where the trace repeats, is an opportunity too: if none falls there, one is added.
    """
    end_ms = -(-(line.end_ns - line.start_ns) // NS_PER_MS)
    edges_ns = line.start_ns + np.arange(end_ms + 1, dtype=np.int64) * NS_PER_MS
    row = rows_at(one.start_ns, edges_ns[:-1])
    open_ = one.gate[row] == Gate.PASS
    if np.any(open_ & (one.rate_bps[row] == 0)):
        raise TraceError("mahimahi: expected a rate at all times, got a trace without a limit of rate")
    bits_per_ms = np.where(open_, one.rate_bps[row] / 1000, 0.0)
    sent = np.cumsum(bits_per_ms) / PACKET_BITS
    if sent[-1] > MOST_OPPORTUNITIES:
        raise TraceError(f"mahimahi: expected at most {MOST_OPPORTUNITIES} opportunities, got {sent[-1]:.0f}")
    whole = np.floor(sent + SLACK).astype(np.int64)
    milliseconds = np.repeat(np.arange(1, end_ms + 1), np.diff(whole, prepend=0))
    if not len(milliseconds) or milliseconds[-1] != end_ms:
        milliseconds = np.append(milliseconds, end_ms)
    return "".join(f"{at}\n" for at in milliseconds.tolist())
