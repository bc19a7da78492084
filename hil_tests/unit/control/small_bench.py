"""A bench without a link, with the methods that control asks for: what it was told is in its lists."""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from emulator.bench.clock import WorldClock
from emulator.bench.course import Course
from emulator.bench.eventlog import Event, EventLog
from emulator.bench.operator import Operator
from emulator.bench.overlay import Overlay
from emulator.bench.planner import Planner
from emulator.control.model import Direction
from emulator.errors import EmulationError
from emulator.link.link import Link, LinkOptions
from emulator.scenario import load_scenario
from emulator.scenario.links import FixedLink
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.fixed import FixedWindows
from emulator.timeline.model import Windows

DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
UTC_NS = 1_748_560_887_123_456_789


@dataclass(frozen=True)
class SmallSide:
    ipv4: str
    ipv6: str


@dataclass(frozen=True)
class SmallChannel:
    delay_ns: int
    gate: Gate


@dataclass(frozen=True)
class SmallState:
    utc_ns: int
    satellite: str
    next_handover_ns: int | None
    uplink: SmallChannel


@dataclass(frozen=True)
class SmallCounters:
    offered_packets: int
    dropped: dict[Cause, int]

    @property
    def dropped_packets(self) -> int:
        return sum(self.dropped.values())


class SmallNetwork:
    """What stands around a link that is not there: answers with what it was asked."""

    def do(self, verb: str, **values: object) -> dict[str, object]:
        return {"verb": verb, **values}


class Machinery:
    """Two links that nothing crosses, and an operator for them."""

    def __init__(self) -> None:
        self.clock = WorldClock(UTC_NS)
        self.planner = Planner(FixedWindows(FixedLink(delay_ms=20)), UTC_NS)
        self.links: dict[Direction, Link] = {}
        options = LinkOptions(memory_bytes=1 << 12, flight_packets=16, queue_packets=100)
        for way, direction in enumerate(DIRECTIONS):
            first = self.planner.first
            channel = getattr(first, direction)
            self.links[direction] = Link(
                channel, first.end_ns, seed=1, direction=way, options=options, utc_offset_ns=self.clock.offset_ns
            )
        self.stopping = threading.Event()
        overlay = Overlay(self.links["uplink"], self.links["downlink"])
        with tempfile.TemporaryDirectory() as place:
            self.log = EventLog(self.clock, Path(place))
        self.log.close()
        self.told: list[Event] = []
        self.log.listen(self.told.append)
        course = Course(self.clock, self.planner, self.links, lambda changes: None, self.stopping)
        scenario = load_scenario("fixed")
        self.operator = Operator(scenario, self.clock, course, overlay, self.links, self.log, self.stopping)

    def commands(self) -> list[Event]:
        """What the log has of commands."""
        return [event for event in self.told if event.kind == "command"]


class SmallBench:
    """`gate` closed makes `state` wait, as a bench in trouble would."""

    def __init__(self) -> None:
        self.terminal = SmallSide("198.18.0.2", "2001:2::2")
        self.datacenter = SmallSide("198.18.0.1", "2001:2::1")
        self.injected: list[tuple[Direction, bytes]] = []
        self._machinery: Machinery | None = None
        self.failing = False
        self.network = SmallNetwork()
        self.gate = threading.Event()
        self.gate.set()

    @property
    def machinery(self) -> Machinery:
        """What acts on the links; made when it is first asked for."""
        if self._machinery is None:
            self._machinery = Machinery()
        return self._machinery

    @property
    def touched(self) -> bool:
        told = self._machinery.commands() if self._machinery is not None else []
        return bool(self.injected) or any(event.data["phase"] != "refused" for event in told)

    @property
    def operator(self) -> Operator:
        return self.machinery.operator

    @property
    def events(self) -> EventLog:
        return self.machinery.log

    @property
    def windows(self) -> Windows:
        return self.machinery.planner.windows

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def utc_ns(self) -> int:
        return UTC_NS

    def state(self) -> SmallState:
        self.gate.wait(60)
        return SmallState(UTC_NS, "STARLINK-1234", None, SmallChannel(20_000_000, Gate.HOLD))

    def counters(self) -> SmallCounters:
        if self.failing:
            raise ZeroDivisionError("a defect")
        return SmallCounters(2**62, {Cause.QUEUE: 3, Cause.LOSS: 0})

    def inject(self, direction: Direction, packet: bytes, place: str = "before") -> None:
        if self.failing:
            raise EmulationError("the packet loop has ended")
        self.injected.append((direction, packet))
