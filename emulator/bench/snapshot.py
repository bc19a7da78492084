"""What a bench says of itself: the link at an instant, and the counters."""

from __future__ import annotations

from dataclasses import dataclass, replace

from emulator.link.link import DirectionCounters
from emulator.ports.nic import NicPort
from emulator.ports.relay import RelayCounters
from emulator.ports.tun import TunPort
from emulator.timeline.causes import Cause
from emulator.timeline.model import ChannelState

Port = TunPort | NicPort


@dataclass(frozen=True)
class LinkState:
    """The link at one instant, overlay included, queue and jitter left out. No sky: satellite and gateway are empty."""

    utc_ns: int
    satellite: str
    gateway: str
    azimuth_deg: float | None
    elevation_deg: float | None
    slant_range_m: float | None
    next_handover_ns: int | None
    uplink: ChannelState
    downlink: ChannelState


@dataclass(frozen=True)
class Counters:
    """A snapshot of both directions that adds up, drops of the kernel's device queues (PORT_QUEUE) included."""

    uplink: DirectionCounters
    downlink: DirectionCounters
    relay: RelayCounters


def with_port_drops(counters: DirectionCounters, entry: Port) -> DirectionCounters:
    """Adds what the kernel dropped at the entry, before we could read it: it was offered to the link all the same."""
    before = entry.kernel_drops().transmit
    if not before:
        return counters
    dropped = {**counters.dropped, Cause.PORT_QUEUE: before}
    return replace(counters, offered_packets=counters.offered_packets + before, dropped=dropped)
