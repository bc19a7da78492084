"""The report of a run: one self-contained HTML page and a picture, both from the record alone.

    python -m emulator.testing.report run.json [-o DIRECTORY]

makes them again from a record that a run has left. Nothing in the page is fetched from anywhere.
"""

from __future__ import annotations

import argparse
import sys
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

    paths = {name: directory / name for name in ("report.html", "report.png", "run.json")}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        record.save(paths["run.json"])  # first: from it, all else can be made again
        svg, png = pictures(record)
        for name, data in (("report.html", to_html(record, svg).encode()), ("report.png", png)):
            with output_file(paths[name]) as file:
                file.write(data)
    except OSError as error:
        if isinstance(error, EndpointError):
            raise
        raise EndpointError(f"{error.filename or directory}: cannot write the report: {error.strerror}") from error
    return paths


def pages() -> Environment:
    """The templates of all pages."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("emulator.testing"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


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
