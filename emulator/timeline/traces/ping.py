"""What `ping -D` prints: a line for each reply, with the time at which it came, and gaps where none did.

Half of a round trip is counted for each direction. A probe without a reply is a time in which all is lost, in both
directions: a ping does not tell in which.
"""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np

from emulator.errors import TraceError
from emulator.timeline.model import LOSS_ONE, Timeline
from emulator.timeline.traces.rows import (
    LONGEST_DELAY_NS,
    Probes,
    ReadOptions,
    carried,
    channel,
    fault,
    timeline,
)
from emulator.units import NS_PER_MS, NS_PER_S

REPLY = re.compile(r"\[(\d{1,10})\.(\d{1,9})\] .*icmp_seq=(\d+) .*time=(\S+) (\S+?)(?: \(DUP!\))?", re.ASCII)
SEQUENCE = 1 << 16  # numbers begin anew behind 65,535
LATE = 3000  # by how many probes a reply may be late before its number is taken for one of the next round


def read(name: str, text: str, options: ReadOptions) -> Timeline:
    """Raises TraceError for a reply without a time stamp, a delay that is negative or not in ms, and a hole.

    A hole is a time without replies in which the numbers do not go on: the computer slept. What ping says of replies
    that did not come, duplicates and its summary are passed over.
    """
    replies: dict[int, tuple[int, int, int]] = {}  # number → line, sent, round trip
    last = None
    for number, line in enumerate(text.splitlines(), 1):
        if "icmp_seq=" not in line or "time=" not in line or line.endswith("(DUP!)"):
            continue
        match = REPLY.fullmatch(line.strip())
        if match is None:
            raise fault(name, number, "a reply of `ping -D`, [time] … icmp_seq=N … time=T ms", repr(line))
        if match[5] != "ms":
            raise fault(name, number, "a round trip in ms", match[5])
        rtt_ns = _nanoseconds(name, number, match[4])
        came_ns = int(match[1]) * NS_PER_S + int(match[2].ljust(9, "0"))
        sequence = int(match[3])
        if last is not None:
            sequence += round((last - sequence) / SEQUENCE) * SEQUENCE
            if sequence < last - LATE:
                raise fault(name, number, f"icmp_seq near {last % SEQUENCE}", match[3])
        last = sequence if last is None else max(last, sequence)
        replies.setdefault(sequence, (number, came_ns - rtt_ns, rtt_ns))
    if not replies:
        raise TraceError(f"{name}: expected replies as `ping -D` prints them, got none")
    numbers = sorted(replies)
    interval_ns = _interval_ns(numbers, [replies[number][1] for number in numbers])
    for before, after in pairwise(numbers):
        line_number, sent_ns, _ = replies[after]
        passed_ns = sent_ns - replies[before][1]
        if passed_ns <= 0:
            raise fault(name, line_number, "a time after that of the reply before it", f"{passed_ns / NS_PER_S:g} s")
        if passed_ns - (after - before) * interval_ns > options.gap_ns:
            got = f"{passed_ns / NS_PER_S:g} s in which {after - before} were sent"
            raise fault(name, line_number, f"a probe about every {interval_ns / NS_PER_S:g} s", got)
    known_ns = [replies[number][1] for number in numbers]
    all_numbers = np.arange(numbers[0], numbers[-1] + 1)
    steps = np.interp(all_numbers, numbers, np.array(known_ns) - known_ns[0])
    starts = known_ns[0] + np.rint(steps).astype(np.int64)
    delays = [replies[number][2] // 2 if number in replies else None for number in all_numbers.tolist()]
    lost = np.array([delay is None for delay in delays]) * LOSS_ONE
    one = channel(starts, carried(delays, name), loss=lost)
    return timeline(one, one, int(starts[-1]) + interval_ns)


def _nanoseconds(name: str, line: int, text: str) -> int:
    match = re.fullmatch(r"(-?)(\d{1,9})(?:\.(\d{1,6}))?", text, re.ASCII)
    if match is None:
        raise fault(name, line, "a round trip in ms", repr(text))
    rtt_ns = int(match[2]) * NS_PER_MS + int((match[3] or "0").ljust(6, "0"))
    if match[1] or rtt_ns > LONGEST_DELAY_NS:
        raise fault(name, line, "a round trip of 0 to 600,000 ms", text)
    return rtt_ns


def _interval_ns(numbers: list[int], sent_ns: list[int]) -> int:
    """The median time from one probe to the next; a second for a single one."""
    steps = [(after - before) / (high - low) for (before, after), (low, high) in zip(
        pairwise(sent_ns), pairwise(numbers), strict=True)]  # fmt: skip
    return max(1, round(float(np.median(steps)))) if steps else NS_PER_S


def write(seen: Probes) -> str:
    """What ping would have printed: round trips to the microsecond, stamps to the nanosecond."""
    lines = ["PING bentpipe (192.0.2.1) 56(84) bytes of data.\n"]  # an address of documentation (RFC 5737)
    lost = (seen.up_lost | seen.down_lost).tolist()
    rtts_ns = (seen.up_ns + seen.down_ns).tolist()
    for number, (sent_ns, rtt_ns) in enumerate(zip(seen.sent_ns.tolist(), rtts_ns, strict=True)):
        if not lost[number]:
            rtt_us = round(rtt_ns / 1000)
            seconds, rest = divmod(sent_ns + rtt_us * 1000, NS_PER_S)
            reply = f"64 bytes from 192.0.2.1: icmp_seq={(number + 1) % SEQUENCE} ttl=64"
            lines.append(f"[{seconds}.{rest:09d}] {reply} time={rtt_us / 1000:.3f} ms\n")
    return "".join(lines)
