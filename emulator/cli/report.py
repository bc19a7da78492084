"""`bentpipe report`: the pages of a run from its record, and two runs side by side."""

from __future__ import annotations

from pathlib import Path

import click

from emulator.cli.progress import working


@click.command()
@click.argument("record", type=click.Path(dir_okay=False, path_type=Path), metavar="RUN.json")
@click.argument("other", type=click.Path(dir_okay=False, path_type=Path), metavar="[OTHER.json]", required=False)
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Where the pages go.  [default: where the record is]",
)  # fmt: skip
@click.option(
    "--capture", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="A pcap or pcapng file of the run: its TCP flows go into the report.",
)  # fmt: skip
def report(record: Path, other: Path | None, output: Path | None, capture: Path | None) -> None:
    """Make the report of a run again from the record that it has left: a page, a picture.

    With OTHER, compare the two runs: the figures side by side, with their intervals. The pages need no network.
    """
    from emulator.testing.compare import write_comparison
    from emulator.testing.record import load_record
    from emulator.testing.report import write_report

    directory = output or record.parent
    with working("reading"):
        first = load_record(record)
        second = None if other is None else load_record(other)
    if second is not None:
        click.echo(write_comparison(first, second, directory))
        return
    if capture is not None:
        from emulator.testing.flows import flows_of_capture

        with working("reading the capture"):
            first.flows = flows_of_capture(capture)
    with working("drawing"):
        written = write_report(first, directory)
    for path in written.values():
        click.echo(path)
