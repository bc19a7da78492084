"""`bentpipe stub`: serves one of the terminal's own interfaces alone, without a link."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import click

from emulator.cli.options import json_option, scenario_options, start_option
from emulator.scenario import Scenario
from emulator.units import format_utc

ENDINGS = {signal.SIGTERM: 143, signal.SIGHUP: 129}  # 128 + the signal's number, as shells count


@click.command()
@click.argument("kind", metavar="KIND")
@click.option(
    "--port",
    required=True,
    metavar="PORT",
    help="Path of a link to make to a pty, `pty` to choose one, or a serial device such as /dev/ttyUSB0.",
)
@click.option(
    "--baud",
    type=click.IntRange(1),
    metavar="RATE",
    help="Of a serial device.  [default: what the hardware is delivered with]",
)
@scenario_options(default="starlink_2025")
@start_option
@json_option
def stub(kind: str, port: str, baud: int | None, scenario: Scenario, start_utc_ns: int | None, as_json: bool) -> None:
    """Serve one of the terminal's own interfaces on a serial line, until Ctrl-C.

    KIND is nmea, a GNSS receiver. The first line on stdout is the path that a client opens.
    """
    from emulator.bench.runtime import runtime_root
    from emulator.terminal import Terminal
    from firmware_stubs.lines import CHOOSE, open_line, remove_stale_links
    from firmware_stubs.registry import find
    from firmware_stubs.transport import StubServer

    found, terminal = find(kind), Terminal.from_scenario(scenario)
    began_ns = time.time_ns()
    shift_ns = start_utc_ns - began_ns if start_utc_ns is not None else 0

    def utc_ns() -> int:
        return time.time_ns() + shift_ns

    directory = runtime_root() if port == CHOOSE else None
    if directory is not None:
        remove_stale_links(directory)
    with _ends_in_order():
        line = open_line(port, name=found.name, baud=baud or found.baud, directory=directory)
        server = StubServer(found.make(terminal.state, utc_ns()), line, utc_ns)
        try:
            if as_json:
                facts = {
                    "port": str(line.path),
                    "device": line.device,
                    "kind": found.name,
                    "start_utc": format_utc(began_ns + shift_ns),
                }
                click.echo(json.dumps(facts))
            else:
                click.echo(line.path)
            sys.stdout.flush()
            click.echo(f"{found.summary}, at {line.path}; Ctrl-C ends it", err=True)
            server.serve()
        finally:
            line.close()
            counts = server.statistics()
            click.echo(
                f"received {counts.received} bytes, sent {counts.sent}, unheard {counts.unheard}, "
                f"dropped {counts.dropped}",
                err=True,
            )


@contextlib.contextmanager
def _ends_in_order() -> Iterator[None]:
    """SIGTERM, and a terminal that is closed, unwind as Ctrl-C does, so that the link is removed."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(ENDINGS[signal.Signals(number)])

    before = {number: signal.signal(number, leave) for number in ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
