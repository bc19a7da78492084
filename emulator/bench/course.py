"""The course of a run: where simulated time goes, and by which plan; changed at an instant of the packets' clock.

A change is put on the links shortly before its instant: what was in force until then stays in their plan in front of
what follows, at its new UTC. So each packet meets the old link before the instant, and the new one from it on, whenever
the packet loop comes to look.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from emulator.bench.clock import WorldClock
from emulator.bench.overlay import LEAD_NS
from emulator.bench.planner import Planner
from emulator.errors import EmulationError
from emulator.link.link import Change, Link
from emulator.ports.assembly import Direction
from emulator.timeline.model import Channel, Timeline, Windows
from emulator.timeline.sky import Phase
from emulator.timeline.splice import (
    cut_channel,
    cut_timeline,
    joined_channels,
    moved_channel,
    standing_channel,
)
from emulator.timeline.steer import handed_over, pinned, serving, what_a_handover_does
from emulator.units import NS_PER_MS, NS_PER_S

BACK_NS = 5 * NS_PER_S  # of what was in force, for who still asks
PUT_EARLY_NS = 20 * NS_PER_MS
FOR_EVER_NS = 1 << 61


@dataclass(frozen=True)
class Turn:
    """A change that was made: from monotonic `at_ns` on, when it was `old_utc_ns`, it is `utc_ns`."""

    at_ns: int
    old_utc_ns: int
    utc_ns: int


class Course:
    """Changes of one bench, one at a time; from any thread. `at_ns`: the packets' clock, None for as soon as it can be.

    gate: takes what a change of satellite does to the gates. A change that is asked for a later instant waits for it,
    in the caller's thread, until `stopping` is set.
    """

    def __init__(
        self,
        clock: WorldClock,
        planner: Planner,
        links: Mapping[Direction, Link],
        gate: Callable[[list[Change]], None],
        stopping: threading.Event,
    ) -> None:
        self._clock, self._planner, self._links, self._gate, self._stopping = clock, planner, links, gate, stopping
        self._base = self._pinned = planner.windows
        self._one_at_a_time = threading.Lock()
        self._turns = 0

    @property
    def standing(self) -> bool:
        """Whether the Timeline stands still."""
        return self._clock.standing

    @property
    def windows(self) -> Windows:
        """The plan in force."""
        return self._planner.windows

    def follow(self) -> int | None:
        """Goes with the world's clock; by how many ns it was stepped, if it was."""
        step = self._clock.follow()
        if step is not None and not self._clock.standing:
            for link in self._links.values():
                link.set_utc_offset(self._clock.offset_ns)
        return step

    def keep_ahead(self) -> None:
        """Plans ahead, if it is time."""
        if not self._clock.standing:
            self._planner.keep_ahead(self._clock.utc_ns(), self._links["uplink"], self._links["downlink"])

    def jump(self, utc_ns: Callable[[int], int], at_ns: int | None = None) -> Turn:
        """Simulated UTC becomes what `utc_ns` says to the UTC of that instant. A forced handover is over then."""
        return self._turn(at_ns, lambda _: self._pinned, to=utc_ns)

    def freeze(self, at_ns: int | None = None) -> Turn:
        """The Timeline stands still: delay, rate and gates stay as they are. Raises EmulationError if it does."""
        return self._turn(at_ns, lambda _: self.windows, standing=True)

    def resume(self, at_ns: int | None = None) -> Turn:
        """It goes on from where it stood. Raises EmulationError if it does not stand."""
        return self._turn(at_ns, lambda _: self.windows, standing=False)

    def pin(self, satellite: str | None, gateway: str | None, at_ns: int | None = None) -> Turn:
        """Only these serve from then on, None for any; a change of satellite does what a handover does."""
        plan = pinned(self._base, satellite, gateway)
        turn = self._turn(at_ns, lambda _: plan)
        self._pinned = plan
        return turn

    def follow_plan(self, plan: Windows, at_ns: int | None = None) -> Turn:
        """Another plan from then on, such as that of another place. What was pinned or handed over is over then."""
        turn = self._turn(at_ns, lambda _: plan)
        self._base = self._pinned = plan
        return turn

    def hand_over(self, until_ns: Callable[[int], int], satellite: str | None, at_ns: int | None = None) -> Turn:
        """Another satellite serves, from then on to the UTC that `until_ns` says to the UTC of about that instant."""
        return self._turn(at_ns, lambda utc_ns: handed_over(self._pinned, utc_ns, until_ns(utc_ns), satellite))

    def _turn(
        self,
        at_ns: int | None,
        choose: Callable[[int], Windows],
        *,
        to: Callable[[int], int] | None = None,
        standing: bool | None = None,
    ) -> Turn:
        """Plans first, for that takes its time; then waits, and puts it all in force at one instant.

        Plans again if somebody has changed the course meanwhile.
        """
        while True:
            with self._one_at_a_time:
                if standing is not None and standing == self._clock.standing:
                    raise EmulationError(
                        f"the Timeline {'stands still already' if standing else 'does not stand still'}"
                    )
                count = self._turns
                about_ns = max(at_ns or 0, time.monotonic_ns() + LEAD_NS)
                old_utc_ns = self._clock.utc_of_monotonic_ns(about_ns)
                utc_ns = to(old_utc_ns) if to else old_utc_ns
                windows = choose(utc_ns)
                plan = self._planner.beginning(windows, utc_ns)
                hands_over = (
                    windows is not self.windows
                    and to is None
                    and serving(windows, utc_ns)[0] != serving(self.windows, old_utc_ns)[0]
                )
            wait_ns = max(0, at_ns - PUT_EARLY_NS - time.monotonic_ns()) if at_ns is not None else 0
            if wait_ns and self._stopping.wait(wait_ns / NS_PER_S):
                raise EmulationError("the bench ends")
            with self._one_at_a_time:
                if count == self._turns:
                    self._turns += 1
                    stands = self._clock.standing if standing is None else standing
                    return self._put(at_ns or 0, windows, plan, to=to, stands=stands, hands_over=hands_over)

    def _put(
        self,
        at_ns: int,
        windows: Windows,
        plan: Timeline,
        *,
        to: Callable[[int], int] | None,
        stands: bool,
        hands_over: bool,
    ) -> Turn:
        at_ns = max(at_ns, time.monotonic_ns() + LEAD_NS)
        old_utc_ns = self._clock.utc_of_monotonic_ns(at_ns)
        utc_ns = to(old_utc_ns) if to else old_utc_ns
        plan = cut_timeline(plan, utc_ns, plan.end_ns)

        def put() -> None:
            for direction, link in self._links.items():
                _replan(link, getattr(plan, direction), plan.end_ns, utc_ns, at_ns, stands=stands)
            if hands_over:
                self._gate(changes_of(what_a_handover_does(windows, at_ns)))

        self._planner.replan(windows, plan, put)
        self._clock.set(at_ns, utc_ns, standing=stands)
        return Turn(at_ns, old_utc_ns, utc_ns)


def _replan(link: Link, future: Channel, end_ns: int, utc_ns: int, at_ns: int, *, stands: bool) -> None:
    """What was in force, moved to its new UTC, and behind it what comes."""
    link_utc_ns = at_ns + link.utc_offset_ns
    past = cut_channel(link.planned(), link_utc_ns - BACK_NS, link_utc_ns)
    future = standing_channel(future, utc_ns) if stands else future
    joined = joined_channels([moved_channel(past, utc_ns - link_utc_ns), future])
    link.replan(joined, FOR_EVER_NS if stands else end_ns, utc_ns - at_ns)


def changes_of(phases: list[Phase]) -> list[Change]:
    """A handover's phases as an overlay; their times are the packets' own."""
    return [Change(phase.start_ns, phase.end_ns, gate=phase.gate, cause=phase.cause) for phase in phases]
