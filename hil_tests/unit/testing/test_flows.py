"""Flows of packets whose story is known; whatever the bytes are, nothing breaks."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.taps.pcapng import PcapngWriter
from emulator.testing.flows import flows_of, flows_of_capture
from emulator.units import NS_PER_MS

A, B = (b"\x0a\x00\x00\x01", 5001), (b"\x0a\x00\x00\x02", 80)


def segment(source: tuple[bytes, int], target: tuple[bytes, int], sequence: int, ack: int, payload: int) -> bytes:
    tcp = struct.pack("!HHIIBBHHH", source[1], target[1], sequence % 2**32, ack % 2**32, 5 << 4, 0x10, 1000, 0, 0)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40 + payload, 0, 0, 64, 6, 0, source[0], target[0])
    return ip + tcp + bytes(payload)


@given(
    start=st.integers(0, 2**32 - 1),
    count=st.integers(1, 40),
    lost=st.sets(st.integers(0, 39)),
    trip_ms=st.integers(1, 900),
)
def test_bytes_repeats_and_round_trips(start: int, count: int, lost: set[int], trip_ms: int) -> None:
    """Each segment waits for its acknowledgement; the lost ones are sent twice, and give no round trip."""
    frames, at, again = [], 0, 0
    for number in range(count):
        sequence = start + 100 * number
        frames.append((at, segment(A, B, sequence, 7, 100)))
        if number in lost:
            again += 1
            at += 1000 * NS_PER_MS
            frames.append((at, segment(A, B, sequence, 7, 100)))
        at += trip_ms * NS_PER_MS
        frames.append((at, segment(B, A, 7, sequence + 100, 0)))
    forward, back = flows_of(frames)
    assert (forward.payload_bytes, forward.again, forward.segments) == (100 * count, again, count + again)
    assert back.payload_bytes == 0
    if again < count:
        assert forward.round_trip_p50_ms == pytest.approx(trip_ms)
    else:
        assert forward.round_trip_p50_ms is None


@given(st.lists(st.tuples(st.integers(0, 10**9), st.binary(min_size=1, max_size=80)), max_size=20))
def test_whatever_the_bytes_are(frames: list[tuple[int, bytes]]) -> None:
    for flow in flows_of(frames):
        assert flow.segments > 0


@given(up_ms=st.integers(1, 300), down_ms=st.integers(1, 300), count=st.integers(1, 20))
def test_a_bench_captured_at_both_places_shows_each_flow_as_its_sender_sees_it(
    tmp_path_factory: pytest.TempPathFactory, up_ms: int, down_ms: int, count: int
) -> None:
    """The datacenter sends; the terminal acknowledges at once. What is captured comes in the order of its fates."""
    path = tmp_path_factory.mktemp("capture") / "packets.pcapng"
    up_before, up_after, down_before, down_after = range(4)
    frames = []
    for number in range(count):
        sent_ms = 700 * number
        data = segment(A, B, 100 * number, 7, 100)
        acknowledged = segment(B, A, 7, 100 * number + 100, 0)
        frames += [(down_before, sent_ms, data), (down_after, sent_ms + down_ms, data)]
        frames += [(up_before, sent_ms + down_ms, acknowledged), (up_after, sent_ms + down_ms + up_ms, acknowledged)]
    with path.open("wb") as file:
        writer = PcapngWriter(
            file, tuple(f"{way}, {place} the link" for way in ("uplink", "downlink") for place in ("before", "after"))
        )
        for interface, at_ms, packet in sorted(frames, key=lambda frame: (-frame[0], frame[1])):
            writer.write(interface, at_ms * NS_PER_MS, packet, "")
    forward, back = flows_of_capture(path)
    assert (forward.segments, forward.payload_bytes, forward.again) == (count, 100 * count, 0)
    assert forward.round_trip_p50_ms == pytest.approx(up_ms + down_ms)
    assert (back.segments, back.payload_bytes) == (count, 0)
