"""The command model: every verb of a running bench, what it takes, who may give it. The one source of the CLI's `ctl`,
of the wire format, of the Python API's checks and of docs/reference/control.md.

Fields have their units in their names; `at` says when a command takes effect.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from emulator.errors import ScenarioError
from emulator.ports.curve import Role
from emulator.scenario.model import OverlayEvent

Direction = Literal["uplink", "downlink"]
Directions = Literal["both", "uplink", "downlink"]
Cause = Literal["command", "outage", "obstruction", "no_satellite", "handover", "fade"]

LONGEST_PLAN_S = 600.0
MAX_PACKETS = 1000  # per request
MAX_PACKET_BYTES = 65_535
MAX_MESSAGE_BYTES = 100_000  # of a message service: the longest of any

At = Annotated[str, StringConstraints(min_length=1, max_length=40)]
Place = Annotated[str, StringConstraints(max_length=200)]
MailName = Annotated[
    str, StringConstraints(max_length=200, pattern=r"^([^./\x00][^/\x00]*)?$")
]  # no way out of a folder
Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class Command(BaseModel):
    """Base of all; a subclass is a verb, its docstring the verb's summary."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    verb: ClassVar[str]
    role: ClassVar[Role] = "control"
    answer: ClassVar[str] = ""  # what stands in the result, beside what every timed command has


class Timed(Command):
    """A command that takes effect at an instant."""

    at: At = Field("now", description="now, UTC, +SECONDS, next-slot, next-handover, next-outage, next-contact")


class Lasting(Timed):
    """A command whose effect lasts for a while."""

    duration_s: float | None = Field(None, gt=0, le=1e9, description="how long it lasts; without, until `clear`")
    direction: Directions = Field("both", description="the direction that it acts on")


class Addresses(Command):
    """The addresses of the link's two ends."""

    verb, role = "addresses", "observe"
    answer = "`terminal`, `datacenter`, `terminal6`, `datacenter6`; the last two empty without IPv6"


class State(Command):
    """The link now."""

    verb, role = "state", "observe"
    answer = (
        "`utc_ns`, `satellite`, `gateway`, `azimuth_deg`, `elevation_deg`, `slant_range_m`, `next_handover_ns`, and "
        "per direction `delay_ns`, `rate_bps`, `loss`, `gate`, `cause`; `antenna`: null without one, or "
        "`beam_azimuth_deg`, `beam_elevation_deg`, `off_deg` (off the satellite; null while nobody knows), "
        "`receive_loss_db`, `transmit_loss_db`, `blocked_db`, `beacon_db` (the C/N that it receives), `locked`; "
        "`dish`: what a dish that is served does, as tracking, booting, stowed; or empty"
    )


class Counters(Command):
    """The packets so far."""

    verb, role = "counters", "observe"
    answer = (
        "`uplink`, `downlink`: offered, delivered, held and dropped packets, `dropped` by cause, `lanes`: its queues, "
        "each with the `name` of its class, the last one `other`; `relay`: lateness"
    )


class Plan(Command):
    """What is planned ahead, overlay not included."""

    verb, role = "plan", "observe"
    answer = (
        "`start_ns`, `end_ns` (UTC); `path`: a map per row, with `utc_ns`, `satellite`, `gateway`, `elevation_deg`, "
        "`slot`; `uplink`, `downlink`: likewise `utc_ns`, `delay_ns`, `rate_bps`, `loss`, `gate`, `cause`; the UTC of "
        "every `slot`, `handover`, `outage` and `contact`"
    )
    duration_s: float = Field(60.0, gt=0, le=LONGEST_PLAN_S, description="how far")
    start: At | None = Field(None, description="from this UTC on; without, from now on")


class Pending(Command):
    """The commands that are in force or still to come."""

    verb, role = "pending", "observe"
    answer = "a list: `number`, `verb`, `author`, `in_force`, `utc_ns`, `values`"


class Snapshot(Command):
    """Where telemetry stands: what a subscriber that comes late has missed."""

    verb, role = "snapshot", "observe"
    answer = "as the telemetry topic `snapshot`"


