"""The overlay of a running bench: timed changes on top of the Timeline, for one direction or both."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from emulator.link.link import Change, Link
from emulator.link.state import OVERLAY_ROWS
from emulator.ports.assembly import change_of
from emulator.scenario.model import OverlayEvent
from emulator.units import NS_PER_MS

LEAD_NS = 5 * NS_PER_MS  # a change of "now" begins this much later, so that it is in force before its own beginning


class Overlay:
    """The changes in force and to come. Past ones are kept as long as there is room: who asks later sees them."""

    def __init__(self, uplink: Link, downlink: Link) -> None:
        self._links = {"uplink": uplink, "downlink": downlink}
        self._changes: dict[str, list[Change]] = {"uplink": [], "downlink": []}
        self._changing = threading.Lock()

    def add(self, events: Iterable[OverlayEvent], zero_ns: int) -> None:
        """Adds events whose times count from `zero_ns` (monotonic). Raises ValueError if too many are still to come."""
        with self._changing:
            touched = set()
            for event in events:
                for direction in self._links if event.direction == "both" else (event.direction,):
                    self._changes[direction].append(change_of(event, zero_ns))
                    touched.add(direction)
            for direction in touched:
                changes = sorted(self._changes[direction], key=lambda change: change.end_ns)
                while len(changes) > OVERLAY_ROWS and changes[0].end_ns < zero_ns:
                    changes.pop(0)
                self._links[direction].overlay(changes)
                self._changes[direction] = changes
