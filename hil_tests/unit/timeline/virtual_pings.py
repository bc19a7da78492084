"""Pings through both directions of a link in virtual time: the packet path itself, hours of it in seconds."""

from __future__ import annotations

from collections.abc import Sequence
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
BATCH = 1 << 15  # packets between two looks into the ledger, which holds four times as many
FREE_RUNNING = 1.0037
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


def burst_shares(lost: np.ndarray, longest: int) -> dict[str, float]:
    """Of the runs of lost pings that are no longer than `longest` pings: single, double, longer."""
    edges = np.flatnonzero(np.diff(lost.astype(np.int64), prepend=0, append=0))
    lengths = edges[1::2] - edges[::2]
    counted = lengths[lengths <= longest]
    return {
        "single": float((counted == 1).mean()),
        "double": float((counted == 2).mean()),
        "longer": float((counted > 2).mean()),
    }


@dataclass(frozen=True)
class Fates:
    """By packet, (packets,): when it is due at the other end, −1 for the lost, and the `Cause` of that, 0 for none."""

    due_ns: Ints
    cause: Ints


def ping(scenario: Scenario, windows: Windows, start_ns: int, hours: float, interval_ns: int) -> Pings:
    """Pings of both directions from `start_ns` on, one by interval of a clock that nobody set."""
    sent_ns = instants(start_ns, hours, interval_ns)
    plan = planned(windows, sent_ns)
    there = carried(scenario, "uplink", plan, sent_ns).due_ns
    through = np.flatnonzero(there >= 0)
    back = np.full(len(sent_ns), -1, np.int64)
    back[through] = carried(scenario, "downlink", plan, there[through]).due_ns
    return Pings(sent_ns, np.where(back >= 0, (back - sent_ns) / NS_PER_MS, np.nan))


def one_way(scenario: Scenario, windows: Windows, direction: Direction, sent_ns: Ints) -> Floats:
    """How long small packets of one direction take through its own queue, ms, NaN for those that are lost."""
    fates = carried(scenario, direction, planned(windows, sent_ns), sent_ns, [FRAME] * len(sent_ns))
    return np.where(fates.due_ns >= 0, (fates.due_ns - sent_ns) / NS_PER_MS, np.nan)


def instants(start_ns: int, hours: float, interval_ns: int) -> Ints:
    """Instants an interval apart, and a little more: else one in so many would fall onto a slot's very boundary."""
    return start_ns + np.arange(0, round(hours * 3600 * NS_PER_S), round(interval_ns * FREE_RUNNING), dtype=np.int64)


def planned(windows: Windows, sent_ns: Ints) -> list[Timeline]:
    """The windows in which packets sent at these instants are under way."""
    begin_ns = int(sent_ns[0]) - int(sent_ns[0]) % NS_PER_S
    return [windows.window(at, at + WINDOW_NS) for at in range(begin_ns, int(sent_ns[-1]) + 2 * WINDOW_NS, WINDOW_NS)]


def carried(
    scenario: Scenario, direction: Direction, plan: list[Timeline], sent_ns: Ints, frames: Sequence[bytes] | None = None
) -> Fates:
    """What becomes of a packet sent at each instant. frames: one by packet; then queues and classes are the scenario's.

    Without frames, packets are small, and no queue is ever full.
    """
    options = replace(link_options(scenario, direction, 100 * NS_PER_MS), ledger_events=1 << 17)
    if frames is None:
        options = replace(options, lanes=(), rules=(), queue_packets=5000)
        options = replace(options, memory_bytes=1 << 23, flight_packets=1 << 14)
    channels = [getattr(timeline, direction) for timeline in plan]
    link = Link(
        channels[0], plan[0].end_ns, seed=scenario.seed, direction=int(direction == "downlink"), options=options
    )
    due, cause = np.full(len(sent_ns) + 1, -1, np.int64), np.zeros(len(sent_ns) + 1, np.int64)
    of_packet = [FRAME] * len(sent_ns) if frames is None else frames
    different = dict.fromkeys(of_packet, 0)
    data = np.frombuffer(b"".join(different), np.uint8)
    place = 0
    for frame in different:
        different[frame], place = place, place + len(frame)
    places = np.array([different[frame] for frame in of_packet], np.int64)
    lengths = np.array([len(frame) for frame in of_packet], np.int64)
    entry, read = np.zeros(state.SUPER_COLUMNS, np.int64), 0

    def look() -> None:
        nonlocal read
        tail = int(link.state.reg[state.LEDGER_TAIL])
        rows = link.state.ledger[np.arange(read, tail) % (1 << 17)]
        read = tail
        cause[rows[:, state.L_NUMBER]] = rows[:, state.L_CAUSE]
        passed = rows[rows[:, state.L_CAUSE] == 0]
        due[passed[:, state.L_NUMBER]] = passed[:, state.L_AT]

    for number, timeline in enumerate(plan):
        if number + 1 < len(plan):
            link.extend(channels[number + 1], plan[number + 1].end_ns, timeline.start_ns)
        first, last = np.searchsorted(sent_ns, [timeline.start_ns, timeline.end_ns])
        for begin in range(first, last, BATCH):
            part = slice(begin, min(begin + BATCH, last))
            offer_all(link.state, data, places[part], lengths[part], sent_ns[part], entry)
            look()
        settle(link.state, timeline.end_ns)
        look()
    return Fates(due[1:], cause[1:])
