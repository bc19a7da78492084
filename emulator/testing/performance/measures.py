"""What is measured: each trial is one load at one place, and gives a record as JSON takes it.

A trial has a key, `load/place`. Places: `forwarding` (the kernel's, offloads on), `forwarding-off` (offloads off),
`bench` (a fixed link in this process), `zmq` (the same over the ZeroMQ fabric), `python` (no bench at all). What a
person may choose is a measure: some trials that belong together, a baseline first.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emulator.bench.bench import Fabric
from emulator.child import child_command
from emulator.errors import EmulationError
from emulator.scenario import load_scenario
from emulator.testing.performance.bare_loop import BareLoop
from emulator.testing.performance.baselines import KernelForwarding, widen_tcp_buffers
from emulator.testing.performance.emulated import Memory, Watch, delay_errors_us, emulated, lateness_percentiles
from emulator.testing.performance.loads import Flood, Tool, Window, tcp, udp
from emulator.testing.performance.names import MEASURES, PLACES
from emulator.testing.performance.rows import CARRIED
from emulator.testing.session import Session, Side
from emulator.units import NS_PER_MS, NS_PER_S

FIRST_ANSWER = str(Path(__file__).with_name("first_answer.py"))
START_LIMIT_S = 60.0
PROBE_LIMIT_S = 20.0
PACED_SHARE = 0.98  # a rate that is just kept has no queue: what is late is late because of the loop
UDP_HEADERS_BYTES = 28


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run does. `seconds`: the measured part of one trial. `rounds`: of all trials, one after the other."""

    rounds: int
    seconds: float
    tool: Tool
    realtime: bool = False
    ramp_s: float = 1.0
    udp_seconds: float = 2.0
    limit_seconds: float = 1.0
    delay_ms: float = 10.0
    mtu: int = 1500
    queue_packets: int = 10_000
    gigabit_queue_packets: int = 3_000
    tcp_buffer_bytes: int = 200_000_000
    udp_packets_per_s: int = 50_000
    limit_packets_per_s: tuple[int, ...] = (100_000, 150_000, 200_000, 250_000)
    probe_interval_ms: int = 2
    flows: int = 100
    paced_mbps: float = 500.0


Record = dict[str, Any]


@contextlib.contextmanager
def forwarding(settings: Settings, *, offloads: bool, warnings: list[str]) -> Iterator[tuple[Side, Side]]:
    """Client and server of a baseline, with TCP buffers as in the bench."""
    with KernelForwarding(offloads=offloads, mtu=settings.mtu) as route:
        for station in (route.client, route.server):
            refused = widen_tcp_buffers(station.namespace, settings.tcp_buffer_bytes)
            if refused:
                warnings.append(f"{station.name}: {refused}")
        yield route.client, route.server


@contextlib.contextmanager
def link(
    settings: Settings,
    *,
    rate_mbps: float = 0.0,
    queue_packets: int | None = None,
    fabric: Fabric = "direct",
    realtime: bool = False,
    warnings: list[str],
) -> Iterator[Watch]:
    with emulated(
        delay_ms=settings.delay_ms,
        rate_mbps=rate_mbps,
        queue_packets=queue_packets or settings.queue_packets,
        mtu=settings.mtu,
        tcp_buffer_bytes=settings.tcp_buffer_bytes,
        fabric=fabric,
        realtime=realtime or settings.realtime,
    ) as watch:
        warnings += watch.warnings
        yield watch


def tcp_forwarding(settings: Settings, warnings: list[str], *, offloads: bool, flows: int = 1) -> Record:
    with forwarding(settings, offloads=offloads, warnings=warnings) as (client, server):
        carried = tcp(
            settings.tool,
            client,
            server,
            flows=flows,
            ramp_s=settings.ramp_s,
            seconds=settings.seconds,
            window=Window(),
        )
    return asdict(carried)


def tcp_link(
    settings: Settings,
    warnings: list[str],
    *,
    rate_mbps: float = 0.0,
    queue_packets: int | None = None,
    fabric: Fabric = "direct",
    flows: int = 1,
) -> Record:
    memory = Memory()
    memory.begin()
    with link(settings, rate_mbps=rate_mbps, queue_packets=queue_packets, fabric=fabric, warnings=warnings) as watch:
        memory.ceiling_bytes = watch.bench.memory_bytes
        carried = tcp(
            settings.tool,
            watch.bench.terminal,
            watch.bench.datacenter,
            flows=flows,
            ramp_s=settings.ramp_s,
            seconds=settings.seconds,
            window=Window(watch.look, watch.look),
        )
        return {**asdict(carried), "link": watch.seen(), "memory": memory.seen()}


def tcp_bare(settings: Settings, warnings: list[str]) -> Record:
    with bare(settings, warnings=warnings) as loop:
        carried = tcp(
            settings.tool,
            loop.terminal,
            loop.datacenter,
            ramp_s=settings.ramp_s,
            seconds=settings.seconds,
            window=Window(),
        )
        return {**asdict(carried), "super_packets_lost": loop.lost}


