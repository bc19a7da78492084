"""From the Scenario to the links: options of a direction, memory included, and timed changes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal

from emulator.link.link import Bursts, Change, LaneOptions, LinkOptions, Rule, power_of_two
from emulator.radio.modcod import DVB_S2, WAVEFORMS, efficiency_by_cn
from emulator.scenario.links import GeoDirection, PlainLink
from emulator.scenario.model import OverlayEvent, Scenario, TrafficClass
from emulator.timeline.causes import Cause, Gate
from emulator.units import NS_PER_MS, NS_PER_S, bits_per_s

Direction = Literal["uplink", "downlink"]

FASTEST_BPS = 20_000_000_000  # what the packet path is sized for where the scenario sets no rate
FASTEST_PACKETS_PER_S = 2_000_000
SLACK_NS = 5 * NS_PER_MS  # by which the packet loop may be late before its memory is full
LEAST_MEMORY_BYTES, MOST_MEMORY_BYTES = 1 << 24, 1 << 29  # of one direction's delay line
LEAST_FLIGHT_PACKETS, MOST_FLIGHT_PACKETS = 1 << 16, 1 << 20
SHORTEST_PACKET_BYTES = 60
LEDGER_EVENTS = 1 << 17  # 4 MB: what became of the packets of the last 0.1 s at the fastest, for captures

ANY = -1
PROTOCOL_NUMBERS = {  # IANA, Assigned Internet Protocol Numbers
    "icmp": (1, 58),
    "igmp": (2,),
    "tcp": (6,),
    "udp": (17,),
    "gre": (47,),
    "esp": (50,),
    "ah": (51,),
    "sctp": (132,),
}


def link_options(scenario: Scenario, direction: Direction, delay_ns: int) -> LinkOptions:
    """What the scenario says of one direction apart from its channel; memory from rate × delay, within a ceiling."""
    link = scenario.link
    waveform, request_ms, kept_ms = DVB_S2, 0.0, 0.0
    if isinstance(link, PlainLink):
        own = getattr(link, direction)
        queue = link.queue_packets if own.queue_packets is None else own.queue_packets
        discipline = own.queue_discipline or link.queue_discipline
        bursts = own.bursts or link.bursts
        frame_ms = link.frame_ms if own.frame_ms is None else own.frame_ms
        grant_ms = link.grant_ms if own.grant_ms is None else own.grant_ms
        overhead = link.overhead_bytes if own.overhead_bytes is None else own.overhead_bytes
        rate_mbps = link.rate_mbps if own.rate_mbps is None else own.rate_mbps
        jitter_ms = link.jitter_ms if own.jitter_ms is None else own.jitter_ms
    else:
        orbit = getattr(link, direction)
        queue, overhead, jitter_ms = orbit.queue_packets, orbit.overhead_bytes, orbit.jitter_ms
        discipline, bursts = orbit.queue_discipline, orbit.bursts
        frame_ms, grant_ms = orbit.frame_ms, orbit.grant_ms
        request_ms, kept_ms = orbit.request_ms, orbit.request_kept_ms
        if isinstance(orbit, GeoDirection):
            waveform = WAVEFORMS[orbit.waveform]
        rate_mbps = orbit.rate_mbps.p100 * (1 + orbit.rate_wobble)
    classes = [wanted for wanted in scenario.classes if wanted.direction in ("both", direction)]
    lanes = (
        *(LaneOptions(wanted.queue_packets, discipline=wanted.queue_discipline) for wanted in classes),
        LaneOptions(queue, discipline=discipline),
    )
    rate_bps = rate_mbps * 1e6 or FASTEST_BPS
    extra_ns = max((event.extra_delay_ms for event in scenario.overlay), default=0.0) * NS_PER_MS
    under_way_s = (delay_ns + extra_ns + (10 * jitter_ms + frame_ms) * NS_PER_MS + SLACK_NS) / NS_PER_S
    bytes_under_way = 1.2 * rate_bps / 8 * under_way_s
    bytes_under_way += sum(lane.queue_packets for lane in lanes) * scenario.ports.mtu
    packets_under_way = min(rate_bps / 8 / SHORTEST_PACKET_BYTES, FASTEST_PACKETS_PER_S) * under_way_s
    return LinkOptions(
        lanes=lanes,
        rules=tuple(rule for lane, wanted in enumerate(classes) for rule in rules_of(lane, wanted)),
        overhead_bytes=overhead,
        frame_ns=round(frame_ms * NS_PER_MS),
        grant_ns=round(grant_ms * NS_PER_MS),
        request_ns=round(request_ms * NS_PER_MS),
        request_kept_ns=round(kept_ms * NS_PER_MS),
        bursts=None
        if bursts is None
        else Bursts(round(bursts.every_s * NS_PER_S), round(bursts.length_ms * NS_PER_MS), bursts.loss),
        ethernet=scenario.ports.kind != "tun",
        egress_rate_bps=bits_per_s(scenario.ports.egress_rate_mbps),
        memory_bytes=min(MOST_MEMORY_BYTES, max(LEAST_MEMORY_BYTES, power_of_two(int(bytes_under_way)))),
        flight_packets=min(MOST_FLIGHT_PACKETS, max(LEAST_FLIGHT_PACKETS, power_of_two(int(packets_under_way)))),
        ledger_events=LEDGER_EVENTS,
        efficiency=efficiency_by_cn(waveform),
        efficiency_zero=waveform.efficiency_zero,
    )


def rules_of(lane: int, wanted: TrafficClass) -> Iterator[Rule]:
    """The rules by which packets of a class come to its lane: each protocol with each DSCP and each range of ports."""
    numbers = [number for name in wanted.protocols for number in PROTOCOL_NUMBERS[name]] or [ANY]
    ranges = [tuple(int(port) for port in text.split("-")) for text in wanted.ports] or [(ANY,)]
    for protocol, dscp, ports in itertools.product(numbers, wanted.dscp or (ANY,), ranges):
        yield Rule(lane, protocol, dscp, (ports[0], ports[-1]))


def change_of(event: OverlayEvent, zero_ns: int) -> Change:
    """The event as a change on the monotonic clock; its times count from `zero_ns`."""
    start = zero_ns + round(event.at_s * NS_PER_S)
    end = start + round(event.duration_s * NS_PER_S)
    match event.kind:
        case "outage":
            return Change(start, end, gate=Gate.DROP, cause=Cause[event.cause.upper()])
        case "hold":
            return Change(start, end, gate=Gate.HOLD, cause=Cause.COMMAND)
        case "fade":
            return Change(start, end, fade_centidb=round(event.fade_db * 100))
        case "extra_delay":
            return Change(start, end, extra_delay_ns=round(event.extra_delay_ms * NS_PER_MS))
        case "loss":
            return Change(start, end, loss=event.loss)
        case "jitter":
            return Change(start, end, jitter_ns=round(event.jitter_ms * NS_PER_MS))
