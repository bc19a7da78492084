"""`bentpipe exchange`: a recorded exchange with a device, played again to a stub or to hardware, and compared."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from emulator.cli.options import json_option

if TYPE_CHECKING:
    from firmware_stubs.replay import Difference, Turn

DIFFERENT_STATUS = 1


@click.command()
@click.argument("record", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("other", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option(
    "--at",
    "url",
    metavar="PORT",
    help="Say to the device at this port what the client of RECORD said, and compare what comes back: a stub's path, "
    "/dev/ttyUSB0, rfc2217://HOST:PORT, socket://HOST:PORT.",
)
@click.option("--baud", type=click.IntRange(1), default=9600, show_default=True, metavar="RATE", help="Of that port.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep the new record.",
)
@click.option(
    "--ignore",
    multiple=True,
    metavar="PATTERN",
    help="Do not compare what matches this regular expression, as a clock's digits; repeatable.",
)
@click.option(
    "--tolerance-ms",
    type=click.FloatRange(0),
    default=100.0,
    show_default=True,
    metavar="MS",
    help="Answers that begin and end within this time of each other are at the same time.",
)
@click.option(
    "--patience-s",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="With --at: how much later an answer may be, or shorter, before the next question is asked.",
)
@json_option
@click.pass_context
def exchange(
    context: click.Context,
    record: Path,
    other: Path | None,
    url: str | None,
    baud: int,
    output: Path | None,
    ignore: tuple[str, ...],
    tolerance_ms: float,
    patience_s: float,
    as_json: bool,
) -> None:
    """Compare the recorded exchange RECORD with OTHER, or with what a device answers now (--at).

    `bentpipe stub KIND --record FILE` makes records, of hardware too (--hardware). A turn is a question and its answer.
    Ends with status 1 if anything differs.
    """
    from firmware_stubs.record import read_record
    from firmware_stubs.replay import compare, replay

    if (other is None) == (url is None):
        raise click.UsageError("expected either a second record or --at PORT")
    if output == Path("-"):
        raise click.BadParameter("-: expected a file: stdout is for what differs", param_hint="--output")
    for pattern in ignore:
        try:
            re.compile(pattern)
        except re.error as error:
            raise click.BadParameter(f"{pattern}: expected a regular expression: {error}") from error
    first = list(read_record(record))
    with tempfile.TemporaryDirectory(prefix="bentpipe-") as folder:
        if url is not None:
            other = output or Path(folder) / "now.jsonl"
            lasts_s = first[-1].t_s + 1 if first else 1.0
            click.echo(f"bentpipe: playing {record} at {url}: {lasts_s:.0f} s …", err=True)
            replay(first, url, baud, other, patience_s=patience_s)
        assert other is not None
        found = compare(first, read_record(other), ignore=ignore, tolerance_s=tolerance_ms / 1000)
    different = [one for one in found if one.what]
    for one in found if as_json else different:
        click.echo(json.dumps(facts(one)) if as_json else line(one))
    if not as_json:
        click.echo(f"{len(found)} turns, {len(different)} different")
    if different:
        context.exit(DIFFERENT_STATUS)


def facts(one: Difference) -> dict[str, object]:
    """A turn for programs."""
    return {"turn": one.number, "differs": one.what, "first": _turn(one.first), "second": _turn(one.second)}


def _turn(turn: Turn | None) -> dict[str, object] | None:
    if turn is None:
        return None
    return {
        "question": turn.question.hex(),
        "answer": turn.answer.hex(),
        "first_s": turn.first_s,
        "last_s": turn.last_s,
    }


def line(one: Difference) -> str:
    """A turn for the reader."""
    from firmware_stubs.record import as_text

    def said(turn: Turn | None) -> str:
        if turn is None:
            return "(no such turn)"
        if turn.first_s is None or turn.last_s is None:
            return "(nothing)"
        first_ms, last_ms = round(turn.first_s * 1000), round(turn.last_s * 1000)
        until = f" to {last_ms}" if last_ms > first_ms else ""
        return f"{as_text(turn.answer)} after {first_ms}{until} ms"

    asked = one.first or one.second
    question = as_text(asked.question) if asked is not None else ""
    head = f"{one.number}: {one.what}: {question or '(unasked)'}"
    return f"{head}\n  first:  {said(one.first)}\n  second: {said(one.second)}"
