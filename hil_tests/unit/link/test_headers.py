"""Where layer 4 begins, whatever stands before it: Scapy builds the packets, and knows.

What depends on it: the class of a packet, and which bits corruption may flip.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, PadN
from scapy.packet import Raw

from emulator.link.link import LaneOptions, LinkOptions, Rule
from emulator.link.wire import layer_4
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import Offer, drive, new_link
from hil_tests.unit.link.packets import NO_OFFLOAD
from hil_tests.unit.link.test_ethernet import ETHERNET, MACS

OPTIONS = LinkOptions(memory_bytes=1 << 20, flight_packets=64)
OPEN = Channel.constant(0, delay_ns=1_000_000)
HEADERS = st.sampled_from(["hop", "routing", "destination"])
BODIES = st.binary(min_size=8, max_size=60)
VOICE = (Rule(0, 17, -1, (5060, 5060)),)  # UDP, any DSCP, this port


def extended(kinds: list[str], body: Any) -> Any:
    made: Any = IPv6(src="2001:db8::1", dst="2001:db8::2")
    for kind in kinds:
        padding = [PadN(optdata=bytes(4))]
        made /= {
            "hop": IPv6ExtHdrHopByHop(options=padding),
            "routing": IPv6ExtHdrRouting(addresses=["2001:db8::3"]),
            "destination": IPv6ExtHdrDestOpt(options=padding),
        }[kind]
    return made / body


def begins_at(packet: bytes) -> tuple[int, int, bool]:
    return layer_4(np.frombuffer(packet, np.uint8), 0, len(packet))


def class_of(packet: bytes, *, ethernet: bool = False) -> int:
    options = replace(ETHERNET if ethernet else OPTIONS, lanes=(LaneOptions(), LaneOptions()), rules=VOICE)
    frame = MACS + b"\x08\x00" + packet if ethernet else packet
    seen = drive(new_link(OPEN, options), [Offer(0, NO_OFFLOAD + frame)])
    return [lane.offered_packets for lane in seen.counters.lanes].index(1)


@given(st.lists(HEADERS, max_size=4), BODIES)
def test_extension_headers_are_walked(kinds: list[str], body: bytes) -> None:
    packet = bytes(extended(kinds, UDP(sport=1, dport=5060) / Raw(body)))
    assert begins_at(packet) == (17, len(packet) - len(body) - 8, True)
    assert class_of(packet) == 0


@given(st.lists(HEADERS, max_size=2), st.lists(HEADERS, max_size=2), BODIES, st.integers(1, 8191))
def test_a_later_fragment_has_no_ports_whatever_its_data_looks_like(
    before: list[str], behind: list[str], body: bytes, offset: int
) -> None:
    """Fragments of what begins with `behind` headers and UDP; a later one holds data that looks like all of them."""
    inner = bytes(extended(behind, UDP(sport=5060, dport=5060) / Raw(body)))[40:]
    protocol = bytes(extended(behind, UDP()))[6]
    first, later = (
        bytes(extended(before, IPv6ExtHdrFragment(nh=protocol, offset=at, m=1) / Raw(inner))) for at in (0, offset)
    )
    assert begins_at(first) == (17, len(first) - len(body) - 8, True)
    assert begins_at(later) == (protocol, len(later) - len(inner), False)
    assert (class_of(first), class_of(later)) == (0, 1)


@given(st.integers(0, 26))
def test_padding_of_a_frame_is_no_header(padding: int) -> None:
    """An IP packet of a header alone, that says UDP, in a frame filled with what would be the ports."""
    bare = bytes(IP(src="192.0.2.1", dst="192.0.2.2", proto=17))
    assert len(bare) == 20
    assert class_of(bare + (b"\x13\xc4" * 13)[:padding], ethernet=True) == 1
    assert class_of(bytes(IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=5060)), ethernet=True) == 0


@given(st.lists(HEADERS, max_size=4), BODIES, st.integers(0, 1 << 31))
def test_the_bit_that_flips_is_of_layer_4(kinds: list[str], body: bytes, seed: int) -> None:
    packet = bytes(extended(kinds, UDP(sport=1, dport=2) / Raw(body)))
    seen = drive(new_link(OPEN, replace(OPTIONS, spoilt=1.0), seed=seed), [Offer(0, NO_OFFLOAD + packet)])
    (left,) = [delivery.packet for delivery in seen.deliveries]
    headers = len(packet) - len(body) - 8
    assert left[:headers] == packet[:headers]
    assert (int.from_bytes(left) ^ int.from_bytes(packet)).bit_count() == 1


@given(st.binary(min_size=40, max_size=80))
def test_lying_headers_lead_nowhere_outside_of_the_packet(noise: bytes) -> None:
    packet = b"\x60" + noise[1:]
    _, at, _ = begins_at(packet)
    assert 40 <= at <= len(packet)
