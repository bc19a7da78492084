"""The overlay of a running bench: timed changes on top of the Timeline, for one direction or both."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from emulator.errors import EmulationError
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
        self._owned: dict[tuple[str, str], list[Change]] = {}  # by owner and direction: what is in force or to come
        self._changing = threading.Lock()

    def add(self, events: Iterable[OverlayEvent], zero_ns: int) -> None:
        """Adds events whose times count from `zero_ns` (monotonic).

        Raises EmulationError if too many are still to come; then none is added.
        """
        with self._changing:
            added: dict[str, list[Change]] = {}
            for event in events:
                for direction in self._links if event.direction == "both" else (event.direction,):
                    added.setdefault(direction, []).append(change_of(event, zero_ns))
            together = {direction: self._with(direction, changes, zero_ns) for direction, changes in added.items()}
            for direction, changes in together.items():
                self._links[direction].overlay(changes)
                self._changes[direction] = changes

    def put(self, owner: str, events: Iterable[OverlayEvent], zero_ns: int) -> None:
        """Adds events in place of what `owner` has put before: what of that is in force ends at `zero_ns`.

        Without events that is all. Raises EmulationError as `add` does; then nothing is changed.
        """
        events = list(events)
        self.put_changes(
            owner,
            {
                direction: [change_of(event, zero_ns) for event in events if event.direction in ("both", direction)]
                for direction in self._links
            },
            zero_ns,
        )

    def put_changes(self, owner: str, changes: Mapping[str, Sequence[Change]], zero_ns: int) -> None:
        """The same by direction, with times of the packets' clock; what was put before ends at `zero_ns`."""
        with self._changing:
            together: dict[str, tuple[list[Change], list[Change]]] = {}
            for direction, there in self._changes.items():
                before = {id(change) for change in self._owned.get((owner, direction), ())}
                own = list(changes.get(direction, ()))
                kept = [
                    replace(change, end_ns=min(change.end_ns, zero_ns)) if id(change) in before else change
                    for change in there
                    if id(change) not in before or change.start_ns < zero_ns
                ]
                if before or own:
                    together[direction] = own, self._fitting([*kept, *own], zero_ns)
            for direction, (own, all_changes) in together.items():
                self._links[direction].overlay(all_changes)
                self._changes[direction] = all_changes
                self._owned[owner, direction] = own
            self._owned = {
                key: own for key, own in self._owned.items() if any(change.end_ns > zero_ns for change in own)
            }

    def gate(self, changes: Sequence[Change]) -> None:
        """What a forced change of satellite does to the gates of both directions, in place of what one did before."""
        self.put_changes("handover", dict.fromkeys(self._links, changes), time.monotonic_ns() + LEAD_NS)

    def edges(self, after_ns: int, until_ns: int) -> set[int]:
        """When changes begin or end, within (after_ns, until_ns]."""
        with self._changing:
            edges = {edge for there in self._changes.values() for one in there for edge in (one.start_ns, one.end_ns)}
        return {edge for edge in edges if after_ns < edge <= until_ns}

    def _with(self, direction: str, added: list[Change], now_ns: int) -> list[Change]:
        """The direction's changes and the `added` ones; of those that are over, as many as there is room for."""
        return self._fitting(self._changes[direction] + added, now_ns)

    def _fitting(self, changes: list[Change], now_ns: int) -> list[Change]:
        """All that is in force or to come, and of what is over, as much as there is room for."""
        changes = sorted(changes, key=lambda change: change.end_ns)
        while len(changes) > OVERLAY_ROWS and changes[0].end_ns < now_ns:
            changes.pop(0)
        if len(changes) > OVERLAY_ROWS:
            raise EmulationError(f"overlay: expected at most {OVERLAY_ROWS} changes still to come, got {len(changes)}")
        return changes
