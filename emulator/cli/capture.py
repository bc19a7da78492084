"""`bentpipe capture`: what crosses the link of a running bench, packet by packet, as pcapng."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from emulator.cli.options import json_option, parse_duration_ns, read_by
from emulator.units import count_of

if TYPE_CHECKING:
    from emulator.taps.consumer import CaptureStream, PacketFilter

BOTH = "both"


@click.command()
@click.option(
    "--at",
    "direction",
    type=click.Choice(["uplink", "downlink", BOTH]),
    default=BOTH,
    show_default=True,
    help="Which way.",
)
@click.option(
    "--place",
    type=click.Choice(["before", "after", BOTH]),
    default="before",
    show_default=True,
    help="Before the link: all packets, as they came, with their fate. After: those delivered, as they came out.",
)
@click.option(
    "-w",
    "--write",
    "target",
    required=True,
    metavar="FILE",
    help="Where to; - for stdout: `bentpipe capture -w - | tshark -r -`.",
)
@click.option(
    "--filter", "expression", metavar="EXPR", help="Only packets that tcpdump's EXPR fits, e.g. 'udp port 53'."
)
@click.option(
    "--snap", "snap_bytes", type=click.IntRange(1, 131_072), metavar="BYTES", help="Keep this much of a packet."
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N packets.")
@click.option("--duration", "duration_ns", callback=read_by(parse_duration_ns), metavar="TIME", help="End after TIME.")
@click.option("--rotate-size", "rotate_mb", type=click.FloatRange(0.001), metavar="MB", help="A new file every MB.")
@click.option(
    "--rotate-every", "rotate_ns", callback=read_by(parse_duration_ns), metavar="TIME", help="A new file every TIME."
)
@click.option("--keep", type=click.IntRange(1), metavar="N", help="Keep the last N files of a rotation.")
@click.option("--bench", "pid", type=click.IntRange(1), metavar="PID", help="Process id of the bench, if several run.")
@json_option
def capture(
    direction: str,
    place: str,
    target: str,
    expression: str | None,
    snap_bytes: int | None,
    count: int | None,
    duration_ns: int | None,
    rotate_mb: float | None,
    rotate_ns: int | None,
    keep: int | None,
    pid: int | None,
    as_json: bool,
) -> None:
    """Capture what crosses the link of a running bench, until Ctrl-C or the bench's end.

    Each packet has the stamp of simulated UTC, to the nanosecond, and a comment: which way, its delay or why it was
    dropped, its class, who served. tshark shows it with -T fields -e frame.comment. Packets are those of the wire: what
    segmentation offload holds together is taken apart. A packet is written when its fate is known.
    """
    if target == "-" and (rotate_mb or rotate_ns or keep):
        raise click.UsageError("-w -: expected a file, where files are to follow each other")
    if keep and not (rotate_mb or rotate_ns):
        raise click.UsageError("--keep: expected --rotate-size or --rotate-every with it")
    if target == "-" and as_json:
        raise click.UsageError("--json: expected a file for -w, as stdout takes the capture")
    if target == "-" and sys.stdout.isatty():
        raise click.UsageError("-w -: expected a pipe on stdout, not a terminal")
    from emulator.bench.runtime import running_benches
    from emulator.control.client import choose
    from emulator.taps.consumer import CaptureStream, PacketFilter, RotatingFiles, link_type_of

    directory = choose(running_benches(), pid)
    directions = ("uplink", "downlink") if direction == BOTH else (direction,)
    places = ("before", "after") if place == BOTH else (place,)
    files = None
    if target != "-":
        files = RotatingFiles(
            Path(target),
            most_bytes=round((rotate_mb or 0) * 1e6),
            most_s=(rotate_ns or 0) / 1e9,
            keep=keep or 0,
        )
    begun_s, kept = time.monotonic(), 0
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(
            CaptureStream(directory, directions=directions, places=places, snap_bytes=snap_bytes or 0)
        )
        source = iter(stream)
        head = next(source)
        stack.enter_context(_ctrl_c_stops(stream))
        wanted = PacketFilter(expression, link_type_of(head)) if expression else None
        try:
            if files is None:
                _to_stdout(head)
            else:
                files.begin(head)
            for data, packets in _chosen(stream, source, wanted, count, duration_ns):
                kept += packets
                if files is None:
                    _to_stdout(data)
                else:
                    files.write(data)
        finally:
            if files is not None:
                files.close()
    _report(stream, kept, time.monotonic() - begun_s, files.paths if files else [], as_json)


def _to_stdout(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _chosen(
    stream: CaptureStream,
    source: Iterator[bytes],
    wanted: PacketFilter | None,
    count: int | None,
    duration_ns: int | None,
) -> Iterator[tuple[bytes, int]]:
    """What is wanted of a stream, and how many packets that is; asks for its end by count and by time."""
    from emulator.taps.consumer import choose_blocks

    deadline_s = time.monotonic() + duration_ns / 1e9 if duration_ns else None
    left = count
    ending = False
    for data in source:
        chosen, packets = choose_blocks(data, wanted, left)
        if left is not None:
            left -= packets
        if not ending and (left == 0 or (deadline_s is not None and time.monotonic() >= deadline_s)):
            stream.stop()
            ending = True
        if chosen:
            yield chosen, packets


@contextlib.contextmanager
def _ctrl_c_stops(stream: CaptureStream) -> Iterator[None]:
    """The first Ctrl-C asks for the capture's end, whatever it interrupts; a second one ends at once."""

    def ask(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stream.stop()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _report(stream: CaptureStream, kept: int, seconds: float, paths: list[Path], as_json: bool) -> None:
    if as_json:
        facts = {
            "packets": kept,
            "lost": stream.lost,
            "seconds": round(seconds, 3),
            "files": [str(path) for path in paths],
        }
        click.echo(json.dumps(facts))
        return
    lost = f", {stream.lost} lost to the capture" if stream.lost else ""
    click.echo(f"bentpipe: {count_of(kept, 'packet')} captured{lost}", err=True)
