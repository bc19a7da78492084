"""Whatever bytes come, nothing is raised, and all is counted: as malformed, or delivered as it is."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from emulator.link.link import LinkOptions
from emulator.link.store import LARGEST_SUPER
from emulator.timeline.causes import Cause
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import Offer, drive, new_link
from hil_tests.unit.link.packets import NO_OFFLOAD, Super, offload_header, packet
from hil_tests.unit.link.strategies import supers
from hil_tests.unit.link.test_conservation import adds_up

OPEN = Channel.constant(0, delay_ns=0)
OPTIONS = LinkOptions(queue_packets=1 << 16, memory_bytes=1 << 18, flight_packets=1 << 17)
BYTES16 = st.sampled_from([0, 1, 19, 20, 39, 40, 512, 513, 0xFFFF]) | st.integers(0, 0xFFFF)
HEADERS = st.builds(
    offload_header,
    st.sampled_from([0, 1, 3, 4, 5, 0x80, 0x81, 0x84, 0x85, 0xFF]),
    BYTES16,
    BYTES16,
    BYTES16,
    BYTES16,
    flags=st.sampled_from([0, 1, 2, 255]),
)


def drop_causes(frame: bytes) -> dict[Cause, int]:
    """Offers the frame and a sound packet after it, which must arrive whatever the frame did."""
    link = new_link(OPEN, OPTIONS)
    outcome = drive(link, [Offer(0, frame), Offer(1, NO_OFFLOAD + packet(100, 7))])
    assert outcome.deliveries[-1].packet == packet(100, 7)
    assert adds_up(outcome.counters)
    assert outcome.counters.held_packets == 0
    return outcome.counters.dropped


@given(st.binary(max_size=300))
@example(b"")
@example(bytes(9))
@example(bytes(10))
@example(bytes(29))
def test_noise_is_counted(frame: bytes) -> None:
    assert set(drop_causes(frame)) <= {Cause.MALFORMED}


@given(HEADERS, st.binary(max_size=200), st.sampled_from([b"", b"\x45", b"\x46", b"\x4f", b"\x60", b"\x65"]))
def test_hostile_offload_headers_are_counted(header: bytes, body: bytes, beginning: bytes) -> None:
    assert set(drop_causes(header + beginning + body)) <= {Cause.MALFORMED}


@given(supers(), HEADERS)
def test_a_hostile_header_before_a_sound_packet_is_counted(burst: Super, header: bytes) -> None:
    assert set(drop_causes(header + burst.frame()[10:])) <= {Cause.MALFORMED}


@given(supers(), st.lists(st.tuples(st.integers(0, 89), st.integers(0, 255)), min_size=1, max_size=4), st.data())
def test_a_spoilt_super_packet_is_counted(burst: Super, spots: list[tuple[int, int]], data: st.DataObject) -> None:
    frame = bytearray(burst.frame())
    for at, value in spots:
        frame[at % len(frame)] = value
    assert set(drop_causes(bytes(frame[: data.draw(st.integers(0, len(frame)))]))) <= {Cause.MALFORMED}


@given(st.binary(min_size=20, max_size=200))
def test_what_ip_can_carry_is_delivered_unchanged_and_the_rest_is_malformed(body: bytes) -> None:
    """For packets without offload: version and lengths decide, nothing else is looked at."""
    version, header, total = body[0] >> 4, (body[0] & 15) * 4, struct.unpack_from(">H", body, 2)[0]
    payload6 = struct.unpack_from(">H", body, 4)[0]
    sound4 = version == 4 and 20 <= header <= len(body) and header <= total <= len(body)
    sound6 = version == 6 and len(body) >= 40 and 40 + payload6 <= len(body)
    outcome = drive(new_link(OPEN, OPTIONS), [Offer(0, NO_OFFLOAD + body)])
    assert [delivery.packet for delivery in outcome.deliveries] == ([body] if sound4 or sound6 else [])
    assert outcome.counters.dropped == ({} if sound4 or sound6 else {Cause.MALFORMED: 1})


CLAIMS = {
    "no segment length": {"segment": 0},
    "checksum not asked for": {"flags": 0},
    "layer 4 inside the IP header": {"start": 10},
    "layer 4 beyond the end": {"start": 3000},
    "TCP over the other IP": {"kind": 4},
    "UDP fragmentation, which was never offered": {"kind": 3},
    "another protocol": {"kind": 5},
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_false_claim_makes_a_super_packet_malformed(claim: str) -> None:
    fields = {"kind": 1, "headers": 40, "segment": 500, "start": 20, "offset": 16, "flags": 1, **CLAIMS[claim]}
    frame = offload_header(**fields) + Super("tcp", 4, payload=2000, segment=500).frame()[10:]
    assert drop_causes(frame) == {Cause.MALFORMED: 1}


def test_a_tcp_header_longer_than_the_packet_is_malformed() -> None:
    frame = bytearray(Super("tcp", 4, payload=30, segment=10).frame())
    frame[10 + 20 + 12] = 0xF0  # data offset of 60 bytes
    assert drop_causes(bytes(frame)) == {Cause.MALFORMED: 1}


@pytest.mark.parametrize("words", range(5))
def test_a_tcp_header_shorter_than_tcp_has_is_malformed(words: int) -> None:
    frame = bytearray(Super("tcp", 4, payload=2000, segment=500).frame())
    frame[10 + 20 + 12] = words << 4
    assert drop_causes(bytes(frame)) == {Cause.MALFORMED: 1}


def test_headers_longer_than_there_is_room_for_are_malformed() -> None:
    body = bytearray(Super("udp", 6, payload=2000, segment=500).frame()[10:])
    frame = offload_header(5, 700, 500, 692, 6) + bytes(body)
    assert drop_causes(frame) == {Cause.MALFORMED: 1}


def test_sixty_thousand_segments_of_a_byte_are_sixty_thousand_packets() -> None:
    burst = Super("udp", 4, payload=60_000, segment=1)
    link = new_link(OPEN, OPTIONS)
    link.offer_super(burst.frame(), 0)
    counters = link.counters()
    assert (counters.offered_packets, counters.flying_packets) == (60_000, 60_000)
    assert counters.offered_bytes == 60_000 * 29


def test_what_is_longer_than_any_packet_is_an_error_of_the_caller() -> None:
    link = new_link(OPEN)
    link.offer_super(NO_OFFLOAD + packet(65_535, 1), 0)
    with pytest.raises(ValueError, match=str(LARGEST_SUPER)):
        link.offer_super(bytes(LARGEST_SUPER + 1), 0)


@pytest.mark.parametrize(("start", "offset"), [(0, 0xFFFF), (0xFFFF, 0), (0xFFFF, 0xFFFF), (99, 0), (100, 0), (90, 10)])
def test_a_checksum_out_of_bounds_is_not_completed(start: int, offset: int) -> None:
    body = packet(100, 1)
    (delivery,) = drive(new_link(OPEN), [Offer(0, offload_header(0, 0, 0, start, offset) + body)]).deliveries
    assert delivery.packet == body
