"""The same load through a bench, and what the bench itself counts meanwhile."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.bench import Bench
from emulator.bench.fabrics import Fabric
from emulator.bench.snapshot import Counters
from emulator.link.link import DirectionCounters
from emulator.scenario import load_scenario
from emulator.testing.performance.baselines import settle_tcp
from emulator.testing.performance.machine import forget_peak, resident_bytes, thread_cpu_ns
from emulator.testing.performance.statistics import histogram_percentile

LATENESS_PERCENTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9}


@dataclass
class Watch:
    """Looks at a bench at the beginning and at the end of a load; `seen` tells the difference."""

    bench: Bench
    warnings: list[str]
    _looks: list[tuple[int, int | None, int, Counters]] = field(default_factory=list)

    def look(self) -> None:
        self._looks.append((time.monotonic_ns(), loop_cpu_ns(), time.process_time_ns(), self.bench.counters()))

    def seen(self) -> dict[str, Any]:
        """What lay between the first look and the last one, as JSON takes it; lateness in µs."""
        begun_ns, cpu_before, process_before, before = self._looks[0]
        ended_ns, cpu_after, process_after, after = self._looks[-1]
        lateness = after.relay.lateness_us - before.relay.lateness_us
        packets = sum(
            getattr(after, name).delivered_packets - getattr(before, name).delivered_packets
            for name in ("uplink", "downlink")
        )
        seconds = (ended_ns - begun_ns) / 1e9
        cpu_ns = None if cpu_before is None or cpu_after is None else cpu_after - cpu_before
        return {
            "seconds": seconds,
            "uplink": difference(before.uplink, after.uplink),
            "downlink": difference(before.downlink, after.downlink),
            "delivered_bps": 8 * (after.uplink.delivered_bytes - before.uplink.delivered_bytes) / seconds,
            "lateness_us": lateness_percentiles(lateness),
            "late_beyond_10_ms": int(lateness[-1]),
            "loop_cpu_share": None if cpu_ns is None else cpu_ns / 1e9 / seconds,
            "other_cpu_share": None if cpu_ns is None else (process_after - process_before - cpu_ns) / 1e9 / seconds,
            "loop_cpu_ns_per_packet": cpu_ns / packets if cpu_ns is not None and packets else None,
            "starved": after.relay.starved - before.relay.starved,
        }


def lateness_percentiles(histogram: npt.NDArray[np.int64]) -> dict[str, int | None]:
    """µs, by the name of the percentile."""
    return {name: histogram_percentile(histogram, percent) for name, percent in LATENESS_PERCENTILES.items()}


def difference(before: DirectionCounters, after: DirectionCounters) -> dict[str, Any]:
    """What happened in a direction between two snapshots; `held_packets`: by how much that has grown."""
    dropped = {cause.name.lower(): count - before.dropped.get(cause, 0) for cause, count in after.dropped.items()}
    return {
        "offered_packets": after.offered_packets - before.offered_packets,
        "delivered_packets": after.delivered_packets - before.delivered_packets,
        "held_packets": after.held_packets - before.held_packets,
        "dropped_packets": {name: count for name, count in dropped.items() if count},
        "delivered_bytes": after.delivered_bytes - before.delivered_bytes,
    }


def loop_cpu_ns() -> int | None:
    """CPU time of the packet loop, a thread of this process called relay; None with another fabric."""
    for thread in threading.enumerate():
        if thread.name == "relay" and thread.native_id is not None:
            return thread_cpu_ns(thread.native_id)
    return None


@contextlib.contextmanager
def emulated(
    *,
    delay_ms: float,
    rate_mbps: float,
    queue_packets: int,
    mtu: int,
    tcp_buffer_bytes: int,
    fabric: Fabric = "direct",
    realtime: bool = False,
    more: Sequence[str] = (),
) -> Iterator[Watch]:
    """A fixed link that is up, with TCP buffers as the baselines have them. more: settings of its scenario."""
    scenario = load_scenario(
        "fixed",
        [
            f"link.delay_ms={delay_ms:g}",
            f"link.rate_mbps={rate_mbps:g}",
            f"link.queue_packets={queue_packets}",
            f"ports.mtu={mtu}",
            *more,
        ],
    )
    with Bench(scenario, fabric=fabric, realtime=realtime) as bench:
        warnings = list(bench.warnings)
        for side in (bench.terminal, bench.datacenter):
            warnings += settle_tcp(side, tcp_buffer_bytes)
        yield Watch(bench, warnings)


@dataclass
class Memory:
    """How far this process grows while a bench is up; `ceiling_bytes` is what the bench says of itself."""

    before_bytes: int = 0
    ceiling_bytes: int = 0

    def begin(self) -> None:
        forget_peak()
        self.before_bytes, _ = resident_bytes()

    def seen(self) -> dict[str, int]:
        now, peak = resident_bytes()
        return {
            "before_bytes": self.before_bytes,
            "now_bytes": now,
            "peak_bytes": peak,
            "ceiling_bytes": self.ceiling_bytes,
        }


def delay_errors_us(delays_ns: Any, delay_ms: float) -> list[float]:
    """Measured less commanded one-way delay, µs, of the probes that arrived."""
    delays = np.asarray(delays_ns, np.float64)
    return [float(error) for error in (delays[delays >= 0] / 1e3 - delay_ms * 1e3)]
