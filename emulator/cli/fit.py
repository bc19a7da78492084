"""`bentpipe fit`: a profile from a measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from emulator.cli.options import output_option
from emulator.cli.trace import read_options
from emulator.output import output_file


@click.command()
@read_options
@output_option("the profile (.toml)")
def fit(source: Path, source_format: Any, gap_ns: int, halve_rtt: bool, output: Path | None) -> None:
    """Make a scenario of profile `fixed` from TRACE: delay, jitter, rate, loss and its bursts, for each direction.

    How well it fits is told on stderr and in the file's comments: quantiles of the round trip, its steps, the loss and
    the length of bursts, measured and fitted; and whether the delay jumps in slots of 15 s. TRACE is what `bentpipe
    trace` reads.
    """
    from rich.console import Console
    from rich.table import Table

    from emulator.timeline.traces.files import read_trace
    from emulator.timeline.traces.fit import fit as fitted
    from emulator.timeline.traces.fit import profile
    from emulator.timeline.traces.rows import ReadOptions

    line = read_trace(source, ReadOptions(gap_ns=gap_ns, halve_rtt=halve_rtt), file_format=source_format)
    found = fitted(line)
    text = profile(found, source.name.partition(".")[0] or "fitted", source.name)
    with output_file(output) as file:
        file.write(text.encode())
    quality = Table(box=None, pad_edge=False)
    for heading in ("", "measured", "fitted"):
        quality.add_column(heading, justify="right" if heading else "left", min_width=10)
    for one in found.quality:
        quality.add_row(one.name, f"{one.measured:.2f}", f"{one.fitted:.2f}")
    phase = "none" if found.slot_phase_s is None else f"second {found.slot_phase_s:g}"
    quality.add_row("slots of 15 s begin", phase, "–")
    console = Console(stderr=True, highlight=False)
    console.width = max(console.width, 90)
    console.print(quality)
