"""`bentpipe watch`: what happens on a running bench, line by line."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from emulator.cli.options import bench_elsewhere_options, duration_option, json_option
from emulator.cli.words import state_lines
from emulator.control.topics import TOPICS
from emulator.units import NS_PER_S, count_of, format_utc

if TYPE_CHECKING:
    from emulator.control.subscriber import Message

QUIET = ("counters", "lag", "state", "snapshot")  # every second, and more


@click.command()
@bench_elsewhere_options("a bench's telemetry")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many messages.")
@duration_option(help_text="End after this long.  [default: with the bench]")
@json_option
@click.argument("topics", nargs=-1, metavar="[TOPIC]...", type=click.Choice(list(TOPICS)))
def watch(
    pid: int | None,
    endpoint: str | None,
    keys: Path | None,
    name: str | None,
    count: int | None,
    duration_ns: int | None,
    as_json: bool,
    topics: tuple[str, ...],
) -> None:
    """Show what happens on a running bench: handovers, outages, drops, commands, and more on request.

    TOPIC is one or more of those of the telemetry; without, all but those that come every second. What this program was
    too slow for is told on stderr.
    """
    import time

    from emulator.control.subscriber import Subscriber

    target = endpoint if endpoint is not None else pid
    chosen = topics or tuple(topic for topic in TOPICS if topic not in QUIET)
    ends_ns = None if duration_ns is None else time.monotonic_ns() + duration_ns
    with Subscriber(target, [*chosen, *(["end"] if "end" not in chosen else [])], keys=keys, name=name) as messages:
        left = count
        while left is None or left > 0:
            limit_s = None if ends_ns is None else max(0.0, (ends_ns - time.monotonic_ns()) / NS_PER_S)
            message = messages.receive(limit_s)
            if message is None:
                return
            if message.missed:
                click.echo(f"bentpipe: missed {count_of(message.missed, 'message')} of {message.topic}", err=True)
            if message.topic in chosen:
                click.echo(json.dumps(asdict(message)) if as_json else line(message))
                left = None if left is None else left - 1
            if message.topic == "end":
                return


def line(message: Message) -> str:
    """A message for a person."""
    if message.topic == "state":
        said = "; ".join(" ".join(one.split()) for one in state_lines(message.data) if not one.startswith("utc"))
        return f"{format_utc(message.utc_ns)} state {said}"
    words = " ".join(f"{key}={_short(value)}" for key, value in message.data.items())
    author = f" by {message.author}" if message.author else ""
    return f"{format_utc(message.utc_ns)} {message.topic}{author} {words}".rstrip()


def _short(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)
