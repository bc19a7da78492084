"""What is measured: each trial is one load at one place, and gives a record as JSON takes it.

A trial has a key, `load/place`. Places: `forwarding` (the kernel's, offloads on), `forwarding-off` (offloads off),
`bench` (a fixed link in this process), `zmq` (the same over the ZeroMQ fabric), `python` (no bench at all). What a
person may choose is a measure: some trials that belong together, a baseline first.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from emulator.bench.fabrics import Fabric
from emulator.bench.sides import Station
from emulator.child import child_command
from emulator.errors import EmulationError
from emulator.testing.performance import tests
from emulator.testing.performance.asked import Beside, nothing, stubs_asked
from emulator.testing.performance.bare_batches import bare_batches
from emulator.testing.performance.baselines import settle_tcp
from emulator.testing.performance.emulated import Memory
from emulator.testing.performance.loads import CONGESTION, Window, flood_record, many, tcp, udp
from emulator.testing.performance.names import MEASURES, PLACES
from emulator.testing.performance.places import Record, Settings, bare, forwarding, link
from emulator.testing.performance.punctual import (
    UDP_HEADERS_BYTES,
    delay_forwarding,
    delay_link,
    paced_bare,
    paced_link,
    probed_link,
)
from emulator.testing.performance.reaction import felt
from emulator.testing.performance.rows import CARRIED
from emulator.testing.performance.services import captured_gigabit, injected
from emulator.testing.session import Side
from emulator.units import NS_PER_S

FIRST_ANSWER = str(Path(__file__).with_name("first_answer.py"))
START_LIMIT_S = 60.0
EVERY_STAGE = (  # so rare that they cost TCP nothing but what the path does for them
    "link.loss=1e-9",
    "link.jitter_ms=0.02",
    "link.jitter.distribution='normal'",
    "link.jitter.correlation=0.5",
    "link.queue_discipline='fq_codel'",
    "link.queue_target_ms=50",
    "link.ecn=true",
    "link.frame_ms=1.333",
    "link.grant_ms=1.333",
    "link.shaper.rate_mbps=1000",
    "link.shaper.burst_bytes=200000",
    "link.bursts.every_s=1e5",
    "link.bursts.length_ms=1",
    "link.bit_error_rate=1e-15",
    "link.corrupt=1e-9",
    "link.duplicate=1e-9",
    "link.reorder.share=1e-9",
    "link.reorder.late_ms=1",
    "link.stage='emulator.testing.performance.idle_stage:idle'",
    "ports.egress_rate_mbps=10000",
    "classes=[{name='voice', dscp=[46]}, {name='ping', protocols=['icmp']}, {name='web', ports=['443', '80']}]",
)


def tcp_forwarding(settings: Settings, warnings: list[str], *, offloads: bool) -> Record:
    with forwarding(settings, offloads=offloads, warnings=warnings) as (client, server):
        carried = tcp(
            settings.tool,
            client,
            server,
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
    more: Sequence[str] = (),
    beside: Beside = nothing,
) -> Record:
    memory = Memory()
    memory.begin()
    with link(
        settings, rate_mbps=rate_mbps, queue_packets=queue_packets, fabric=fabric, more=more, warnings=warnings
    ) as watch:
        memory.ceiling_bytes = watch.bench.memory_bytes
        with beside(watch.bench, warnings) as asked:
            carried = tcp(
                settings.tool,
                watch.bench.terminal,
                watch.bench.datacenter,
                congestion=settings.steady_congestion if rate_mbps else CONGESTION,
                ramp_s=settings.ramp_s,
                seconds=settings.seconds,
                window=Window(watch.look, watch.look),
            )
            seen = watch.seen()
        return {**asdict(carried), "link": seen, "memory": memory.seen(), "asked": asked}


def flows_forwarding(settings: Settings, warnings: list[str]) -> Record:
    with forwarding(settings, offloads=True, whole=True, warnings=warnings) as (client, server):
        return flows_between(settings, client, server, warnings)


def flows_link(settings: Settings, warnings: list[str], *, whole: bool = True) -> Record:
    with link(settings, whole=whole, warnings=warnings) as watch:
        watch.look()
        record = flows_between(settings, watch.bench.terminal, watch.bench.datacenter, warnings)
        watch.look()
        return {**record, "link": watch.seen()}


def flows_between(settings: Settings, client: Station, server: Station, warnings: list[str]) -> Record:
    """TCP by numbers of flows; `cost`: what one flow carries over what so many together do.

    They share the buffers that one has. With as much each, 1,000 have more under way than the queue of a device holds,
    and what is lost there and sent again would be measured; where the kernel forwards, no device takes more than fits.
    """
    carried = {}
    for flows in settings.flows:
        for side in (client, server):
            warnings += settle_tcp(side, settings.tcp_buffer_bytes // flows)
        load = partial(many, client, server, ramp_s=settings.flows_ramp_s, seconds=settings.seconds, window=Window())
        carried[str(flows)] = asdict(load(flows=flows, congestion=settings.steady_congestion))
    one = carried["1"]["goodput_bps"]
    return {"flows": carried, "cost": {flows: one / each["goodput_bps"] for flows, each in carried.items()}}


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


def sizes_at(settings: Settings, sender: Side, receiver: Side, window: Window) -> Record:
    """Floods of packets of each size, one after the other, at one rate; all together what the window sees."""
    window.begin()
    found = {
        str(size): flood_record(
            udp(
                sender,
                receiver,
                packets_per_s=settings.udp_packets_per_s,
                seconds=settings.sizes_seconds,
                payload_bytes=size - UDP_HEADERS_BYTES,
                window=Window(),
            )
        )
        for size in settings.sizes
    }
    window.end()
    return {"sizes": found}


def sizes_forwarding(settings: Settings, warnings: list[str]) -> Record:
    with forwarding(settings, offloads=True, warnings=warnings) as (client, server):
        return sizes_at(settings, client, server, Window())


def sizes_link(settings: Settings, warnings: list[str]) -> Record:
    with link(settings, warnings=warnings) as watch:
        window = Window(watch.look, watch.look)
        return {**sizes_at(settings, watch.bench.terminal, watch.bench.datacenter, window), "link": watch.seen()}


def stages_memory(settings: Settings, warnings: list[str]) -> Record:
    """ns per packet by feature, in the compiled path alone."""
    from emulator.testing.performance.stages import costs, variants

    return {"ns": costs(variants(), rounds=settings.stages_rounds)}


def limit_at(settings: Settings, sender: Side, receiver: Side) -> Record:
    """The highest of the rates that is carried without loss, and what each rate came to; 0 if none is."""
    steps, highest = [], 0
    udp(sender, receiver, packets_per_s=settings.limit_packets_per_s[0], seconds=settings.limit_ramp_s, window=Window())
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


def limit_link(settings: Settings, warnings: list[str], *, fabric: Fabric = "direct") -> Record:
    with link(settings, fabric=fabric, warnings=warnings) as watch:
        return limit_at(settings, watch.bench.terminal, watch.bench.datacenter)


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
    "flows/forwarding": flows_forwarding,
    "flows/bench": flows_link,
    "small-flows/bench": lambda settings, warnings: flows_link(settings, warnings, whole=False),
    "tcp/zmq": lambda settings, warnings: tcp_link(settings, warnings, fabric="zmq"),
    "tcp/zmq-curve": lambda settings, warnings: tcp_link(settings, warnings, fabric="zmq-curve"),
    "batches/zmq-bare": lambda settings, warnings: bare_batches(settings.seconds),
    "gigabit/capture": captured_gigabit,
    "inject/bench": injected,
    "gigabit/bench": lambda settings, warnings: tcp_link(
        settings, warnings, rate_mbps=1000.0, queue_packets=settings.gigabit_queue_packets
    ),
    "gigabit/stubs": lambda settings, warnings: tcp_link(
        settings, warnings, rate_mbps=1000.0, queue_packets=settings.gigabit_queue_packets, beside=stubs_asked
    ),
    "all-stages/bench": lambda settings, warnings: tcp_link(
        settings, warnings, rate_mbps=1000.0, queue_packets=settings.gigabit_queue_packets, more=EVERY_STAGE
    ),
    "ten-gigabit/bench": lambda settings, warnings: tcp_link(
        settings, warnings, rate_mbps=10_000.0, queue_packets=settings.ten_gigabit_queue_packets
    ),
    "paced/bare": paced_bare,
    "paced/bench": paced_link,
    "paced/stubs": lambda settings, warnings: paced_link(settings, warnings, beside=stubs_asked),
    "felt/antenna": felt,
    "paced/bare-realtime": lambda settings, warnings: paced_bare(settings, warnings, realtime=True),
    "paced/bench-realtime": lambda settings, warnings: paced_link(settings, warnings, realtime=True),
    "probed/bench-realtime": probed_link,
    "probed/zmq-realtime": lambda settings, warnings: probed_link(settings, warnings, fabric="zmq"),
    "udp/forwarding": udp_forwarding,
    "udp/bench": udp_link,
    "udp/zmq": lambda settings, warnings: udp_link(settings, warnings, fabric="zmq"),
    "sizes/forwarding": sizes_forwarding,
    "sizes/bench": sizes_link,
    "limit/forwarding": limit_forwarding,
    "limit/bench": limit_link,
    "limit/zmq": lambda settings, warnings: limit_link(settings, warnings, fabric="zmq"),
    "stages/memory": stages_memory,
    "delay/forwarding": delay_forwarding,
    "delay/bench": delay_link,
    "start/python": start_python,
    "start/shell": start_shell,
    "fixture/python": tests.fixture,
    "report/python": tests.report,
    "sweep/python": tests.sweep,
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
    slow = {"zmq": 2.5, "zmq-curve": 2.5, "zmq-realtime": 2.5, "capture": 1.0, "bench": 0.4, "bench-realtime": 0.4}
    slow |= {"stubs": 2.0, "antenna": 4.0}
    prepared = slow.get(place, 0.3)
    lasts = {
        "tcp": settings.ramp_s + settings.seconds + 0.3,
        "flows": len(settings.flows) * (settings.flows_ramp_s + settings.seconds + 1.0),
        "small-flows": len(settings.flows) * (settings.flows_ramp_s + settings.seconds + 1.0),
        "gigabit": settings.ramp_s + settings.seconds + 0.3,
        "all-stages": settings.ramp_s + settings.seconds + 0.6,
        "sizes": len(settings.sizes) * (settings.sizes_seconds + 0.4),
        "stages": 0.5 * (1 + settings.stages_rounds),
        "ten-gigabit": settings.ramp_s + settings.seconds + 0.3,
        "paced": settings.udp_seconds + 0.4,
        "felt": settings.antenna_changes * sum(settings.antenna_dwell_ms) / 2e3,
        "probed": settings.probed_seconds + 1.5,
        "udp": settings.udp_seconds + 0.4,
        "limit": len(settings.limit_packets_per_s) * (settings.limit_seconds + 0.4) + settings.limit_ramp_s + 0.4,
        "delay": settings.udp_seconds + 1.0,
        "batches": settings.seconds + 1.5,
        "inject": settings.limit_seconds + 0.5,
        "start": 1.0,
        "fixture": 6.0,
        "report": 6.0,
        "sweep": 15.0,
    }
    return lasts[load] + prepared
