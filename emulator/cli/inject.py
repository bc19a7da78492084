"""`bentpipe inject`: builds packets from a scapy expression and sends them through a running bench."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from emulator.cli.options import json_option
from emulator.units import NS_PER_S, format_utc

if TYPE_CHECKING:
    from emulator.taps.inject import BuiltPacket

BATCH_PACKETS = 100  # what is due at once goes in one message,
BATCH_BYTES = 500_000  # of at most this size


@click.command()
@click.option(
    "--at",
    "direction",
    type=click.Choice(["uplink", "downlink"]),
    default="uplink",
    show_default=True,
    help="Uplink: as if the terminal's side had sent it.",
)
@click.option(
    "--count", type=click.IntRange(1, 100_000_000), default=1, show_default=True, metavar="N", help="Send it N times."
)
@click.option(
    "--rate",
    "rate_pps",
    type=click.FloatRange(0, 1_000_000, min_open=True),
    metavar="PPS",
    help="Packets per second.  [default: as fast as they are taken]",
)
@click.option("--bench", "pid", type=click.IntRange(1), metavar="PID", help="Process id of the bench, if several run.")
@json_option
@click.argument("expression")
def inject(direction: Any, count: int, rate_pps: float | None, pid: int | None, as_json: bool, expression: str) -> None:
    """Send a packet into the link of a running bench.

    EXPRESSION is scapy's, with `terminal`, `datacenter`, `terminal6` and `datacenter6` as addresses:
    'IP(dst=datacenter)/ICMP()'. Addresses that it leaves open are those of the link's two ends. It is built once, in
    a process of its own, and sent as often as --count says.
    """
    from emulator.control.client import ControlClient, describe
    from emulator.taps.inject import MAX_PACKET_BYTES, build

    with ControlClient.find(pid) as client:
        mtu = describe(client.path.parent).get("mtu")
        limit = mtu if isinstance(mtu, int) else MAX_PACKET_BYTES
        built = build(expression, direction, client.addresses(), max_bytes=limit)
        first_utc_ns, sent, size = 0, 0, 0
        total = len(built) * count
        with _progress(total) as advance:
            for batch in _paced([packet.data for packet in built], total, rate_pps):
                reply = client.inject(direction, batch)
                first_utc_ns = first_utc_ns or reply["utc_ns"]
                sent, size = sent + reply["packets"], size + reply["bytes"]
                advance(reply["packets"])
    _report(built, direction, sent, size, first_utc_ns, as_json)


def _paced(packets: list[bytes], total: int, rate_pps: float | None) -> Iterator[list[bytes]]:
    """Batches of `packets`, over and over up to `total`, each as its packets fall due."""
    started_ns = time.monotonic_ns()
    sent = 0
    while sent < total:
        due = total
        if rate_pps is not None:
            elapsed_ns = time.monotonic_ns() - started_ns
            due = min(total, 1 + int(elapsed_ns * rate_pps / NS_PER_S))
            if due <= sent:
                time.sleep(max(0.0, sent / rate_pps - elapsed_ns / NS_PER_S))
                continue
        batch: list[bytes] = []
        size = 0
        while sent + len(batch) < due and len(batch) < BATCH_PACKETS and size < BATCH_BYTES:
            batch.append(packets[(sent + len(batch)) % len(packets)])
            size += len(batch[-1])
        yield batch
        sent += len(batch)


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr where a person looks at it, for what may take long."""
    if total <= BATCH_PACKETS or not sys.stderr.isatty():
        yield lambda packets: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("sending", total=total)
        yield lambda packets: progress.advance(task, packets)


def _report(built: list[BuiltPacket], direction: str, sent: int, size: int, utc_ns: int, as_json: bool) -> None:
    if as_json:
        click.echo(
            json.dumps(
                {
                    "direction": direction,
                    "packets": sent,
                    "bytes": size,
                    "utc": format_utc(utc_ns),
                    "built": [{"bytes": len(packet.data), "summary": packet.summary} for packet in built],
                }
            )
        )
        return
    for packet in built[:10]:
        click.echo(packet.summary)
    if len(built) > 10:
        click.echo(f"… and {len(built) - 10} more")
    packets = "packet" if sent == 1 else "packets"
    click.echo(f"sent {sent} {packets} ({size} bytes) into the {direction} at {format_utc(utc_ns)}")
