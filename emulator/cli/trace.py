"""`bentpipe trace`: a measured trace in another format, or what is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from emulator.cli.options import parse_duration_ns, read_by
from emulator.cli.progress import working
from emulator.output import output_file
from emulator.units import NS_PER_S

if TYPE_CHECKING:
    from emulator.timeline.model import Channel, Timeline

FORMATS = click.Choice(["csv", "mahimahi", "theaterq", "ping", "irtt", "dish", "npz"])


def read_options(command: Any) -> Any:
    """TRACE and how it is read → `source: Path`, `source_format`, `gap_ns`, `halve_rtt`."""
    for option in (
        click.option("--halve-rtt", is_flag=True, help="Of irtt: half of the round trip each way."),
        click.option(
            "--gap", "gap_ns", callback=read_by(parse_duration_ns), default="60s", show_default=True,
            metavar="DURATION", help="Longest time between two samples; more is a hole, and refused.",
        ),
        click.option("--from", "source_format", type=FORMATS, help="Format of TRACE.  [default: found out]"),
        click.argument("source", metavar="TRACE", type=click.Path(path_type=Path)),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@read_options
@click.argument("target", metavar="[FILE]", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--to", "target_format", type=FORMATS, help="Format of FILE.  [default: by its name]")
@click.option(
    "--direction", type=click.Choice(["uplink", "downlink"]), default="downlink", show_default=True,
    help="Which one goes into a format that has but one: mahimahi, theaterq.",
)  # fmt: skip
@click.option(
    "--interval", "interval_ns", callback=read_by(parse_duration_ns), default="0.1s", show_default=True,
    metavar="DURATION", help="Between the probes of a format that is made of probes: ping, irtt.",
)  # fmt: skip
def trace(
    source: Path,
    source_format: Any,
    gap_ns: int,
    halve_rtt: bool,
    target: Path | None,
    target_format: Any,
    direction: Any,
    interval_ns: int,
) -> None:
    """Write TRACE to FILE in another format; without FILE, say what is in it, as JSON.

    TRACE is CSV, packet opportunities of Mahimahi, TheaterQ's CSV, the output of `ping -D`, JSON of irtt, the history
    of a Starlink dish, or a plan (`bentpipe plan -o x.npz`); what it is, is found out by looking. FILE's format goes by
    its name: .csv, .up or .down (Mahimahi), .theaterq, .ping, .irtt.json, .dish.json, .npz. A file of `-` is stdout.
    """
    from emulator.timeline.traces.files import format_of, read_trace, written
    from emulator.timeline.traces.rows import ReadOptions

    if target is not None:
        if str(target) == "-" and target_format is None:
            raise click.UsageError("FILE is stdout: say its format with --to")
        target_format = target_format or format_of(target)
    with working("reading"):
        line = read_trace(source, ReadOptions(gap_ns=gap_ns, halve_rtt=halve_rtt), file_format=source_format)
    if target is None:
        click.echo(json.dumps(summary(line), indent=2))
        return
    with working("writing"), output_file(None if str(target) == "-" else target) as file:
        if target_format == "npz":
            from emulator.timeline.save import save_npz
            from emulator.timeline.table import table

            save_npz(file, line, table(line))
        else:
            file.write(written(line, target_format, direction=direction, interval_ns=interval_ns).encode())


def summary(line: Timeline) -> dict[str, Any]:
    """What is in a trace, weighted by time."""
    from emulator.units import format_utc

    return {
        "start_utc": format_utc(line.start_ns, 9),
        "duration_s": (line.end_ns - line.start_ns) / NS_PER_S,
        "uplink": _of_direction(line, line.uplink),
        "downlink": _of_direction(line, line.downlink),
    }


def _of_direction(line: Timeline, one: Channel) -> dict[str, Any]:
    import numpy as np

    from emulator.timeline.causes import Cause, Gate
    from emulator.timeline.model import LOSS_ONE
    from emulator.units import NS_PER_MS

    lasts = line.lasts_ns(one)
    share = lasts / lasts.sum()
    order = np.argsort(one.delay_ns)
    cumulated = np.cumsum(share[order])
    delays = [int(one.delay_ns[order][np.searchsorted(cumulated, part)]) / NS_PER_MS for part in (0.0, 0.5, 0.95)]
    shut = one.gate != Gate.PASS
    causes = np.unique(one.cause[shut])
    return {
        "rows": len(one),
        "delay_ms": dict(zip(("least", "p50", "p95"), delays, strict=True)),
        "rate_mbps_mean": float((one.rate_bps * share).sum() / 1e6) if one.rate_bps.any() else None,
        "loss": float((share * np.where(shut, 0, one.loss)).sum() / LOSS_ONE),
        "shut": {Cause(c).name.lower(): float(share[shut & (one.cause == c)].sum()) for c in causes},
    }
