"""The commands of a running bench: validated requests, applied to it. Sans-I/O: bytes in, bytes out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol, get_args

from emulator.bench.eventlog import EventLog
from emulator.bench.operator import FOR_EVER_S, Done, Moment, Operator
from emulator.control import model
from emulator.control.allowance import Allowance
from emulator.control.messages import VERSION, MessageError, decode, encode, plain
from emulator.control.model import COMMANDS, MAX_PACKET_BYTES, Command, Direction, Timed, may
from emulator.control.plan import plan_of
from emulator.errors import BentpipeError, EmulationError, PrivilegeError, ScenarioError
from emulator.ports.curve import ROLES, Role
from emulator.scenario.model import OverlayEvent
from emulator.taps.inject import Place
from emulator.timeline.model import Windows
from emulator.units import parse_utc_ns

log = logging.getLogger("bentpipe.control")
ALL_ROLES: frozenset[Role] = frozenset(ROLES)
MAX_AUTHOR = 64
LONGEST = 2000  # text of an error
REFUSALS = 10, 20  # of those, how many a second the event log takes, and how many at once


class Side(Protocol):
    """One end of the link, as much of it as control needs."""

    @property
    def ipv4(self) -> str: ...

    @property
    def ipv6(self) -> str: ...


class ControlledBench(Protocol):
    """What control needs of a bench; called from the control thread."""

    @property
    def terminal(self) -> Side: ...

    @property
    def datacenter(self) -> Side: ...

    @property
    def operator(self) -> Operator: ...

    @property
    def windows(self) -> Windows: ...

    @property
    def events(self) -> EventLog: ...

    @property
    def network(self) -> Any: ...

    def monotonic_ns(self) -> int: ...

    def utc_ns(self) -> int: ...

    def state(self) -> Any: ...

    def counters(self) -> Any: ...

    def inject(self, direction: Direction, packet: bytes, place: Place, /) -> None: ...


Switch = Callable[[bool, Mapping[str, Any]], Mapping[str, Any]]
"""Turns captures on (True) or off, with options; what it returns stands in the answer."""


class Commands:
    """Answers requests for one bench. `on_stop` is called when somebody asks the bench to end.

    captures: does what `capture` asks for. snapshot: what telemetry would tell who comes late.
    """

    def __init__(
        self,
        bench: ControlledBench,
        on_stop: Callable[[], None] | None = None,
        *,
        captures: Switch | None = None,
        snapshot: Callable[[], Any] | None = None,
    ) -> None:
        self._bench, self._on_stop, self._captures, self._snapshot = bench, on_stop, captures, snapshot
        self._refusals = Allowance(*REFUSALS)

    def answer(self, data: bytes, roles: frozenset[Role] = ALL_ROLES, who: str = "") -> bytes:
        """The reply to a request of somebody with these roles, known as `who`. Never raises: the reply tells."""
        verb, by = None, who
        try:
            request = decode(data)
            verb, author = request.pop("verb", None), request.pop("author", "")
            del request["version"]
            if not isinstance(verb, str) or verb not in COMMANDS:
                raise MessageError(f"verb: expected one of {', '.join(COMMANDS)}, got {str(verb)[:60]!r}")
            if not isinstance(author, str) or len(author) > MAX_AUTHOR or not author.isprintable():
                raise MessageError(f"author: expected at most {MAX_AUTHOR} printable characters")
            by = "/".join(part for part in (who, author) if part)
            if not may(roles, COMMANDS[verb]):
                raise PrivilegeError(f"{verb}: expected the role {COMMANDS[verb].role}, {who or 'you'} may not do this")
            return encode({"version": VERSION, "ok": True, "result": self.do(model.parse(verb, request), by)})
        except MessageError as error:
            return self._refuse("MessageError", error, verb, by)
        except BentpipeError as error:
            return self._refuse(type(error).__name__, error, verb, by)
        except Exception as error:
            log.exception("a control request failed")
            return refusal(EmulationError.__name__, f"{type(error).__name__}: {error}")

    def _refuse(self, kind: str, error: Exception, verb: object, author: str) -> bytes:
        """The reply that says no; what would have changed something is in the event log, with its author."""
        changes = isinstance(verb, str) and verb in COMMANDS and COMMANDS[verb].role != "observe"
        if changes and self._refusals.take(b"", self._bench.monotonic_ns()):
            self._bench.events.record("command", author=author, verb=verb, phase="refused", error=str(error)[:LONGEST])
        return refusal(kind, str(error))

    def do(self, command: Command, author: str = "") -> Any:
        """What a command answers. Raises BentpipeError for what cannot be done."""
        if not isinstance(command, Timed):
            return plain(self._ask(command))
        try:
            return self._done(self._act(command, self._bench.operator.moment(command.at), author))
        except ValueError as error:
            if isinstance(error, BentpipeError):
                raise
            raise ScenarioError([f"{command.verb}: {error}"]) from error

    def _ask(self, command: Command) -> Any:
        """What needs no time."""
        bench = self._bench
        match command:
            case model.Addresses():
                terminal, datacenter = bench.terminal, bench.datacenter
                return {
                    "terminal": terminal.ipv4,
                    "terminal6": terminal.ipv6,
                    "datacenter": datacenter.ipv4,
                    "datacenter6": datacenter.ipv6,
                }
            case model.State():
                return bench.state()
            case model.Counters():
                return with_class_names(plain(bench.counters()), bench.operator.class_names)
            case model.Plan(duration_s=duration_s, start=start):
                try:
                    start_ns = bench.utc_ns() if start is None else parse_utc_ns(start)
                except ValueError as error:
                    raise ScenarioError([f"plan: start: {error}"]) from error
                return plan_of(bench.windows, start_ns, duration_s)
            case model.Pending():
                return bench.operator.standing()
            case model.Snapshot():
                if self._snapshot is None:
                    raise EmulationError("snapshot: this bench has no telemetry")
                return self._snapshot()
            case model.Around():
                return bench.network.do(command.verb, **command.model_dump(exclude_unset=True))
            case model.Inject():
                return self._inject(command)
        raise EmulationError(f"{command.verb}: this bench does not know how")

    def _act(self, command: Timed, at: Moment, author: str) -> Done:
        """What has a time."""
        operator = self._bench.operator
        match command:
            case model.Clear(number=number):
                return operator.clear(number, at, author)
            case model.Handover(satellite=satellite):
                return operator.hand_over(satellite, at, author)
            case model.PinCommand(satellite=satellite, gateway=gateway):
                if satellite is None and gateway is None:
                    raise ValueError("expected a satellite, a gateway, or both")
                return operator.pin(satellite, gateway, at, author)
            case model.Unpin():
                return operator.pin(None, None, at, author)
            case model.Freeze():
                return operator.freeze(at, author)
            case model.Resume():
                return operator.resume(at, author)
            case model.Jump(to=to, before_s=before_s):
                return operator.jump(to, round(before_s * 1e9), at, author)
            case model.Limit():
                if command.packets is None and command.queue_bytes is None:
                    raise ValueError("expected packets, queue_bytes, or both")
                both: tuple[Direction, ...] = ("uplink", "downlink")
                ways = both if command.direction == "both" else (command.direction,)
                return operator.limit(command.traffic_class, ways, command.packets, command.queue_bytes, at, author)
            case model.Mark(text=text):
                return operator.call("mark", lambda: {"text": text}, at, author)
            case model.Capture(switch=switch, options=options):
                captures = self._captures
                if captures is None:
                    raise EmulationError("capture: this bench has no captures")
                return operator.call("capture", lambda: captures(switch == "on", options), at, author, switch=switch)
            case model.Stop():
                stop = self._on_stop
                if stop is None:
                    raise EmulationError("this bench ends with its command, and cannot be stopped from outside")
                return operator.call("stop", stop, at, author)
        event = event_of(command)
        values = command.model_dump(exclude={"at"}, exclude_none=True)
        return operator.lay(command.verb, [event], at, author, **values)

    def _done(self, done: Done) -> dict[str, Any]:
        answer = asdict(done)
        return plain({**answer.pop("data"), **answer})  # type: ignore[no-any-return]

    def _inject(self, command: model.Inject) -> Any:
        packets = command.packets
        for number, packet in enumerate(packets):
            if not 20 <= len(packet) <= MAX_PACKET_BYTES or packet[0] >> 4 not in (4, 6):
                expected = f"expected the 20 to {MAX_PACKET_BYTES} bytes of an IP packet"
                raise ScenarioError([f"inject: packets.{number}: {expected}"])
        utc_ns = self._bench.utc_ns()
        for packet in packets:
            self._bench.inject(command.direction, packet, command.place)
        return {"packets": len(packets), "bytes": sum(map(len, packets)), "utc_ns": utc_ns}


def with_class_names(counters: Any, names: Callable[[Direction], Sequence[str]]) -> Any:
    """Counters as a map, with the name of its class in each direction's lanes."""
    for direction in get_args(Direction):
        of_direction = counters.get(direction, {})
        if lanes := of_direction.get("lanes"):
            named = zip(names(direction), lanes, strict=True)
            of_direction["lanes"] = [{"name": name, **lane} for name, lane in named]
    return counters


