"""Flows of packets whose story is known; whatever the bytes are, nothing breaks."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.testing.flows import flows_of
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
