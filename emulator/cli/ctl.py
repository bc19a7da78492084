"""`bentpipe ctl`: the commands of a running bench, one subcommand for each verb of the command model."""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin

import click
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from emulator.cli.options import bench_elsewhere_options, parse_duration_ns, read_by
from emulator.cli.words import state_lines
from emulator.control.model import COMMANDS, Command, Lasting, State, Timed
from emulator.units import NS_PER_S, format_utc

ELSEWHERE = {"inject", "access", "new_address", "attach", "detach", "attachments"}  # have commands of their own
BYTES = {"mail_send", "mail_take"}  # for programs; a shell has the mailbox's directory


class VerbGroup(click.Group):
    """Its subcommands come from the model, in its order."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [verb for verb in COMMANDS if verb not in ELSEWHERE | BYTES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _subcommand(COMMANDS[cmd_name]) if cmd_name in self.list_commands(ctx) else None


@click.group(cls=VerbGroup)
@bench_elsewhere_options("a bench")
@click.pass_context
def ctl(ctx: click.Context, pid: int | None, endpoint: str | None, keys: Path | None, name: str | None) -> None:
    """Command a running bench: see and change its link.

    \b
    bentpipe ctl state
    bentpipe ctl outage --duration 5s
    bentpipe ctl fade 12 --direction downlink --at next-slot
    bentpipe ctl jump next-handover

    Every change takes effect at a stated time (--at), is answered with that time, and is in the event log. AT is now, a
    UTC, +SECONDS, next-slot, next-handover, next-outage or next-contact; what comes too late takes effect at once and
    says so.
    """
    if endpoint is not None and pid is not None:
        raise click.UsageError("--bench and --endpoint: one of them names the bench")
    ctx.obj = {"target": endpoint if endpoint is not None else pid, "keys": keys, "name": name}


def _subcommand(command: type[Command]) -> click.Command:
    def give(as_json: bool, **values: Any) -> None:
        from emulator.control.client import ControlClient
        from emulator.control.model import parse

        chosen = {name: value for name, value in values.items() if value not in (None, ())}
        _shape(command, chosen)
        asked = parse(command.verb, chosen)
        place = click.get_current_context().obj
        with ControlClient(**place, author=getpass.getuser()[:64]) as client:
            if not isinstance(asked, Timed):
                answer = client.request(command.verb, **chosen)
                if command is State and not as_json:
                    click.echo("\n".join(state_lines(answer)))
                else:
                    click.echo(json.dumps(answer, indent=1, default=str))
                return
            _tell(asked, client.do(asked), as_json)

    give.__doc__ = command.__doc__
    made: click.Command = click.command(command.verb, help=command.__doc__)(give)
    made.params = [
        *(_parameter(name, field) for name, field in command.model_fields.items()),
        click.Option(["--json", "as_json"], is_flag=True, help="Print JSON on stdout."),
    ]
    return made


def _parameter(name: str, field: FieldInfo) -> click.Parameter:
    """An argument for what is required, or for the number of `clear`; an option for all else."""
    if name in {"event", "options"}:
        return click.Option(
            ["--set", name],
            multiple=True,
            metavar="KEY=VALUE",
            help=f"{field.description}; may be repeated.",
            required=field.is_required(),
        )
    kind = _type_of(name, field)
    if field.is_required() or name == "number":
        return click.Argument([name], type=kind, required=field.is_required(), metavar=_metavar(name, field))
    if name == "duration_s":
        return click.Option(
            ["--duration", name], callback=read_by(parse_duration_ns), metavar="DURATION", help=field.description
        )
    flag = f"--{name.replace('_', '-')}"
    default = None if field.default is None else field.default
    shown = default is not None
    return click.Option([flag, name], type=kind, default=default, show_default=shown, help=field.description)


def _metavar(name: str, field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return "|".join(get_args(field.annotation))
    return name.upper() if field.is_required() else f"[{name.upper()}]"


def _type_of(name: str, field: FieldInfo) -> Any:
    annotation = field.annotation
    plain = next((one for one in get_args(annotation) if one is not type(None)), annotation)
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation))
    bounds = {type(one): one for one in field.metadata}
    if plain in (int, float):
        low, high = bounds.get(Ge) or bounds.get(Gt), bounds.get(Le) or bounds.get(Lt)
        limits: dict[str, Any] = {
            "min": getattr(low, "ge", getattr(low, "gt", None)),
            "max": getattr(high, "le", getattr(high, "lt", None)),
            "min_open": isinstance(low, Gt),
            "max_open": isinstance(high, Lt),
        }
        return click.IntRange(**limits) if plain is int else Quantity(name.rpartition("_")[2], **limits)
    return str


class Quantity(click.FloatRange):
    """A number, with its unit behind it if wanted: 30, 30ms, 0.03s; 12dB; 0.05, 5%. unit: that of the plain number."""

    FACTORS: ClassVar[dict[str, dict[str, float]]] = {
        "ms": {"ms": 1.0, "s": 1e3}, "s": {"s": 1.0, "ms": 1e-3}, "db": {"db": 1.0}, "loss": {"%": 1e-2}
    }  # fmt: skip

    def __init__(self, unit: str, **limits: Any) -> None:
        super().__init__(**limits)
        self._factors = self.FACTORS.get(unit, {})

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str):
            number, unit = re.fullmatch(r"\s*(.*?)\s*([a-zA-Z%]*)\s*", value, re.DOTALL).groups()  # type: ignore[union-attr]
            try:
                value = float(number) * (self._factors[unit.lower()] if unit else 1.0)
            except (KeyError, ValueError):
                units = f", or one with its unit ({', '.join(self._factors)})" if self._factors else ""
                self.fail(f"expected a number{units}, got {value!r}", param, ctx)
        return super().convert(value, param, ctx)


def _shape(command: type[Command], values: dict[str, Any]) -> None:
    """What click read, as the model takes it."""
    if "duration_s" in values and isinstance(values["duration_s"], int):
        values["duration_s"] /= NS_PER_S
    for name in ("event", "options"):
        if name in values:
            values[name] = dict(_pair(text) for text in values[name])


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--set: expected KEY=VALUE, got {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _tell(command: Timed, done: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(done, default=str))
    else:
        when = "will take effect" if done["scheduled"] else "in effect"
        click.echo(f"{done['number']}: {command.verb} {when} at {format_utc(done['utc_ns'])}{more_of(command, done)}")
    if done["late_ns"] > 0:
        click.echo(f"bentpipe: late by {done['late_ns'] / NS_PER_S:.3f} s", err=True)


def more_of(command: Timed, done: Mapping[str, Any]) -> str:
    """What there is to say of a command beside when it takes effect, to be put behind that."""
    if "to_utc" in done:
        return f", it becomes {done['to_utc']}"
    if isinstance(command, Lasting) and command.duration_s is None:
        return f", until `bentpipe ctl clear {done['number']}`"
    if "file" in done:
        return f", to {done['file']}"
    if "files" in done:
        return f": {done['packets']} packets, {done['lost']} lost to the capture, in {', '.join(done['files'])}"
    return ""
