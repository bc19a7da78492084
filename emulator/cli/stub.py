"""`bentpipe stub`: serves one of the terminal's own interfaces alone, without a link."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from emulator.cli import complete
from emulator.cli.options import json_option, scenario_options, start_option
from emulator.scenario import Scenario
from emulator.units import NS_PER_S, count_of, format_utc

if TYPE_CHECKING:
    from emulator.terminal import Mount

SILENCE_NS = 3 * NS_PER_S
ENDINGS = {signal.SIGTERM: 143, signal.SIGHUP: 129}  # 128 + the signal's number, as shells count


def _list_kinds(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    """Prints the kinds, a line each, and ends the command."""
    if wanted:
        from firmware_stubs.registry import KINDS, NETWORK_KINDS

        summaries = {name: kind.summary for name, kind in KINDS.items()}
        summaries |= {name: kind.summary for name, kind in NETWORK_KINDS.items()}
        width = max(map(len, summaries))
        for name, summary in summaries.items():
            click.echo(f"{name:{width}}  {summary}")
        context.exit()


@click.command()
@click.argument("kind", metavar="KIND", shell_complete=complete.stubs)
@click.option(
    "--list", is_flag=True, is_eager=True, expose_value=False, callback=_list_kinds, help="Name the kinds, and end."
)
@click.option(
    "--port",
    required=True,
    metavar="PORT",
    help="Path of a link to make to a pty, `pty` to choose one, a serial device such as /dev/ttyUSB0, "
    "tcp:127.0.0.1:4533 (port 0: any free one), rfc2217:127.0.0.1:2217, unix:PATH; or a port elsewhere at which the "
    "stub is to answer: rfc2217://HOST:PORT, socket://HOST:PORT.",
)
@click.option(
    "--baud",
    type=click.IntRange(1),
    metavar="RATE",
    help="Of the line.  [default: what the hardware is delivered with; over TCP, bytes take no time]",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND[=SHARE][@START+LENGTH]",
    help="What the line does wrong: cut, stuck, noise, lost, partial, echo; SHARE of the bytes; from START for LENGTH "
    "seconds, such as noise=0.01 or cut@10+5; repeatable.",
)
@click.option(
    "--hardware",
    metavar="PORT",
    help="Put the device at this serial port, or pyserial's URL, behind PORT instead of a stub, and watch it.",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write what passes, with its times, as JSON lines.",
)
@click.option(
    "--antenna",
    multiple=True,
    metavar="KEY=VALUE",
    help="What an antenna's mount can do, such as azimuth_rate_deg_s=3, backlash_deg=0.5 or keyhole_deg=5; repeatable.",
)
@click.option(
    "--mailbox",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="Of a message service's gateway: what the terminal sends is put into mo/, what is moved into mt/ goes to it.  "
    "[default: in memory]",
)
@click.option(
    "--bars", type=click.IntRange(0, 5), default=5, show_default=True, help="Signal of a message service; 0: none."
)
@click.option(
    "--session-s",
    type=click.FloatRange(0, 3600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a session with the gateway takes.",
)
@scenario_options(default="starlink_2025")
@start_option
@json_option
def stub(
    kind: str,
    port: str,
    baud: int | None,
    faults: tuple[str, ...],
    hardware: str | None,
    record: Path | None,
    antenna: tuple[str, ...],
    mailbox: Path | None,
    bars: int,
    session_s: float,
    scenario: Scenario,
    start_utc_ns: int | None,
    as_json: bool,
) -> None:
    """Serve one of the terminal's own interfaces on a serial line or on TCP, until Ctrl-C.

    KIND is one of those that --list names. The first line on stdout is what a client opens.
    """
    from emulator.bench.runtime import runtime_root
    from emulator.terminal import Antenna, Terminal
    from firmware_stubs.gateway import MessageGateway, Service, always
    from firmware_stubs.registry import KINDS, NETWORK_KINDS

    if kind not in KINDS and kind not in NETWORK_KINDS:
        raise click.UsageError(f"KIND: expected one of {', '.join([*KINDS, *NETWORK_KINDS])}, got {kind!r}")
    if kind in NETWORK_KINDS:
        from emulator.cli.stub_dish import serve_dish

        with _ends_in_order():
            serve_dish(port, scenario, start_utc_ns, as_json=as_json)
        return
    from firmware_stubs.lines import CHOOSE, remove_stale_links
    from firmware_stubs.record import Recorder
    from firmware_stubs.registry import Hardware, find
    from firmware_stubs.transport import open_stub
    from firmware_stubs.wire import LineFault

    line_faults = tuple(LineFault.parse(text) for text in faults)
    found = find(kind)
    attached = Hardware(
        antenna=Antenna(_mount(antenna)),
        gateway=MessageGateway(mailbox),
        service_at=always(Service(bars=bars, latency_ns=round(session_s * NS_PER_S))),
    )
    began_ns = time.time_ns()
    shift_ns = start_utc_ns - began_ns if start_utc_ns is not None else 0
    terminal = Terminal.from_scenario(scenario, began_ns + shift_ns)

    def utc_ns() -> int:
        return time.time_ns() + shift_ns

    directory = runtime_root() if port == CHOOSE else None
    if directory is not None:
        remove_stale_links(directory)
    if hardware is not None:
        with _ends_in_order():
            _watch(found.name, port, hardware, baud or found.baud, directory, record, utc_ns)
        return
    with _ends_in_order(), Recorder(record, utc_ns) if record else contextlib.nullcontext() as recorder:
        serving = open_stub(
            found,
            terminal.state,
            port,
            hardware=attached,
            utc_ns=utc_ns,
            directory=directory,
            baud=baud,
            faults=line_faults,
            recorder=recorder,
        )
        try:
            if as_json:
                facts = {
                    "port": serving.address,
                    "device": serving.device,
                    "kind": found.name,
                    "start_utc": format_utc(began_ns + shift_ns),
                }
                click.echo(json.dumps(facts))
            else:
                click.echo(serving.address)
            sys.stdout.flush()
            click.echo(f"{found.summary}, at {serving.address}; Ctrl-C ends it", err=True)
            serving.serve()
        finally:
            serving.close()
            counts = serving.statistics()
            click.echo(
                f"received {count_of(counts.received, 'byte')}, sent {counts.sent}, unheard {counts.unheard}, "
                f"dropped {counts.dropped}",
                err=True,
            )


def _watch(
    kind: str,
    port: str,
    url: str,
    baud: int,
    directory: Path | None,
    record: Path | None,
    utc_ns: Callable[[], int],
) -> None:
    """Hardware behind `port`, until a signal ends the process."""
    import threading

    from firmware_stubs.registry import bridge

    served = bridge(kind, port, url, baud, silence_ns=SILENCE_NS, utc_ns=utc_ns, directory=directory, record=record)
    served.start()
    try:
        click.echo(served.address)
        sys.stdout.flush()
        click.echo(f"the {kind} at {url}, at {served.address}; Ctrl-C ends it", err=True)
        threading.Event().wait()
    finally:
        served.stop()


def _mount(settings: tuple[str, ...]) -> Mount:
    """The mount that `KEY=VALUE` describe. Raises ScenarioError."""
    from emulator.errors import ScenarioError
    from emulator.terminal import Mount

    keys, numbers, faults = {field.name for field in fields(Mount)}, dict[str, float](), list[str]()
    for setting in settings:
        key, _, value = setting.partition("=")
        try:
            numbers[key] = float(value)
        except ValueError:
            faults.append(f"--antenna: {key}: expected a number, got {value!r}")
        if key not in keys:
            faults.append(f"--antenna: {key}: expected one of {', '.join(sorted(keys))}")
    if faults:
        raise ScenarioError(faults)
    return Mount(**numbers)


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
