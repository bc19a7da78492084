"""From the Scenario to the links: options of a direction, memory included, and timed changes."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator
from typing import Any, Literal

from emulator.errors import ScenarioError
from emulator.link.link import Change, LinkOptions, Rule, power_of_two
from emulator.ports.impairments import SHORTEST_PACKET_BYTES, checked, impairment_options, lane_options
from emulator.radio.modcod import DVB_S2, WAVEFORMS, Waveform, efficiency_by_cn
from emulator.scenario.links import GeoDirection, PlainLink, direction_keys
from emulator.scenario.model import OverlayEvent, Scenario, TrafficClass
from emulator.scenario.script import AMOUNTS, OVERLAY_ACTIONS, Step
from emulator.timeline.causes import Cause, Gate
from emulator.units import NS_PER_MS, NS_PER_S, bits_per_s

Direction = Literal["uplink", "downlink"]

FASTEST_BPS = 20_000_000_000  # what the packet path is sized for where the scenario sets no rate
FASTEST_PACKETS_PER_S = 2_000_000
SLACK_NS = 5 * NS_PER_MS  # by which the packet loop may be late before its memory is full
LEAST_MEMORY_BYTES, MOST_MEMORY_BYTES = 1 << 24, 1 << 29  # of one direction's delay line
LEAST_FLIGHT_PACKETS, MOST_FLIGHT_PACKETS = 1 << 16, 1 << 20
LEDGER_EVENTS = 1 << 17  # 4 MB: what became of the packets of the last 0.1 s at the fastest, for captures

ANY = -1
ETHERNET_BPS = (10**9, 10**10, 10**11)  # IEEE 802.3, what cards have
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
    keys: Any = direction_keys(scenario.link, direction)
    fixed = isinstance(scenario.link, PlainLink)
    waveform = waveform_of(scenario, direction)
    rate_mbps = keys.rate_mbps if fixed else keys.rate_mbps.p100 * (1 + keys.rate_wobble)
    usual_mbps = keys.rate_mbps if fixed else keys.rate_mbps.p50
    shared = impairment_options(keys, None if scenario.source is None else scenario.source.parent)
    if opportunities := shared.get("opportunities"):
        usual_mbps = len(opportunities.instants_ns) * opportunities.packet_bytes * 8e3 / opportunities.instants_ns[-1]
    bdp_bytes = usual_mbps * 1e6 / 8 * 2 * delay_ns / NS_PER_S
    classes = [wanted for wanted in scenario.classes if wanted.direction in ("both", direction)]
    where = f"{scenario.source.name if scenario.source else 'scenario'}: link"
    try:
        lanes = tuple(
            lane_options(queue, queue.queue_packets, queue.queue_discipline, bdp_bytes, scenario.ports.mtu)
            for queue in (*classes, keys)
        )
    except ValueError as error:
        raise ScenarioError([f"{where}: {error}"]) from error
    rate_bps = rate_mbps * 1e6 or FASTEST_BPS
    late_ms = keys.reorder.late_ms if keys.reorder else 0.0
    extra_ns = max((event.extra_delay_ms for event in scenario.overlay), default=0.0) * NS_PER_MS
    extra_ns += (10 * keys.jitter_ms + keys.frame_ms + late_ms) * NS_PER_MS
    under_way_s = (delay_ns + extra_ns + SLACK_NS) / NS_PER_S
    bytes_under_way = 1.2 * rate_bps / 8 * under_way_s
    bytes_under_way += sum(min(lane.queue_packets * scenario.ports.mtu, lane.queue_bytes or 1 << 40) for lane in lanes)
    packets_under_way = min(rate_bps / 8 / SHORTEST_PACKET_BYTES, FASTEST_PACKETS_PER_S) * under_way_s
    options = LinkOptions(
        lanes=lanes,
        rules=tuple(rule for lane, wanted in enumerate(classes) for rule in rules_of(lane, wanted)),
        overhead_bytes=keys.overhead_bytes,
        frame_ns=round(keys.frame_ms * NS_PER_MS),
        grant_ns=round(keys.grant_ms * NS_PER_MS),
        request_ns=0 if fixed else round(keys.request_ms * NS_PER_MS),
        request_kept_ns=0 if fixed else round(keys.request_kept_ms * NS_PER_MS),
        request_volume=not fixed and keys.request_for == "volume" and keys.request_ms > 0,
        ethernet=scenario.ports.kind != "tun",
        egress_rate_bps=line_rate_bps(scenario.ports.egress_rate_mbps, rate_mbps * 1e6),
        memory_bytes=min(MOST_MEMORY_BYTES, max(LEAST_MEMORY_BYTES, power_of_two(int(bytes_under_way)))),
        flight_packets=min(MOST_FLIGHT_PACKETS, max(LEAST_FLIGHT_PACKETS, power_of_two(int(packets_under_way)))),
        ledger_events=LEDGER_EVENTS,
        efficiency=efficiency_by_cn(waveform),
        efficiency_zero=waveform.efficiency_zero,
        **shared,
    )
    return checked(options, where)


def line_rate_bps(stated_mbps: float | None, link_bps: float) -> int:
    """Of the interface behind the link; unless stated, that of the slowest card which the link fills to at most half.

    0: nothing is spaced, as behind a link without a rate.
    """
    if stated_mbps is not None:
        return bits_per_s(stated_mbps)
    return next((rate for rate in ETHERNET_BPS if 0 < 2 * link_bps <= rate), 0)


def waveform_of(scenario: Scenario, direction: Direction) -> Waveform:
    """Whose MODCODs follow the C/N of a direction."""
    own = getattr(scenario.link, direction)
    return WAVEFORMS[own.waveform] if isinstance(own, GeoDirection) else DVB_S2


def rules_of(lane: int, wanted: TrafficClass) -> Iterator[Rule]:
    """The rules by which packets of a class come to its lane: each protocol, DSCP, range of ports and network."""
    numbers = [number for name in wanted.protocols for number in PROTOCOL_NUMBERS[name]] or [ANY]
    ranges = [tuple(int(port) for port in text.split("-")) for text in wanted.ports] or [(ANY,)]
    networks: list[tuple[int, int, int]] = [
        (network.version, network.prefixlen, int(network.network_address))
        for network in map(ipaddress.ip_network, wanted.networks)
    ]
    for protocol, dscp, ports, network in itertools.product(
        numbers, wanted.dscp or (ANY,), ranges, networks or [(0, 0, 0)]
    ):
        yield Rule(lane, protocol, dscp, (ports[0], ports[-1]), network)


def events_of(step: Step) -> list[OverlayEvent]:
    """What a step of a script puts on the link, from its own moment on; nothing for one that is done at once."""
    values: dict[str, Any] = {"at_s": 0.0, "duration_s": step.duration_s, "direction": step.direction}
    if step.action in OVERLAY_ACTIONS:
        if amount := AMOUNTS.get(step.action):
            values[amount] = getattr(step, amount)
        return [OverlayEvent.model_validate({**values, "kind": step.action})]
    if step.action in ("obstruct", "reboot"):
        return [OverlayEvent.model_validate({**values, "kind": "outage"})]
    return []


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
