"""Where a load is measured, set up and taken down: kernel forwarding, a link, the loop with no stage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.bench.fabrics import Fabric
from emulator.bench.sides import Station
from emulator.scenario import load_scenario
from emulator.testing.performance.bare_loop import BareLoop
from emulator.testing.performance.baselines import KernelForwarding, fill_super_packets, settle_tcp
from emulator.testing.performance.emulated import Watch, emulated
from emulator.testing.performance.loads import Tool
from emulator.testing.performance.names import FLOWS, SIZES
from emulator.units import NS_PER_MS


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run does. `seconds`: the measured part of one trial. `rounds`: of all trials, one after the other."""

    rounds: int
    seconds: float
    tool: Tool
    realtime: bool = False
    ramp_s: float = 1.0
    udp_seconds: float = 2.0
    limit_seconds: float = 0.6
    limit_ramp_s: float = 0.3  # at the lowest rate, before anything counts, as TCP has its own
    sizes_seconds: float = 1.0
    stages_rounds: int = 7
    delay_ms: float = 10.0
    mtu: int = 1500
    queue_packets: int = 10_000
    gigabit_queue_packets: int = 3_000
    ten_gigabit_queue_packets: int = 50_000  # halved by the loss that ends slow start, a window still fills the link
    tcp_buffer_bytes: int = 200_000_000
    udp_packets_per_s: int = 50_000
    limit_packets_per_s: tuple[int, ...] = (80_000, 100_000, 150_000, 200_000, 250_000)
    probe_interval_ms: int = 2
    flows: tuple[int, ...] = FLOWS
    sizes: tuple[int, ...] = SIZES
    flows_ramp_s: float = 3.0
    steady_congestion: str = "reno"  # cubic's slow start ends where the delay wavers, and then takes half a minute
    paced_mbps: float = 500.0
    probed_seconds: float = 2.5
    antenna_changes: int = 60
    antenna_dwell_ms: tuple[float, float] = (100.0, 150.0)  # between two changes: longer than any should take
    antenna_probe_ms: float = 0.5


Record = dict[str, Any]


@contextlib.contextmanager
def forwarding(
    settings: Settings, *, offloads: bool, whole: bool = False, warnings: list[str]
) -> Iterator[tuple[Station, Station]]:
    """Client and server of a baseline, with TCP buffers as in the bench. whole: see `fill_super_packets`."""
    with KernelForwarding(offloads=offloads, mtu=settings.mtu) as route:
        for station in (route.client, route.server):
            if whole:
                fill_super_packets(station.namespace)
            warnings += settle_tcp(station, settings.tcp_buffer_bytes)
        yield route.client, route.server


@contextlib.contextmanager
def link(
    settings: Settings,
    *,
    rate_mbps: float = 0.0,
    queue_packets: int | None = None,
    fabric: Fabric = "direct",
    realtime: bool = False,
    more: Sequence[str] = (),
    whole: bool = False,
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
        more=more,
    ) as watch:
        warnings += watch.warnings
        if whole:
            fill_super_packets(watch.bench.terminal.namespace)
            fill_super_packets(watch.bench.datacenter.namespace)
        yield watch


@contextlib.contextmanager
def bare(settings: Settings, *, realtime: bool = False, warnings: list[str]) -> Iterator[BareLoop]:
    """The loop with no stage, its sides with TCP buffers as in the bench."""
    scenario = load_scenario("fixed", [f"ports.mtu={settings.mtu}"])
    delay_ns = round(settings.delay_ms * NS_PER_MS)
    with BareLoop(scenario, delay_ns=delay_ns, realtime=realtime) as loop:
        for side in (loop.terminal, loop.datacenter):
            warnings += settle_tcp(side, settings.tcp_buffer_bytes)
        yield loop