class Inject(Command):
    """Sends IP packets into the link."""

    verb, role = "inject", "packets"
    answer = "`packets`, `bytes`, `utc_ns`"
    direction: Direction = Field(description="uplink: as if the terminal's side had sent it")
    place: Literal["before", "after"] = Field("before", description="after: as if the packets had crossed the link")
    packets: list[bytes] = Field(
        min_length=1, max_length=MAX_PACKETS, description=f"whole IP packets of 20 to {MAX_PACKET_BYTES} bytes"
    )


class Around(Command):
    """A command for what stands around the link: networks, and what is attached to its ends."""


class Access(Around):
    """The operator's network: public address, mappings, what was refused, the proxy's counters."""

    verb, role = "access", "observe"
    answer = "see `bentpipe access --json`"


class NewAddress(Around):
    """Another point of presence now: the public address changes."""

    verb = "new_address"
    answer = "as of `access`"


class Attach(Around):
    """Puts a namespace, a bridge or a network card behind one end of the link."""

    verb = "attach"
    answer = "see `bentpipe attach --json`"
    at: Literal["terminal", "datacenter"] = Field(description="behind which end")
    kind: Literal["namespace", "bridge", "nic"] = Field(description="what")
    where: Place = Field(description="as `bentpipe attach` takes it")
    target: Place = Field(description="its name")
    device: Place = Field("", description="its device")
    network: Place = Field("", description="its network")
    interface: Place = Field("", description="its interface")
    vlan: int = Field(0, ge=0, le=4094, description="of a network card; 0: none")
    default_route: bool = Field(True, description="whether its default route leads to the link")


class Detach(Around):
    """Takes away what was attached."""

    verb = "detach"
    answer = "see `bentpipe detach`"
    name: Place = Field(description="which")


class Attachments(Around):
    """What is attached."""

    verb, role = "attachments", "observe"
    answer = "a list"


class Paths(Around):
    """The several paths, if there are."""

    verb, role = "paths", "observe"
    answer = "see `bentpipe paths --json`"


class Daemons(Around):
    """The programs that the scenario keeps at its sides."""

    verb, role = "daemons", "observe"
    answer = "a list: name, at, alive, ended, routes_removed"


class UsePath(Around):
    """New connections take another path."""

    verb = "use_path"
    answer = "that path"
    name: Place = Field(description="which")


class Mail(Around):
    """The gateway of a message service's stub, at the datacenter's side: what is there."""

    verb, role = "mail", "observe"
    answer = "`device`; `from_terminal`, `for_terminal`: how many messages"
    device: Place = Field("", description="its kind, a second one of a kind as `sbd1`; empty: the only one")


class MailSend(Around):
    """Leaves a message for the terminal, behind those that are there."""

    verb, role = "mail_send", "packets"
    answer = "`device`, `name`"
    device: Place = Field("", description="as of `mail`")
    message: bytes = Field(max_length=MAX_MESSAGE_BYTES, description="what is too long for the terminal is put aside")
    topic: int | None = Field(None, ge=0, le=65_535, description="of a 9704's message; without, the raw one")


class MailTake(Around):
    """The oldest message from the terminal. It stays until it is named as done, so that none is lost on the way."""

    verb, role = "mail_take", "packets"
    answer = "`device`, `name`, `message`; the name is empty if there is none"
    device: Place = Field("", description="as of `mail`")
    done: MailName = Field("", description="name of the one before, which is then removed; empty: none")


class Outage(Lasting):
    """What is sent is lost."""

    verb = "outage"
    cause: Cause = Field("command", description="as what it is shown and counted")


class Hold(Lasting):
    """Packets wait, and leave in order when it ends."""

    verb = "hold"


class Drop(Lasting):
    """A gate that is shut by command: what is sent is lost, counted as `command`."""

    verb = "drop"


class Fade(Lasting):
    """Takes dB from the C/N: the MODCOD follows, then the rate, then the link."""

    verb = "fade"
    fade_db: float = Field(gt=0, le=100, description="attenuation")


class Delay(Lasting):
    """Adds to the delay."""

    verb = "delay"
    delay_ms: float = Field(gt=0, le=60_000, description="one way, in each direction that it acts on")


class Jitter(Lasting):
    """Adds to the jitter."""

    verb = "jitter"
    jitter_ms: float = Field(gt=0, le=60_000, description="mean of what is added")


