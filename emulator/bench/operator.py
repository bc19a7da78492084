"""What an operator does to a running link, each thing at a stated time; and what was done and is still to be done."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emulator.bench.clock import WorldClock
from emulator.bench.course import Course, Turn
from emulator.bench.eventlog import EventLog
from emulator.bench.overlay import LEAD_NS, Overlay
from emulator.errors import BentpipeError, EmulationError
from emulator.link.link import Link
from emulator.ports.assembly import Direction
from emulator.scenario.model import OverlayEvent, Scenario
from emulator.timeline.marks import MARKS, Mark, next_mark
from emulator.timeline.model import Windows
from emulator.units import NS_PER_S, format_utc, parse_utc_ns

FOR_EVER_S = 1e9  # 31 years: until somebody clears it
SEARCH_NS = 3 * NS_PER_S  # how long the search for the next outage or contact may take
PLAN_EARLY_NS = 3 * NS_PER_S  # planning takes its time
MOST_PENDING = 256
LONGEST_AHEAD_NS = 366 * 86_400 * NS_PER_S
LONGEST_HANDOVER_NS = 900 * NS_PER_S  # a forced one ends here, where the plan has none that would end it
SEPARATOR = "next-"
LAST_UTC_NS = parse_utc_ns("2250-01-01T00:00:00Z")


@dataclass(frozen=True)
class Moment:
    """When a command is to take effect, on the packets' clock: None for now. late_ns: by how much it came too late."""

    at_ns: int | None
    late_ns: int = 0


@dataclass(frozen=True)
class Done:
    """A command that was accepted: when it takes effect, and whether that is still to come.

    late_ns: by how much that is later than was asked for.
    """

    number: int
    monotonic_ns: int
    utc_ns: int
    late_ns: int
    scheduled: bool
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class _Standing:
    """A command that is in force or still to come."""

    verb: str
    author: str
    at_ns: int
    values: Mapping[str, Any]
    overlay: bool
    until_ns: int | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)


