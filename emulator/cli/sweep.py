"""`bentpipe sweep`: many runs of a link, in virtual time or real, into the store of runs."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from emulator.cli.options import duration_option, json_option
from emulator.cli.progress import working
from emulator.errors import EmulationError
from emulator.output import output_file
from emulator.units import NS_PER_S, count_of, parse_utc_ns

if TYPE_CHECKING:
    from emulator.testing.store import Run
    from emulator.testing.sweeps.matrix import Case

DEFAULT_START = "2026-01-01T00:00:00Z"
PLAIN_EVERY_S = 10.0  # on a stderr that is no terminal


@click.command()
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...")
@click.option("--seeds", default="1-10", show_default=True, metavar="LIST", help="Such as 1-100 or 1,5,7-9.")
@click.option(
    "--start", "starts", multiple=True, default=(DEFAULT_START,), show_default=True, metavar="UTC",
    help="Simulated UTC at the start. May be repeated.",
)  # fmt: skip
@click.option("--vary", multiple=True, metavar="KEY=V,V,…", help="A key and its values. May be repeated.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key in every run.")
@duration_option("10m")
@click.option("--packets", type=click.IntRange(1), default=10_000, show_default=True, help="Per run and direction.")
@click.option("--packet-bytes", type=click.IntRange(28, 65_535), default=200, show_default=True, help="Of each packet.")
@click.option("--real", is_flag=True, help="In real time, through a bench: one for each core but one.")
@click.option("--jobs", type=click.IntRange(1), help="Processes on this machine.  [default: one per core]")
@click.option("--scheduler", metavar="ADDRESS", help="A scheduler of distributed, tcp://HOST:PORT, in their place.")
@click.option(
    "--store", "path", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="The store of runs.  [default: $BENTPIPE_STORE, or the user's own]",
)  # fmt: skip
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.png",
    help="Draw every run and the medians with their intervals (.png, .svg or .pdf).",
)  # fmt: skip
@click.option("--again", is_flag=True, help="Run also what the store has already.")
@json_option
def sweep(
    scenarios: tuple[str, ...],
    seeds: str,
    starts: tuple[str, ...],
    vary: tuple[str, ...],
    overrides: tuple[str, ...],
    duration_ns: int,
    packets: int,
    packet_bytes: int,
    real: bool,
    jobs: int | None,
    scheduler: str | None,
    path: Path | None,
    plot: Path | None,
    again: bool,
    as_json: bool,
) -> int:
    """Run every combination of scenarios, seeds, starts and parameters, and keep the results.

    In virtual time, where ten minutes take less than a second, unless told otherwise: packets at even distances go
    through both directions of the link. What the store has already is not run again: the same command goes on after a
    stop. The table shows, for each scenario and its parameters, the median over all runs and its 95 % interval. Runs in
    which the emulation fell behind are invalid: they prove nothing, are not in the median, and are run again.
    """
    if plot is not None:
        from emulator.timeline.plot import require_format

        require_format(plot)
    if real:
        from emulator.bench.privilege import ensure_network_privilege

        ensure_network_privilege()
    from emulator.cli.bring_up import COMPILING
    from emulator.testing.store import Store, default_path
    from emulator.testing.sweeps.crew import run_sweep, work_here, work_on_cluster
    from emulator.testing.sweeps.matrix import Load, expand, parse_parameter, parse_seeds

    try:
        cases = expand(
            scenarios,
            seeds=parse_seeds(seeds),
            starts_utc_ns=[parse_utc_ns(start) for start in starts],
            parameters=dict(parse_parameter(text) for text in vary),
            duration_ns=duration_ns,
            load=Load(packets, packet_bytes),
            live=real,
            overrides=overrides,
        )
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        raise click.UsageError(str(error)) from error
    store_path = path or default_path()
    cores = len(os.sched_getaffinity(0))
    workers = jobs or (max(1, cores - 1) if real else cores)
    work = (
        functools.partial(work_on_cluster, address=scheduler)
        if scheduler
        else functools.partial(work_here, workers=workers)
    )
    with Store(store_path) as store:
        known = set() if again else store.finished([case.key for case in cases])
        todo = [case for case in cases if case.key not in known]
        click.echo(
            f"bentpipe: {count_of(len(cases), 'run')}, {len(known)} of them in {store_path} already"
            + (f"; {len(todo)} to do" if todo else ""),
            err=True,
        )
        if todo and not (real or scheduler):
            from emulator.taps.replay import is_compiled

            if not is_compiled():
                click.echo(f"bentpipe: {COMPILING}", err=True)
        began_s = time.monotonic()
        try:
            with _progress(len(todo)) as told:
                errors = run_sweep(todo, work, store.add, told) if todo else {}
        except KeyboardInterrupt:
            click.echo("bentpipe: stopped; what is finished is kept, and the same command goes on from here", err=True)
            raise
        if todo:
            click.echo(
                f"bentpipe: {count_of(len(todo) - len(errors), 'run')} in {time.monotonic() - began_s:.1f} s", err=True
            )
        results = _in_order(cases, store.runs(where={"kind": "sweep"}))
    if as_json:
        from emulator.cli.runs import as_plain

        click.echo(json.dumps([as_plain(run) for run in results], indent=1))
    else:
        _print_table(results)
    if plot is not None and results:
        from emulator.testing.sweeps.medians import group_runs
        from emulator.testing.sweeps.picture import draw_sweep

        of_each = f"{duration_ns / NS_PER_S:g} s of each, {count_of(packets, 'packet', ',')} each way; downlink"
        with working("drawing"), output_file(plot) as file:
            draw_sweep(group_runs(results), file, file_format=plot.suffix[1:], title=f"Sweep: {of_each}")
    if errors:
        _tell_errors(errors, cases)
    if invalid := [run for run in results if run.outcome == "invalid"]:
        why = next(iter(invalid[0].details["faults"]))
        raise EmulationError(
            f"sweep: {len(invalid)} of {len(cases)} runs are invalid, for the emulation fell behind: {why}; the same "
            "command runs them again, with --jobs 1 there is more of the machine for each"
        )
    return 0


def _in_order(cases: Sequence[Case], runs: Sequence[Run]) -> list[Run]:
    by_key = {run.key: run for run in runs}
    return [by_key[case.key] for case in cases if case.key in by_key]


def _tell_errors(errors: dict[str, str], cases: Sequence[Case]) -> None:
    names = {case.key: f"{' '.join([case.scenario, *case.overrides])}, seed {case.seed}" for case in cases}
    for key, line in list(errors.items())[:10]:
        click.echo(f"bentpipe: {names[key]}: {line}", err=True)
    raise EmulationError(f"sweep: {len(errors)} of {count_of(len(cases), 'run')} without a result")


def _progress(total: int):  # type: ignore[no-untyped-def]
    """A bar on a terminal; elsewhere a line now and then."""
    import contextlib
    import sys

    from emulator.cli.progress import progress

    if sys.stderr.isatty():
        return progress("sweep", total)
    told_s = [time.monotonic()]

    def tell(done: int) -> None:
        if time.monotonic() - told_s[0] >= PLAIN_EVERY_S:
            told_s[0] = time.monotonic()
            click.echo(f"bentpipe: {done} of {total} runs", err=True)

    return contextlib.nullcontext(tell)


def _print_table(results: Sequence[Run]) -> None:
    from rich import box
    from rich.table import Table

    from emulator.cli.console import console_for
    from emulator.testing.sweeps.medians import SHOWN, group_runs, interval_in_words

    table = Table(box=box.SIMPLE_HEAD, title="median over the runs, downlink (95 % interval)", title_justify="left")
    table.add_column("scenario and parameters")
    table.add_column("runs", justify="right")
    for heading in SHOWN.values():
        table.add_column(heading, justify="right")
    for group in group_runs(results):
        cells = []
        for figure in SHOWN:
            found = group.median(figure)
            if found is None:
                cells.append("–")
                continue
            cells.append(f"{found.estimate:.4g} ({interval_in_words(found, len(group.values[figure]))})")
        invalid = f", {group.invalid} invalid" if group.invalid else ""
        table.add_row(group.name, f"{group.runs}{invalid}", *cells)
    console_for(width_elsewhere=160).print(table)
