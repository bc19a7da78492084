"""`bentpipe selftest`: is the link that is commanded the link that independent tools measure here?"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from emulator.cli.options import json_option
from emulator.errors import EmulationError

if TYPE_CHECKING:
    from emulator.testing.selftest.certificate import Certificate

NAMES = ("delay", "rate", "loss", "clock")


@click.command()
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="Measure this alone. May be repeated.")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Write certificate.json and certificate.html there.",
)  # fmt: skip
@json_option
def selftest(only: tuple[str, ...], output: Path | None, as_json: bool) -> None:
    """Measure delay, rate, loss, reordering and clock of this machine's benches, and say by which margin they hold.

    By ping, irtt and iperf3 where they are installed, and by own probes, on links whose truth is known; half a minute.
    What a lab files before it trusts a bench: a certificate with the intervals, what is allowed, and the margins.
    """
    from emulator.bench.privilege import ensure_network_privilege

    ensure_network_privilege()
    from emulator.cli.progress import progress
    from emulator.testing.selftest.certificate import Certificate, write_certificate
    from emulator.testing.selftest.trials import TRIALS, perform

    chosen = [trial for trial in TRIALS if not only or trial.name in only]
    results, done_s = [], 0.0
    with progress("selftest", round(sum(trial.seconds for trial in chosen))) as told:
        for trial in chosen:
            if not sys.stderr.isatty():
                click.echo(f"bentpipe: measuring {trial.name}, about {trial.seconds:.0f} s", err=True)
            results += perform(trial)
            done_s += trial.seconds
            told(round(done_s))
    certificate = Certificate(tuple(results), time.time_ns())
    if output is not None:
        for path in write_certificate(certificate, output).values():
            click.echo(path, err=True)
    if as_json:
        click.echo(json.dumps(certificate.as_json(), indent=1))
    else:
        _print_table(certificate)
    if certificate.outcome != "passed":
        raise EmulationError(f"selftest: {certificate.outcome}; the lines above say what")


def _print_table(certificate: Certificate) -> None:
    from rich import box
    from rich.table import Table

    from emulator.cli.console import console_for
    from emulator.testing.report import figure
    from emulator.testing.selftest.certificate import margin_of, outcome_of

    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("what", "by", "commanded", "measured (95 % sure)", "margin", ""):
        table.add_column(heading, overflow="fold")
    for result in certificate.results:
        verdict = result.verdict
        if verdict is None:
            table.add_row(result.what, result.tool, result.commanded, result.fault, "", "not measured")
            continue
        interval = verdict.interval
        measured = f"{figure(interval.estimate)} {verdict.unit} ({figure(interval.low)} to {figure(interval.high)})"
        table.add_row(result.what, result.tool, result.commanded, measured, margin_of(result), outcome_of(result))
    console = console_for(width_elsewhere=160)
    console.print(table)
    for line in certificate.faults:
        console.print(f"invalid: {line}")
