"""A super-packet is never one packet: its wire packets are those that a kernel, or scapy, would have made of it."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.link import state, wire
from emulator.link.link import Change, LinkOptions
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import Offer, drive, new_link
from hil_tests.unit.link.packets import CHECKSUM_OFFSET, GSO_TYPE, PROTOCOL, filler, fold, offload_header, ones_sum
from hil_tests.unit.link.strategies import MS, SEEDS, changes, channels

ECN_OFFLOAD = 0x80  # VIRTIO_NET_HDR_GSO_ECN
TCP_OPTIONS: list[list[tuple[str, Any]]] = [
    [],
    [("Timestamp", (123456, 654321))],
    [("NOP", None), ("NOP", None), ("Timestamp", (1, 2)), ("SAck", (100, 200))],
    [("MSS", 1460), ("SAckOK", b""), ("WScale", 7), ("NOP", None)],
]


@functools.cache
def scapy() -> Any:
    """scapy takes a second and a half to import."""
    from scapy.layers import inet, inet6
    from scapy.packet import Raw

    class Layers:
        IP, TCP, UDP, IPv6, Raw_ = inet.IP, inet.TCP, inet.UDP, inet6.IPv6, Raw
        HopByHop, PadN, Destination, Router = (
            inet6.IPv6ExtHdrHopByHop,
            inet6.PadN,
            inet6.IPv6ExtHdrDestOpt,
            inet.IPOption_Router_Alert,
        )

    return Layers


@st.composite
def flows(draw: st.DrawFn) -> dict[str, Any]:
    """What the headers of a super-packet say."""
    return {
        "protocol": draw(st.sampled_from(["tcp", "udp"])),
        "version": draw(st.sampled_from([4, 6])),
        "ip_options": draw(st.booleans()),
        "identification": draw(st.sampled_from([0, 1, 0xFFFC, 0xFFFF]) | st.integers(0, 0xFFFF)),
        "dont_fragment": draw(st.booleans()),
        "traffic_class": draw(st.integers(0, 255)),
        "hops": draw(st.integers(1, 255)),
        "ports": (draw(st.integers(1, 65_535)), draw(st.integers(1, 65_535))),
        "sequence": draw(st.sampled_from([0, 2**32 - 1000, 2**32 - 1]) | st.integers(0, 2**32 - 1)),
        "flags": draw(st.sampled_from(["A", "PA", "FA", "FPA", "EA", "CA", "CEPA", "CEFPA"])),
        "tcp_options": draw(st.sampled_from(TCP_OPTIONS)),
    }


@st.composite
def super_packets(draw: st.DrawFn) -> tuple[dict[str, Any], int, bytes]:
    """Headers, segment length, payload."""
    segment = draw(st.sampled_from([1, 2, 3, 100, 1447, 1448]) | st.integers(1, 3000))
    length = draw(st.integers(1, 12 * segment))
    return draw(flows()), segment, filler(length, draw(st.integers(0, 1000)))


def network(flow: dict[str, Any], identification: int) -> Any:
    """The IP layer of a wire packet."""
    layers = scapy()
    if flow["version"] == 4:
        return layers.IP(
            src="198.18.0.2",
            dst="198.18.0.1",
            id=identification & 0xFFFF,
            tos=flow["traffic_class"],
            ttl=flow["hops"],
            flags="DF" if flow["dont_fragment"] else 0,
            proto=PROTOCOL[flow["protocol"]],
            options=[layers.Router()] if flow["ip_options"] else [],
        )
    fixed = layers.IPv6(src="2001:2::2", dst="2001:2::1", tc=flow["traffic_class"], fl=0x12345, hlim=flow["hops"])
    if not flow["ip_options"]:
        return fixed
    return fixed / layers.Destination(options=[layers.PadN(optdata=b"\0" * 4)])


def transport(flow: dict[str, Any], skipped: int, *, first: bool, last: bool) -> Any:
    """The TCP or UDP header of the wire packet whose payload begins `skipped` bytes into the super-packet's."""
    layers = scapy()
    sport, dport = flow["ports"]
    if flow["protocol"] == "udp":
        return layers.UDP(sport=sport, dport=dport)
    flags = {flag for flag in flow["flags"] if (last or flag not in "FP") and (first or flag != "C")}
    return layers.TCP(
        sport=sport,
        dport=dport,
        seq=(flow["sequence"] + skipped) % 2**32,
        ack=42,
        window=512,
        flags="".join(flags),
        options=flow["tcp_options"],
    )


def segments_of(flow: dict[str, Any], segment: int, payload: bytes) -> list[bytes]:
    """The wire packets, each made on its own."""
    made = []
    for index, start in enumerate(range(0, len(payload), segment)):
        header = transport(flow, start, first=start == 0, last=start + segment >= len(payload))
        layers = network(flow, flow["identification"] + index) / header / scapy().Raw_(payload[start : start + segment])
        made.append(bytes(layers))
    return made


def super_of(flow: dict[str, Any], segment: int, payload: bytes) -> bytes:
    """The super-packet, its checksum partial, behind its virtio_net_hdr: as the kernel hands it over."""
    whole = bytes(
        network(flow, flow["identification"]) / transport(flow, 0, first=True, last=True) / scapy().Raw_(payload)
    )
    l4_header = 8 if flow["protocol"] == "udp" else 20 + options_length(flow)
    start = len(whole) - len(payload) - l4_header
    at = start + CHECKSUM_OFFSET[flow["protocol"]]
    addresses = whole[12:20] if flow["version"] == 4 else whole[8:40]
    partial = fold(ones_sum(addresses) + PROTOCOL[flow["protocol"]] + len(whole) - start)
    whole = whole[:at] + partial.to_bytes(2, "big") + whole[at + 2 :]
    kind = GSO_TYPE[flow["protocol"], flow["version"]] | (
        ECN_OFFLOAD if "C" in flow["flags"] and flow["protocol"] == "tcp" else 0
    )
    return offload_header(kind, start + l4_header, segment, start, CHECKSUM_OFFSET[flow["protocol"]]) + whole


