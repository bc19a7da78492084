"""The kernel's notes of what came when: a frame finds its own or none, whatever was swapped, dropped or not noted."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.link.state import Ints
from emulator.link.store import LARGEST_SUPER, VNET_BYTES
from emulator.ports.frames import DEVICE, read_frame
from emulator.ports.namespace import Namespace
from emulator.ports.stamp_ring import (
    HEAD,
    LEAST_BYTES,
    NO_STAMPS,
    RING_HEADER,
    ROW_KEY,
    ROW_LENGTH,
    ROW_NUMBER,
    ROW_STAMP,
    ROW_WORDS,
    SWAPPED,
    TAIL,
    forget,
    key_of,
    stamp_of,
)
from emulator.ports.stamper import LEAST_ROWS
from emulator.ports.syscalls import EMPTY_SINCE, FRAME_ARRIVAL, GUESSED, PORT_KIND, READING_WORDS
from emulator.ports.tap import TapPort
from emulator.ports.tun import TunPort
from hil_tests.bench.wires import sh
from hil_tests.unit.link.packets import filler, packet
from hil_tests.unit.ports.test_tun import ADDRESS, PEER

live = pytest.mark.needs("netns", "tun", "root", "bpf", "compiled")
ROWS = 64
UDP = 17


def new_ring(rows: int = ROWS) -> Ints:
    return np.zeros(RING_HEADER + rows * ROW_WORDS, np.int64)


def as_array(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(bytearray(data), np.uint8)


def note(ring: Ints, data: bytes, stamp_ns: int) -> None:
    """What the kernel's program does."""
    number = int(ring[HEAD])
    ring[HEAD] += 1
    row = RING_HEADER + number % ((len(ring) - RING_HEADER) // ROW_WORDS) * ROW_WORDS
    ring[row + ROW_STAMP] = stamp_ns
    ring[row + ROW_KEY] = key_of(as_array(data), 0, len(data))
    ring[row + ROW_LENGTH] = len(data)
    ring[row + ROW_NUMBER] = number + 1


def stamp(ring: Ints, data: bytes) -> int:
    return int(stamp_of(ring, as_array(data), 0, len(data)))


lengths = st.integers(LEAST_BYTES, 200)
fates = st.sampled_from(["read", "read", "read", "swapped", "dropped", "unnoted"])


@given(st.lists(st.tuples(lengths, fates), max_size=150))
def test_a_frame_finds_its_own_row_or_none(packets: list[tuple[int, str]]) -> None:
    """Rows and frames in nearly the same order, each read soon: some swapped, rows or frames without the other."""
    ring, waiting, found = new_ring(), [], 0
    for number, (length, fate) in enumerate(packets):
        data, at = packet(length, number), 1_000 + number
        if fate != "unnoted":
            note(ring, data, at)
        if fate != "dropped":
            waiting.append((data, at if fate != "unnoted" else 0))
        if fate == "swapped" and len(waiting) > 1:
            waiting[-1], waiting[-2] = waiting[-2], waiting[-1]
        if number % 3 == 2:
            for one, expected in waiting:
                assert stamp(ring, one) == expected
                found += expected != 0
            waiting.clear()
    assert ring[TAIL] <= ring[HEAD] == sum(fate != "unnoted" for _, fate in packets)
    assert found <= ring[HEAD]


@given(st.lists(st.integers(1, 3 * ROWS), min_size=1, max_size=8), st.integers(0, 2**32))
def test_rows_that_were_written_over_are_nobodys(bursts: list[int], first: int) -> None:
    """A stamp is the packet's own or missing, however many packets more than rows came meanwhile."""
    ring, number = new_ring(), first
    for burst in bursts:
        sent = [(packet(100, number + one), number + one + 1) for one in range(burst)]
        number += burst
        for data, at in sent:
            note(ring, data, at)
        read = [stamp(ring, data) for data, _ in sent]
        assert all(one in (0, at) for one, (_, at) in zip(read, sent, strict=True))
        if burst <= ROWS:
            assert all(read)
    note(ring, packet(100, number), 7)
    assert stamp(ring, packet(100, number)) == 7


@given(st.integers(1, 40), st.integers(0, 40))
def test_what_was_dropped_before_the_port_was_seen_empty_lends_its_stamp_to_nobody(dropped: int, later: int) -> None:
    """Not even to packets that are the same byte for byte."""
    ring, same = new_ring(), packet(100, 1)
    for _ in range(dropped):
        note(ring, same, 1_000)
    forget(ring, int(ring[HEAD]))
    assert stamp(ring, same) == 0
    for one in range(later % 8):
        note(ring, same, 2_000 + one)
    assert [stamp(ring, same) for _ in range(later % 8)] == [2_000 + one for one in range(later % 8)]


def test_after_frames_without_rows_the_next_with_a_row_has_it_and_old_rows_are_given_up() -> None:
    ring = new_ring()
    for number in range(ROWS):
        note(ring, packet(100, number), 1_000 + number)
    assert [stamp(ring, packet(100, 500 + number)) for number in range(20)] == [0] * 20
    note(ring, packet(100, 900), 5_000)
    assert stamp(ring, packet(100, 900)) == 5_000
    assert stamp(ring, packet(100, 0)) == 0
    for number in range(1_000, 1_000 + ROWS // 2):
        note(ring, packet(100, number), number)
    assert stamp(ring, packet(100, 1_000 + ROWS // 2 - 1)) == 1_000 + ROWS // 2 - 1
    assert ring[HEAD] - ring[TAIL] <= SWAPPED + 1


@given(st.binary(min_size=LEAST_BYTES, max_size=300), st.data())
def test_a_key_hears_each_bit_of_the_first_and_last_bytes(data: bytes, draw: st.DataObject) -> None:
    near = len(data) >= 56
    ends = [*range(56 if near else 24), *range(len(data) - (8 if near else 24), len(data))]
    place, bit = draw.draw(st.sampled_from(ends)), draw.draw(st.integers(0, 7))
    other = bytearray(data)
    other[place] ^= 1 << bit
    keys = [int(key_of(as_array(one), 0, len(data))) for one in (data, bytes(other))]
    assert keys[0] != keys[1]
    assert all(0 <= key < 2**63 for key in keys)


@given(st.binary(max_size=LEAST_BYTES - 1))
def test_without_a_ring_or_enough_of_a_packet_nothing_is_known(data: bytes) -> None:
    assert stamp(new_ring(), data) == 0
    assert stamp(NO_STAMPS, data + bytes(100)) == 0
    forget(NO_STAMPS, int(NO_STAMPS[HEAD]))
    assert not NO_STAMPS.any()


# the kernel's program


@pytest.fixture(scope="module", params=[TunPort, TapPort])
def port(request: pytest.FixtureRequest) -> Iterator[TunPort]:
    with Namespace.create() as space:
        port = request.param(space, "ut0", mtu=9000, queue_packets=100)
        port.add_address(ADDRESS)
        sh(space, "ip address add 2001:2::2/64 dev ut0 nodad")
        if isinstance(port, TapPort):
            sh(space, "ip neigh add 198.18.0.1 lladdr 02:00:00:00:00:99 dev ut0")
            sh(space, "ip neigh add 2001:2::1 lladdr 02:00:00:00:00:99 dev ut0")
        yield port
        port.close()


class Reader:
    """Reads a port as the loop does."""

    def __init__(self, port: TunPort) -> None:
        self._port = port
        self.reading = np.zeros(READING_WORDS, np.int64)
        self.reading[PORT_KIND] = DEVICE
        self._data = np.zeros(LARGEST_SUPER, np.uint8)
        self._packet_at = VNET_BYTES + (14 if isinstance(port, TapPort) else 0)

    def next(self, *, wait: bool = True) -> int:
        """How long the next frame with a datagram is, −1 if there is none; the kernel has things to say, too."""
        while True:
            if wait:
                assert select.select([self._port.descriptor], [], [], 10.0)[0]
            length = int(read_frame(self._port.descriptor, self._data, 0, self.reading, self._port.stamps))
            packet = self._data[self._packet_at :]
            if length < 0 or packet[9 if packet[0] >> 4 == 4 else 6] == UDP:
                return length

    @property
    def arrival_ns(self) -> int:
        return int(self.reading[FRAME_ARRIVAL])


@contextlib.contextmanager
def udp(port: TunPort, family: socket.AddressFamily = socket.AF_INET) -> Iterator[socket.socket]:
    with port.namespace.run(lambda: socket.socket(family, socket.SOCK_DGRAM)) as sender:
        yield sender


@live
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.booleans()), min_size=1, max_size=40))
def test_a_packet_came_when_it_was_sent_whenever_it_is_read(port: TunPort, sizes: list[tuple[int, bool]]) -> None:
    """The time at which sending it began, and that at which it was done, stand around its stamp: no tolerance."""
    assert port.stamps_fault == ""
    reader, sent = Reader(port), []
    while reader.next(wait=False) >= 0:
        pass
    with udp(port) as four, udp(port, socket.AF_INET6) as six:
        for number, (size, is_six) in enumerate(sizes):
            begun = time.monotonic_ns()
            (six if is_six else four).sendto(filler(size, number), ("2001:2::1", 9) if is_six else PEER)
            sent.append((begun, time.monotonic_ns()))
    later = time.monotonic_ns() + 1_000_000
    while time.monotonic_ns() < later:
        pass
    reader.reading[GUESSED] = 0
    for begun, done in sent:
        assert reader.next() > 0
        assert begun <= reader.arrival_ns <= done
    assert reader.reading[GUESSED] == 0
    assert reader.next(wait=False) < 0


@live
def test_what_a_full_device_drops_takes_no_other_packets_stamp(port: TunPort) -> None:
    """Datagrams that are equal byte for byte, in bursts of five times what the device holds."""
    reader = Reader(port)
    while reader.next(wait=False) >= 0:
        pass
    with udp(port) as sender:
        for _ in range(5):
            reader.reading[EMPTY_SINCE] = begun = time.monotonic_ns()
            for _ in range(500):
                sender.sendto(b"the same " * 10, PEER)
            read = 0
            while reader.next(wait=False) >= 0:
                assert begun - 500_000 <= reader.arrival_ns <= time.monotonic_ns()
                read += 1
            assert 0 < read <= 101
            sent_ns = time.monotonic_ns()
            sender.sendto(b"the same " * 10, PEER)
            assert reader.next() > 0
            assert sent_ns <= reader.arrival_ns <= time.monotonic_ns()


@live
def test_a_stamp_from_before_the_port_was_empty_is_not_believed(port: TunPort) -> None:
    reader = Reader(port)
    while reader.next(wait=False) >= 0:
        pass
    with udp(port) as sender:
        sender.sendto(bytes(100), PEER)
    reader.reading[EMPTY_SINCE], reader.reading[GUESSED] = time.monotonic_ns() + 10**9, 0
    begun = time.monotonic_ns()
    assert reader.next() > 0
    assert reader.arrival_ns >= begun
    assert reader.reading[GUESSED] == 1


@live
def test_nothing_is_left_of_it(port: TunPort) -> None:
    """No descriptor of ours; the kernel lets go of the program with the device."""
    descriptors = len(os.listdir("/proc/self/fd"))
    with Namespace.create() as space:
        for _ in range(3):
            one = TunPort(space, "ut1", mtu=1500, queue_packets=10)
            assert len(one.stamps) == RING_HEADER + LEAST_ROWS * ROW_WORDS
            one.close()
            one.close()
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.needs("netns", "tun", "root")
def test_who_does_not_ask_for_stamps_has_none() -> None:
    with Namespace.create() as space:
        one = TunPort(space, "ut1", mtu=1500, queue_packets=10, stamped=False)
        assert (one.stamps is NO_STAMPS, one.stamps_descriptor, one.stamps_fault) == (True, -1, "not asked for")
        one.close()