@contextlib.contextmanager
def bare(settings: Settings, *, realtime: bool = False, warnings: list[str]) -> Iterator[BareLoop]:
    """The loop with no stage, its sides with TCP buffers as in the bench."""
    scenario = load_scenario("fixed", [f"ports.mtu={settings.mtu}"])
    delay_ns = round(settings.delay_ms * NS_PER_MS)
    with BareLoop(scenario, delay_ns=delay_ns, realtime=realtime) as loop:
        for side in (loop.terminal, loop.datacenter):
            refused = widen_tcp_buffers(side.namespace, settings.tcp_buffer_bytes)
            if refused:
                warnings.append(f"{side.name}: {refused}")
        yield loop


def paced_bare(settings: Settings, warnings: list[str], *, realtime: bool = False) -> Record:
    with bare(settings, realtime=realtime, warnings=warnings) as loop:
        before = loop.lateness_us.copy()
        flood = paced(settings, loop.terminal, loop.datacenter, Window())
        return {**flood_record(flood), "lateness_us": lateness_percentiles(loop.lateness_us - before)}


def paced_link(settings: Settings, warnings: list[str], *, realtime: bool = False) -> Record:
    with link(settings, rate_mbps=settings.paced_mbps, realtime=realtime, warnings=warnings) as watch:
        window = Window(watch.look, watch.look)
        flood = paced(settings, watch.bench.terminal, watch.bench.datacenter, window)
        seen = watch.seen()
        return {**flood_record(flood), "lateness_us": seen["lateness_us"], "link": seen}


def paced(settings: Settings, sender: Side, receiver: Side, window: Window) -> Flood:
    """Packets of the MTU at a little less than `paced_mbps`."""
    rate = PACED_SHARE * settings.paced_mbps * 1e6 / 8 / settings.mtu
    payload = settings.mtu - UDP_HEADERS_BYTES
    seconds = settings.udp_seconds
    return udp(sender, receiver, packets_per_s=rate, seconds=seconds, payload_bytes=payload, window=window)


def flood_record(flood: Flood) -> Record:
    return {**asdict(flood), "lost": flood.lost, "sent_per_s": flood.sent_per_s}


def udp_forwarding(settings: Settings, warnings: list[str]) -> Record:
    with forwarding(settings, offloads=True, warnings=warnings) as (client, server):
        return flood_record(
            udp(client, server, packets_per_s=settings.udp_packets_per_s, seconds=settings.udp_seconds, window=Window())
        )


def udp_link(settings: Settings, warnings: list[str], *, fabric: Fabric = "direct") -> Record:
    with link(settings, fabric=fabric, warnings=warnings) as watch:
        flood = udp(
            watch.bench.terminal,
            watch.bench.datacenter,
            packets_per_s=settings.udp_packets_per_s,
            seconds=settings.udp_seconds,
            window=Window(watch.look, watch.look),
        )
        return {**flood_record(flood), "link": watch.seen()}


def limit_at(settings: Settings, sender: Side, receiver: Side) -> Record:
    """The highest of the rates that is carried without loss, and what each rate came to; 0 if none is."""
    steps, highest = [], 0
    for rate in settings.limit_packets_per_s:
        flood = udp(sender, receiver, packets_per_s=rate, seconds=settings.limit_seconds, window=Window())
        steps.append({"packets_per_s": rate, **flood_record(flood)})
        if flood.lost > 0 or flood.sent_per_s < CARRIED * rate:
            break
        highest = rate
    return {"packets_per_s": highest, "steps": steps}


def limit_forwarding(settings: Settings, warnings: list[str]) -> Record:
    with forwarding(settings, offloads=True, warnings=warnings) as (client, server):
        return limit_at(settings, client, server)


def limit_link(settings: Settings, warnings: list[str]) -> Record:
    with link(settings, warnings=warnings) as watch:
        return limit_at(settings, watch.bench.terminal, watch.bench.datacenter)


def probe(settings: Settings, near: Side, far: Side, delay_ms: float) -> Record:
    """Probes both ways on an otherwise idle path, stamped by the kernel at both ends."""
    with Session(near, far) as session:
        session.start_receivers()
        session.start_probes(round(settings.udp_seconds * NS_PER_S), settings.probe_interval_ms * NS_PER_MS)
        for sender in session.senders:
            sender.wait(settings.udp_seconds + PROBE_LIMIT_S)
        probes, _ = session.finish()
    errors = [error for run in probes.values() for error in delay_errors_us(run.delay_ns, delay_ms)]
    if not errors:
        raise EmulationError("no probe came back")
    return {
        "probes": sum(len(run.sequence) for run in probes.values()),
        "lost": sum(int(run.lost.sum()) for run in probes.values()),
        "stamps": sorted({run.stamp_source for run in probes.values()}),
        "error_us": {name: float(np.percentile(errors, percent)) for name, percent in (("p50", 50), ("p99", 99))},
    }


