"""`bentpipe doctor`: what this machine can and cannot do, and how to mend it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from emulator.cli.options import json_option

if TYPE_CHECKING:
    from emulator.cli.checks import Finding

CANNOT_RUN_STATUS = 1
TABLE_COLUMNS = 110  # on a narrower terminal nearly every row of the table would be broken
COLOURS = {"ok": "green", "limited": "yellow", "missing": "red"}


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Say what this machine can and cannot do, and how to mend it.

    Everything is tried, in a child process that leaves nothing behind. The exit status is 0 if `bentpipe shell` can
    work here, and 1 if not.
    """
    from emulator.cli.checks import examine

    findings = list(examine())
    blocking = [finding for finding in findings if finding.essential and finding.verdict == "missing"]
    if as_json:
        report = {"shell_works": not blocking, "findings": [asdict(finding) for finding in findings]}
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        wide = sys.stdout.isatty() and shutil.get_terminal_size().columns >= TABLE_COLUMNS
        show_table(findings) if wide else show_lines(findings)
        click.echo(verdict(blocking))
    return CANNOT_RUN_STATUS if blocking else 0


def verdict(blocking: Sequence[Finding]) -> str:
    """The last line: can a bench run here, and if not, for want of what?"""
    if not blocking:
        return "bentpipe shell works on this machine"
    return f"bentpipe shell cannot work on this machine: {', '.join(finding.name for finding in blocking)} missing"


def show_lines(findings: Sequence[Finding]) -> None:
    """A line for each finding: verdict, name, what was found, remedy."""
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        remedy = f" → {finding.remedy}" if finding.remedy else ""
        click.echo(f"{finding.verdict:<8} {finding.name:<{width}}  {finding.finding}{remedy}")


def show_table(findings: Sequence[Finding]) -> None:
    """The same for eyes."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "", box=None, pad_edge=False)
    for heading in ("found", "remedy"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        mark = Text(finding.verdict, style=COLOURS[finding.verdict])
        table.add_row(mark, finding.name, Text(finding.finding), Text(finding.remedy))
    Console().print(table)
