"""What the commands share: the scenario argument with its overrides, instants, durations, output."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from emulator.cli import complete
from emulator.output import STDOUT
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns

P = ParamSpec("P")
R = TypeVar("R")

_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)(?:s|$))?"
    r"(?:(\d+(?:\.\d+)?)ms)?",
    re.ASCII,
)
_NS_OF_UNIT = (86_400 * NS_PER_S, 3_600 * NS_PER_S, 60 * NS_PER_S, NS_PER_S, NS_PER_MS)


def parse_duration_ns(text: str) -> int:
    """`10m`, `45s`, `200ms`, `1h30m`, `2d`, or plain seconds (`90`) → ns. Raises ValueError; zero is refused."""
    match = _DURATION.fullmatch(text.strip().lower())
    numbers = match.groups() if match else ()
    duration_ns = sum(_exact_ns(number, unit) for number, unit in zip(numbers, _NS_OF_UNIT, strict=False) if number)
    if duration_ns <= 0:
        raise ValueError(f"expected a duration such as 10m, 45s, 200ms, 1h30m or 90 (seconds), got {text!r}")
    return duration_ns


def _exact_ns(number: str, unit_ns: int) -> int:
    """Decimal digits, not binary fractions: 0.1 s is 100,000,000 ns."""
    whole, _, fraction = number.partition(".")
    ticks = 10 ** len(fraction)
    return int(int(whole + fraction) * unit_ns // ticks)


def read_by(parse: Callable[[str], int]) -> Callable[[click.Context, click.Parameter, str | None], int | None]:
    """A click callback: the option's text through `parse`, whose ValueError becomes a wrong command line."""

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
        if value is None:
            return None
        try:
            return parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from error

    return read


def scenario_options(default: str | None = None) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """SCENARIO, `--set` and `--seed`; the command gets them as one loaded `scenario: Scenario`.

    With a `default`, SCENARIO may be left out.
    """

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(command)
        def load_first(
            *arguments: Any,
            scenario_name: str,
            overrides: tuple[str, ...],
            seed: int | None,
            nic: tuple[str, ...] = (),
            **options: Any,
        ) -> R:
            from emulator.scenario import load_scenario
            from emulator.scenario.moot import moot_keys

            seeded = overrides if seed is None else (*overrides, f"seed={seed}")
            scenario = load_scenario(scenario_name, (*seeded, *nic))
            for line in moot_keys(scenario):
                click.echo(f"bentpipe: {scenario_name}: {line}", err=True)
            return command(*arguments, scenario=scenario, **options)

        for option in (
            click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of the channel; as --set seed=N."),
            click.option(
                "--set",
                "overrides",
                multiple=True,
                metavar="KEY=VALUE",
                shell_complete=complete.keys,
                help="Change a key of the scenario: link.delay_ms=30, gateways[0].name=north. May be repeated.",
            ),
            click.argument(
                "scenario_name",
                metavar="[SCENARIO]",
                default=default,
                required=False,
                shell_complete=complete.scenarios,
            )
            if default
            else click.argument("scenario_name", metavar="SCENARIO", shell_complete=complete.scenarios),
        ):
            load_first = option(load_first)
        return load_first

    return decorate


def nic_option(command: Callable[P, R]) -> Callable[P, R]:
    """`--nic A,B` → overrides of the scenario's ports. To be put below `scenario_options`."""
    help_text = "Stand between two network cards, at layer 2: the terminal's and the datacenter's, as in eth1,eth2."
    return _cards_option("TERMINAL,DATACENTER", ("terminal", "datacenter"), "eth1,eth2", help_text)(command)


