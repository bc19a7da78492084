"""PIE against RFC 8033, told in floating point; and marks that are what RFC 3168 says."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.link import pie, state, wire
from emulator.link.compiled import interpreted
from emulator.link.link import Discipline, LaneOptions, LinkOptions
from emulator.timeline.causes import Cause
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import Offer, Outcome, drive, new_link
from hil_tests.unit.link.packets import Super, fold, ones_sum
from hil_tests.unit.link.test_classes_and_disciplines import MS, RATE_BPS, UDP, ipv4

PIE_OPTIONS = LinkOptions(lanes=(LaneOptions(5000, discipline="pie"),), memory_bytes=1 << 24, flight_packets=1 << 14)
PACKETS = 4_000 if interpreted else 12_000


def flood(gap_ns: int, packets: int, options: LinkOptions = PIE_OPTIONS, *, ect: int = 0) -> Outcome:
    """1,000-byte packets, which take 1 ms each."""
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=RATE_BPS), options)
    frames = []
    for number in range(packets):
        frame = bytearray(ipv4(UDP, 1000, number))
        frame[11] = ect
        frames.append(Offer(number * gap_ns, bytes(frame)))
    return drive(link, frames)


@given(st.lists(st.integers(0, 400 * MS), min_size=1, max_size=60))
def test_the_controller_is_that_of_the_rfc(delays: list[int]) -> None:
    row = new_link(Channel.constant(0, delay_ns=0), PIE_OPTIONS).state.lanes[0]
    odds, before = 0.0, 0
    for delay in delays:
        step = 0.125 * (delay - 15 * MS) / 1e9 + 1.25 * (delay - before) / 1e9
        for below, share in ((1e-6, 2048), (1e-5, 512), (1e-4, 128), (1e-3, 32), (1e-2, 8), (1e-1, 2)):
            if odds < below:
                step /= share
                break
        if odds >= 0.1:
            step = min(step, 0.02)
        odds += step
        if delay == 0 and before == 0:
            odds *= 0.98
        odds, before = min(1.0, max(0.0, odds)), delay
        row[state.PIE_DELAY] = delay
        pie._update(row)
        assert int(row[state.PIE_ODDS]) / 2**32 == pytest.approx(odds, rel=0.01, abs=1e-5)
        odds = int(row[state.PIE_ODDS]) / 2**32  # so that roundings do not add up over the thresholds


def test_the_wait_nears_the_target_under_a_load_that_is_too_much() -> None:
    outcome = flood(int(0.9 * MS), PACKETS)
    late = [due - struct.unpack(">I", packet[-4:])[0] * int(0.9 * MS) for due, packet in outcome.deliveries]
    settled = sorted(late[len(late) // 2 :])
    assert 5 * MS < settled[len(settled) // 2] < 40 * MS
    assert outcome.counters.dropped.keys() == {Cause.AQM}


def test_nothing_is_dropped_from_a_link_that_has_time_or_in_a_first_burst() -> None:
    assert flood(2 * MS, 500).counters.dropped == {}
    assert flood(int(0.5 * MS), 200).counters.dropped == {}  # over within MAX_BURST


@pytest.mark.parametrize("discipline", ["codel", "pie", "fq_codel"])
def test_what_takes_part_is_marked_and_not_dropped(discipline: Discipline) -> None:
    """Up to a tenth of the packets, PIE marks as it would drop (RFC 8033 section 5.1)."""
    lane = LaneOptions(5000, discipline=discipline, ecn=True)
    options = LinkOptions(lanes=(lane,), memory_bytes=1 << 23, flight_packets=1 << 13)
    marked = flood(int(0.98 * MS), 3000, options, ect=1)
    assert marked.counters.marked_packets == sum(packet[1] & 3 == 3 for _, packet in marked.deliveries) > 0
    assert marked.counters.lanes[0].marked_packets == marked.counters.marked_packets
    for _, packet in marked.deliveries:
        assert packet[1] & 3 in (1, 3)
    assert flood(int(0.98 * MS), 3000, options).counters.marked_packets == 0


@given(st.binary(min_size=20, max_size=20))
def test_a_mark_mends_the_checksum(header: bytes) -> None:
    data = bytearray(b"\x45" + header[1:10] + b"\0\0" + header[12:])
    data[10:12] = struct.pack(">H", ~fold(ones_sum(bytes(data))) & 0xFFFF)
    frame = np.frombuffer(data, np.uint8)
    wire.set_congestion(frame, 0)
    assert wire.congestion_bits(frame, 0) == 3
    assert fold(ones_sum(frame.tobytes())) == 0xFFFF
    assert frame.tobytes()[2:10] == bytes(data[2:10])


@pytest.mark.parametrize("version", [4, 6])
def test_within_a_super_packet_only_the_marked_wire_packets_are_marked(version: int) -> None:
    """CoDel marks more and more often: some segments of a burst, and not others."""
    lane = LaneOptions(5000, discipline="codel", ecn=True, target_ns=MS, interval_ns=5 * MS)
    options = LinkOptions(lanes=(lane,), memory_bytes=1 << 23, flight_packets=1 << 13)
    frame = bytearray(Super("tcp", version, payload=50_000, segment=1000).frame())  # type: ignore[arg-type]
    frame[11] |= 2 if version == 4 else 0x20
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=RATE_BPS), options)
    outcome = drive(link, [Offer(0, bytes(frame))])
    bits = [wire.congestion_bits(np.frombuffer(packet, np.uint8), 0) for _, packet in outcome.deliveries]
    assert set(bits) == {2, 3}
    assert bits.count(3) == outcome.counters.marked_packets
    if version == 4:
        assert all(fold(ones_sum(packet[:20])) == 0xFFFF for _, packet in outcome.deliveries)
