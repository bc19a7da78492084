"""`bentpipe plan`: the link's future, as a table and as a picture."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from emulator.cli.options import duration_option, elements_option, output_option, scenario_options, start_option
from emulator.cli.progress import progress, working
from emulator.output import output_file
from emulator.scenario.model import Scenario
from emulator.units import NS_PER_S

if TYPE_CHECKING:
    from emulator.timeline.budget import DelayPart
    from emulator.timeline.model import Contact, Ints, Timeline, Windows
    from emulator.timeline.opportunities import Delivery, Direction
    from emulator.timeline.table import Table

WINDOW_NS = 60 * NS_PER_S
MOST_PARTS = 2000  # windows whose delays are kept for the summary: 33 hours, 15 MB; beyond, every second, fourth, …


@click.command()
@scenario_options()
@start_option
@duration_option("10m", help_text="How much of the future: 45s, 10m, 24h.")
@elements_option
@output_option("the table (.csv, or .npz with the whole Timeline)")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Draw delay, rate, elevation and the serving satellite over time (.png, .svg or .pdf).",
)
@click.option(
    "--overlay", is_flag=True, help="Lay the scenario's timed changes over it, as if a bench started with the plan."
)
def plan(
    scenario: Scenario,
    start_utc_ns: int | None,
    duration_ns: int,
    elements: Path | None,
    output: Path | None,
    plot: Path | None,
    overlay: bool,
) -> None:
    """Print the link's future as CSV: a row at every change, and at least every second.

    Columns: utc, satellite, gateway, azimuth, elevation and slant range of the serving satellite, and for each
    direction the one-way delay (without queue and jitter), rate and loss (without bursts and the like: `loss` and
    overlay alone); gate (pass, hold, drop) and its cause. The same seed and the same UTC always give the same rows.
    What the delays are made of is told on stderr. Where a trace of delivery opportunities stands in the place of the
    rate, the rate is that trace's mean.
    """
    if output is not None and output.suffix not in ("", ".csv", ".npz") and (output.is_file() or not output.exists()):
        told = f"expected a name that ends in .csv or .npz, got {output.suffix!r}; `bentpipe trace` writes others"
        raise click.UsageError(f"--output {output}: {told}")
    if plot is not None:
        from emulator.timeline.plot import require_format

        require_format(plot)
    from emulator.timeline.build import windows_for
    from emulator.timeline.opportunities import deliveries, notes

    traces = deliveries(scenario)
    start_ns = int(time.time()) * NS_PER_S if start_utc_ns is None else start_utc_ns
    with working("looking for satellites"):
        windows = windows_for(scenario, elements=elements, epoch_utc_ns=start_ns)
    for note in (*windows.notes, *notes(traces)):
        click.echo(f"bentpipe: {note}", err=True)
    if scenario.overlay and not overlay:
        told = (
            f"{len(scenario.overlay)} timed changes of the overlay are not in the plan: they count from a bench's "
            "start; --overlay lays them over it, from its own start on"
        )
        click.echo(f"bentpipe: {told}", err=True)
    others = [path.scenario for path in scenario.paths if path.scenario]
    if others:
        click.echo(
            f"bentpipe: this is the first path; the others have plans of their own: {', '.join(others)}", err=True
        )
    future = Future(windows, start_ns, start_ns + duration_ns, _laid_over(scenario, start_ns, traces, overlay))
    with progress("planning", duration_ns, quiet=output is None and sys.stdout.isatty()) as advance:
        if output is not None and output.suffix == ".npz":
            _write_npz(future, output, advance)
        else:
            _write_csv(future, output, advance, keep_tables=plot is not None)
    if plot is not None:
        from emulator.timeline.plot import draw

        with working("drawing"), output_file(plot) as file:
            draw(
                future.tables,
                file,
                file_format=plot.suffix[1:],
                title=scenario.description or scenario.name,
                slot_phase_s=getattr(scenario.link, "slot_phase_s", None),
            )
    _print_budget(future)
    if future.unserved_ns:
        told = f"no satellite serves for {future.unserved_ns / NS_PER_S:.1f} of {duration_ns / NS_PER_S:.1f} s"
        click.echo(f"bentpipe: {told}", err=True)
    _print_contacts(windows.contacts(start_ns, start_ns + duration_ns))


class Future:
    """The windows of [start_ns, end_ns) as tables, made one by one; remembers what the summary needs."""

    def __init__(self, windows: Windows, start_ns: int, end_ns: int, laid_over: Callable[[Timeline], Timeline]) -> None:
        self._windows = windows
        self._laid_over = laid_over
        self._start_ns = start_ns
        self._end_ns = end_ns
        self.every = 1  # of how many windows one is in `parts`
        self.parts: list[list[DelayPart]] = []
        self.tables: list[Table] = []
        self.unserved_ns = 0

    def __iter__(self) -> Iterator[tuple[int, Timeline, Table]]:
        """How many ns are done with it, the window, and its table."""
        from emulator.timeline.causes import Cause
        from emulator.timeline.table import table

        for begin_ns in range(self._start_ns, self._end_ns, WINDOW_NS):
            end_ns = min(begin_ns + WINDOW_NS, self._end_ns)
            timeline = self._laid_over(self._windows.window(begin_ns, end_ns))
            unserved = timeline.downlink.cause == Cause.NO_SATELLITE
            self.unserved_ns += int(timeline.lasts_ns(timeline.downlink)[unserved].sum())
            if (begin_ns - self._start_ns) // WINDOW_NS % self.every == 0:
                self.parts.append(self._windows.delay_parts(begin_ns, end_ns))
            if len(self.parts) > MOST_PARTS:
                self.parts, self.every = self.parts[::2], 2 * self.every
            if begin_ns > self._start_ns:
                rows = table(timeline, goes_on=True)
            else:  # with a second more, a start between two rows has both of them
                rows = table(self._laid_over(self._windows.window(begin_ns - NS_PER_S, end_ns)), since_ns=begin_ns)
            yield end_ns - self._start_ns, timeline, rows


def _laid_over(
    scenario: Scenario, start_ns: int, traces: Mapping[Direction, Delivery], overlay: bool
) -> Callable[[Timeline], Timeline]:
    """What is done to each window that is planned: the rates of traces of opportunities, and the overlay if wanted."""
    from emulator.timeline.opportunities import with_deliveries

    if not overlay:
        return lambda timeline: with_deliveries(timeline, traces)
    from emulator.ports.planned_overlay import overlaid

    return lambda timeline: overlaid(with_deliveries(timeline, traces), scenario, start_ns)


def _write_csv(future: Future, output: Path | None, advance: Callable[[int], None], *, keep_tables: bool) -> None:
    from emulator.timeline.table import COLUMNS, csv_lines

    with output_file(output) as file:
        file.write((",".join(COLUMNS) + "\n").encode())
        for done_ns, _, rows in future:
            file.write("".join(csv_lines(rows)).encode())
            if keep_tables:
                future.tables.append(rows)
            advance(done_ns)


def _write_npz(future: Future, output: Path, advance: Callable[[int], None]) -> None:
    from emulator.timeline.save import joined, save_npz
    from emulator.timeline.table import stacked

    timelines: list[Timeline] = []
    for done_ns, timeline, rows in future:
        timelines.append(timeline)
        future.tables.append(rows)
        advance(done_ns)
    with output_file(output) as file:
        save_npz(file, joined(timelines), stacked(future.tables))


def _print_budget(future: Future) -> None:
    """What the delays are made of, on stderr."""
    import numpy as np
    from rich.table import Table as RichTable

    from emulator.cli.console import console_for
    from emulator.timeline.budget import joined, total
    from emulator.units import NS_PER_MS

    parts = joined(future.parts)
    if not parts or not len(parts[0].uplink_ns):
        return
    whole = total(parts)

    def median_and_range(samples_ns: Ints) -> tuple[str, str]:
        least, median, most = np.percentile(samples_ns / NS_PER_MS, (0, 50, 100))
        return f"{median:.2f}", "" if least == most else f"{least:.2f} – {most:.2f}"

    budget = RichTable(box=None, pad_edge=False)
    sampled = "" if future.every == 1 else f" (every {future.every}th minute)"
    budget.add_column(f"delay without queue, ms{sampled}")
    for direction in ("uplink", "downlink"):
        budget.add_column(f"{direction}, median", justify="right", min_width=8)
        budget.add_column("least – most", justify="right", min_width=13)
    for part in parts:
        budget.add_row(part.name, *median_and_range(part.uplink_ns), *median_and_range(part.downlink_ns))
    budget.add_row("one way", *median_and_range(whole.uplink_ns), *median_and_range(whole.downlink_ns), style="bold")
    budget.add_row("round trip", *median_and_range(whole.uplink_ns + whole.downlink_ns), style="bold")
    console = console_for(stderr=True, least_width=90)
    console.print(budget)
    if any(
        abs(sum(np.median(getattr(part, way)) for part in parts) - np.median(getattr(whole, way))) > NS_PER_MS / 100
        for way in ("uplink_ns", "downlink_ns")
    ):
        console.print("medians do not add up: each is of its own line")


def _print_contacts(contacts: Sequence[Contact]) -> None:
    """When which station has the spacecraft, on stderr; nothing for links without contacts."""
    if not contacts:
        return
    from rich.table import Table as RichTable

    from emulator.cli.console import console_for
    from emulator.units import format_utc

    listed = RichTable(box=None, pad_edge=False)
    listed.add_column("contact")
    for title in ("from", "to", "minutes", "highest, °"):
        listed.add_column(title, justify="right")
    for contact in contacts:
        minutes = (contact.end_ns - contact.start_ns) / (60 * NS_PER_S)
        span = (format_utc(at_ns, 0) for at_ns in (contact.start_ns, contact.end_ns))
        listed.add_row(contact.station, *span, f"{minutes:.1f}", f"{contact.highest_deg:.0f}")
    console_for(stderr=True, least_width=90).print(listed)
