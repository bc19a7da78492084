"""`bentpipe replay`: a capture through the link, in virtual time."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import click

from emulator.cli.options import elements_option, json_option, read_by, scenario_options
from emulator.scenario import Scenario
from emulator.units import format_utc, parse_utc_ns


@click.command()
@scenario_options()
@click.argument("capture", type=click.Path(dir_okay=False, path_type=Path), metavar="IN.pcap")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="OUT.pcapng",
    help="What became of each packet, with a comment on each.",
)
@click.option(
    "--terminal",
    "terminals",
    multiple=True,
    metavar="ADDRESS",
    help="An address at the terminal's side; may be repeated.  [default: the first packet's source]",
)
@click.option(
    "--start",
    "start_utc_ns",
    callback=read_by(parse_utc_ns),
    metavar="UTC",
    help="Simulated UTC of the first packet.  [default: the capture's own stamps]",
)
@click.option(
    "--bench-start",
    "began_utc_ns",
    callback=read_by(parse_utc_ns),
    metavar="UTC",
    help="When the bench began, by the capture's stamps: overlay and script count from then.  "
    "[default: as a capture of `bentpipe capture` says; otherwise its first packet]",
)
@elements_option
@json_option
def replay(
    scenario: Scenario,
    capture: Path,
    output: Path,
    terminals: tuple[str, ...],
    start_utc_ns: int | None,
    began_utc_ns: int | None,
    elements: Path | None,
    as_json: bool,
) -> None:
    """Send the capture IN.pcap through the link of SCENARIO, far faster than real time.

    Each delivered packet of OUT.pcapng carries its delay and each dropped one its cause, as a comment that tshark shows
    (-T fields -e frame.comment); what is still inside of the link an hour after the last packet came is written as
    held. The same input gives the same file, byte for byte. Without --start the capture's own stamps are the simulated
    UTC.
    """
    from emulator.cli.bring_up import COMPILING, tell
    from emulator.cli.progress import working
    from emulator.cli.run import direction_report
    from emulator.output import output_file
    from emulator.taps.pcapng import read_capture
    from emulator.taps.replay import is_compiled, warm_up
    from emulator.taps.replay import replay as replay_capture
    from emulator.timeline.build import windows_for

    try:
        addresses = [ipaddress.ip_address(text) for text in terminals]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--terminal") from error
    if output.exists() and capture.exists() and output.samefile(capture):
        raise click.BadParameter(f"expected another file than the capture itself, got {output}", param_hint="-o")
    epoch_ns = start_utc_ns if start_utc_ns is not None else next((frame.utc_ns for frame in read_capture(capture)), 0)
    windows = windows_for(scenario, elements=elements, epoch_utc_ns=epoch_ns)
    for note in windows.notes:
        click.echo(f"bentpipe: {note}", err=True)
    if not is_compiled():
        tell(COMPILING)
    warm_up()
    with working("replaying") as where, output_file(output) as file:
        result = replay_capture(
            scenario,
            windows,
            capture,
            file,
            start_utc_ns=start_utc_ns,
            began_utc_ns=began_utc_ns,
            terminals=addresses,
            tell=lambda utc_ns: where(format_utc(utc_ns, 0)),
        )
    for note in result.notes:
        click.echo(f"bentpipe: {note}", err=True)
    report: dict[str, Any] = {
        "seconds": (result.last_utc_ns - result.first_utc_ns) / 1e9,
        "skipped_frames": result.skipped,
        "cut_packets": result.cut,
        "uplink": direction_report(result.uplink),
        "downlink": direction_report(result.downlink),
    }
    if as_json:
        click.echo(json.dumps(report, indent=1))
        return
    for name in ("uplink", "downlink"):
        counts = report[name]
        causes = ", ".join(f"{cause} {count}" for cause, count in counts["dropped_packets"].items())
        click.echo(
            f"{name}: {counts['offered_packets']} packets offered, {counts['delivered_packets']} delivered, "
            f"{sum(counts['dropped_packets'].values())} dropped{f' ({causes})' if causes else ''}, "
            f"{counts['held_packets']} held"
        )
    if result.skipped:
        click.echo(f"bentpipe: {result.skipped} frames without an IP packet were left out", err=True)
