"""`bentpipe probe`: what a path does to packets, measured from outside with the kernel's stamps."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from emulator.cli.bring_up import tell
from emulator.cli.options import duration_option, json_option
from emulator.cli.progress import progress
from emulator.errors import EmulationError, EndpointError
from emulator.units import NS_PER_S, count_of

if TYPE_CHECKING:
    from emulator.testing.path_report import Delays, PathReport

PORT = 7010
BASELINE_S = 1.0
LEAST_BYTES, MOST_BYTES = 76, 1400  # what the stamps need, what fits every link
IP_UDP_BYTES = 28
GRACE_S = 30.0  # beyond its duration: a prober waits for what is under way


@click.command()
@click.option("--bench", "pid", type=int, metavar="PID", help="Which running bench, where several run.")
@click.option("--listen", is_flag=True, help="Reflect the probes of another machine, until Ctrl-C or --duration.")
@click.option("--to", "host", metavar="HOST", help="Probe the path to HOST, where `bentpipe probe --listen` runs.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=PORT, show_default=True, help="UDP port; 0: a free one."
)
@click.option("--interval", "interval_ms", type=click.FloatRange(0.1, 10_000), default=2.0, show_default=True,
              metavar="MS", help="Between two probes.")  # fmt: skip
@click.option("--size", type=click.IntRange(LEAST_BYTES, MOST_BYTES), default=LEAST_BYTES, show_default=True,
              metavar="BYTES", help="Payload of a probe.")  # fmt: skip
@duration_option(help_text="How long.  [default: 10s; --listen: Ctrl-C]")
@json_option
def probe(
    pid: int | None,
    listen: bool,
    host: str | None,
    port: int,
    interval_ms: float,
    size: int,
    duration_ns: int | None,
    as_json: bool,
) -> None:
    """Measure delay, jitter, loss and reordering of a path, each way and both, beside a baseline.

    Without --to and --listen: the link of a running bench, from the terminal's side to the datacenter's. Probes are
    small UDP packets on a fixed schedule; the kernel stamps them when they leave and when they arrive. The baseline is
    the same measurement over this machine's loopback, without an emulator.

    \b
    bentpipe run starlink_2025            # in one window
    bentpipe probe --duration 30s         # in another
    bentpipe probe --listen               # or on one machine
    bentpipe probe --to 192.0.2.7         # and on the other
    """
    if (listen and (host or pid is not None)) or (host and pid is not None):
        raise click.UsageError("expected one of --listen, --to and --bench")
    if listen:
        _listen(port, duration_ns)
        return
    duration_s = 10.0 if duration_ns is None else duration_ns / NS_PER_S
    here = ["--interval-ms", str(interval_ms), "--size", str(size)]
    baseline = _over_loopback(here, min(BASELINE_S, duration_s))
    if host is None:
        measured, names = _through_bench(pid, here, duration_s), ("uplink", "downlink")
    else:
        measured, names = _measured([], host, port, here, duration_s, same_clock=_is_here(host)), ("there", "back")
    _show(measured, baseline, names, interval_ms, size, as_json)


def _listen(port: int, duration_ns: int | None) -> None:
    from emulator.testing import roundtrip

    try:
        roundtrip.reflect(port, "", duration_ns)
    except OSError as error:
        raise EndpointError(f"UDP port {port}: {error.strerror}") from error


def _is_here(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _over_loopback(options: list[str], duration_s: float) -> PathReport:
    with _reflector([], "127.0.0.1", 0) as port:
        return _measured([], "127.0.0.1", port, options, duration_s, same_clock=True)


def _through_bench(pid: int | None, options: list[str], duration_s: float) -> PathReport:
    from emulator.bench.runtime import running_benches
    from emulator.child import child_command
    from emulator.control.client import choose, describe

    bench = describe(choose(running_benches(), pid))
    if not bench["datacenter_ipv4"]:
        raise EmulationError(
            "the bench stands between two network cards: run `bentpipe probe --listen`, and --to, on what is there"
        )

    def enter(side: str) -> list[str]:
        return child_command("emulator.cli.main", "enter", "--bench", bench["pid"], "--at", side, "--")

    with _reflector(enter("datacenter"), bench["datacenter_ipv4"], 0) as port:
        return _measured(enter("terminal"), bench["datacenter_ipv4"], port, options, duration_s, same_clock=True)


@contextlib.contextmanager
def _reflector(enter: Sequence[str], address: str, port: int) -> Iterator[int]:
    """A reflector in a process of its own, and the port on which it listens."""
    from emulator.testing.session import end, program, ready_port

    command = [*enter, *program("roundtrip", "reflect", "--address", address, "--port", port)]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, text=True, start_new_session=True
        )
        try:
            found = ready_port(process)
            if found is None:
                said.seek(0)
                raise EmulationError(f"the far end of the probe did not start: {said.read().strip()[-300:]}")
            yield found
        finally:
            end(process)


def _measured(
    enter: Sequence[str], host: str, port: int, options: list[str], duration_s: float, *, same_clock: bool
) -> PathReport:
    """Runs a prober, from where `enter` leads, and reads what it found. Raises EmulationError."""
    from emulator.testing.path_report import read_rows, report
    from emulator.testing.session import end, program

    with tempfile.TemporaryDirectory(prefix="bentpipe-") as folder, tempfile.TemporaryFile("w+") as said:
        out = Path(folder) / "probes"
        wanted = program(
            "roundtrip", "probe", "--to", host, "--port", port, "--duration", duration_s, "--out", out, *options
        )
        process = subprocess.Popen(
            [*enter, *wanted], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, text=True
        )
        try:
            _wait(process, duration_s)
        except KeyboardInterrupt:
            end(process)  # it writes down what it has
        finally:
            end(process)
        said.seek(0)
        if process.returncode != 0:
            raise EmulationError(f"the probe to {host} failed: {said.read().strip()[-300:]}")
        rows = read_rows(out)
    found = report(rows, same_clock=same_clock)
    if not found.backward.received:
        raise EmulationError(f"no answer from {host}, UDP port {port}, to {count_of(len(rows), 'probe')}")
    return found


def _wait(process: subprocess.Popen[str], duration_s: float) -> None:
    begun = time.monotonic()
    with progress("probing", round(duration_s * 10)) as advance:
        while time.monotonic() - begun < duration_s + GRACE_S:
            try:
                process.wait(0.2)
                return
            except subprocess.TimeoutExpired:
                advance(round(min(duration_s, time.monotonic() - begun) * 10))


def _show(
    measured: PathReport,
    baseline: PathReport,
    names: tuple[str, str],
    interval_ms: float,
    size: int,
    as_json: bool,
) -> None:
    stamps_us = max(way.delay.p99_ms or 0.0 for way in (baseline.forward, baseline.backward)) * 1000
    one_way_us = stamps_us + measured.clock_uncertainty_ms * 1000
    if as_json:
        ways = {names[0]: asdict(measured.forward), names[1]: asdict(measured.backward)}
        result: dict[str, Any] = {
            "interval_ms": interval_ms,
            "packet_bytes": size + IP_UDP_BYTES,
            **ways,
            "round_trip": asdict(measured.round_trip),
            "kernel_stamps": measured.kernel_stamps,
            "uncertainty_us": {"one_way": one_way_us, "round_trip": 2 * stamps_us},
            "baseline": asdict(baseline),
        }
        click.echo(json.dumps(result, indent=1))
        return
    heads = " ".join(f"{head:>9}" for head in ("min", "p50", "p99", "max"))
    click.echo(f"{'':10} {'sent':>8} {'lost':>8} {'reord.':>8}   delay in ms {heads}   jitter")
    for name, way in zip(names, (measured.forward, measured.backward), strict=True):
        click.echo(f"{name:10} {way.sent:8} {way.lost:8} {way.reordered:8}               {_delays(way.delay)}")
    click.echo(f"{'both ways':10} {'':26}               {_delays(measured.round_trip)}")
    click.echo(f"{'baseline':10} {'':26}               {_delays(baseline.round_trip)}   both ways, by loopback")
    click.echo(
        f"uncertainty: one way ±{one_way_us / 1000:.3f} ms, both ways ±{2 * stamps_us / 1000:.3f} ms; "
        f"{measured.kernel_stamps:.0%} of the stamps are the kernel's"
    )
    if measured.clock_uncertainty_ms:
        tell("the two machines' clocks may differ: trust the delays of one way only as far as said")


def _delays(delay: Delays) -> str:
    values = (delay.minimum_ms, delay.p50_ms, delay.p99_ms, delay.maximum_ms)
    shown = " ".join(f"{value:9.3f}" if value is not None else f"{'-':>9}" for value in values)
    return f"{shown}  {delay.jitter_ms:7.3f}" if delay.jitter_ms is not None else shown
