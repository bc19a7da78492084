"""The load, the same at both ends of a bench and of its baseline: one TCP transfer, and small UDP at a stated rate."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from emulator.errors import EmulationError
from emulator.testing.readings import read_bulk
from emulator.testing.session import Side, await_ready, end, program, start
from emulator.units import NS_PER_S

Tool = Literal["iperf3", "own"]

CONGESTION = "cubic"  # pinned: the machine's default may be another one, and differ between namespaces
IPERF_PORT, BULK_PORT, UDP_PORT = 5201, 7003, 7004
UDP_PAYLOAD_BYTES = 64
START_LIMIT_S, END_LIMIT_S = 10.0, 20.0
SETTLE_S = 0.15  # for what is under way: the links here are 10 ms long
UDP_PROGRAM = str(Path(__file__).with_name("udp.py"))


@dataclass(frozen=True)
class Window:
    """What happens at the two ends of the measured part of a load."""

    begin: Callable[[], None] = lambda: None
    end: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Transfer:
    """A TCP transfer after its ramp: payload bits per second as the receiver saw them."""

    goodput_bps: float
    retransmitted: int
    congestion: str


@dataclass(frozen=True)
class Flood:
    """Small UDP packets: sent, received, and of the rest those that arrived at a socket without room.

    left_out: packets that the sender was too late for. seconds: what the sending took.
    """

    sent: int
    received: int
    no_room: int
    left_out: int
    seconds: float

    @property
    def lost(self) -> int:
        """Packets that did not reach the receiver's socket."""
        return self.sent - self.received - self.no_room

    @property
    def sent_per_s(self) -> float:
        return self.sent / self.seconds


def tcp(
    tool: Tool,
    sender: Side,
    receiver: Side,
    *,
    ramp_s: float,
    seconds: float,
    window: Window,
    congestion: str = CONGESTION,
) -> Transfer:
    """One connection for `ramp_s` + `seconds`; `window` lies inside the latter. Raises EmulationError if it fails."""
    if tool == "iperf3":
        return _iperf3(sender, receiver, ramp_s, seconds, window, congestion)
    return many(sender, receiver, ramp_s=ramp_s, seconds=seconds, window=window, congestion=congestion)