def delay_forwarding(settings: Settings, warnings: list[str]) -> Record:
    with forwarding(settings, offloads=True, warnings=warnings) as (client, server):
        return probe(settings, client, server, 0.0)


def delay_link(settings: Settings, warnings: list[str]) -> Record:
    with link(settings, warnings=warnings) as watch:
        return {**probe(settings, watch.bench.terminal, watch.bench.datacenter, settings.delay_ms)}


def start_python(settings: Settings, warnings: list[str]) -> Record:
    """How long Python takes to import what the packet path is made of, and to end."""
    begun = time.monotonic()
    _run([sys.executable, "-P", "-c", "import numpy, numba"])
    return {"seconds": time.monotonic() - begun}


def start_shell(settings: Settings, warnings: list[str]) -> Record:
    """From the start of `bentpipe shell` to the first packet that has come back."""
    begun_ns = time.monotonic_ns()
    told = _run(
        child_command(
            "emulator.cli.main",
            "shell",
            "fixed",
            "--isolate",
            "--quiet",
            "--set",
            f"link.delay_ms={settings.delay_ms:g}",
            "--",
            sys.executable,
            "-I",
            "-S",
            FIRST_ANSWER,
        )
    )
    try:
        return {"seconds": (int(told) - begun_ns) / NS_PER_S}
    except ValueError as error:
        raise EmulationError(f"bentpipe shell: expected an instant on stdout, got {told.strip()!r}") from error


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EmulationError(f"{command[1]} did not end within {START_LIMIT_S:g} s") from error
    if done.returncode != 0:
        raise EmulationError(
            f"{' '.join(command[1:4])} ended with status {done.returncode}: {done.stderr.strip()[-200:]}"
        )
    return done.stdout


Trial = Callable[[Settings, list[str]], Record]

TRIALS: dict[str, Trial] = {
    "tcp/forwarding": lambda settings, warnings: tcp_forwarding(settings, warnings, offloads=True),
    "tcp/forwarding-off": lambda settings, warnings: tcp_forwarding(settings, warnings, offloads=False),
    "tcp/bare": tcp_bare,
    "tcp/bench": tcp_link,
    "flows/forwarding": lambda settings, warnings: tcp_forwarding(
        settings, warnings, offloads=True, flows=settings.flows
    ),
    "flows/bench": lambda settings, warnings: tcp_link(settings, warnings, flows=settings.flows),
    "tcp/zmq": lambda settings, warnings: tcp_link(settings, warnings, fabric="zmq"),
    "gigabit/bench": lambda settings, warnings: tcp_link(
        settings, warnings, rate_mbps=1000.0, queue_packets=settings.gigabit_queue_packets
    ),
    "ten-gigabit/bench": lambda settings, warnings: tcp_link(settings, warnings, rate_mbps=10_000.0),
    "paced/bare": paced_bare,
    "paced/bench": paced_link,
    "paced/bare-realtime": lambda settings, warnings: paced_bare(settings, warnings, realtime=True),
    "paced/bench-realtime": lambda settings, warnings: paced_link(settings, warnings, realtime=True),
    "udp/forwarding": udp_forwarding,
    "udp/bench": udp_link,
    "udp/zmq": lambda settings, warnings: udp_link(settings, warnings, fabric="zmq"),
    "limit/forwarding": limit_forwarding,
    "limit/bench": limit_link,
    "delay/forwarding": delay_forwarding,
    "delay/bench": delay_link,
    "start/python": start_python,
    "start/shell": start_shell,
}


def chosen_trials(measures: Iterable[str]) -> list[str]:
    """The keys of the trials of some measures, each once, in the order of TRIALS."""
    wanted = {key for measure in measures for key in MEASURES[measure]}
    return [key for key in TRIALS if key in wanted]


def describe(key: str) -> str:
    """A trial in words, for the progress."""
    load, place = key.split("/")
    return f"{load} {PLACES[place]}"


def takes_s(key: str, settings: Settings) -> float:
    """About how long a trial lasts, its preparation included."""
    load, place = key.split("/")
    prepared = {"zmq": 1.8, "bench": 0.4, "bench-realtime": 0.4}.get(place, 0.3)
    lasts = {
        "tcp": settings.ramp_s + settings.seconds + 0.3,
        "flows": settings.ramp_s + settings.seconds + 0.6,
        "gigabit": settings.ramp_s + settings.seconds + 0.3,
        "ten-gigabit": settings.ramp_s + settings.seconds + 0.3,
        "paced": settings.udp_seconds + 0.4,
        "udp": settings.udp_seconds + 0.4,
        "limit": len(settings.limit_packets_per_s) * (settings.limit_seconds + 0.4),
        "delay": settings.udp_seconds + 1.0,
        "start": 1.0,
    }
    return lasts[load] + prepared