def event_of(command: Timed) -> OverlayEvent:
    """The change of the overlay that a command stands for; it begins when the command takes effect."""
    if isinstance(command, model.Overlay):
        return command.event
    lasting = command.model_dump()
    basis: dict[str, Any] = {
        "at_s": 0.0,
        "duration_s": lasting["duration_s"] or FOR_EVER_S,
        "direction": lasting["direction"],
    }
    match command:
        case model.Outage(cause=cause):
            return OverlayEvent(kind="outage", cause=cause, **basis)
        case model.Drop():
            return OverlayEvent(kind="outage", **basis)
        case model.Hold():
            return OverlayEvent(kind="hold", **basis)
        case model.Fade(fade_db=fade_db):
            return OverlayEvent(kind="fade", fade_db=fade_db, **basis)
        case model.Delay(delay_ms=delay_ms):
            return OverlayEvent(kind="extra_delay", extra_delay_ms=delay_ms, **basis)
        case model.Jitter(jitter_ms=jitter_ms):
            return OverlayEvent(kind="jitter", jitter_ms=jitter_ms, **basis)
        case model.Loss(loss=loss):
            return OverlayEvent(kind="loss", loss=loss, **basis)
    raise EmulationError(f"{command.verb}: this bench does not know how")


def refusal(kind: str, text: str) -> bytes:
    """A reply that says no. kind: the name of a class of emulator.errors, or MessageError."""
    sendable = text[:LONGEST].encode("utf-8", "replace").decode("utf-8")  # a file name may be no UTF-8
    return encode({"version": VERSION, "ok": False, "kind": kind, "error": sendable})
