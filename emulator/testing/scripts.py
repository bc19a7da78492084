"""Performs a script on a running bench: each step at its moment, in a thread of its own.

What lasts (outage, fade, …) is handed to the bench ahead of its moment and begins on it to the nanosecond; everything
else is done when the moment has come. A step that cannot come is told with its reason, and the next one follows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import ValidationError

from emulator.bench.operator import Moment
from emulator.errors import BentpipeError, EmulationError, ScenarioError
from emulator.ports.assembly import events_of
from emulator.scenario.load import faults_of
from emulator.scenario.script import Condition, Step
from emulator.timeline.causes import Cause
from emulator.units import NS_PER_S, format_utc

if TYPE_CHECKING:
    from emulator.bench import Bench, Counters

LOOK_S = 0.05  # how often a condition is looked at
AUTHOR = "script"
END_LIMIT_S = 30.0  # an injection may be going on


@dataclass(frozen=True)
class Performed:
    """A step and what came of it. done: it was; never: it cannot come, or did not in time; pending: not yet."""

    number: int
    step: Step
    outcome: Literal["done", "never", "pending"]
    utc_ns: int | None = None
    why: str = ""

    def __str__(self) -> str:
        at = f" at {format_utc(self.utc_ns, 3)}" if self.utc_ns is not None else ""
        return f"script[{self.number}] {self.step.trigger}: {self.step.name}: {self.outcome}{at}" + (
            f": {self.why}" if self.why else ""
        )


def steps_of(*steps: Step | dict[str, Any]) -> list[Step]:
    """Steps from the words of a scenario's [[script]]. Raises ScenarioError with every fault."""
    made, problems = list[Step](), list[str]()
    for number, step in enumerate(steps):
        try:
            made.append(step if isinstance(step, Step) else Step.model_validate(step))
        except ValidationError as error:
            problems += faults_of("script", number, dict(step), error)
    if problems:
        raise ScenarioError(problems)
    return made


