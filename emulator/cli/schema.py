"""`bentpipe schema`: the JSON Schema of scenario files."""

from __future__ import annotations

import json
from pathlib import Path

import click

from emulator.cli.options import output_option
from emulator.output import output_file


@click.command()
@output_option("the schema")
def schema(output: Path | None) -> None:
    """Print the JSON Schema of scenario files.

    Editors complete and check TOML by it: every key, its unit, its bounds, its default.
    """
    from emulator.scenario.schema import scenario_schema

    with output_file(output) as file:
        file.write(json.dumps(scenario_schema(), indent=2, ensure_ascii=False).encode() + b"\n")
