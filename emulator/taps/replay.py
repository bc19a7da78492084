"""Replay: a capture sent through the link in virtual time, as the same packets would have fared live.

Each packet of the capture is offered at its own stamp; what became of it is read from the link's ledger. Nothing here
reads a clock: the same capture, scenario and seed give the same file, byte for byte.
"""

from __future__ import annotations

import heapq
import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from emulator.errors import EndpointError
from emulator.link import state
from emulator.link.compiled import compiled_apart
from emulator.link.ledger import note
from emulator.link.link import DirectionCounters, Link
from emulator.link.path import advance, depart, due_run, offer, refuse_frame
from emulator.link.state import OFFERED_PACKETS, Bytes, Ints, LinkState
from emulator.link.store import VNET_BYTES, reserve
from emulator.ports.assembly import Direction, change_of, link_options
from emulator.scenario.model import Scenario
from emulator.taps.pcapng import Frame, PcapngWriter, read_capture
from emulator.timeline.causes import Cause
from emulator.timeline.model import Timeline, Windows
from emulator.units import NS_PER_MS, NS_PER_S

DIRECTIONS: tuple[Direction, Direction] = ("uplink", "downlink")
BATCH_PACKETS = 1024
BATCH_NS = NS_PER_S // 10
WINDOW_NS = 60 * NS_PER_S
AHEAD_NS = 60 * NS_PER_S  # Timeline beyond the last arrival: a packet's service may come long after it
LONGEST_STAY_NS = 600 * NS_PER_S  # after the last arrival; what has not come out by then is still held
ORDER_NS, ORDER_FRAMES = 5 * NS_PER_S, 1 << 17
MEMORY = int(Cause.MEMORY)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class ReplayCounters:
    """What a replay did. skipped: frames of the capture without an IP packet in them."""

    uplink: DirectionCounters
    downlink: DirectionCounters
    skipped: int
    first_utc_ns: int
    last_utc_ns: int


@compiled_apart
def offer_all(link: LinkState, data: Bytes, places: Ints, lengths: Ints, arrivals: Ints, entry: Ints) -> None:
    """Offers frames at `places` of `data` at their arrivals, delivering what is due in between."""
    for index in range(len(places)):
        while due_run(link, arrivals[index], 0):
            depart(link)
        length = lengths[index]
        offset = reserve(link, length)
        if offset < 0:
            refuse_frame(link, data, places[index], length, entry, MEMORY)
            note(link, link.reg[OFFERED_PACKETS], MEMORY, arrivals[index])
            continue
        for at in range(length):
            link.ring[offset + at] = data[places[index] + at]
        offer(link, arrivals[index], offset, length)


@compiled_apart
def settle(link: LinkState, now: int) -> None:
    """Delivers all that is due at `now`."""
    advance(link, now)
    while due_run(link, now, 0):
        depart(link)


class _Lane:
    """One direction of the replay: its link, what waits to be offered, and what is under way by its number."""

    def __init__(self, scenario: Scenario, number: int, timeline: Timeline, start_ns: int) -> None:
        direction = DIRECTIONS[number]
        channel = getattr(timeline, direction)
        options = link_options(scenario, direction, int(channel.delay_ns.max()))
        self.link = Link(
            channel,
            timeline.end_ns,
            seed=scenario.seed,
            direction=number,
            options=options,
        )
        events = [event for event in scenario.overlay if event.direction in ("both", direction)]
        self.link.overlay([change_of(event, start_ns) for event in events])
        self._entry = np.zeros(state.SUPER_COLUMNS, np.int64)
        self._waiting: list[tuple[int, bytes]] = []
        self._under_way: dict[int, tuple[int, bytes]] = {}
        self._offered = 0
        self._read = 0

    def add(self, utc_ns: int, packet: bytes) -> None:
        self._waiting.append((utc_ns, packet))

    def carry(self) -> None:
        """Offers what waits."""
        if not self._waiting:
            return
        frames = [bytes(VNET_BYTES) + packet for _, packet in self._waiting]
        lengths = np.array([len(frame) for frame in frames], np.int64)
        data = np.frombuffer(bytearray(b"".join(frames)), np.uint8)
        places = np.cumsum(lengths) - lengths
        arrivals = np.array([at for at, _ in self._waiting], np.int64)
        offer_all(self.link.state, data, places, lengths, arrivals, self._entry)
        for item in self._waiting:
            self._offered += 1
            self._under_way[self._offered] = item
        self._waiting.clear()

    def fates(self) -> Iterator[tuple[int, int, int, bytes]]:
        """What the ledger has noted since the last call: (at, cause, arrival, packet)."""
        tail = int(self.link.state.reg[state.LEDGER_TAIL])
        ledger = self.link.state.ledger
        rows = ledger[np.arange(self._read, tail) % len(ledger)].tolist()
        self._read = tail
        for number, cause, at, _ in rows:
            # the double of a packet is noted before the packet itself
            arrival, packet = self._under_way[number] if cause == state.COPY else self._under_way.pop(number)
            yield at, cause, arrival, packet