class Script:
    """Performs `steps` on `bench` for as long as the context lasts; one that is not done by then stays pending.

    on_done: is told each step, from the script's thread. Raises ScenarioError for a step that can never come.
    """

    def __init__(
        self, bench: Bench, steps: Sequence[Step], on_done: Callable[[Performed], None] = lambda performed: None
    ) -> None:
        self._bench, self._steps, self._on_done = bench, list(steps), on_done
        self._stopping, self._over = threading.Event(), threading.Event()
        self._performed: list[Performed] = []
        self._ends_ns: dict[int, int] = {}  # of the steps that last, by their number, on the packets' clock
        self._thread = threading.Thread(target=self._run, name="script", daemon=True)
        self._check()

    def _check(self) -> None:
        windows, problems = self._bench.windows, []
        for number, step in enumerate(self._steps):
            if step.action == "move" and windows.constant:
                problems.append(f"script[{number}].action: move: this link is the same everywhere")
            if step.at is None or not step.at.startswith("next-"):
                continue
            if step.at == "next-slot" and not windows.slotted:
                problems.append(f"script[{number}].at: next-slot: this link has no slots")
            elif windows.constant:
                problems.append(f"script[{number}].at: {step.at}: this link never changes")
        if problems:
            raise ScenarioError(problems)

    @property
    def performed(self) -> list[Performed]:
        """All steps in their order, with what came of them so far."""
        done = list(self._performed)
        rest = enumerate(self._steps[len(done) :], len(done))
        return done + [Performed(number, step, "pending") for number, step in rest]

    def wait(self, deadline_s: float, *, until: Literal["begun", "over"] = "begun") -> list[Performed]:
        """Waits until every step was done or never came; of what lasts, until it has `begun`, or until it is `over`.

        Raises EmulationError after `deadline_s`, naming the first step that is pending, or not over.
        """
        deadline_ns = time.monotonic_ns() + round(deadline_s * NS_PER_S)
        if not self._over.wait(deadline_s):
            pending = next(each for each in self.performed if each.outcome == "pending")
            raise EmulationError(f"{pending} after {deadline_s:g} s")
        if until == "over" and self._ends_ns:
            for number, ends_ns in sorted(self._ends_ns.items(), key=lambda item: item[1]):
                if ends_ns > deadline_ns:
                    self._wait_until(deadline_ns)
                    raise EmulationError(f"{self._performed[number]}: not over after {deadline_s:g} s")
                self._wait_until(ends_ns)
        return self.performed

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(END_LIMIT_S)

    def _run(self) -> None:
        for number, step in enumerate(self._steps):
            try:
                at_ns = self._perform(step)
            except BentpipeError as error:
                performed = Performed(number, step, "never", why=str(error))
            else:
                if at_ns is None:
                    return
                performed = Performed(number, step, "done", self._bench.utc_of_monotonic_ns(at_ns))
                if events_of(step):
                    self._ends_ns[number] = at_ns + round(step.duration_s * NS_PER_S)
            self._performed.append(performed)
            if self._bench.events is not None:
                self._bench.events.record("script", author=AUTHOR, step=number, text=str(performed))
            self._on_done(performed)
        self._over.set()

    def _perform(self, step: Step) -> int | None:
        """Does it at its moment, and returns that, on the packets' clock; None if the bench ends first."""
        at_ns = self._moment(step)
        if at_ns is None:
            return None
        if step.action == "move":
            from emulator.bench.place import move

            assert step.latitude_deg is not None
            assert step.longitude_deg is not None
            return move(self._bench, step.latitude_deg, step.longitude_deg, step.altitude_m, at_ns)
        events = events_of(step)
        if events:
            done = self._bench.operator.lay(step.action, events, Moment(at_ns), AUTHOR)
            return None if self._wait_until(done.monotonic_ns) else done.monotonic_ns
        if self._wait_until(at_ns):
            return None
        self._do(step)
        return time.monotonic_ns()

    def _moment(self, step: Step) -> int | None:
        if step.when is not None:
            return self._await(step.when)
        assert step.at is not None
        if not step.at.startswith("next-"):
            return self._bench.started_monotonic_ns + round(float(step.at.removesuffix("s")) * NS_PER_S)
        moment = self._bench.operator.moment(step.at)
        return time.monotonic_ns() if moment.at_ns is None else moment.at_ns

    def _await(self, condition: Condition) -> int | None:
        ends_ns = time.monotonic_ns() + round(condition.within_s * NS_PER_S)
        while not self._holds(condition):
            if time.monotonic_ns() > ends_ns:
                raise EmulationError(f"it did not come within {condition.within_s:g} s")
            if self._stopping.wait(LOOK_S):
                return None
        return time.monotonic_ns()

    def _holds(self, condition: Condition) -> bool:
        elevation_deg = self._bench.state().elevation_deg
        if condition.elevation_deg_above is not None and not (
            elevation_deg is not None and elevation_deg > condition.elevation_deg_above
        ):
            return False
        if (
            condition.elevation_deg_below is not None
            and elevation_deg is not None
            and elevation_deg >= condition.elevation_deg_below
        ):
            return False
        if condition.counter is None or condition.above is None:
            return True
        return counter_of(self._bench.counters(), condition.counter) > condition.above

    def _wait_until(self, at_ns: int) -> bool:
        """True if the bench ends first."""
        return self._stopping.wait(max(0, at_ns - time.monotonic_ns()) / NS_PER_S)

    def _do(self, step: Step) -> None:
        if step.action == "inject":
            from emulator.taps.inject import Addresses, build

            near, far = self._bench.terminal, self._bench.datacenter
            addresses = Addresses(near.ipv4, far.ipv4, near.ipv6, far.ipv6)
            assert step.direction != "both"
            for packet in build(step.packet, step.direction, addresses):
                self._bench.inject(step.direction, packet.data)


def counter_of(counters: Counters, name: str) -> int:
    """`downlink.delivered_packets`, `uplink.dropped.queue`; a cause that nothing was dropped for is 0.

    Raises EmulationError for a cause that there is not.
    """
    direction, _, what = name.partition(".")
    counts = getattr(counters, direction)
    if not what.startswith("dropped."):
        return int(getattr(counts, what))
    cause = what.removeprefix("dropped.").upper()
    if cause not in Cause.__members__:
        raise EmulationError(f"{name}: expected a cause, one of {', '.join(Cause.__members__).lower()}")
    return int(counts.dropped.get(Cause[cause], 0))
