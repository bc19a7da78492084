"""The [[script]] of a scenario in virtual time: what of it can be worked out from its times and the plan alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from emulator.errors import EmulationError
from emulator.link.link import Change
from emulator.link.state import OVERLAY_ROWS
from emulator.ports.assembly import Direction, change_of, events_of
from emulator.scenario.model import OverlayEvent, Scenario
from emulator.scenario.script import Step
from emulator.timeline.marks import MARKS, next_mark
from emulator.timeline.model import Windows
from emulator.units import NS_PER_S


@dataclass
class Scripted:
    """Timed changes of a scenario: its overlay and its script, by direction; and what of the script is left out.

    left_out: a line for each step. Times are UTC ns.
    """

    changes: dict[Direction, list[Change]] = field(default_factory=lambda: {"uplink": [], "downlink": []})
    left_out: list[str] = field(default_factory=list)

    def add(self, event: OverlayEvent, zero_ns: int) -> bool:
        """False, and nothing is added, if there is no room."""
        ways: tuple[Direction, ...] = ("uplink", "downlink") if event.direction == "both" else (event.direction,)
        if any(len(self.changes[way]) >= OVERLAY_ROWS for way in ways):
            return False
        for way in ways:
            self.changes[way].append(change_of(event, zero_ns))
        return True


def scripted(scenario: Scenario, windows: Windows, began_utc_ns: int, *, holds_injected: bool) -> Scripted:
    """The changes of a bench that began at `began_utc_ns`.

    A step counts where it is at a stated time, or at a mark of the plan behind a step whose time is known. What hangs
    on a counter, on an elevation or on a move is left out. holds_injected: what the script injected is in the traffic
    already, as in a capture of that bench.
    """
    made = Scripted()
    for event in scenario.overlay:
        made.add(event, began_utc_ns)
    moment_ns: int | None = began_utc_ns
    moved = False
    for number, step in enumerate(scenario.script):
        found_ns, why = _moment(step, windows, began_utc_ns, moment_ns, moved=moved)
        moment_ns = found_ns
        if found_ns is not None and not why:
            if step.action == "move":
                why, moved = "the terminal does not move here", True
            elif step.action == "inject" and not holds_injected:
                why = "nothing is injected here"
            elif not all(made.add(event, found_ns) for event in events_of(step)):
                why = f"there are more than {OVERLAY_ROWS} changes"
        if why:
            made.left_out.append(f"script[{number}] {step.trigger}: {step.name}: left out: {why}")
    return made


def _moment(
    step: Step, windows: Windows, began_utc_ns: int, before_ns: int | None, *, moved: bool
) -> tuple[int | None, str]:
    """When the step is done, UTC ns, that before it at `before_ns`; None, and why, if that is not known."""
    if step.at is None:
        return None, "what it waits for is not known here"
    if not step.at.startswith("next-"):
        at_ns = began_utc_ns + round(float(step.at.removesuffix("s")) * NS_PER_S)
        return max(at_ns, before_ns or at_ns), ""
    if before_ns is None or moved:
        return None, "it follows one whose outcome is not known here"
    mark = next(each for each in MARKS if step.at == f"next-{each}")
    try:
        return next(found for found in next_mark(windows, before_ns, mark) if found is not None), ""
    except EmulationError as error:
        return before_ns, str(error)


def of_direction(made: Scripted, direction: Direction, offset_ns: int) -> Sequence[Change]:
    """The changes of one direction on a clock to which `offset_ns` must be added for UTC."""
    return [
        replace(change, start_ns=change.start_ns - offset_ns, end_ns=change.end_ns - offset_ns)
        for change in made.changes[direction]
    ]
