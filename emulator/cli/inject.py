"""`bentpipe inject`: builds packets from a scapy expression and sends them through a running bench."""

from __future__ import annotations

import contextlib
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from emulator.cli.options import json_option
from emulator.units import NS_PER_S, count_of, format_utc

if TYPE_CHECKING:
    from emulator.taps.inject import BuiltPacket

BATCH_PACKETS = 100  # what is due at once goes in one message,
BATCH_BYTES = 500_000  # of at most this size
MOST_TOLD = 1000  # packets that --json describes: a capture may have millions


def _list_cases(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    """Prints the ready-made cases with their parameters, and ends the command."""
    if not wanted or context.resilient_parsing:
        return
    from emulator.taps.cases import CASES

    width = max(map(len, CASES))
    for name, case in CASES.items():
        parameters = " ".join(f"{key}={value}" for key, value in case.parameters.items())
        click.echo(f"{name:{width}}  {case.summary}\n{'':{width}}  {parameters}")
    context.exit()


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
    "--place",
    type=click.Choice(["before", "after"]),
    default="before",
    show_default=True,
    help="After: as if it had crossed the link.",
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
@click.option("--case", "case", metavar="NAME", help="A ready-made case instead of EXPRESSION; --list names them.")
@click.option("--with", "settings", multiple=True, metavar="NAME=VALUE", help="A parameter of the case.")
@click.option(
    "--pcap",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The IP packets of a capture, at its own times or at --rate.",
)
@click.option(
    "--corrupt", "corrupt_bits", type=click.IntRange(1), metavar="BITS", help="Flip so many bits of each packet."
)
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_list_cases, help="Name the cases.")
@click.option("--bench", "pid", type=click.IntRange(1), metavar="PID", help="Process id of the bench, if several run.")
@json_option
@click.argument("expression", required=False)
def inject(
    direction: Any,
    place: Any,
    count: int,
    rate_pps: float | None,
    case: str | None,
    settings: tuple[str, ...],
    pcap: Path | None,
    corrupt_bits: int | None,
    pid: int | None,
    as_json: bool,
    expression: str | None,
) -> None:
    """Send a packet into the link of a running bench.

    EXPRESSION is scapy's, with `terminal`, `datacenter`, `terminal6` and `datacenter6` as addresses:
    'IP(dst=datacenter)/ICMP()'. Addresses that it leaves open are those of the link's two ends. It is built once, in
    a process of its own, and sent as often as --count says.

    \b
    bentpipe inject --at downlink --case tcp-reset --with sport=80 --with dport=40000 --with seq=1234
    bentpipe inject --pcap attack.pcapng --rate 1000
    """
    if sum(given is not None for given in (expression, case, pcap)) != 1:
        raise click.UsageError("expected one of EXPRESSION, --case and --pcap")
    if settings and case is None:
        raise click.UsageError("--with: expected --case with it")
    from emulator.control.client import ControlClient, describe
    from emulator.taps.inject import MAX_PACKET_BYTES, build, corrupted, read_packets

    parameters: dict[str, int | str] = {}
    if case is not None:
        from emulator.taps.cases import case_parameters

        expression, parameters = case_parameters(case, settings)
    with ControlClient.find(pid) as client:
        mtu = describe(client.path.parent).get("mtu")
        limit = mtu if isinstance(mtu, int) and case is None else MAX_PACKET_BYTES  # a case may be `oversized`
        offsets_ns: list[int] | None = None
        if pcap is not None:
            built, offsets_ns = read_packets(pcap, max_bytes=limit)
        else:
            built = build(expression or "", direction, client.addresses(), parameters=parameters, max_bytes=limit)
        packets = [packet.data for packet in built]
        if corrupt_bits is not None:
            draw = random.Random(0)
            packets = [corrupted(packet, corrupt_bits, draw) for packet in packets]
        first_utc_ns, sent, size = 0, 0, 0
        total = len(built) * count
        own_times = _due_by_stamps(offsets_ns) if offsets_ns is not None and rate_pps is None else None
        with _progress(total) as advance:
            for batch in _paced(packets, total, own_times or _due_by_rate(rate_pps)):
                reply = client.inject(direction, batch, place)
                first_utc_ns = first_utc_ns or reply["utc_ns"]
                sent, size = sent + reply["packets"], size + reply["bytes"]
                advance(reply["packets"])
    _report(built, direction, sent, size, first_utc_ns, as_json)


def _due_by_rate(rate_pps: float | None) -> Callable[[int], float]:
    """When packet number n is due, s from the start."""
    return lambda number: number / rate_pps if rate_pps else 0.0


def _due_by_stamps(offsets_ns: list[int]) -> Callable[[int], float]:
    """The same by the times of a capture, which begins again where it has ended."""
    length_ns = offsets_ns[-1] + (offsets_ns[-1] // max(1, len(offsets_ns) - 1))

    def due_s(number: int) -> float:
        turn, place = divmod(number, len(offsets_ns))
        return (turn * length_ns + offsets_ns[place]) / NS_PER_S

    return due_s


def _paced(packets: list[bytes], total: int, due_s: Callable[[int], float]) -> Iterator[list[bytes]]:
    """Batches of `packets`, over and over up to `total`, each as its packets fall due."""
    started_s = time.monotonic()
    sent = 0
    while sent < total:
        left_s = started_s + due_s(sent) - time.monotonic()
        if left_s > 0:
            time.sleep(left_s)
        elapsed_s = time.monotonic() - started_s
        batch: list[bytes] = []
        size = 0
        while (
            sent + len(batch) < total
            and len(batch) < BATCH_PACKETS
            and size < BATCH_BYTES
            and (not batch or due_s(sent + len(batch)) <= elapsed_s)
        ):
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
    from rich.progress import Progress

    from emulator.cli.console import console_for

    with Progress(console=console_for(stderr=True), transient=True) as progress:
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
                    "built": [{"bytes": len(packet.data), "summary": packet.summary} for packet in built[:MOST_TOLD]],
                }
            )
        )
        return
    for packet in built[:10]:
        click.echo(packet.summary)
    if len(built) > 10:
        click.echo(f"… and {len(built) - 10} more")
    click.echo(f"sent {count_of(sent, 'packet')} ({size} bytes) into the {direction} at {format_utc(utc_ns)}")