class Loss(Lasting):
    """Adds to the loss."""

    verb = "loss"
    loss: float = Field(gt=0, le=1, description="probability")


class Overlay(Timed):
    """Any change that a scenario's `[[overlay]]` can hold."""

    verb = "overlay"
    event: OverlayEvent = Field(description="its keys; `at_s` counts from `at`")


class Clear(Timed):
    """Ends what commands have put on the link, and what they are still to do; pins and standstill stay."""

    verb = "clear"
    answer = "`cleared`: their numbers"
    number: int | None = Field(None, ge=1, description="of one command; without, all")


class Handover(Timed):
    """Another satellite serves, until the next slot, or the next handover that the plan has."""

    verb = "handover"
    satellite: Name | None = Field(None, description="that satellite; without, the one that the policy likes next")


class PinCommand(Timed):
    """Nobody but this satellite, this gateway, may serve; while they cannot, nobody does."""

    verb = "pin"
    satellite: Name | None = Field(None, description="by its name; without, any")
    gateway: Name | None = Field(None, description="by its name; without, any")


class Unpin(Timed):
    """The policy chooses again."""

    verb = "unpin"


class Freeze(Timed):
    """The Timeline stands still: delay, rate, loss and gates stay as they are; packets go on."""

    verb = "freeze"


class Resume(Timed):
    """The Timeline goes on from where it stood."""

    verb = "resume"


class Jump(Timed):
    """Simulated UTC jumps; the packets' clock goes on without a gap."""

    verb = "jump"
    answer = "`from_utc_ns`, `to_utc_ns`"
    to: At = Field(description="a UTC, +SECONDS or -SECONDS, next-slot, next-handover, next-outage or next-contact")
    before_s: float = Field(1.0, ge=0, le=3600, description="so long before the next-…, to see it come")


class Limit(Timed):
    """Another limit for a queue; what waits there already stays."""

    verb = "limit"
    traffic_class: Name | None = Field(None, description="of this class of the scenario; without, of all other traffic")
    direction: Directions = Field("both", description="whose queue")
    packets: int | None = Field(None, ge=1, le=1 << 20, description="at most what the scenario's queue was made for")
    queue_bytes: int | None = Field(None, ge=0, le=1 << 40, description="0: no limit in bytes")


class Mark(Timed):
    """A line in the event log and in telemetry, for whoever reads them later."""

    verb = "mark"
    text: Annotated[str, StringConstraints(min_length=1, max_length=500)] = Field(description="what to note")


class Capture(Timed):
    """Captures on or off."""

    verb = "capture"
    answer = "on: `file`; off: `packets`, `lost`, `files`"
    switch: Literal["on", "off"] = Field(description="which")
    options: dict[Name, str | int | float | bool] = Field(
        default_factory=dict, max_length=20, description="as `bentpipe capture` takes them"
    )


class Stop(Timed):
    """The bench ends; refused by a bench that ends with its command."""

    verb = "stop"


COMMANDS: dict[str, type[Command]] = {
    one.verb: one
    for one in (
        Addresses, State, Counters, Plan, Pending, Snapshot, Access, NewAddress, Attach, Detach, Attachments, Inject,
        Paths, UsePath, Daemons, Mail, MailSend, MailTake, Outage, Hold, Drop, Fade, Delay, Jitter, Loss,
        Overlay, Clear, Handover, PinCommand, Unpin, Freeze, Resume, Jump, Limit, Mark, Capture, Stop,
    )
}  # fmt: skip


def may(roles: frozenset[Role], command: type[Command]) -> bool:
    """Whether somebody with these roles may give a command: control may also observe."""
    return command.role in roles or (command.role == "observe" and "control" in roles)


def parse(verb: str, values: dict[str, Any]) -> Command:
    """A command from its values. Raises ScenarioError with a line per fault, KeyError for an unknown verb."""
    from pydantic import ValidationError

    try:
        return COMMANDS[verb].model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        raise ScenarioError([_fault_line(verb, fault) for fault in faults]) from error


def _fault_line(verb: str, fault: Any) -> str:
    key = ".".join(map(str, fault["loc"])) or verb
    return f"{verb}: {key}: {fault['msg']}, got {fault['input']!r:.60}"
