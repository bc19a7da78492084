"""`bentpipe fleet`: the future of many terminals' links under one sky."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from emulator.cli.options import duration_option, elements_option, output_option, scenario_options, start_option
from emulator.cli.progress import progress, working
from emulator.output import output_file
from emulator.scenario.model import Scenario
from emulator.units import NS_PER_S, count_of

NAMED = 5  # terminals that are never served, on stderr


@click.command()
@scenario_options()
@click.argument("terminals", type=click.Path(dir_okay=False, path_type=Path), metavar="TERMINALS.csv")
@start_option
@duration_option("1h", help_text="How much of the future: 10m, 1h, 24h.")
@elements_option
@click.option("--jobs", type=click.IntRange(1), help="Processes.  [default: one per core, from 40 terminals on]")
@output_option("the table (.csv)")
def fleet(
    scenario: Scenario,
    terminals: Path,
    start_utc_ns: int | None,
    duration_ns: int,
    elements: Path | None,
    jobs: int | None,
    output: Path | None,
) -> None:
    """Print who serves many terminals, and their delays and rates, as CSV: a row for each slot of each terminal.

    TERMINALS.csv has a line for each: latitude_deg, longitude_deg, and name, altitude_m, min_elevation_deg if wanted;
    all else is the scenario's. A row holds as its slot begins (Starlink: 15 s; other systems: a UTC minute); delays are
    one way, without queue and jitter; gate and cause are as if the change of satellite there took no time. Where nobody
    serves, all but time, gate and cause is empty. The terminal of line n + 2 has the scenario's seed and n: `bentpipe
    plan` with its place and seed shows every second of it. Rows come hour by hour, in the order of the file.
    """
    from emulator.timeline.fleet import FLEET_COLUMNS, Fleet, parts, read_places

    start_ns = int(time.time()) * NS_PER_S if start_utc_ns is None else start_utc_ns
    places = read_places(terminals, scenario)
    with working("reading elements"):
        crew = Fleet(scenario, elements=elements, epoch_utc_ns=start_ns)
    for note in crew.notes:
        click.echo(f"bentpipe: {note}", err=True)
    served: dict[int, int] = {}
    asked = done_ns = 0
    with (
        output_file(output) as file,
        progress("planning", len(places) * duration_ns, quiet=output is None and sys.stdout.isatty()) as advance,
    ):
        file.write((",".join(FLEET_COLUMNS) + "\n").encode())
        work = parts(scenario, places, start_ns, start_ns + duration_ns, elements=elements, fleet=crew, jobs=jobs)
        for more_ns, part in work:
            file.write(part.lines)
            for number, (up, rows) in part.served.items():
                served[number] = served.get(number, 0) + up
                asked += rows
            done_ns += more_ns
            advance(done_ns)
    if not asked:
        click.echo("bentpipe: no rows: no slot begins in this time, take a longer --duration", err=True)
        return
    share = 100 * sum(served.values()) / asked
    crowd, told = count_of(len(places), "terminal", ","), count_of(asked, "row", ",")
    click.echo(f"bentpipe: {crowd}, {told}, served in {share:.2f} % of them", err=True)
    never = [place.name for place in places if served.get(place.number) == 0]
    if never:
        listed = ", ".join(never[:NAMED]) + (", …" if len(never) > NAMED else "")
        are = "is" if len(never) == 1 else "are"
        click.echo(f"bentpipe: {count_of(len(never), 'terminal', ',')} {are} never served: {listed}", err=True)
