"""`bentpipe link`: the link of a bench in three parts; its ends come from elsewhere."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import click

from emulator.cli.bring_up import running_bench, tell
from emulator.cli.options import (
    duration_option,
    elements_option,
    json_option,
    scenario_options,
    serving_options,
    start_option,
)
from emulator.cli.run import show, stay
from emulator.scenario import Scenario


@click.command()
@scenario_options()
@click.option("--listen", multiple=True, required=True, metavar="ENDPOINT",
              help="Where the ends find the link: ipc://PATH, or tcp://ADDRESS:PORT, which needs --keys. "
              "May be repeated.")  # fmt: skip
@start_option
@elements_option
@duration_option(help_text="Stop after this long.  [default: Ctrl-C]")
@serving_options
@click.option("--realtime", is_flag=True, help="Run the packet loop at real-time priority.")
@click.option("--quiet", is_flag=True, help="No live view.")
@json_option
def link(
    scenario: Scenario,
    listen: tuple[str, ...],
    start_utc_ns: int | None,
    elements: Path | None,
    duration_ns: int | None,
    log: Path | None,
    control: tuple[str, ...],
    telemetry: tuple[str, ...],
    keys: Path | None,
    realtime: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run the link of a bench in three parts, and print its counters: `bentpipe terminal` and `gateway` are its ends.

    The same SCENARIO and seed make the same channel as in `bentpipe run`. Commands, telemetry, captures and injection
    are offered here. Ends may go and come back; what is lost meanwhile is counted, cause transport.
    """
    stop = threading.Event()
    with running_bench(
        scenario,
        isolate=False,
        start_utc_ns=start_utc_ns,
        elements=elements,
        realtime=realtime,
        stop=stop,
        log=log,
        control=control,
        telemetry=telemetry,
        keys=keys,
        listen=listen,
    ) as bench:
        try:
            with contextlib.suppress(KeyboardInterrupt):
                tell(f"waiting for the ends at {', '.join(listen)}")
                stay(bench, scenario, stop, duration_ns, quiet=quiet)
        except SystemExit:  # SIGTERM, SIGHUP: the counters all the same, then the status that says so
            show(bench, as_json=as_json)
            raise
        show(bench, as_json=as_json)
