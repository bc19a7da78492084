"""A bench without a link, with the methods that control asks for: what it was told is in its lists."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from emulator.control.commands import Direction
from emulator.errors import EmulationError
from emulator.scenario.model import OverlayEvent
from emulator.timeline.causes import Cause, Gate

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


class SmallBench:
    """`gate` closed makes `state` wait, as a bench in trouble would."""

    def __init__(self) -> None:
        self.terminal = SmallSide("198.18.0.2", "2001:2::2")
        self.datacenter = SmallSide("198.18.0.1", "2001:2::1")
        self.injected: list[tuple[Direction, bytes]] = []
        self.events: list[OverlayEvent] = []
        self.failing = False
        self.network = SmallNetwork()
        self.gate = threading.Event()
        self.gate.set()

    def utc_ns(self) -> int:
        return UTC_NS

    def utc_of_monotonic_ns(self, monotonic_ns: int) -> int:
        return UTC_NS + monotonic_ns

    def state(self) -> SmallState:
        self.gate.wait(60)
        return SmallState(UTC_NS, "STARLINK-1234", None, SmallChannel(20_000_000, Gate.HOLD))

    def counters(self) -> SmallCounters:
        if self.failing:
            raise ZeroDivisionError("a defect")
        return SmallCounters(2**62, {Cause.QUEUE: 3, Cause.LOSS: 0})

    def apply(self, event: OverlayEvent) -> int:
        self.events.append(event)
        return 1000

    def inject(self, direction: Direction, packet: bytes) -> None:
        if self.failing:
            raise EmulationError("the packet loop has ended")
        self.injected.append((direction, packet))
