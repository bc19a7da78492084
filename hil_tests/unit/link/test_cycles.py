"""Frames and grants: when the medium is shared in cycles, packets leave at its instants and at no other."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emulator.link.link import LinkOptions
from emulator.testing.measure import Service
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import drive, new_link
from hil_tests.unit.link.strategies import MS, offers_of

FRAME = 1_333_333  # 750 frames a second, as on Starlink's downlink (Garcia et al., arXiv 2605.27717)
BYTE_NS = 1_000
RATE_BPS = 8_000_000
found = st.lists(st.tuples(st.integers(0, 50 * MS), st.integers(20, 1500)), min_size=1, max_size=40).map(sorted)


def dues(
    arrivals: list[tuple[int, int]],
    utc_offset_ns: int = 0,
    polls: tuple[int, ...] = (),
    *,
    frame_ns: int = 0,
    grant_ns: int = 0,
    request_ns: int = 0,
    kept_ns: int = 0,
    volume: bool = False,
) -> list[int]:
    options = LinkOptions(
        memory_bytes=1 << 20,
        flight_packets=128,
        frame_ns=frame_ns,
        grant_ns=grant_ns,
        request_ns=request_ns,
        request_kept_ns=kept_ns,
        request_volume=volume,
    )
    channel = Channel.constant(0, delay_ns=3 * MS, rate_bps=RATE_BPS)
    link = new_link(channel, options, utc_offset_ns=utc_offset_ns)
    return [delivery.due_ns for delivery in drive(link, offers_of(arrivals), polls=polls).deliveries]


@given(found, st.integers(0, 10**12))
def test_what_is_sent_leaves_with_the_frame_that_holds_its_last_bit(
    arrivals: list[tuple[int, int]], offset: int
) -> None:
    plain, framed = dues(arrivals, offset), dues(arrivals, offset, frame_ns=FRAME)
    assert all((due - 3 * MS + offset) % FRAME == 0 for due in framed)
    assert all(0 <= late - early < FRAME for early, late in zip(plain, framed, strict=True))


@given(found, st.integers(1, 20 * MS), st.integers(0, 10**12))
def test_an_idle_link_begins_with_a_grant_and_a_busy_one_goes_on(
    arrivals: list[tuple[int, int]], grant: int, offset: int
) -> None:
    free, expected = -1, []
    for at, size in arrivals:
        start = free if free >= at else at + -(at + offset) % grant
        free = start + size * BYTE_NS
        expected.append(free + 3 * MS)
    assert dues(arrivals, offset, grant_ns=grant) == expected


@given(found, st.integers(1, 20 * MS), st.integers(1, 600 * MS), st.integers(0, 30 * MS), st.integers(0, 10**12))
def test_an_idle_link_asks_for_capacity_unless_it_still_has_some(
    arrivals: list[tuple[int, int]], grant: int, request: int, kept: int, offset: int
) -> None:
    """Demand assignment: what comes after a pause waits for the answer, what comes meanwhile goes with it."""
    free, expected = -(1 << 62), []
    for at, size in arrivals:
        asked = at + request if at - free > kept else at
        start = free if free >= at else asked + -(asked + offset) % grant
        free = start + size * BYTE_NS
        expected.append(free + 3 * MS)
    assert dues(arrivals, offset, grant_ns=grant, request_ns=request, kept_ns=kept) == expected


@given(found, st.integers(1, 20 * MS), st.integers(1, 600 * MS), st.integers(0, 10**12))
def test_where_capacity_is_for_a_volume_each_packet_waits_for_its_own(
    arrivals: list[tuple[int, int]], grant: int, request: int, offset: int
) -> None:
    free, expected = -(1 << 62), []
    for at, size in arrivals:
        asked = at + request
        free = max(free, asked + -(asked + offset) % grant) + size * BYTE_NS
        expected.append(free + 3 * MS)
    assert dues(arrivals, offset, grant_ns=grant, request_ns=request, volume=True) == expected


@given(found, st.lists(st.integers(0, 60 * MS), max_size=8))
def test_looking_changes_nothing(arrivals: list[tuple[int, int]], polls: list[int]) -> None:
    unwatched = dues(arrivals, frame_ns=FRAME, grant_ns=5 * MS)
    assert dues(arrivals, polls=tuple(polls), frame_ns=FRAME, grant_ns=5 * MS) == unwatched


cycle = st.integers(0, 20 * MS)


@given(found, cycle, cycle, st.integers(0, 600 * MS), st.integers(0, 30 * MS), st.booleans(), st.integers(0, 10**12))
def test_what_a_measurement_expects_is_what_the_link_does(
    arrivals: list[tuple[int, int]], frame: int, grant: int, request: int, kept: int, volume: bool, offset: int
) -> None:
    """Of probes, which are all of one size and alone on the link."""
    probes, size = [at for at, _ in arrivals], 52
    volume = volume and request > 0
    service = Service(size * 8, offset, frame, grant, request, kept, volume)
    launches = service.launches_ns(np.array(probes), np.full(len(probes), RATE_BPS))
    done = dues(
        [(at, size) for at in probes],
        offset,
        frame_ns=frame,
        grant_ns=grant,
        request_ns=request,
        kept_ns=kept,
        volume=volume,
    )
    assert (launches + 3 * MS).tolist() == done
