"""Replay: a capture sent through the link in virtual time, as the same packets would have fared live.

Each packet of the capture is offered at its own stamp; what became of it is read from the link's ledger. Nothing here
reads a clock: the same capture, scenario and seed give the same file, byte for byte.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from emulator.errors import EndpointError
from emulator.link import state
from emulator.link.compiled import compiled_apart, compiling
from emulator.link.ledger import note
from emulator.link.link import Change, DirectionCounters, Link, LinkOptions, delay_line, power_of_two
from emulator.link.path import depart, due_run, next_event, offer, refuse_frame
from emulator.link.state import F_HEAD, F_TAIL, OFFERED_PACKETS, QUEUED, Bytes, Ints, LinkState
from emulator.link.store import VNET_BYTES, reserve
from emulator.ports.assembly import LEDGER_EVENTS, Direction, link_options
from emulator.ports.relay import in_cache
from emulator.scenario.model import LONGEST_S, Scenario
from emulator.taps.arrivals import Address, Arrival, Arrivals
from emulator.taps.pcapng import ETHERNET, LAST_UTC_NS, RAW, PcapngWriter, bench_start
from emulator.taps.scripted import of_direction, scripted
from emulator.timeline.causes import Cause
from emulator.timeline.model import Timeline, Windows
from emulator.units import NS_PER_MS, NS_PER_S

DIRECTIONS: tuple[Direction, Direction] = ("uplink", "downlink")
BATCH_PACKETS = 1024
BATCH_NS = NS_PER_S // 10
WINDOW_NS = 60 * NS_PER_S
AHEAD_NS = 60 * NS_PER_S  # Timeline beyond the last arrival: a packet's service may come long after it
LONGEST_STAY_NS = 3600 * NS_PER_S  # after the last arrival; what has not come out by then is still held
LONGEST_NS = round(LONGEST_S) * NS_PER_S  # from the first arrival to the last
LAST_ARRIVAL_NS = LAST_UTC_NS - 2 * LONGEST_STAY_NS  # so that what comes out can be read again
FOR_EVER_NS = LAST_UTC_NS + 366 * 86_400 * NS_PER_S  # the end of a Timeline on which nothing ever changes
CLOCK_NS = 366 * 86_400 * NS_PER_S  # the packets' clock at the first arrival: none before it was close
MEMORY = int(Cause.MEMORY)


@dataclass(frozen=True)
class ReplayCounters:
    """What a replay did. skipped: frames of the capture without an IP packet in them.

    cut: packets that the capture does not have whole. notes: where it is not what a live bench would have done, and
    why, a line each.
    """

    uplink: DirectionCounters
    downlink: DirectionCounters
    skipped: int
    first_utc_ns: int
    last_utc_ns: int
    cut: int = 0
    notes: tuple[str, ...] = ()


@compiled_apart
def settle(link: LinkState, now: int) -> None:
    """Delivers all that is due at `now`.

    What waits goes on the air at once where there is room for all of it, each packet twice. Otherwise event by event,
    as in real time: no more is on the air at once than the link's delay has there.
    """
    reg = link.reg
    while reg[F_TAIL] - reg[F_HEAD] + 2 * reg[QUEUED] > len(link.flight):
        at = next_event(link)
        if at > now:
            return
        while due_run(link, at, 0):
            depart(link)
    while due_run(link, now, 0):
        depart(link)


@compiled_apart
def offer_all(link: LinkState, data: Bytes, places: Ints, lengths: Ints, arrivals: Ints, entry: Ints) -> None:
    """Offers frames at `places` of `data` at their arrivals, delivering what is due in between."""
    for index in range(len(places)):
        settle(link, arrivals[index])
        length = lengths[index]
        offset = reserve(link, length)
        if offset < 0:
            refuse_frame(link, data, places[index], length, entry, MEMORY)
            note(link, link.reg[OFFERED_PACKETS], MEMORY, arrivals[index])
            continue
        for at in range(length):
            link.ring[offset + at] = data[places[index] + at]
        offer(link, arrivals[index], offset, length)


def is_compiled() -> bool:
    """Whether what virtual time takes is in the cache; if not, `warm_up` takes some 15 s."""
    return in_cache(offer_all) and in_cache(settle)


def warm_up() -> None:
    """Compiles what virtual time takes, or takes it from the cache; Ctrl-C ends that, too."""
    link, nothing, entry = delay_line(LinkOptions()), np.zeros(0, np.int64), np.zeros(state.SUPER_COLUMNS, np.int64)
    with compiling():
        offer_all(link.state, np.zeros(0, np.uint8), nothing, nothing, nothing, entry)
        settle(link.state, 0)


class _Lane:
    """One direction of the replay: its link, what waits to be offered, and what is under way by its number.

    offset_ns: UTC less the packets' clock, which must not count 146 years.
    """

    def __init__(
        self,
        scenario: Scenario,
        number: int,
        timeline: Timeline,
        changes: Sequence[Change],
        *,
        offset_ns: int,
        ethernet: bool,
    ) -> None:
        direction = DIRECTIONS[number]
        channel = getattr(timeline, direction)
        options = link_options(scenario, direction, int(channel.delay_ns.max()))
        stored = min(sum(lane.queue_packets for lane in options.lanes), options.memory_bytes >> 8)
        options = replace(
            options,
            ethernet=ethernet,
            longest_packet=scenario.ports.mtu if scenario.ports.kind == "nic" else 0,
            # between two readings all that waits may go out, each packet twice
            ledger_events=max(LEDGER_EVENTS, power_of_two(2 * (stored + BATCH_PACKETS))),
        )
        self.link = Link(
            channel,
            timeline.end_ns,
            seed=scenario.seed,
            direction=number,
            options=options,
            utc_offset_ns=offset_ns,
        )
        self.link.overlay(changes)
        self._offset_ns = offset_ns
        self._entry = np.zeros(state.SUPER_COLUMNS, np.int64)
        self._waiting: list[Arrival] = []
        self._under_way: dict[int, Arrival] = {}
        self._offered = self._unseen = 0
        self._read = 0

    @property
    def holds(self) -> bool:
        """Whether anything is inside of the link."""
        return bool(self.link.counters().held_packets)

    def add(self, arrival: Arrival) -> None:
        if arrival.number > 0 and not self._under_way and not self._waiting and not self._offered:
            # the bench had carried others before the capture began: losses are drawn by a packet's number
            self._offered = self._unseen = arrival.number - 1
            self.link.state.reg[OFFERED_PACKETS] = self._unseen
        self._waiting.append(arrival)

    def carry(self) -> None:
        """Offers what waits."""
        if not self._waiting:
            return
        frames = [bytes(VNET_BYTES) + arrival.offered for arrival in self._waiting]
        lengths = np.array([len(frame) for frame in frames], np.int64)
        data = np.frombuffer(bytearray(b"".join(frames)), np.uint8)
        places = np.cumsum(lengths) - lengths
        arrivals = np.array([arrival.utc_ns - self._offset_ns for arrival in self._waiting], np.int64)
        offer_all(self.link.state, data, places, lengths, arrivals, self._entry)
        for item in self._waiting:
            self._offered += 1
            self._under_way[self._offered] = item
        self._waiting.clear()

    def settle(self, until_ns: int) -> None:
        """Delivers all that is due by then, UTC."""
        settle(self.link.state, until_ns - self._offset_ns)

    def fates(self) -> Iterator[tuple[int, int, Arrival]]:
        """What the ledger has noted since the last call: (UTC ns, cause, arrival)."""
        tail = int(self.link.state.reg[state.LEDGER_TAIL])
        ledger = self.link.state.ledger
        rows = ledger[np.arange(self._read, tail) % len(ledger)].tolist()
        self._read = tail
        for number, cause, at, _ in rows:
            # the double of a packet is noted before the packet itself
            arrival = self._under_way[number] if cause == state.COPY else self._under_way.pop(number)
            yield at + self._offset_ns, cause, arrival

    def counters(self) -> DirectionCounters:
        """Those of the packets that were offered here."""
        counted = self.link.counters()
        return replace(counted, offered_packets=counted.offered_packets - self._unseen)

    def queued(self) -> list[Arrival]:
        """Those whose fate is not known."""
        return list(self._under_way.values())


class _Plan:
    """The Timeline of a replay, window by window; windows through which nothing travels are left out.

    What is left out changes nothing: the windows that are made are those of a plan without gaps.
    """

    def __init__(self, windows: Windows, start_ns: int) -> None:
        self._windows = windows
        self.timeline = windows.window(start_ns, FOR_EVER_NS if windows.constant else start_ns + WINDOW_NS)

    def next(self, beyond_ns: int) -> Timeline:
        """The window after the last one; or that which holds `beyond_ns`, if that is later."""
        start_ns = self.timeline.end_ns
        start_ns += max(0, beyond_ns - start_ns) // WINDOW_NS * WINDOW_NS
        self.timeline = self._windows.window(start_ns, start_ns + WINDOW_NS)
        return self.timeline


class _Replay:
    """Both lanes, their plan, and the file."""

    def __init__(self, lanes: list[_Lane], plan: _Plan, writer: PcapngWriter, tell: Callable[[int], None]) -> None:
        self._lanes, self._plan, self._writer, self._tell = lanes, plan, writer, tell
        self._outcomes: list[tuple[int, int, int, int, Arrival]] = []
        self._sequence = 0

    @property
    def holds(self) -> bool:
        return any(lane.holds for lane in self._lanes)

    def carry(self, arrived_ns: int, until_ns: int) -> None:
        """Offers what waits, the last of it come at `arrived_ns`, and goes on to `until_ns`: nothing comes until then.

        Step by step where it is far, for what is under way needs the link of its time, and no more rows than there are.
        """
        self._plan_to(arrived_ns + AHEAD_NS, arrived_ns)
        for lane in self._lanes:
            lane.carry()
        reached_ns = min(until_ns, arrived_ns)
        while True:
            reached_ns = max(reached_ns, min(until_ns, self._plan.timeline.end_ns - AHEAD_NS))
            for number, lane in enumerate(self._lanes):
                lane.settle(reached_ns)
                for at, cause, arrival in lane.fates():
                    self._sequence += 1
                    heapq.heappush(self._outcomes, (at, number, self._sequence, cause, arrival))
            self._write(reached_ns)
            self._tell(reached_ns)
            if reached_ns == until_ns:
                return
            self._extend(reached_ns if self.holds else until_ns, reached_ns)

    def _plan_to(self, end_ns: int, now_ns: int) -> None:
        while self._plan.timeline.end_ns < end_ns:
            self._extend(now_ns, now_ns)

    def _extend(self, beyond_ns: int, now_ns: int) -> None:
        timeline = self._plan.next(beyond_ns)
        for lane, direction in zip(self._lanes, DIRECTIONS, strict=True):
            lane.link.extend(getattr(timeline, direction), timeline.end_ns, now_ns)

    def _write(self, until_ns: int) -> None:
        while self._outcomes and self._outcomes[0][0] <= until_ns:
            at, number, _, cause, arrival = heapq.heappop(self._outcomes)
            self._put(number, at, arrival, _comment(DIRECTIONS[number], cause, at - arrival.utc_ns))

    def finish(self, end_ns: int) -> None:
        """Writes what is still inside of the link at `end_ns`, and the drops that are known already."""
        held: list[tuple[int, int, int, Arrival, int]] = []
        late = []
        for outcome in self._outcomes:
            _, number, sequence, cause, arrival = outcome
            if cause > 0:
                late.append(outcome)
            else:
                held.append((arrival.utc_ns, number, sequence, arrival, cause))
        for number, lane in enumerate(self._lanes):
            for arrival in lane.queued():
                self._sequence += 1
                held.append((arrival.utc_ns, number, self._sequence, arrival, 0))
        for utc_ns, number, _, arrival, cause in sorted(held, key=lambda one: one[:3]):
            self._put(number, end_ns, arrival, _held(DIRECTIONS[number], cause, end_ns - utc_ns))
        self._outcomes = sorted(late)
        self._write(late[-1][0] if late else end_ns)

    def _put(self, number: int, at_ns: int, arrival: Arrival, comment: str) -> None:
        whole = max(len(arrival.offered), len(arrival.captured))
        self._writer.write(number, at_ns, arrival.captured, comment, whole)


def replay(
    scenario: Scenario,
    windows: Windows,
    source: Path,
    target: BinaryIO,
    *,
    start_utc_ns: int | None = None,
    began_utc_ns: int | None = None,
    terminals: Sequence[Address] = (),
    tell: Callable[[int], None] = lambda utc_ns: None,
) -> ReplayCounters:
    """Sends the capture `source` through the link and writes what became of each packet, as pcapng, to `target`.

    A delivered packet has the stamp at which it came out and a comment with its delay; a dropped one the stamp of its
    drop and the cause; what is still inside of the link LONGEST_STAY_NS after the last arrival, the stamp of that
    moment, and for how long. So there are as many of each kind as the counters say.
    terminals: addresses at the terminal's side; what comes from them goes up, all else comes down; default: the source
    of the first packet. A capture of a bench says itself which way a packet went. start_utc_ns: the first packet is
    moved to this UTC, and the others with it; default: the capture's own stamps. began_utc_ns: when the bench began, by
    the capture's stamps: overlay and script count from then; default: as the capture of a bench says, otherwise its
    first packet. tell: is told how far it is, UTC ns.
    Over TAP devices and network cards the link carries Ethernet frames, where the capture has them. Frames that go back
    in time are held at the latest so far.
    Raises EndpointError for a file that is no capture, has no IP packet in it, or spans more than LONGEST_NS.
    """
    arrivals = Arrivals(source, terminals=terminals, ethernet=scenario.ports.kind != "tun")
    coming = iter(arrivals)
    first = next(coming)
    shift_ns = 0 if start_utc_ns is None else start_utc_ns - first.utc_ns
    start_ns = first.utc_ns + shift_ns
    told_ns = bench_start(source)
    zero_ns = next(at_ns for at_ns in (began_utc_ns, told_ns, first.utc_ns) if at_ns is not None) + shift_ns
    changes = scripted(scenario, windows, zero_ns, holds_injected=told_ns is not None)
    plan = _Plan(windows, start_ns - start_ns % NS_PER_S)
    offset_ns = start_ns - CLOCK_NS
    lanes = [
        _Lane(
            scenario,
            number,
            plan.timeline,
            of_direction(changes, direction, offset_ns),
            offset_ns=offset_ns,
            ethernet=arrivals.ethernet,
        )
        for number, direction in enumerate(DIRECTIONS)
    ]
    writer = PcapngWriter(target, DIRECTIONS, ETHERNET if arrivals.ethernet else RAW)
    run = _Replay(lanes, plan, writer, tell)
    at_ns, flushed_ns, waiting = start_ns, start_ns, 0
    arrival: Arrival | None = first
    while arrival is not None:
        before_ns, at_ns = at_ns, max(at_ns, arrival.utc_ns + shift_ns)
        if at_ns - start_ns > LONGEST_NS or at_ns > LAST_ARRIVAL_NS:
            raise EndpointError(f"{source}: expected packets within a century and before 2251, got one at {at_ns} ns")
        if waiting >= BATCH_PACKETS or at_ns - flushed_ns >= BATCH_NS:
            run.carry(before_ns, at_ns - 1)  # nothing earlier than this packet can come any more
            flushed_ns, waiting = at_ns, 0
        lanes[arrival.way].add(arrival._replace(utc_ns=at_ns))
        waiting += 1
        arrival = next(coming, None)
    end_ns = at_ns
    run.carry(at_ns, end_ns)
    while end_ns < at_ns + LONGEST_STAY_NS and run.holds:
        end_ns += WINDOW_NS
        run.carry(at_ns, end_ns)
    run.finish(end_ns)
    notes = [*_notes(scenario, source, arrivals), *changes.left_out]
    return ReplayCounters(
        lanes[0].counters(),
        lanes[1].counters(),
        arrivals.skipped,
        start_ns,
        at_ns,
        arrivals.cut,
        tuple(notes),
    )


def _notes(scenario: Scenario, source: Path, arrivals: Arrivals) -> Iterator[str]:
    kind = scenario.ports.kind
    if kind != "tun" and not arrivals.ethernet:
        yield (
            f"{source}: it has no Ethernet frames: what a bench of ports.kind {kind!r} carries beside IP is missing, "
            "and what is drawn by a packet's number is another draw"
        )
    if unheard := ", ".join(map(str, arrivals.unheard)):
        yield f"{source}: it has no packet from {unheard}: what is not from the terminal's side goes down"
    if arrivals.ends_early:
        yield f"{source}: it ends in the middle of a packet, which is left out"
    if arrivals.cut:
        yield (
            f"{source}: {arrivals.cut} of its packets were cut when they were captured: zeros stand for what is missing"
        )


def _comment(direction: Direction, cause: int, stay_ns: int) -> str:
    if cause > 0:
        return f"{direction}, dropped: {Cause(cause).name.lower()}"
    return f"{direction}, delivered{_twice(cause)} after {_milliseconds(stay_ns)}"


def _held(direction: Direction, cause: int, stay_ns: int) -> str:
    return f"{direction}, still held{_twice(cause)} after {_milliseconds(stay_ns)}"


def _twice(cause: int) -> str:
    return " a second time" if cause == state.COPY else ""


def _milliseconds(stay_ns: int) -> str:
    whole, rest = divmod(stay_ns, NS_PER_MS)
    return f"{whole}.{rest:06d} ms"