def card_option(side: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`--nic CARD` → overrides of the scenario's ports, for the end at one side. To be put below `scenario_options`."""
    help_text = "Stand at a network card, at layer 2, and not at a device; the link and the other end then need "
    return _cards_option("CARD", (side,), "eth1", f"{help_text}ports.kind tap or nic.")


def _cards_option(
    metavar: str, sides: tuple[str, ...], example: str, help_text: str
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
        if value is None:
            return ()
        names = value.split(",")
        if len(names) != len(sides) or not all(names) or any(character in value for character in "\"'"):
            wanted = "two network cards" if len(sides) > 1 else "a network card"
            raise click.BadParameter(f"expected {wanted}, as in {example}, got {value!r}", ctx, param)
        return "ports.kind=nic", *(f'ports.{side}="{name}"' for side, name in zip(sides, names, strict=True))

    return click.option("--nic", callback=read, metavar=metavar, help=help_text)


def start_option(command: Callable[P, R]) -> Callable[P, R]:
    """`--start UTC` → `start_utc_ns: int | None`."""
    return click.option(
        "--start",
        "start_utc_ns",
        callback=read_by(parse_utc_ns),
        metavar="UTC",
        help="Simulated UTC at the start, e.g. 2025-05-29T23:21:27Z.  [default: now]",
    )(command)


def duration_option(
    default: str | None = None, *, help_text: str = "How long: 10m, 45s, 1h30m, 90 (seconds)."
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`--duration` → `duration_ns: int`, or None if there is no default and none is given."""
    return click.option(
        "--duration",
        "duration_ns",
        callback=read_by(parse_duration_ns),
        default=default,
        show_default=default or False,
        metavar="DURATION",
        help=help_text,
    )


def elements_option(command: Callable[P, R]) -> Callable[P, R]:
    """`--elements FILE` → `elements: Path | None`."""
    return click.option(
        "--elements",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="TLE or OMM file in place of the scenario's constellation.",
    )(command)


def dish_option(command: Callable[P, R]) -> Callable[P, R]:
    """`--dish` → `dish: bool`."""
    return click.option(
        "--dish", is_flag=True, help="Serve a Starlink dish at 192.168.100.1:9200 of the terminal's side; see [dish]."
    )(command)


def serving_options(command: Callable[..., R]) -> Callable[..., R]:
    """`--log`, `--control`, `--telemetry`, `--keys`: what a bench writes and serves beside its runtime directory."""
    for option in (
        click.option(
            "--keys",
            type=click.Path(file_okay=False, path_type=Path),
            metavar="DIRECTORY",
            help="CURVE keys and allow-lists for tcp:// endpoints; see `bentpipe keys`.",
        ),
        click.option(
            "--telemetry",
            multiple=True,
            metavar="ENDPOINT",
            help="Publish telemetry there too: tcp://ADDRESS:PORT, which needs --keys, or ipc://PATH. May be repeated.",
        ),
        click.option(
            "--control", multiple=True, metavar="ENDPOINT", help="Take commands there too, likewise. May be repeated."
        ),
        click.option(
            "--log",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Write what happens as JSON lines to FILE.",
        ),
    ):
        command = option(command)
    return command


def output_option(what: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`-o FILE` → `output: Path | None`; `what` is written there, or to stdout, which - stands for, too."""
    return click.option(
        "-o",
        "--output",
        callback=lambda ctx, param, value: None if value == STDOUT else value,
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help=f"Write {what} to FILE.  [default: stdout]",
    )


def json_option(command: Callable[P, R]) -> Callable[P, R]:
    """`--json` → `as_json: bool`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(command)


def bench_elsewhere_options(what: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """`--bench`, `--endpoint`, `--keys` and `--name`: how `what` is reached, here or on another machine."""

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        for option in (
            click.option("--name", metavar="NAME", help="Which client of that directory, if it has several."),
            click.option(
                "--keys",
                type=click.Path(file_okay=False, path_type=Path),
                metavar="DIRECTORY",
                help="For tcp://, a directory with server.key and NAME.key_secret; see `bentpipe keys`.",
            ),
            click.option("--endpoint", metavar="ENDPOINT", help=f"ipc://PATH or tcp://HOST:PORT of {what} elsewhere."),
            click.option(
                "--bench", "pid", type=click.IntRange(1), metavar="PID", help="Process id of the bench, if several run."
            ),
        ):
            command = option(command)
        return command

    return decorate
