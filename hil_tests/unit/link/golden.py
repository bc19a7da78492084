"""Tables of what each stage does to a few dozen packets, to be read by eye: `golden/*.txt`.

    python -m hil_tests.unit.link.golden --write      makes them anew; look at what has changed, and why

A row is a packet: its number, class and length, when it came, and when it was due or for what cause it was dropped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from emulator.link import state
from emulator.link.link import (
    Bucket,
    Bursts,
    Change,
    Jitter,
    LaneOptions,
    LinkOptions,
    Opportunities,
    Rule,
)
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import Offer, drive, new_link
from hil_tests.unit.link.packets import NO_OFFLOAD, packet
from hil_tests.unit.link.strategies import MS, channel_of

TABLES = Path(__file__).with_name("golden")
UDP, ICMP = 17, 1
SMALL, LARGE = 125, 1250  # bytes: 1 ms and 10 ms at 1 Mbit/s
MBIT = 1_000_000


@dataclass(frozen=True)
class Case:
    """A stage at work. arrivals: (ms, bytes, protocol), in order."""

    title: str
    arrivals: Sequence[tuple[float, int, int]]
    channel: Channel = field(default_factory=lambda: Channel.constant(0, delay_ns=10 * MS))
    options: LinkOptions = field(default_factory=LinkOptions)
    changes: Sequence[Change] = ()


def every(gap_ms: float, count: int, size: int = LARGE, *, start_ms: float = 0.0) -> list[tuple[float, int, int]]:
    return [(start_ms + gap_ms * number, size, UDP) for number in range(count)]


def queue(discipline: str, **more: int | bool) -> LinkOptions:
    return LinkOptions(lanes=(LaneOptions(discipline=discipline, **more),))  # type: ignore[arg-type]


def slow(delay_ms: int = 10, rate_bps: int = MBIT) -> Channel:
    return Channel.constant(0, delay_ns=delay_ms * MS, rate_bps=rate_bps)


CASES = {
    "classify": Case(
        "ICMP (class 0) goes before UDP (class 1); 1 Mbit/s, a large packet takes 10 ms",
        sorted(every(2, 12) + [(start, SMALL, ICMP) for start in (1.0, 5.0, 5.5, 17.0, 60.0)]),
        slow(),
        LinkOptions(lanes=(LaneOptions(), LaneOptions()), rules=(Rule(0, ICMP),)),
    ),
    "queue_drop_tail": Case(
        "4 packets may wait: what comes to a full queue is dropped; 1 Mbit/s",
        every(2, 24),
        slow(),
        queue("drop_tail", queue_packets=4),
    ),
    "queue_drop_front": Case(
        "4 packets may wait: the oldest makes room; 1 Mbit/s",
        every(2, 24),
        slow(),
        queue("drop_front", queue_packets=4),
    ),
    "queue_bytes": Case(
        "3,000 bytes may wait, small packets still fit; 1 Mbit/s",
        [(2.0 * number, SMALL if number % 3 else LARGE, UDP) for number in range(24)],
        slow(),
        queue("drop_tail", queue_bytes=3000),
    ),
    "queue_time": Case(
        "what has waited for more than 30 ms when its turn comes is dropped; 1 Mbit/s",
        every(4, 24),
        slow(),
        queue("drop_tail", longest_wait_ns=30 * MS),
    ),
    "queue_codel": Case(
        "CoDel, target 5 ms, interval 50 ms; 1 Mbit/s, a packet each 6 ms",
        every(6, 36),
        slow(),
        queue("codel", interval_ns=50 * MS),
    ),
    "queue_fq_codel": Case(
        "FQ-CoDel: a flood (ICMP) and one packet (UDP) now and then, which does not wait behind it; 1 Mbit/s",
        sorted([(number * 2.0, LARGE, ICMP) for number in range(20)] + every(15, 5, SMALL, start_ms=11)),
        slow(),
        queue("fq_codel"),
    ),
    "queue_pie": Case(
        "PIE, target 15 ms: drops as packets come, once the first 150 ms are over; 1 Mbit/s, a packet each 6 ms",
        every(6, 60),
        slow(),
        queue("pie"),
    ),
    "serve_rate": Case(
        "1 Mbit/s, from 25 ms on 2 Mbit/s, from 60 ms on 0.5 Mbit/s: a change in mid-packet counts from its instant",
        every(8, 14),
        channel_of(
            [
                {"lasts_ns": 25 * MS, "rate_bps": MBIT, "delay_ns": 10 * MS},
                {"lasts_ns": 35 * MS, "rate_bps": 2 * MBIT, "delay_ns": 10 * MS},
                {"lasts_ns": 1000 * MS, "rate_bps": MBIT // 2, "delay_ns": 10 * MS},
            ]
        ),
    ),
    "serve_frames": Case(
        "10 Mbit/s, frames of 4 ms, grants every 8 ms: who is idle begins with a grant, packets leave with their frame",
        [*every(0.7, 12), *every(30, 3, start_ms=45)],
        slow(rate_bps=10 * MBIT),
        LinkOptions(frame_ns=4 * MS, grant_ns=8 * MS),
    ),
    "serve_overhead": Case(
        "25 bytes of overhead on each packet of 125: 1.2 ms at 1 Mbit/s",
        every(0, 8, SMALL),
        slow(),
        LinkOptions(overhead_bytes=25),
    ),
    "serve_bucket": Case(
        "a bucket of 5,000 bytes filled at 1 Mbit/s: four packets at once, then one each 10 ms",
        [*every(0, 10), *every(0, 6, start_ms=200)],
        Channel.constant(0, delay_ns=10 * MS),
        LinkOptions(bucket=Bucket(MBIT, 5000)),
    ),
    "serve_opportunities": Case(
        "opportunities at 5, 5, 12 and 20 ms of each 20 ms, 1,504 bytes each; two small packets share one",
        [*every(1, 6), *every(0, 4, 700, start_ms=30)],
        Channel.constant(0, delay_ns=10 * MS),
        LinkOptions(opportunities=Opportunities((5 * MS, 5 * MS, 12 * MS, 20 * MS))),
    ),
    "lose_bursts": Case(
        "bursts of loss, 15 ms long every 40 ms in the mean: they span time, not packets",
        every(5, 50, SMALL),
        options=LinkOptions(bursts=Bursts(40 * MS, 15 * MS)),
    ),
    "lose_exactly": Case(
        "packets 3, 4 and 9 are lost", every(1, 12, SMALL), options=LinkOptions(lost_packets=(3, 4, 9))
    ),
    "lose_bits": Case(
        "one bit in 20,000 is wrong: of 1,250 bytes 39 % are lost, of 125 bytes 5 %",
        [(float(number), LARGE if number % 2 else SMALL, UDP) for number in range(40)],
        options=LinkOptions(bit_error_rate=1 / 20_000),
    ),
    "damage": Case(
        "a fifth comes twice, a fifth is 4 ms late and is overtaken",
        every(1, 24, SMALL),
        options=LinkOptions(copied=0.2, late=0.2, late_ns=4 * MS),
    ),
    "gate": Case(
        "held from 20 to 50 ms, sent in vain from 70 to 80 ms; 10 Mbit/s, 1 ms each",
        every(4, 26),
        slow(rate_bps=10 * MBIT),
        changes=(
            Change(20 * MS, 50 * MS, gate=Gate.HOLD, cause=Cause.COMMAND),
            Change(70 * MS, 80 * MS, gate=Gate.DROP, cause=Cause.HANDOVER),
        ),
    ),
    "gate_bounded": Case(
        "held from 20 to 90 ms, but nobody waits for more than 30 ms; 10 Mbit/s",
        every(4, 28),
        slow(rate_bps=10 * MBIT),
        queue("drop_tail", longest_wait_ns=30 * MS),
        (Change(20 * MS, 90 * MS, gate=Gate.HOLD, cause=Cause.COMMAND),),
    ),
    "propagate_falls": Case(
        "the delay falls from 40 to 20 ms at 30 ms: nobody overtakes, 1,250 bytes stay 1 ms apart (10 Mbit/s egress)",
        every(3, 24),
        channel_of([{"lasts_ns": 30 * MS, "delay_ns": 40 * MS}, {"lasts_ns": 1000 * MS, "delay_ns": 20 * MS}]),
        LinkOptions(egress_rate_bps=10 * MBIT),
    ),
    "propagate_slope": Case(
        "the delay rises by 0.2 ms each ms",
        every(5, 12, SMALL),
        channel_of([{"lasts_ns": 1000 * MS, "delay_ns": 10 * MS, "delay_slope_ns_per_s": 200 * MS}]),
    ),
    "propagate_jitter": Case(
        "normal jitter of 6 ms in the mean, a value lasting 10 ms, correlated by 0.7",
        every(4, 40, SMALL),
        Channel.constant(0, delay_ns=10 * MS, jitter_ns=6 * MS),
        LinkOptions(jitter=Jitter("normal", 0.4, correlation=0.7), jitter_bin_ns=10 * MS),
    ),
    "lose_independent": Case(
        "a fifth of the packets is lost, each on its own",
        every(1, 40, SMALL),
        Channel.constant(0, delay_ns=10 * MS, loss=0.2),
    ),
}


def frame_of(size: int, number: int, protocol: int) -> bytes:
    """A packet of a flow: all of one protocol have the same addresses and ports."""
    body = bytearray(packet(size, number))
    body[9], body[12:24] = protocol, bytes(range(12))
    return NO_OFFLOAD + bytes(body)


def table(case: Case) -> str:
    """The case as text."""
    options = replace(case.options, memory_bytes=1 << 20, flight_packets=1 << 10, ledger_events=1 << 12)
    link = new_link(case.channel, options, changes=case.changes)
    offers = [
        Offer(round(at_ms * MS), frame_of(size, number, protocol))
        for number, (at_ms, size, protocol) in enumerate(case.arrivals, 1)
    ]
    drive(link, offers)
    fates: dict[int, list[tuple[int, int]]] = {}
    for number, cause, at, _ in link.state.ledger[: link.state.reg[state.LEDGER_TAIL]].tolist():
        fates.setdefault(number, []).append((cause, at))
    lines = [f"# {case.title}", "", f"{'no':>3} {'class':>5} {'bytes':>5} {'came':>9} {'due':>10} {'delay':>9}  fate"]
    for number, (at_ms, size, protocol) in enumerate(case.arrivals, 1):
        lane = 0 if len(link.state.lanes) > 1 and protocol == ICMP else len(link.state.lanes) - 1
        for cause, at in sorted(fates.get(number, [(0, 0)]), key=lambda fate: (fate[1], fate[0])):
            head = f"{number:>3} {lane:>5} {size:>5} {at_ms:>9.3f}"
            if cause > 0:
                lines.append(f"{head} {'':>10} {'':>9}  {Cause(cause).name.lower()} at {at / MS:.3f}")
            else:
                twice = "  again" if cause == state.COPY else ""
                lines.append(f"{head} {at / MS:>10.3f} {at / MS - at_ms:>9.3f}{twice}")
    counters = link.counters()
    dropped = ", ".join(f"{count} {cause.name.lower()}" for cause, count in counters.dropped.items())
    lines += [
        "",
        f"{counters.offered_packets} offered, {counters.delivered_packets} delivered, dropped: {dropped or 0}",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m hil_tests.unit.link.golden", description=__doc__)
    parser.add_argument("--write", action="store_true", required=True)
    parser.parse_args()
    TABLES.mkdir(exist_ok=True)
    for name, case in CASES.items():
        (TABLES / f"{name}.txt").write_text(table(case), encoding="utf-8")


if __name__ == "__main__":
    main()
