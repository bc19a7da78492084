"""`bentpipe terminal` and `bentpipe gateway`: one end of a bench in three parts."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from emulator.cli.bring_up import end_in_order, tell
from emulator.cli.options import card_option, duration_option, json_option, scenario_options
from emulator.errors import EmulationError, EndpointError
from emulator.scenario import Scenario
from emulator.units import NS_PER_S, count_of

if TYPE_CHECKING:
    from emulator.bench.end_side import Role
    from emulator.ports.end_process import EndProcess

LOOK_S = 0.25
TIMED_OUT_STATUS = 124  # as timeout(1) has it


def end_command(role: Role, default_isolation: bool, help_text: str) -> click.Command:
    """The command for one of the two roles: they differ in a name and a default."""

    @click.command(role, help=help_text)
    @scenario_options()
    @click.argument("command", nargs=-1, metavar="[-- CMD...]")
    @click.option("--link", "endpoint", required=True, metavar="ENDPOINT",
                  help="Where the link listens: ipc://PATH, or tcp://ADDRESS:PORT, which needs --keys.")  # fmt: skip
    @click.option("--keys", type=click.Path(file_okay=False, path_type=Path), metavar="DIRECTORY",
                  help="Our CURVE keys and the link's server.key; see `bentpipe keys`.")  # fmt: skip
    @click.option("--as", "name", metavar="NAME", help="Which client of --keys we are, if it holds several.")
    @card_option("terminal" if role == "terminal" else "datacenter")
    @click.option("--isolate/--no-isolate", default=default_isolation, show_default=True,
                  help="A network namespace of its own for this side, or the machine's own network.")  # fmt: skip
    @click.option("--realtime", is_flag=True, help="Carry the packets at real-time priority.")
    @duration_option(help_text="Stop after this long.  [default: Ctrl-C, or the end of CMD]")
    @json_option
    def part(**options: Any) -> int:
        return run_end(role, **options)

    return part


def run_end(
    role: Role,
    scenario: Scenario,
    command: tuple[str, ...],
    endpoint: str,
    keys: Path | None,
    name: str | None,
    isolate: bool,
    realtime: bool,
    duration_ns: int | None,
    as_json: bool,
) -> int:
    """Runs an end until it is told to stop, CMD ends or the link refuses it; the exit status is CMD's, if there is one.

    Raises EndpointError if it is refused, EmulationError if its process or its interface goes.
    """
    from emulator.bench.commands import check_command
    from emulator.bench.privilege import ensure_network_privilege
    from emulator.ports.curve import check_endpoint, client_name
    from emulator.ports.end_process import EndProcess

    check_endpoint(endpoint, keys)
    if endpoint.startswith("tcp://") and keys is not None:
        name = name or client_name(keys)
    if command:
        check_command(command)
    end = EndProcess(role)  # before an ordinary user gets a network of its own: its sockets belong to this one
    status = 0
    try:
        ensure_network_privilege()
        end_in_order()
        from emulator.bench.end_side import open_end

        with open_end(scenario, role, isolate=isolate, warn=tell) as opened:
            settings = dict(opened.settings)
            if keys is not None and endpoint.startswith("tcp://"):
                settings |= {"keys": str(keys.resolve()), "name": name}
            end.prepare(settings, opened.descriptors)
            end.begin(endpoint)
            if realtime:
                end.order(realtime=True)
            side = opened.side
            if scenario.ports.kind == "nic":
                tell(f"{role} behind the network card {side.port.name}")
            else:
                tell(f"{role} at {side.ipv4} on {side.port.name}; a shell there: bentpipe enter --bench {os.getpid()}"
                     + (" --at datacenter" if role == "gateway" else ""))  # fmt: skip
            start: Callable[[], subprocess.Popen[Any]] | None = None
            if command:
                start = functools.partial(side.popen, list(command))
            with contextlib.suppress(KeyboardInterrupt):
                status = follow(end, endpoint, start, duration_ns, opened.failures)
            end.stop()
    finally:
        end.stop()
        if end.totals:
            show(role, end.totals, as_json=as_json)
    return status


def follow(
    end: EndProcess,
    endpoint: str,
    start: Callable[[], subprocess.Popen[Any]] | None,
    duration_ns: int | None,
    failures: Sequence[EmulationError],
) -> int:
    """Tells what happens to an end until it is over, and gives the exit status. start: CMD, once there is a link.

    Raises EndpointError if it is refused, EmulationError if its process or its interface goes; the first of `failures`.
    """
    process: subprocess.Popen[Any] | None = None
    waiting = True
    ends = None if duration_ns is None else time.monotonic() + duration_ns / NS_PER_S
    while True:
        found = end.told(LOOK_S)
        match found:
            case None:
                end.check()
                if waiting:
                    tell(f"waiting for the link at {endpoint}" + (", before CMD starts" if start is not None else ""))
                    waiting = False
                if failures:
                    raise failures[0]
            case {"event": "linked", "times": times}:
                tell(f"connected with the link at {endpoint}{' again' if times > 1 else ''}")
                waiting = False
                if start is not None and process is None:
                    process = start()
            case {"event": "lost", "text": text}:
                tell(f"{text}: what comes is dropped until the link is back")
            case {"event": "failed", "text": text}:
                raise EndpointError(f"{endpoint}: {text}")
            case {"event": "fault"}:
                raise EmulationError(f"the {end.role}'s part lost its interface: was it removed from outside?")
        if process is not None and process.poll() is not None:
            return process.returncode if process.returncode >= 0 else 128 - process.returncode
        if ends is not None and time.monotonic() >= ends:
            return TIMED_OUT_STATUS if start is not None else 0


def show(role: str, totals: dict[str, int], *, as_json: bool) -> None:
    """What the end has carried, whatever became of the link meanwhile; on stdout with --json, else on stderr."""
    counts = {name: count for name, count in totals.items() if name != "event"}
    if as_json:
        click.echo(json.dumps({"role": role, **counts}))
        return
    taken, times = count_of(counts["taken"], "packet"), count_of(counts["sessions"], "time")
    tell(
        f"{role}: {taken} taken, {counts['lost']} of them lost without link or room; "
        f"{counts['delivered']} delivered, {counts['dropped']} dropped; connected {times}"
    )


terminal = end_command(
    "terminal",
    True,
    """Run the terminal's end of a bench in three parts: a device whose packets `bentpipe link` emulates.

    SCENARIO's ports must be those of the link's. With CMD: run it at this side as soon as there is a link, and end with
    it. Where CMD is not given, `bentpipe enter` gives a shell here.
    """,
)
gateway = end_command(
    "gateway",
    False,
    """Run the gateway's end of a bench in three parts, where the datacenter's side begins.

    SCENARIO's ports must be those of the link's. With CMD: run it at this side as soon as there is a link, and end with
    it. Where CMD is not given and this side is isolated, `bentpipe enter --at datacenter` gives a shell here.
    """,
)
