"""The verbs that change a running bench, as methods: the same for a bench in this process, for one elsewhere, and for
asyncio. `Answer` is what they return: a map, or an awaitable of one. See docs/reference/control.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from emulator.control import model
from emulator.control.model import Cause, Command, Directions
from emulator.scenario.model import OverlayEvent

Answer = TypeVar("Answer")
Reply = dict[str, Any]


class Verbs(Generic[Answer]):
    """Every method raises ScenarioError for a value out of bounds, EmulationError for what cannot be done.

    at: when it takes effect: `now`, a UTC, `+seconds`, `next-slot`, `next-handover`, `next-outage`, `next-contact`.
    The answer has `number`, `monotonic_ns`, `utc_ns` (when it takes effect), `late_ns` and `scheduled`.
    duration_s: how long it lasts; None: until `clear`.
    """

    def do(self, command: Command) -> Answer:
        """Gives any command of emulator.control.model."""
        raise NotImplementedError

    def outage(
        self,
        duration_s: float | None = None,
        *,
        direction: Directions = "both",
        cause: Cause = "command",
        at: str = "now",
    ) -> Answer:
        """What is sent is lost; cause: as what it is shown and counted."""
        return self._give("outage", duration_s=duration_s, direction=direction, cause=cause, at=at)

    def hold(self, duration_s: float | None = None, *, direction: Directions = "both", at: str = "now") -> Answer:
        """Packets wait, and leave in order when it ends."""
        return self._give("hold", duration_s=duration_s, direction=direction, at=at)

    def drop(self, duration_s: float | None = None, *, direction: Directions = "both", at: str = "now") -> Answer:
        """What is sent is lost, counted as `command`."""
        return self._give("drop", duration_s=duration_s, direction=direction, at=at)

    def fade(
        self, fade_db: float, duration_s: float | None = None, *, direction: Directions = "both", at: str = "now"
    ) -> Answer:
        """Takes dB from the C/N, which MODCOD and rate follow."""
        return self._give("fade", fade_db=fade_db, duration_s=duration_s, direction=direction, at=at)

    def delay(
        self, delay_ms: float, duration_s: float | None = None, *, direction: Directions = "both", at: str = "now"
    ) -> Answer:
        """Adds to the one-way delay."""
        return self._give("delay", delay_ms=delay_ms, duration_s=duration_s, direction=direction, at=at)

    def jitter(
        self, jitter_ms: float, duration_s: float | None = None, *, direction: Directions = "both", at: str = "now"
    ) -> Answer:
        """Adds to the mean of the jitter."""
        return self._give("jitter", jitter_ms=jitter_ms, duration_s=duration_s, direction=direction, at=at)

    def loss(
        self, loss: float, duration_s: float | None = None, *, direction: Directions = "both", at: str = "now"
    ) -> Answer:
        """Adds to the loss, a probability."""
        return self._give("loss", loss=loss, duration_s=duration_s, direction=direction, at=at)

    def overlay(self, event: OverlayEvent | Mapping[str, Any], *, at: str = "now") -> Answer:
        """Any change that a scenario's [[overlay]] can hold; `at_s` counts from `at`."""
        return self._give("overlay", event=event if isinstance(event, OverlayEvent) else dict(event), at=at)

    def clear(self, number: int | None = None, *, at: str = "now") -> Answer:
        """Ends what a command, or all, have put on the link or are still to do."""
        return self._give("clear", number=number, at=at)

    def handover(self, satellite: str | None = None, *, at: str = "now") -> Answer:
        """Another satellite serves, until the next slot or handover that the plan has."""
        return self._give("handover", satellite=satellite, at=at)

    def pin(self, satellite: str | None = None, gateway: str | None = None, *, at: str = "now") -> Answer:
        """Nobody but these may serve."""
        return self._give("pin", satellite=satellite, gateway=gateway, at=at)

    def unpin(self, *, at: str = "now") -> Answer:
        """The policy chooses again."""
        return self._give("unpin", at=at)

    def freeze(self, *, at: str = "now") -> Answer:
        """The Timeline stands still; packets go on."""
        return self._give("freeze", at=at)

    def resume(self, *, at: str = "now") -> Answer:
        """The Timeline goes on from where it stood."""
        return self._give("resume", at=at)

    def jump(self, to: str, *, before_s: float = 1.0, at: str = "now") -> Answer:
        """Simulated UTC becomes `to`: a UTC, ±seconds, or so long before the next slot, handover, outage, contact."""
        return self._give("jump", to=to, before_s=before_s, at=at)

    def limit(
        self,
        traffic_class: str | None = None,
        *,
        packets: int | None = None,
        queue_bytes: int | None = None,
        direction: Directions = "both",
        at: str = "now",
    ) -> Answer:
        """Another limit for the queue of a class; None: that of all traffic without a class."""
        values = {"packets": packets, "queue_bytes": queue_bytes, "direction": direction, "at": at}
        return self._give("limit", traffic_class=traffic_class, **values)

    def mark(self, text: str, *, at: str = "now") -> Answer:
        """A line in the event log and in telemetry."""
        return self._give("mark", text=text, at=at)

    def capture(self, switch: str, options: Mapping[str, Any] | None = None, *, at: str = "now") -> Answer:
        """Captures `on` or `off`."""
        return self._give("capture", switch=switch, options=dict(options or {}), at=at)

    def mail(self, device: str = "") -> Answer:
        """How many messages are at the gateway of a message service."""
        return self._give("mail", device=device)

    def mail_send(self, message: bytes, *, device: str = "", topic: int | None = None) -> Answer:
        """Leaves a message for the terminal."""
        return self._give("mail_send", message=message, device=device, topic=topic)

    def mail_take(self, *, device: str = "", done: str = "") -> Answer:
        """The oldest message from the terminal, after that called `done` was removed."""
        return self._give("mail_take", device=device, done=done)

    def stop(self, *, at: str = "now") -> Answer:
        """Asks the bench to end."""
        return self._give("stop", at=at)

    def _give(self, verb: str, **values: Any) -> Answer:
        return self.do(model.parse(verb, values))


def values_of(command: Command) -> dict[str, Any]:
    """A command as it goes over the wire, without what is left at its default."""
    values = command.model_dump(exclude_unset=True)
    if isinstance(command, model.Overlay):
        values["event"] = command.event.model_dump(exclude_unset=True)
    return values