def replay(
    scenario: Scenario,
    windows: Windows,
    source: Path,
    target: BinaryIO,
    *,
    start_utc_ns: int | None = None,
    terminals: Sequence[Address] = (),
) -> ReplayCounters:
    """Sends the capture `source` through the link and writes what became of each packet, as pcapng, to `target`.

    A delivered packet has the stamp at which it came out and a comment with its delay; a dropped one the stamp of its
    drop and the cause. terminals: addresses at the terminal's side; what comes from them goes up, all else comes down;
    default: the source of the first packet. start_utc_ns: the first packet is moved to this UTC, and the others with
    it; default: the capture's own stamps. Frames are put into the order of their stamps (see `_in_order`); those that
    go back all the same are held at the latest so far.
    Raises EndpointError for a file that is no capture or has no IP packet in it.
    """
    frames = _in_order(read_capture(source))
    skipped = 0
    first: Frame | None = None
    for frame in frames:
        if frame.packet is not None:
            first = frame
            break
        skipped += 1
    if first is None or first.packet is None:
        raise EndpointError(f"{source}: expected a capture with IP packets, found none")
    upward = {address.packed for address in terminals} or {_source(first.packet)}
    shift_ns = 0 if start_utc_ns is None else start_utc_ns - first.utc_ns
    start_ns = first.utc_ns + shift_ns
    window_start_ns = start_ns - start_ns % NS_PER_S
    plan = windows.consecutive(window_start_ns, WINDOW_NS)
    timeline = next(plan)
    lanes = [_Lane(scenario, number, timeline, start_ns) for number in range(2)]
    writer = PcapngWriter(target, DIRECTIONS)
    outcomes: list[tuple[int, int, int, int, int, bytes]] = []
    sequence = 0

    def flush(until_ns: int) -> None:
        nonlocal sequence, timeline
        while timeline.end_ns < until_ns + AHEAD_NS:
            timeline = next(plan)
            for lane, direction in zip(lanes, DIRECTIONS, strict=True):
                lane.link.extend(getattr(timeline, direction), timeline.end_ns, until_ns)
        for number, lane in enumerate(lanes):
            lane.carry()
            settle(lane.link.state, until_ns)
            for at, cause, arrival, packet in lane.fates():
                sequence += 1
                heapq.heappush(outcomes, (at, number, sequence, cause, arrival, packet))
        write_out(until_ns)

    def write_out(until_ns: int) -> None:
        while outcomes and outcomes[0][0] <= until_ns:
            at, number, _, cause, arrival, packet = heapq.heappop(outcomes)
            writer.write(number, at, packet, _comment(DIRECTIONS[number], cause, at - arrival))

    at_ns, flushed_ns, waiting = start_ns, start_ns, 0
    for frame in _chain(first, frames):
        if frame.packet is None:
            skipped += 1
            continue
        at_ns = max(at_ns, frame.utc_ns + shift_ns)
        if waiting >= BATCH_PACKETS or at_ns - flushed_ns >= BATCH_NS:
            flush(at_ns - 1)  # nothing earlier than this packet can come any more
            flushed_ns, waiting = at_ns, 0
        lanes[_source(frame.packet) not in upward].add(at_ns, frame.packet)
        waiting += 1
    end_ns = at_ns
    flush(end_ns)
    while end_ns < at_ns + LONGEST_STAY_NS and any(lane.link.counters().held_packets for lane in lanes):
        end_ns += WINDOW_NS
        flush(end_ns)
    write_out(end_ns + LONGEST_STAY_NS)  # the fate of the last packets may lie beyond the last look
    return ReplayCounters(lanes[0].link.counters(), lanes[1].link.counters(), skipped, start_ns, at_ns)


def _in_order(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Frames by their stamps and numbers, of a file that has some earlier ones behind later ones.

    A capture of a bench has them in the order in which their fates were known. What comes later than ORDER_NS, or
    behind ORDER_FRAMES others, stays where it is.
    """
    waiting: list[tuple[int, int, int, Frame]] = []
    newest_ns = 0
    for place, frame in enumerate(frames):
        heapq.heappush(waiting, (frame.utc_ns, frame.number, place, frame))
        newest_ns = max(newest_ns, frame.utc_ns)
        while waiting[0][0] < newest_ns - ORDER_NS or len(waiting) > ORDER_FRAMES:
            yield heapq.heappop(waiting)[3]
    while waiting:
        yield heapq.heappop(waiting)[3]


def _chain(first: Frame, rest: Iterator[Frame]) -> Iterator[Frame]:
    yield first
    yield from rest


def _source(packet: bytes) -> bytes:
    """The source address of an IP packet, packed."""
    return packet[12:16] if packet[0] >> 4 == 4 else packet[8:24]


def _comment(direction: Direction, cause: int, stay_ns: int) -> str:
    if cause > 0:
        return f"{direction}, dropped: {Cause(cause).name.lower()}"
    whole, rest = divmod(stay_ns, NS_PER_MS)
    twice = " a second time" if cause == state.COPY else ""
    return f"{direction}, delivered{twice} after {whole}.{rest:06d} ms"
