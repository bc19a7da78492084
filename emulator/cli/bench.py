"""`bentpipe bench`: measure the packet path on this machine, beside what the kernel does in the same run."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import click

from emulator.cli.options import json_option
from emulator.errors import EmulationError
from emulator.testing.performance.names import BY_NAME, MEASURES, QUICK, USUAL

ROUNDS, SECONDS = 3, 3.0
TABLE_COLUMNS = 160  # of a table that goes to a file or a pipe
TERMINATED_STATUS = {signal.SIGTERM: 143, signal.SIGHUP: 129}  # 128 + signal, as shells count


@click.command()
@click.option(
    "--quick", is_flag=True, help=f"One round of the main figures ({', '.join(QUICK)}), in less than a minute."
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(list(MEASURES)),
    metavar="NAME",
    help=f"Measure this, and its baseline: {', '.join(MEASURES)}. May be repeated. Without it, all but "
    f"{', '.join(BY_NAME)} are measured.",
)
@click.option("--realtime", is_flag=True, help="Run the packet loop at real-time priority.")
@json_option
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the report as JSON to FILE, and the table on stdout.",
)
@click.option("--markdown", "as_markdown", is_flag=True, help="The table in Markdown, for a page.")
def bench(
    quick: bool, only: tuple[str, ...], realtime: bool, as_json: bool, output: Path | None, as_markdown: bool
) -> None:
    """Measure the packet path on this machine: TCP, UDP, lateness, CPU, memory, time to the first packet.

    Each figure stands beside a baseline that is taken in the same run: the kernel's own forwarding between two veth
    pairs. Everything happens in network namespaces of our own. Load on the machine changes the figures: it is told.
    """
    from emulator.bench.privilege import ensure_network_privilege

    ensure_network_privilege()  # before anything starts a thread: the kernel moves only processes of one
    from emulator.cli.console import console_for
    from emulator.output import STDOUT, output_file
    from emulator.ports.relay import is_compiled
    from emulator.testing.performance.measures import chosen_trials
    from emulator.testing.performance.places import Settings
    from emulator.testing.performance.run import expected_s, measure
    from emulator.testing.performance.table import markdown, render

    if output == STDOUT:
        output, as_json = None, True  # the table then goes to stderr
    settings = Settings(
        rounds=1 if quick else ROUNDS,
        seconds=SECONDS,
        realtime=realtime,
        tool="iperf3" if shutil.which("iperf3") else "own",
    )
    keys = chosen_trials(only or (QUICK if quick else USUAL))
    total_s = expected_s(keys, settings)
    errors = console_for(stderr=True)
    compiles = "" if is_compiled() else ", and some 30 s more to compile the packet path for this machine, once"
    errors.print(
        f"bentpipe: measuring for about {total_s:.0f} s{compiles}; leave the machine alone meanwhile", soft_wrap=True
    )
    with _orderly_end(), output_file(output) if output else contextlib.nullcontext() as file:
        with _progress(total_s, errors) as told:
            report = measure(keys, settings, told)
        text = json.dumps(report.as_json(), indent=1)
        if file is not None:
            file.write(text.encode() + b"\n")
    if as_json and output is None:
        click.echo(text)
    on_stderr = as_json and output is None
    if as_markdown:
        click.echo(markdown(report), err=on_stderr)
    else:
        console_for(stderr=on_stderr, width_elsewhere=TABLE_COLUMNS).print(render(report))
    if report.failures:
        raise EmulationError(
            f"{len(report.failures)} of {len(keys)} measurements failed; the report says which, and why"
        )


@contextlib.contextmanager
def _progress(total_s: float, console: object) -> Iterator[Callable[[float, str], None]]:
    """A bar on a terminal, a line per trial elsewhere; both on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    assert isinstance(console, Console)
    if not sys.stderr.isatty():
        yield lambda done_s, what: click.echo(f"bentpipe: {done_s:.0f} of {total_s:.0f} s: {what}", err=True)
        return
    columns = (
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total_s)
        yield lambda done_s, what: bar.update(task, completed=done_s, description=what)


@contextlib.contextmanager
def _orderly_end() -> Iterator[None]:
    """SIGTERM and SIGHUP take down what we have built, and end us with the status that a shell expects."""

    def terminated(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED_STATUS[signal.Signals(number)])

    with contextlib.ExitStack() as restore:
        for number in TERMINATED_STATUS:
            restore.callback(signal.signal, number, signal.signal(number, terminated))
        yield