def _iperf3(sender: Side, receiver: Side, ramp_s: float, seconds: float, window: Window, congestion: str) -> Transfer:
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "text": True, "start_new_session": True}
    server = receiver.popen(
        ["iperf3", "-s", "-1", "-p", str(IPERF_PORT), "--forceflush"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        **quiet,
    )
    assert server.stdout is not None
    while "listening" not in (line := server.stdout.readline()):
        if not line:
            raise EmulationError(f"iperf3 -s ended with status {server.wait()} before it listened")
    client = sender.popen(
        [
            "iperf3",
            "-c",
            receiver.ipv4,
            "-p",
            str(IPERF_PORT),
            "-C",
            congestion,
            "-O",
            f"{ramp_s:g}",
            "-t",
            f"{seconds:g}",
            "-J",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **quiet,
    )
    try:
        _look_between(ramp_s, seconds, window)
        told = client.communicate(timeout=END_LIMIT_S)[0]
    except subprocess.TimeoutExpired as error:
        raise EmulationError(f"iperf3 did not end within {END_LIMIT_S:g} s after its time") from error
    finally:
        end(client)
        end(server)
    return read_iperf3(told)


def read_iperf3(told: str) -> Transfer:
    """What `iperf3 -J` said. Raises EmulationError if it failed, or said something else."""
    try:
        report = json.loads(told)
        if "error" in report:
            raise EmulationError(f"iperf3: {report['error']}")
        ended = report["end"]
        return Transfer(
            goodput_bps=float(ended["sum_received"]["bits_per_second"]),
            retransmitted=int(ended["sum_sent"].get("retransmits", 0)),
            congestion=str(ended.get("sender_tcp_congestion", "")),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise EmulationError(f"iperf3 said what is no report: {told.strip()[-200:]!r}") from error


def many(
    sender: Side,
    receiver: Side,
    *,
    ramp_s: float,
    seconds: float,
    window: Window,
    flows: int = 1,
    congestion: str = CONGESTION,
) -> Transfer:
    """The same by our own programs, of any number of connections: iperf3 has at most 128 of them."""
    with tempfile.TemporaryDirectory(prefix="bentpipe-") as folder:
        sent, received = Path(folder, "sent"), Path(folder, "received")
        common = "--port", BULK_PORT, "--connections", flows
        server = start(receiver, program("bulk", "listen", *common, "--receive", "--out", received))
        if not await_ready(server):
            raise EmulationError(f"the receiver of the TCP load did not start (status {end(server)})")
        client = start(
            sender,
            program(
                "bulk",
                "connect",
                "--to",
                receiver.ipv4,
                *common,
                "--send",
                "--duration",
                ramp_s + seconds,
                "--congestion",
                congestion,
                "--out",
                sent,
            ),
        )
        try:
            _look_between(ramp_s, seconds, window)
            client.wait(END_LIMIT_S)
            server.terminate()  # what a thousand senders have in their buffers may take as long as the whole transfer
            server.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired as error:
            raise EmulationError(f"the TCP load did not end within {END_LIMIT_S:g} s after its time") from error
        finally:
            end(client)
            end(server)
        run = read_bulk(sent, received)
    if len(run.at_ns) < 2 or not run.total_bytes[-1]:
        raise EmulationError("the TCP load carried nothing")
    first_ns = int(run.at_ns[np.argmax(run.total_bytes > 0)])
    edges = first_ns + np.array(
        [round(ramp_s * NS_PER_S), min(round((ramp_s + seconds) * NS_PER_S), int(run.at_ns[-1]) - first_ns)]
    )
    return Transfer(float(run.goodput_bps(edges)[0]), run.retransmitted, run.congestion)


def _look_between(ramp_s: float, seconds: float, window: Window) -> None:
    """Lets a load that has just been started run, and looks at its beginning and end, well inside."""
    inside_s = min(0.3, seconds / 6)
    time.sleep(ramp_s + inside_s)
    window.begin()
    time.sleep(seconds - 2 * inside_s)
    window.end()


def udp(
    sender: Side,
    receiver: Side,
    *,
    packets_per_s: float,
    seconds: float,
    window: Window,
    payload_bytes: int = UDP_PAYLOAD_BYTES,
    realtime: bool = False,
) -> Flood:
    """Packets of `payload_bytes` at a rate; `window` lies around all of them. Raises EmulationError if that fails.

    realtime: the sender's priority, so that on a busy machine, too, its packets are no bursts.
    """
    python = [sys.executable, "-I", "-S", UDP_PROGRAM]
    counter = start(receiver, [*python, "receive", "--port", str(UDP_PORT)])
    if not await_ready(counter):
        raise EmulationError(f"the receiver of the UDP load did not start (status {end(counter)})")
    window.begin()
    source = start(
        sender,
        [
            *python,
            "send",
            "--to",
            receiver.ipv4,
            "--port",
            str(UDP_PORT),
            "--rate",
            f"{packets_per_s:g}",
            "--duration",
            f"{seconds:g}",
            "--size",
            str(payload_bytes),
            *(["--realtime"] if realtime else []),
        ],
    )
    try:
        told = source.communicate(timeout=seconds + END_LIMIT_S)[0]
        time.sleep(SETTLE_S)
        window.end()
        counter.terminate()
        counted = counter.communicate(timeout=END_LIMIT_S)[0]
    except subprocess.TimeoutExpired as error:
        raise EmulationError("the UDP load did not end in time") from error
    finally:
        end(source)
        end(counter)
    try:
        sent, received = json.loads(told), json.loads(counted)
    except ValueError as error:
        raise EmulationError(f"the UDP load failed: {told.strip()!r}, {counted.strip()!r}") from error
    return Flood(
        sent=sent["sent"],
        received=received["received"],
        no_room=received["no_room"],
        left_out=sent["left_out"],
        seconds=sent["seconds"],
    )


def flood_record(flood: Flood) -> dict[str, Any]:
    return {**asdict(flood), "lost": flood.lost, "sent_per_s": flood.sent_per_s}
