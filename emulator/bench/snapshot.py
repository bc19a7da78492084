"""What a bench says of itself: the link at an instant, and the counters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from emulator.link.link import DirectionCounters
from emulator.ports.nic import NicPort
from emulator.ports.relay import RelayCounters
from emulator.ports.remote import RemotePort
from emulator.ports.tun import TunPort
from emulator.timeline.causes import Cause
from emulator.timeline.model import ChannelState, Timeline
from emulator.units import format_utc

if TYPE_CHECKING:
    from emulator.bench.bench import Bench

Port = TunPort | NicPort | RemotePort


@dataclass(frozen=True, slots=True)
class AntennaState:
    """The antenna at an instant, as the packets feel it. Angles of the beam are the mount's; None: not known.

    `beacon_db` is the C/N that the antenna receives; `heard_ns` when the last byte of the newest report was read,
    `applied_ns` when the link had the fade that follows, both monotonic.
    """

    utc_ns: int
    beam_azimuth_deg: float | None
    beam_elevation_deg: float | None
    off_deg: float | None
    receive_loss_db: float
    transmit_loss_db: float
    blocked_db: float
    beacon_db: float | None
    locked: bool
    heard_ns: int | None
    applied_ns: int


@dataclass(frozen=True)
class LinkState:
    """The link at one instant, overlay included, queue and jitter left out. No sky: satellite and gateway are empty.

    `antenna`: as it was known then, None without one. `dish`: what the dish that is served does, empty without one.
    """

    utc_ns: int
    satellite: str
    gateway: str
    azimuth_deg: float | None
    elevation_deg: float | None
    slant_range_m: float | None
    next_handover_ns: int | None
    uplink: ChannelState
    downlink: ChannelState
    antenna: AntennaState | None = None
    dish: str = ""

    @classmethod
    def of(cls, timeline: Timeline, utc_ns: int, **rest: Any) -> LinkState:
        """With the path that a planned window has at `utc_ns`; rest: the other fields."""
        path, row = timeline.path, timeline.path.row_at(utc_ns)
        satellite, gateway = int(path.satellite[row]), int(path.gateway[row])
        served = satellite >= 0
        return cls(
            utc_ns=utc_ns,
            satellite=timeline.satellites[satellite] if served else "",
            gateway=timeline.gateways[gateway] if gateway >= 0 else "",
            azimuth_deg=float(path.azimuth_deg[row]) if served else None,
            elevation_deg=float(path.elevation_deg[row]) if served else None,
            slant_range_m=float(path.slant_range_m[row]) if served else None,
            **rest,
        )


@dataclass(frozen=True)
class Counters:
    """A snapshot of both directions that adds up, drops of the kernel's device queues (PORT_QUEUE) included."""

    uplink: DirectionCounters
    downlink: DirectionCounters
    relay: RelayCounters


def facts_of(bench: Bench, start_ns: int, fabric: str) -> dict[str, Any]:
    """What `bench.json` tells to whoever looks for the bench."""
    ports = bench.scenario.ports
    return {
        "scenario": bench.scenario.name,
        "paths": bench.network.paths.told,
        "seed": bench.scenario.seed,
        "fabric": fabric,
        "isolated": bench.isolated,
        "started_utc": format_utc(start_ns),
        "terminal_ipv4": bench.terminal.ipv4,
        "datacenter_ipv4": bench.datacenter.ipv4,
        "terminal_ipv6": bench.terminal.ipv6,
        "datacenter_ipv6": bench.datacenter.ipv6,
        "ports": ports.kind,
        "interfaces": [bench.terminal.port.name, bench.datacenter.port.name],
        "namespaces": {side.name: side.namespace.path for side in (bench.terminal, bench.datacenter) if side.is_here},
        "mtu": ports.mtu,
        "tx_queue_packets": ports.tx_queue_packets,
        "memory_bytes": bench.memory_bytes,
    }


def with_port_drops(counters: DirectionCounters, entry: Port) -> DirectionCounters:
    """Adds what the kernel dropped at the entry, before we could read it: it was offered to the link all the same."""
    before = entry.kernel_drops().transmit
    if not before:
        return counters
    dropped = {**counters.dropped, Cause.PORT_QUEUE: before}
    return replace(counters, offered_packets=counters.offered_packets + before, dropped=dropped)
