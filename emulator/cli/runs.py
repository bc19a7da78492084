"""`bentpipe runs`: what is in the store of runs."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from emulator.cli.options import json_option
from emulator.units import count_of

if TYPE_CHECKING:
    from emulator.testing.store import Run


@click.command()
@click.argument("numbers", nargs=-1, type=int, metavar="[RUN...]")
@click.option(
    "--where", multiple=True, metavar="COLUMN=PATTERN",
    help="Only runs whose kind, name, outcome, scenario, seed, start_utc, version or machine is so, * for anything.",
)  # fmt: skip
@click.option("--figure", "figures", multiple=True, metavar="NAME", help="Show this figure. May be repeated.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many, the latest.")
@click.option("--keep", type=click.IntRange(0), metavar="N", help="Remove all but the latest N runs, and say how many.")
@click.option("--days", type=click.FloatRange(0), metavar="D", help="Remove runs that finished more than D days ago.")
@click.option(
    "--store", "path", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="The store of runs.  [default: $BENTPIPE_STORE, or the user's own]",
)  # fmt: skip
@json_option
def runs(
    numbers: tuple[int, ...],
    where: tuple[str, ...],
    figures: tuple[str, ...],
    limit: int,
    keep: int | None,
    days: float | None,
    path: Path | None,
    as_json: bool,
) -> None:
    """Show the runs of the store, the latest first; with RUN numbers, all that is known of these."""
    from emulator.testing.store import Store, default_path

    conditions = {}
    for text in where:
        column, equals, pattern = text.partition("=")
        if not equals:
            raise click.BadParameter(f"expected COLUMN=PATTERN, got {text!r}", param_hint="--where")
        conditions[column] = pattern
    with Store(path or default_path(), read=True) as store:
        if keep is not None or days is not None:
            click.echo(f"removed {count_of(store.prune(keep=keep, days=days), 'run')}")
            return
        found = store.runs(where=conditions, limit=None if numbers else limit, numbers=numbers)
        if missing := [str(number) for number in numbers if number not in {run.number for run in found}]:
            there = store.runs(where=conditions, limit=1)
            latest = f"the latest is run {there[0].number}" if there else "it has none"
            like = " like that" if conditions else ""
            raise click.BadParameter(f"{store.path} has no run {', '.join(missing)}{like}; {latest}", param_hint="RUN")
    if as_json or numbers:
        click.echo(json.dumps([as_plain(run) for run in found], indent=1, allow_nan=False))
        return
    _refuse_unknown(figures, found)
    _print_table(found, figures)


def _refuse_unknown(figures: tuple[str, ...], found: list[Run]) -> None:
    """Raises BadParameter for a figure that none of the runs has, naming those that they have."""
    known = {name for run in found for name in run.figures}
    unknown = [name for name in figures if name not in known]
    if found and unknown:
        have = f"expected one of {', '.join(sorted(known))}" if known else "there are none"
        asked = f"no figure of {count_of(len(found), 'run')} is called {unknown[0]}"
        raise click.BadParameter(f"{asked}: {have}", param_hint="--figure")


def as_plain(run: Run) -> dict[str, Any]:
    """A run as JSON has it; None for a figure that there is not."""
    return {
        "run": run.number,
        "key": run.key,
        "kind": run.kind,
        "name": run.name,
        "outcome": run.outcome,
        "scenario": run.scenario,
        "seed": run.seed,
        "start_utc": run.start_utc,
        "version": run.version,
        "machine": run.machine,
        "finished_utc": _utc(run.finished_unix),
        "seconds": run.seconds,
        "parameters": dict(run.parameters),
        "figures": {name: value if math.isfinite(value) else None for name, value in run.figures.items()},
        "details": dict(run.details),
    }


def _utc(unix: float) -> str:
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _print_table(found: list[Run], figures: tuple[str, ...]) -> None:
    from rich import box
    from rich.table import Table

    from emulator.cli.console import console_for

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("run", justify="right")
    for heading in ("finished", "kind", "name", "scenario"):
        table.add_column(heading, overflow="fold")
    table.add_column("seed", justify="right")
    table.add_column("outcome")
    for name in figures:
        table.add_column(name, justify="right")
    for run in found:
        values = [f"{run.figures[name]:.4g}" if name in run.figures else "–" for name in figures]
        known = (str(run.number), _utc(run.finished_unix), run.kind, run.name, run.scenario, str(run.seed), run.outcome)
        table.add_row(*known, *values)
    console_for(width_elsewhere=160).print(table)
