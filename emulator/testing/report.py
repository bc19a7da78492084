"""The report of a run: one self-contained HTML page and a picture, both from the record alone.

    python -m emulator.testing.report run.json [-o DIRECTORY]

makes them again from a record that a run has left. Nothing in the page is fetched from anywhere.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.errors import BentpipeError, EndpointError
from emulator.output import output_file
from emulator.units import format_utc

if TYPE_CHECKING:
    from jinja2 import Environment

    from emulator.testing.record import RunRecord


def write_report(record: RunRecord, directory: Path) -> dict[str, Path]:
    """Writes `report.html`, `report.png` and `run.json`; returns their paths by these names. Raises EndpointError."""
    from emulator.testing.picture import pictures

    saved = write_files(directory, {"run.json": record.as_bytes()})  # first: from it, all else can be made again
    svg, png = pictures(record)
    return write_files(directory, {"report.html": to_html(record, svg).encode(), "report.png": png}) | saved


def write_files(directory: Path, files: Mapping[str, bytes]) -> dict[str, Path]:
    """Writes files, each whole or not at all, into a directory that is made; their paths. Raises EndpointError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EndpointError(f"{error.filename or directory}: cannot be made: {error.strerror}") from error
    for name, data in files.items():
        with output_file(directory / name) as file:
            file.write(data)
    return {name: directory / name for name in files}


def pages() -> Environment:
    """The templates of all pages."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("emulator.testing"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["figure"] = figure
    return made


def figure(value: float) -> str:
    """A number as a person writes it: four digits that count, no exponent, a minus that is one; ? for none."""
    if not math.isfinite(value):
        return "?"
    decimals = min(6, max(0, 3 - math.floor(math.log10(abs(value))))) if value else 0
    text = f"{value:,.{decimals}f}"
    return (text.rstrip("0").rstrip(".") if decimals else text).replace("-", "−")


def to_html(record: RunRecord, svg: str | None = None) -> str:
    """The whole page; svg: its picture, if that is there already."""
    from markupsafe import Markup

    from emulator.testing.picture import to_svg
    from emulator.testing.record import DIRECTIONS
    from emulator.testing.summary import summarise

    return (
        pages()
        .get_template("report.html.j2")
        .render(
            record=record,
            summary=summarise(record),
            start=format_utc(record.start_utc_ns, 1),
            directions=DIRECTIONS,
            picture=Markup(to_svg(record) if svg is None else svg),
        )
    )


def main(arguments: list[str] | None = None) -> int:
    from emulator.testing.record import load_record

    parser = argparse.ArgumentParser(prog="python -m emulator.testing.report", description="makes a run's report again")
    parser.add_argument("record", type=Path)
    parser.add_argument("-o", "--output", type=Path, metavar="DIRECTORY", help="default: the record's own")
    chosen = parser.parse_args(arguments)
    try:
        for path in write_report(load_record(chosen.record), chosen.output or chosen.record.parent).values():
            print(path)
    except BentpipeError as error:
        for line in str(error).splitlines():
            print(f"bentpipe: {line}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