def options_length(flow: dict[str, Any]) -> int:
    return len(bytes(scapy().TCP(options=flow["tcp_options"]))) - 20


@given(super_packets())
def test_its_wire_packets_are_those_that_scapy_makes(case: tuple[dict[str, Any], int, bytes]) -> None:
    link = new_link(Channel.constant(0, delay_ns=0))
    deliveries = drive(link, [Offer(0, super_of(*case))]).deliveries
    assert [delivery.packet for delivery in deliveries] == segments_of(*case)


@given(super_packets(), channels(), changes(), SEEDS, st.integers(1, 20))
def test_it_fares_as_its_segments_offered_one_by_one(
    case: tuple[dict[str, Any], int, bytes], channel: Channel, overlay: list[Change], seed: int, queue: int
) -> None:
    options = LinkOptions(queue_packets=queue, memory_bytes=1 << 22, flight_packets=64)
    whole, apart = (new_link(channel, options, seed=seed, changes=overlay) for _ in range(2))
    flow, segment, payload = case
    offered = [Offer(at, bytes(10) + packet) for at in (0, MS) for packet in segments_of(flow, segment, payload)]
    outcome = drive(whole, [Offer(0, super_of(*case)), Offer(MS, super_of(*case))])
    assert outcome == drive(apart, offered)


@given(super_packets(), st.data())
def test_a_run_is_a_super_packet_of_those_segments(
    case: tuple[dict[str, Any], int, bytes], data: st.DataObject
) -> None:
    """`build_run` for any stretch: what it makes, taken apart again, is that stretch; its lengths fit its bytes."""
    flow, segment, payload = case
    frame = np.frombuffer(super_of(*case), np.uint8)
    segments = segments_of(flow, segment, payload)
    entry = np.zeros(state.SUPER_COLUMNS, np.int64)
    assert wire.dissect(frame, 0, len(frame), entry)
    assert entry[state.SUPER_SEGMENTS] == len(segments)
    first = data.draw(st.integers(0, len(segments) - 1))
    count = data.draw(st.integers(1, len(segments) - first))
    run = run_of(frame, entry, first, count)
    deliveries = drive(new_link(Channel.constant(0, delay_ns=0)), [Offer(0, run)]).deliveries
    assert [delivery.packet for delivery in deliveries] == segments[first : first + count]
    if flow["version"] == 4:
        assert int.from_bytes(run[12:14], "big") == len(run) - 10
        assert fold(ones_sum(run[10 : 10 + (run[10] & 15) * 4])) == 0xFFFF
    else:
        assert int.from_bytes(run[14:16], "big") == len(run) - 50
    kind = run[1]
    assert kind == 0 if count == 1 else kind & 0x7F == frame[1] & 0x7F
    assert not kind & ECN_OFFLOAD or first == 0, "only the first packet of a run may carry CWR"


def run_of(frame: Any, entry: Any, first: int, count: int) -> bytes:
    head = np.zeros(wire.LARGEST_HEADER + 10, np.uint8)
    payload = int(wire.build_run(frame, entry, first, count, head))
    headers = 10 + int(entry[state.SUPER_HEADER])
    start = headers + first * int(entry[state.SUPER_SEGMENT])
    return head[:headers].tobytes() + frame[start : start + payload].tobytes()


@pytest.mark.parametrize("version", [4, 6])
def test_a_udp_checksum_that_comes_out_as_zero_is_sent_as_ones(version: int) -> None:
    """Zero would mean that there is none (RFC 768); over IPv6 it is not even allowed (RFC 8200, 8.1)."""
    flow: dict[str, Any] = {
        "protocol": "udp",
        "version": version,
        "ip_options": False,
        "identification": 0,
        "dont_fragment": True,
        "traffic_class": 0,
        "hops": 64,
        "ports": (1, 1),
        "flags": "A",
        "sequence": 0,
        "tcp_options": [],
    }
    plain = bytes(network(flow, 0) / transport(flow, 0, first=True, last=True) / scapy().Raw_(b"\0\0"))
    wanted = plain[-4:-2]  # the checksum of a zero payload, as a payload, brings the sum to all ones
    frame = super_of(flow, 2, wanted * 2)
    for delivery in drive(new_link(Channel.constant(0, delay_ns=0)), [Offer(0, frame)]).deliveries:
        assert delivery.packet[-4:-2] == b"\xff\xff"


@given(super_packets())
def test_a_partial_checksum_of_an_ordinary_packet_is_completed(case: tuple[dict[str, Any], int, bytes]) -> None:
    flow, _, payload = case
    (whole,) = segments_of(flow, len(payload), payload)
    frame = super_of(flow, len(payload), payload)
    ordinary = frame[:1] + b"\0" + frame[2:4] + b"\0\0" + frame[6:]
    (delivery,) = drive(new_link(Channel.constant(0, delay_ns=0)), [Offer(0, ordinary)]).deliveries
    assert delivery.packet == whole


@given(super_packets())
def test_it_is_counted_in_wire_packets(case: tuple[dict[str, Any], int, bytes]) -> None:
    link = new_link(Channel.constant(0, delay_ns=0))
    counters = drive(link, [Offer(0, super_of(*case))]).counters
    segments = segments_of(*case)
    assert counters.offered_packets == counters.delivered_packets == len(segments)
    assert counters.offered_bytes == counters.delivered_bytes == sum(map(len, segments))
