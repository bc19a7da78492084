"""The kinds of firmware that there are, by the name that a person types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from emulator.errors import EndpointError
from emulator.terminal import TerminalState

StateAt = Callable[[int], TerminalState]


class Stub(Protocol):
    """Firmware without its line. Times are ns of simulated UTC, and arguments."""

    def receive(self, data: bytes, now_ns: int) -> None:
        """Takes bytes that a client wrote. Never raises over what is in them, keeps a bounded part of them."""

    def poll(self, now_ns: int) -> bytes:
        """What the firmware says up to `now_ns`, a bounded amount."""

    def next_event_ns(self) -> int | None:
        """When `poll` next has something to say: None means not before something was received."""


@dataclass(frozen=True, slots=True)
class StubKind:
    """A kind of firmware: its maker, and the baud rate that the hardware is delivered with."""

    name: str
    summary: str
    baud: int
    make: Callable[[StateAt, int], Stub]


def _nmea(state_at: StateAt, now_ns: int) -> Stub:
    from firmware_stubs.nmea import NmeaReceiver

    return NmeaReceiver(state_at, now_ns)


KINDS: dict[str, StubKind] = {
    kind.name: kind for kind in (StubKind("nmea", "GNSS receiver: NMEA 0183 sentences at 1 Hz", 9600, _nmea),)
}


def find(name: str) -> StubKind:
    """The kind called `name`. Raises EndpointError naming those that there are."""
    if name not in KINDS:
        raise EndpointError(f"stub: expected one of {', '.join(KINDS)}, got {name!r}")
    return KINDS[name]
