"""Loads that ask how punctual a place is: packets at a steady rate, probes on an idle path, and both together."""

from __future__ import annotations

from functools import partial

import numpy as np

from emulator.bench.fabrics import Fabric
from emulator.errors import EmulationError
from emulator.testing.performance.asked import Beside, nothing
from emulator.testing.performance.emulated import delay_errors_us, lateness_percentiles
from emulator.testing.performance.loads import Flood, Window, flood_record, udp
from emulator.testing.performance.places import Record, Settings, bare, forwarding, link
from emulator.testing.session import Session, Side
from emulator.units import NS_PER_MS, NS_PER_S

PACED_SHARE = 0.98  # a rate that is just kept has no queue: what is late is late because of the loop
PROBE_LIMIT_S = 20.0
PROBES_START_S = 0.5  # packets cross until the last probe, whose program takes longer to start
UDP_HEADERS_BYTES = 28


def paced_bare(settings: Settings, warnings: list[str], *, realtime: bool = False) -> Record:
    with bare(settings, realtime=realtime, warnings=warnings) as loop:
        before = loop.lateness_us.copy()
        flood = paced(settings, loop.terminal, loop.datacenter, Window())
        return {**flood_record(flood), "lateness_us": lateness_percentiles(loop.lateness_us - before)}


def paced_link(settings: Settings, warnings: list[str], *, realtime: bool = False, beside: Beside = nothing) -> Record:
    with link(settings, rate_mbps=settings.paced_mbps, realtime=realtime, warnings=warnings) as watch:
        with beside(watch.bench, warnings) as asked:
            window = Window(watch.look, watch.look)
            flood = paced(settings, watch.bench.terminal, watch.bench.datacenter, window)
            seen = watch.seen()
        return {**flood_record(flood), "lateness_us": seen["lateness_us"], "link": seen, "asked": asked}


def paced(
    settings: Settings, sender: Side, receiver: Side, window: Window, *, seconds: float = 0.0, realtime: bool = False
) -> Flood:
    """Packets of the MTU at a little less than `paced_mbps`. realtime: the sender's priority."""
    return udp(
        sender,
        receiver,
        packets_per_s=PACED_SHARE * settings.paced_mbps * 1e6 / 8 / settings.mtu,
        seconds=seconds or settings.udp_seconds,
        payload_bytes=settings.mtu - UDP_HEADERS_BYTES,
        window=window,
        realtime=realtime,
    )


def probe(settings: Settings, near: Side, far: Side, delay_ms: float) -> Record:
    """Probes both ways on an otherwise idle path, stamped by the kernel at both ends."""
    with Session(near, far) as session:
        session.start_receivers()
        session.start_probes(round(settings.udp_seconds * NS_PER_S), settings.probe_interval_ms * NS_PER_MS)
        return probed(session, settings.udp_seconds, delay_ms)


def probed(session: Session, seconds: float, delay_ms: float) -> Record:
    """What probes that were started for so long have found, once they are over."""
    for sender in session.senders:
        sender.wait(seconds + PROBE_LIMIT_S)
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


def probed_link(settings: Settings, warnings: list[str], *, fabric: Fabric = "direct") -> Record:
    """Probes both ways while packets of the MTU cross one way at `paced_mbps`, all at real-time priority."""
    with link(settings, fabric=fabric, realtime=True, warnings=warnings) as watch:
        terminal, datacenter = watch.bench.terminal, watch.bench.datacenter
        with Session(terminal, datacenter) as session:
            session.start_receivers()
            lasts_ns, interval_ns = round(settings.probed_seconds * NS_PER_S), settings.probe_interval_ms * NS_PER_MS
            window = Window(partial(session.start_probes, lasts_ns, interval_ns), watch.look)
            watch.look()
            lasts_s = settings.probed_seconds + PROBES_START_S
            flood = paced(settings, terminal, datacenter, window, seconds=lasts_s, realtime=True)
            found = probed(session, settings.probed_seconds, settings.delay_ms)
        return {**found, "lost_probes": found["lost"], **flood_record(flood), "link": watch.seen()}
