"""`bentpipe fit`: a profile from a measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from emulator.cli.options import output_option, parse_duration_ns, read_by
from emulator.cli.progress import working
from emulator.cli.trace import read_options
from emulator.output import output_file
from emulator.units import NS_PER_S


@click.command()
@read_options
@click.option(
    "--varying", "varying_ns", callback=read_by(parse_duration_ns), metavar="DURATION",
    help="Make a profile that varies: delay, jitter, loss and rate of each such stretch, 15s.",
)  # fmt: skip
@output_option("the profile (.toml)")
def fit(
    source: Path, source_format: Any, gap_ns: int, halve_rtt: bool, varying_ns: int | None, output: Path | None
) -> None:
    """Make a scenario of profile `fixed` from TRACE: delay, jitter, rate, loss and its bursts, for each direction.

    How well it fits is told on stderr and in the file's comments: quantiles of the round trip, its steps, the loss and
    the length of bursts, measured and fitted; which shape the jitter has, and by how much others miss it; and whether
    the delay jumps in slots of 15 s. TRACE is what `bentpipe trace` reads.

    With --varying the profile is `trace`, on a file that is written beside it, and outages stay where they were.
    """
    from rich.table import Table

    from emulator.cli.console import console_for
    from emulator.timeline.traces import table
    from emulator.timeline.traces.files import read_trace
    from emulator.timeline.traces.fit import fit as fitted
    from emulator.timeline.traces.fit import printable, profile
    from emulator.timeline.traces.rows import ReadOptions
    from emulator.timeline.traces.varying import varying, varying_profile

    if varying_ns is not None and (output is None or output.suffix != ".toml"):
        raise click.UsageError("--varying: expected --output NAME.toml, for a trace NAME.csv is written beside it")
    if varying_ns is not None and varying_ns < NS_PER_S:
        raise click.UsageError("--varying: expected at least 1s")
    with working("fitting"):
        line = read_trace(source, ReadOptions(gap_ns=gap_ns, halve_rtt=halve_rtt), file_format=source_format)
        found = fitted(line, str(source))
    name = source.name.partition(".")[0] or "fitted"
    figures = found.quality
    if varying_ns is None or output is None:
        text = profile(found, name, source.name)
    else:
        with working("fitting its stretches"):
            made = varying(line, found, varying_ns)
        figures, beside = made.quality, output.with_suffix(".csv")
        if beside.resolve() == source.resolve():
            raise click.UsageError(f"--output: expected a name beside which {beside} is free: it is the source")
        text = varying_profile(found, made, name, printable(source.name), beside.name)
        with output_file(beside) as file:
            file.write(table.write(made.line).encode())
    with output_file(output) as file:
        file.write(text.encode())
    quality = Table(box=None, pad_edge=False)
    for heading in ("", "measured", "fitted"):
        quality.add_column(heading, justify="right" if heading else "left", min_width=10)
    for one in figures:
        quality.add_row(one.name, f"{one.measured:.2f}", f"{one.fitted:.2f}")
    phase = "none" if found.slot_phase_s is None else f"second {found.slot_phase_s:g}"
    quality.add_row("slots of 15 s begin", phase, "–")
    for way, shapes in found.shapes.items():
        for number, shape in enumerate(shapes[:3]):
            title = f"jitter, {way}" if number == 0 else "  not"
            spread = "" if shape.shape == "exponential" else f" {shape.spread:g}"
            quality.add_row(title, f"{shape.shape}{spread}", f"± {shape.error_ms:.2f} ms")
    console_for(stderr=True, least_width=90).print(quality)
