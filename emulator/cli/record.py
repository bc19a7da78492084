"""`bentpipe record`: a real path, measured into a trace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import click

from emulator.cli.options import duration_option, output_option, parse_duration_ns, read_by
from emulator.errors import EmulationError, ToolMissingError
from emulator.output import output_file
from emulator.units import NS_PER_S

SETTLE_S = 30.0  # for the last answers, and for irtt's own time-outs


@click.command()
@click.argument("host", metavar="HOST")
@duration_option("60s", help_text="How long: 60s, 10m, 24h.")
@click.option(
    "--interval", "interval_ns", callback=read_by(parse_duration_ns), default="0.1s", show_default=True,
    metavar="DURATION", help="Between two probes.",
)  # fmt: skip
@click.option(
    "--with", "tool", type=click.Choice(["ping", "irtt"]), default="ping", show_default=True,
    help="ping needs nothing at HOST; irtt needs `irtt server` there, and tells the directions apart.",
)  # fmt: skip
@click.option("--halve-rtt", is_flag=True, help="Of irtt, if the two clocks disagree: half of the round trip each way.")
@output_option("the trace (.csv, .ping, .irtt.json, …: see `bentpipe trace`)")
def record(host: str, duration_ns: int, interval_ns: int, tool: str, halve_rtt: bool, output: Path | None) -> None:
    """Probe the path to HOST and write what was seen as a trace, which can be a link or be fitted.

    Light probes: they tell delay and loss of a path without load, and no rate. Ctrl-C ends the measurement; what was
    seen until then is written.
    """
    from emulator.timeline.traces.files import format_of, read_trace, written
    from emulator.timeline.traces.rows import ReadOptions

    file_format = "csv" if output is None else format_of(output)
    if file_format == "npz":
        raise click.UsageError("--output: expected a trace, got the name of a plan (.npz)")
    if shutil.which(tool) is None:
        raise ToolMissingError(f"the program {tool} is not installed: apt-get install {_PACKAGES[tool]}")
    with tempfile.TemporaryDirectory(prefix="bentpipe-record-") as folder:
        seen = Path(folder) / f"{tool}.json"  # irtt would put the ending there itself
        _probe(_command(tool, host, duration_ns, interval_ns, seen), seen, tool, duration_ns)
        line = read_trace(seen, ReadOptions(halve_rtt=halve_rtt), file_format=_SOURCE[tool])
    with output_file(output) as file:
        file.write(written(line, file_format, interval_ns=interval_ns).encode())


_PACKAGES = {"ping": "iputils-ping", "irtt": "irtt"}
_SOURCE: dict[str, Any] = {"ping": "ping", "irtt": "irtt"}


def _command(tool: str, host: str, duration_ns: int, interval_ns: int, seen: Path) -> list[str]:
    interval_s = f"{interval_ns / NS_PER_S:g}"
    if tool == "irtt":
        return ["irtt", "client", "-Q", "-i", f"{interval_s}s", "-d", f"{duration_ns}ns", "-o", str(seen), "--", host]
    return ["ping", "-D", "-n", "-i", interval_s, "-W", "5", "-c", str(max(1, duration_ns // interval_ns)), "--", host]


def _probe(command: list[str], seen: Path, tool: str, duration_ns: int) -> None:
    """Runs the program until it ends or Ctrl-C ends it. Raises EmulationError if it saw nothing."""
    longest_s = duration_ns / NS_PER_S + SETTLE_S
    with (seen if tool == "ping" else seen.with_suffix(".out")).open("wb") as out:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,  # Ctrl-C is for us, who hand it on
        )
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: nothing goes on without us
        try:
            told = _await(child, longest_s)
        finally:
            signal.signal(signal.SIGTERM, before)
            if child.poll() is None:
                child.kill()
                child.wait()
    if not seen.exists() or (tool == "ping" and b"time=" not in seen.read_bytes()):
        raise EmulationError(f"{' '.join(command[:2])}: nothing came back from {command[-1]}: {told or 'no answer'}")


def _await(child: subprocess.Popen[bytes], longest_s: float) -> str:
    """What it said on stderr, its last line. A first Ctrl-C ends the child in its own way; a second one ends us."""
    try:
        _, error = child.communicate(timeout=longest_s)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGINT)
        _, error = child.communicate(timeout=SETTLE_S)
    except KeyboardInterrupt:
        child.send_signal(signal.SIGINT)
        _, error = child.communicate(timeout=SETTLE_S)
    return error.decode(errors="replace").strip().rpartition("\n")[2]