class Operator:
    """The operator's hands on one bench; from any thread. Raises EmulationError for what cannot be done."""

    def __init__(
        self,
        scenario: Scenario,
        clock: WorldClock,
        course: Course,
        overlay: Overlay,
        links: Mapping[Direction, Link],
        log: EventLog,
        stopping: threading.Event,
    ) -> None:
        self._scenario, self._clock, self._course, self._overlay = scenario, clock, course, overlay
        self._links, self._log, self._stopping = links, log, stopping
        self._numbers = itertools.count(1)
        self._standing: dict[int, _Standing] = {}
        self._changing = threading.Lock()

    def follow(self, plan: Windows, at_ns: int | None = None) -> int:
        """Another plan from `at_ns` on, or as soon as it can be. Returns when, on the packets' clock."""
        return self._course.follow_plan(plan, at_ns).at_ns

    # times

    def moment(self, at: str) -> Moment:
        """`now`, a UTC, `+seconds`, `next-slot`, `next-handover`, `next-outage` or `next-contact` as a time.

        Raises ValueError for text that is none of these, EmulationError for what never comes.
        """
        if at == "now":
            return Moment(None)
        now_ns = time.monotonic_ns()
        if at.startswith("+"):
            ahead_ns = _seconds_ns(at[1:])
            if not 0 <= ahead_ns <= LONGEST_AHEAD_NS:
                raise ValueError(f"at: expected a time within a year, got {at!r}")
            return Moment(now_ns + ahead_ns)
        if self._course.standing:
            raise EmulationError(f"at {at}: the Timeline stands still; say now or +seconds, or resume first")
        utc_ns = self._next(at) if at.startswith(SEPARATOR) else parse_utc_ns(at)
        wanted_ns = self._clock.monotonic_of_utc_ns(utc_ns)
        if wanted_ns < now_ns:
            return Moment(None, now_ns - wanted_ns)
        if wanted_ns - now_ns > LONGEST_AHEAD_NS:
            raise ValueError(f"at: expected a time within a year, got {at!r}")
        return Moment(wanted_ns)

    def _next(self, text: str) -> int:
        """The UTC of `next-…`, ns."""
        mark = text.removeprefix(SEPARATOR)
        if mark not in MARKS:
            raise ValueError(f"expected next-slot, next-handover, next-outage or next-contact, got {text!r}")
        return self._search(self._course.windows, mark)

    def _search(self, windows: Windows, mark: Mark, utc_ns: int | None = None) -> int:
        begun_ns = time.monotonic_ns()
        for found in next_mark(windows, self._clock.utc_ns() if utc_ns is None else utc_ns, mark):
            if found is not None:
                return found
            if time.monotonic_ns() - begun_ns > SEARCH_NS:
                break
        raise EmulationError(f"next-{mark}: none found in {SEARCH_NS // NS_PER_S} s of search")

    # doing

    def lay(self, verb: str, events: Sequence[OverlayEvent], moment: Moment, author: str, **values: Any) -> Done:
        """Puts changes on the link, their times counted from the moment; exact, however early it is asked for."""
        number, soonest_ns = next(self._numbers), time.monotonic_ns() + LEAD_NS
        zero_ns = soonest_ns if moment.at_ns is None else max(moment.at_ns, soonest_ns)
        late_ns = moment.late_ns if moment.at_ns is None else zero_ns - moment.at_ns
        until_ns = zero_ns + max(round((event.at_s + event.duration_s) * NS_PER_S) for event in events)
        self._remember(number, _Standing(verb, author, zero_ns, values, True, until_ns))
        try:
            self._overlay.put(_owner(number), events, zero_ns)
        except BaseException:
            self._standing.pop(number, None)
            raise
        return self._accepted(number, verb, author, zero_ns, late_ns, zero_ns > soonest_ns, values)

    def clear(self, wanted: int | None, moment: Moment, author: str) -> Done:
        """Ends what a command put on the link, or is to do; None: all such. Raises EmulationError for one unknown."""
        if moment.at_ns is not None:
            raise EmulationError("clear: expected at now: it undoes what is in force or still to come")
        number, zero_ns = next(self._numbers), time.monotonic_ns() + LEAD_NS
        with self._changing:
            self._forget_old(zero_ns)
            cleared = [wanted] if wanted is not None else sorted(self._standing)
            if wanted is not None and wanted not in self._standing:
                raise EmulationError(f"clear: no command {wanted} is in force or still to come")
            standing = {one: self._standing.pop(one) for one in cleared}
        for one, command in standing.items():
            command.cancelled.set()
            if command.overlay:
                self._overlay.put(_owner(one), [], zero_ns)
        return self._accepted(number, "clear", author, zero_ns, moment.late_ns, False, {"cleared": cleared})

    def jump(self, to: str, before_ns: int, moment: Moment, author: str) -> Done:
        """Simulated UTC becomes `to`: a UTC, `+seconds` or `-seconds` from then, or `next-…`, less `before_ns`."""
        if to.startswith(("+", "-")):
            by_ns = _seconds_ns(to)
            target: Callable[[int], int] = lambda utc_ns: utc_ns + by_ns  # noqa: E731
        elif to.startswith(SEPARATOR):
            mark = to.removeprefix(SEPARATOR)
            if mark not in MARKS:
                raise ValueError(f"to: expected next-slot, next-handover, next-outage or next-contact, got {to!r}")
            found_ns = self._search(self._course.windows, mark)
            target = lambda utc_ns: found_ns - before_ns  # noqa: E731
        else:
            exactly_ns = parse_utc_ns(to)
            target = lambda utc_ns: exactly_ns  # noqa: E731

        def within_time(utc_ns: int) -> int:
            found_ns = target(utc_ns)
            if not 0 <= found_ns < LAST_UTC_NS:
                raise EmulationError("jump: expected a UTC from 1970 to 2250")
            return found_ns

        return self._do("jump", moment, author, lambda at_ns: self._course.jump(within_time, at_ns), {"to": to})

    def freeze(self, moment: Moment, author: str) -> Done:
        """The Timeline stands still."""
        return self._do("freeze", moment, author, self._course.freeze, {})

    def resume(self, moment: Moment, author: str) -> Done:
        """It goes on from where it stood."""
        return self._do("resume", moment, author, self._course.resume, {})

    def pin(self, satellite: str | None, gateway: str | None, moment: Moment, author: str) -> Done:
        """None but these serve; without any, as the policy likes."""
        verb = "pin" if satellite or gateway else "unpin"
        values = {"satellite": satellite, "gateway": gateway} if verb == "pin" else {}
        return self._do(verb, moment, author, lambda at_ns: self._course.pin(satellite, gateway, at_ns), values)

    def hand_over(self, satellite: str | None, moment: Moment, author: str) -> Done:
        """Another satellite serves, until the next slot, or the next handover that the plan has."""

        def until_ns(utc_ns: int) -> int:
            windows = self._course.windows
            latest_ns = utc_ns + LONGEST_HANDOVER_NS
            if windows.constant:
                return latest_ns
            try:
                mark: Mark = "slot" if windows.slotted else "handover"
                return min(latest_ns, self._search(windows, mark, utc_ns))
            except EmulationError:
                return latest_ns

        values = {"satellite": satellite}
        return self._do(
            "handover", moment, author, lambda at_ns: self._course.hand_over(until_ns, satellite, at_ns), values
        )

    def limit(
        self,
        traffic: str | None,
        directions: Sequence[Direction],
        packets: int | None,
        queue_bytes: int | None,
        moment: Moment,
        author: str,
    ) -> Done:
        """Another limit for the queue of a class, or of what no class takes (None)."""
        lanes = {direction: self._lane(direction, traffic) for direction in directions}

        def change(at_ns: int | None) -> Turn:
            self._wait(at_ns)
            for direction, lane in lanes.items():
                try:
                    self._links[direction].set_limit(lane, packets, queue_bytes)
                except ValueError as error:
                    raise EmulationError(f"limit: {error}") from error
            now_ns = time.monotonic_ns()
            utc_ns = self._clock.utc_of_monotonic_ns(now_ns)
            return Turn(now_ns, utc_ns, utc_ns)

        return self._do("limit", moment, author, change, {"class": traffic, "packets": packets, "bytes": queue_bytes})

    def call(
        self, verb: str, work: Callable[[], Mapping[str, Any] | None], moment: Moment, author: str, **values: Any
    ) -> Done:
        """Anything else that has a time: stop, mark, captures."""

        def do(at_ns: int | None) -> Turn:
            self._wait(at_ns)
            values.update(work() or {})
            now_ns = time.monotonic_ns()
            utc_ns = self._clock.utc_of_monotonic_ns(now_ns)
            return Turn(now_ns, utc_ns, utc_ns)

        return self._do(verb, moment, author, do, values)

    def standing(self) -> list[dict[str, Any]]:
        """The commands that are in force or still to come."""
        with self._changing:
            now_ns = time.monotonic_ns()
            self._forget_old(now_ns)
            return [
                {
                    "number": number,
                    "verb": command.verb,
                    "author": command.author,
                    "in_force": command.at_ns <= now_ns,
                    "utc_ns": self._clock.utc_of_monotonic_ns(command.at_ns),
                    "monotonic_ns": command.at_ns,
                    "until_monotonic_ns": command.until_ns,
                    "values": dict(command.values),
                }
                for number, command in sorted(self._standing.items())
            ]

    def class_names(self, direction: Direction) -> tuple[str, ...]:
        """The names of a direction's queues, in their order."""
        return self._scenario.class_names(direction)

    def finish(self) -> None:
        """Nothing that is still to come is done any more."""
        with self._changing:
            for command in self._standing.values():
                command.cancelled.set()

    # inside

    def _do(
        self,
        verb: str,
        moment: Moment,
        author: str,
        work: Callable[[int | None], Turn],
        values: Mapping[str, Any],
    ) -> Done:
        """Does it at once, or has it done at the moment."""
        number = next(self._numbers)
        if moment.at_ns is None:
            turn = work(None)
            return self._accepted(number, verb, author, turn.at_ns, moment.late_ns, False, values, turn)
        command = _Standing(verb, author, moment.at_ns, values, False)
        self._remember(number, command)
        at_ns = moment.at_ns

        def later() -> None:
            if command.cancelled.wait(max(0, at_ns - PLAN_EARLY_NS - time.monotonic_ns()) / NS_PER_S):
                return
            if self._stopping.is_set():
                return
            try:
                turn = work(at_ns)
            except (BentpipeError, ValueError) as error:
                self._log.record("command", author=author, number=number, verb=verb, phase="failed", error=str(error))
            else:
                self._accepted(
                    number, verb, author, turn.at_ns, max(0, turn.at_ns - at_ns), False, values, turn, phase="done"
                )
            with self._changing:
                self._standing.pop(number, None)

        done = self._accepted(number, verb, author, at_ns, 0, True, values)
        threading.Thread(target=later, name=f"command {number}", daemon=True).start()
        return done

    def _wait(self, at_ns: int | None) -> None:
        if at_ns is not None and self._stopping.wait(max(0, at_ns - time.monotonic_ns()) / NS_PER_S):
            raise EmulationError("the bench ends")

    def _remember(self, number: int, command: _Standing) -> None:
        with self._changing:
            self._forget_old(time.monotonic_ns())
            if len(self._standing) >= MOST_PENDING:
                raise EmulationError(f"expected at most {MOST_PENDING} commands in force or still to come")
            self._standing[number] = command

    def _forget_old(self, now_ns: int) -> None:
        over = [
            number
            for number, command in self._standing.items()
            if command.until_ns is not None and command.until_ns <= now_ns
        ]
        for number in over:
            del self._standing[number]

    def _accepted(
        self,
        number: int,
        verb: str,
        author: str,
        at_ns: int,
        late_ns: int,
        scheduled: bool,
        values: Mapping[str, Any],
        turn: Turn | None = None,
        phase: str = "",
    ) -> Done:
        """Notes the command, and says when it takes effect."""
        data = dict(values)
        if turn is not None and turn.utc_ns != turn.old_utc_ns:
            data |= {"from_utc_ns": turn.old_utc_ns, "to_utc_ns": turn.utc_ns, "to_utc": format_utc(turn.utc_ns)}
        self._log.record(
            "command",
            author=author,
            monotonic_ns=at_ns,
            number=number,
            verb=verb,
            phase=phase or ("accepted" if scheduled else "done"),
            late_ns=late_ns,
            values=data,
        )
        return Done(number, at_ns, self._clock.utc_of_monotonic_ns(at_ns), late_ns, scheduled, data)

    def _lane(self, direction: Direction, traffic: str | None) -> int:
        names = [one.name for one in self._scenario.classes if one.direction in ("both", direction)]
        if traffic is None:
            return len(names)
        if traffic not in names:
            known = ", ".join(names) or "none"
            raise EmulationError(f"limit: {direction}: no class {traffic!r}; the scenario has {known}")
        return names.index(traffic)


def _owner(number: int) -> str:
    return f"command {number}"


def _seconds_ns(text: str) -> int:
    """Seconds, with a sign and an `s` if you like → ns. Raises ValueError."""
    try:
        seconds = float(text.strip().removesuffix("s"))
        return round(seconds * NS_PER_S)
    except (ValueError, OverflowError):
        raise ValueError(f"expected seconds, got {text!r}") from None
