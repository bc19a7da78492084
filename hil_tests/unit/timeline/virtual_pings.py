"""Pings through both directions of a link in virtual time: the packet path itself, hours of it in seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from emulator.link import state
from emulator.link.link import Link
from emulator.ports.assembly import Direction, link_options
from emulator.scenario.model import Scenario
from emulator.taps.replay import offer_all, settle
from emulator.timeline.model import Floats, Ints, Timeline, Windows
from emulator.units import NS_PER_MS, NS_PER_S

WINDOW_NS = 60 * NS_PER_S
FRAME = bytes(10) + bytes([0x45, 0, 0, 60]) + bytes(5) + bytes([17]) + bytes(50)  # 60 bytes of UDP, says its header


@dataclass(frozen=True)
class Pings:
    """By ping, (pings,): when it was sent, and how long until it was back, NaN for those that were lost."""

    sent_ns: Ints
    rtt_ms: Floats

    @property
    def lost(self) -> np.ndarray:
        return np.isnan(self.rtt_ms)

    def bursts(self) -> Ints:
        """Lengths of the runs of lost pings, in pings."""
        edges = np.flatnonzero(np.diff(self.lost.astype(np.int64), prepend=0, append=0))
        return edges[1::2] - edges[::2]


def ping(scenario: Scenario, windows: Windows, start_ns: int, hours: float, interval_ns: int) -> Pings:
    """Pings of both directions from `start_ns` on, each sent at its multiple of the interval."""
    sent_ns = np.arange(start_ns, start_ns + round(hours * 3600 * NS_PER_S), interval_ns, dtype=np.int64)
    ends = range(start_ns, int(sent_ns[-1]) + 2 * WINDOW_NS, WINDOW_NS)
    plan = [windows.window(at, at + WINDOW_NS) for at in ends]
    arrived = _carried(scenario, "uplink", plan, sent_ns)
    there = np.flatnonzero(arrived >= 0)
    back = np.full(len(sent_ns), -1, np.int64)
    back[there] = _carried(scenario, "downlink", plan, arrived[there])
    return Pings(sent_ns, np.where(back >= 0, (back - sent_ns) / NS_PER_MS, np.nan))


def one_way(scenario: Scenario, windows: Windows, direction: Direction, sent_ns: Ints) -> Floats:
    """How long packets of one direction take through its own queue, ms, NaN for those that are lost."""
    first_ns = int(sent_ns[0]) // WINDOW_NS * WINDOW_NS
    plan = [windows.window(at, at + WINDOW_NS) for at in range(first_ns, int(sent_ns[-1]) + 2 * WINDOW_NS, WINDOW_NS)]
    arrived = _carried(scenario, direction, plan, sent_ns, own_queue=True)
    return np.where(arrived >= 0, (arrived - sent_ns) / NS_PER_MS, np.nan)


def _carried(
    scenario: Scenario, direction: Direction, plan: list[Timeline], sent_ns: Ints, *, own_queue: bool = False
) -> Ints:
    """When each packet is due at the other end; −1 for those that are lost. Pings have a queue that is never full."""
    options = replace(link_options(scenario, direction, 100 * NS_PER_MS), ledger_events=1 << 17)
    if not own_queue:
        options = replace(options, lanes=(), rules=(), queue_packets=5000)
    options = replace(options, memory_bytes=1 << 23, flight_packets=1 << 14)
    channels = [getattr(timeline, direction) for timeline in plan]
    link = Link(
        channels[0], plan[0].end_ns, seed=scenario.seed, direction=int(direction == "downlink"), options=options
    )
    due = np.full(len(sent_ns) + 1, -1, np.int64)
    frame, entry = np.frombuffer(FRAME, np.uint8), np.zeros(state.SUPER_COLUMNS, np.int64)
    read = 0
    for number, timeline in enumerate(plan):
        if number + 1 < len(plan):
            link.extend(channels[number + 1], plan[number + 1].end_ns, timeline.start_ns)
        first, last = np.searchsorted(sent_ns, [timeline.start_ns, timeline.end_ns])
        arrivals = sent_ns[first:last]
        places, lengths = np.zeros(len(arrivals), np.int64), np.full(len(arrivals), len(FRAME))
        offer_all(link.state, frame, places, lengths, arrivals, entry)
        settle(link.state, timeline.end_ns)
        tail = int(link.state.reg[state.LEDGER_TAIL])
        rows = link.state.ledger[np.arange(read, tail) % (1 << 17)]
        read = tail
        passed = rows[rows[:, state.L_CAUSE] == 0]
        due[passed[:, state.L_NUMBER]] = passed[:, state.L_AT]
    return due[1:]
