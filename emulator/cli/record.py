"""`bentpipe record`: a real path, measured into a trace."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from emulator.cli.options import duration_option, output_option, parse_duration_ns, read_by
from emulator.cli.progress import elapsing
from emulator.errors import EmulationError, EndpointError, ToolMissingError
from emulator.output import output_file
from emulator.units import NS_PER_S

if TYPE_CHECKING:
    from emulator.testing.heavy import Burst
    from emulator.timeline.model import Timeline

SETTLE_S = 30.0  # for the last answers, and for irtt's own time-outs
HEAVY_S = 2.0  # length of a burst
HEAVY_BYTES = 1372  # of payload: 1,400 of an IPv4 packet
HEADERS = {socket.AF_INET: 28, socket.AF_INET6: 48}
WITH_RATES = ("csv", "mahimahi", "theaterq")
DIES_WITH_US = (
    "import ctypes, os, signal, sys; parent = int(sys.argv[1]); "
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL); "  # PR_SET_PDEATHSIG, linux/prctl.h
    "os.getppid() == parent and os.execvp(sys.argv[2], sys.argv[2:])"
)


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
@click.option(
    "--heavy", "heavy_mbps", type=click.FloatRange(0.1, 100), metavar="MBPS",
    help="Load the path with UDP too, 2 s at a time: what comes through is its rate. Needs `bentpipe probe --listen`.",
)  # fmt: skip
@click.option(
    "--heavy-every", "every_ns", callback=read_by(parse_duration_ns), default="30s", show_default=True,
    metavar="DURATION", help="From one burst to the next.",
)  # fmt: skip
@click.option("--heavy-port", type=click.IntRange(1, 65535), default=7010, show_default=True, help="Its UDP port.")
@output_option("the trace (.csv, .ping, .irtt.json, …: see `bentpipe trace`)")
def record(
    host: str,
    duration_ns: int,
    interval_ns: int,
    tool: str,
    halve_rtt: bool,
    heavy_mbps: float | None,
    every_ns: int,
    heavy_port: int,
    output: Path | None,
) -> None:
    """Probe the path to HOST and write what was seen as a trace, which can be a link or be fitted.

    Light probes tell delay and loss of a path without load, and no rate; bursts of heavy ones tell its rate, and on
    stderr what they lost and how long they queued. What light probes saw meanwhile is not in the trace. Ctrl-C ends the
    measurement; what was seen until then is written.
    """
    from emulator.testing.heavy import told, with_rates
    from emulator.timeline.traces.files import format_of, written

    file_format = "csv" if output is None else format_of(output)
    if file_format == "npz":
        raise click.UsageError("--output: expected a trace, got the name of a plan (.npz)")
    if heavy_mbps is not None and file_format not in WITH_RATES:
        raise click.UsageError(f"--output: expected a format that has rates ({', '.join(WITH_RATES)}) with --heavy")
    if heavy_mbps is not None and every_ns < 2 * HEAVY_S * NS_PER_S:
        raise click.UsageError(f"--heavy-every: expected at least {2 * HEAVY_S:g}s")
    if shutil.which(tool) is None:
        raise ToolMissingError(f"the program {tool} is not installed: apt-get install {_PACKAGES[tool]}")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: nothing goes on without us
    light = _Child(_command(tool, host, duration_ns, interval_ns))
    bursts: list[Burst] = []
    try:
        try:
            with elapsing(f"probing {host}", duration_ns / NS_PER_S):
                if heavy_mbps is not None:
                    _load(host, heavy_port, heavy_mbps, every_ns, duration_ns, light, bursts)
                light.wait(duration_ns / NS_PER_S + SETTLE_S)
        except KeyboardInterrupt:
            pass
        light.end()
    finally:
        signal.signal(signal.SIGTERM, before)
        light.kill()
    line = _read(tool, light, host, halve_rtt)
    if heavy_mbps is not None and not bursts:
        raise EmulationError(f"--heavy: nothing came back from {host} port {heavy_port}: run `bentpipe probe --listen`")
    line = with_rates(line, bursts)
    with output_file(output) as file:
        file.write(written(line, file_format, interval_ns=interval_ns).encode())
    for text in told(bursts) if bursts else []:
        click.echo(f"bentpipe: {text}", err=True)


_PACKAGES = {"ping": "iputils-ping", "irtt": "irtt"}


def _command(tool: str, host: str, duration_ns: int, interval_ns: int) -> list[str]:
    interval_s = f"{interval_ns / NS_PER_S:g}"
    if tool == "irtt":
        return ["irtt", "client", "-Q", "-i", f"{interval_s}s", "-d", f"{duration_ns}ns", "-o", "-", "--", host]
    return ["ping", "-D", "-n", "-i", interval_s, "-W", "5", "-c", str(max(1, duration_ns // interval_ns)), "--", host]


def _read(tool: str, light: _Child, host: str, halve_rtt: bool) -> Timeline:
    """The trace of what the light probes printed. Raises EmulationError if they saw nothing, TraceError."""
    from emulator.timeline.traces.files import trace_of_text
    from emulator.timeline.traces.rows import ReadOptions

    text = light.output.decode(errors="replace")
    if not text.strip() or (tool == "ping" and "time=" not in text):
        said = light.errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise EmulationError(f"{tool}: nothing came back from {host}: {said or 'no answer'}")
    options = ReadOptions(halve_rtt=halve_rtt)
    return trace_of_text(f"{tool} {host}", text, options, file_format="irtt" if tool == "irtt" else "ping")


def _load(
    host: str, port: int, mbps: float, every_ns: int, duration_ns: int, light: _Child, bursts: list[Burst]
) -> None:
    """Bursts of heavy probes until the light ones end; each is added to `bursts` as soon as it is known."""
    from emulator.testing.heavy import burst_of
    from emulator.testing.path_report import rows_of
    from emulator.testing.session import program

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][0]
    except OSError as error:
        raise EndpointError(f"{host}: cannot be found: {error.strerror}") from error
    packet_bytes = HEAVY_BYTES + HEADERS[family]
    interval_ms = packet_bytes * 8 / (mbps * 1000)
    options = ["--interval-ms", interval_ms, "--duration", HEAVY_S, "--size", HEAVY_BYTES, "--out", "/dev/stdout"]
    began = time.monotonic()
    number = 0
    while number * every_ns + HEAVY_S * NS_PER_S <= duration_ns:
        if light.wait(began + number * every_ns / NS_PER_S - time.monotonic()):
            return
        heavy = _Child(program("roundtrip", "probe", "--to", host, "--port", port, *options))
        try:
            heavy.wait(HEAVY_S + SETTLE_S)
            heavy.end()
        finally:
            heavy.kill()
        found = burst_of(rows_of(heavy.output), packet_bytes)
        if found is not None:
            bursts.append(found)
        number += 1


class _Child:
    """A program whose output we keep, and that does not outlive us: nothing of it is in any file.

    A Ctrl-C is for us, who hand it on.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.output = self.errors = b""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", DIES_WITH_US, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        self.output, self.errors = self._process.communicate()

    def wait(self, limit_s: float) -> bool:
        """Whether it has ended."""
        self._reader.join(max(0.0, limit_s))
        return not self._reader.is_alive()

    def end(self) -> None:
        """Ends in its own way, with what it has seen. A second Ctrl-C ends us."""
        if not self.wait(0):
            self._process.send_signal(signal.SIGINT)
            self.wait(SETTLE_S)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._reader.join()
