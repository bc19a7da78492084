"""The kernel's notes of what came when: a frame finds its own or none, and none is ever too early."""

from __future__ import annotations

import collections
import contextlib
import fcntl
import gc
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.link.state import Ints
from emulator.link.store import LARGEST_SUPER, VNET_BYTES
from emulator.ports.batch import BATCH_WORDS, batch_memory, collect
from emulator.ports.frames import DEVICE, read_frame
from emulator.ports.messages import H_RECORDS, HEADER_WORDS
from emulator.ports.namespace import Namespace
from emulator.ports.stamp_ring import (
    CAME,
    HEAD,
    LEAST_BYTES,
    NO_STAMPS,
    READ,
    RING_HEADER,
    ROW_KEY,
    ROW_LENGTH,
    ROW_NUMBER,
    ROW_STAMP,
    ROW_WORDS,
    TAIL,
    key_of,
    seen_empty,
    stamp_of,
)
from emulator.ports.stamper import LEAST_ROWS
from emulator.ports.syscalls import (
    EMPTY_AT,
    EMPTY_SINCE,
    FRAME_ARRIVAL,
    GUESSED,
    LOOKED,
    PORT_KIND,
    READING_WORDS,
)
from emulator.ports.tap import TapPort
from emulator.ports.tun import TCP_OFFLOADS, TUNSETOFFLOAD, TunPort
from emulator.ports.turn import new_scratch
from hil_tests.bench.wires import sh
from hil_tests.unit.link.packets import NO_OFFLOAD, filler, packet
from hil_tests.unit.ports.test_tun import ADDRESS, PEER

live = pytest.mark.needs("netns", "tun", "root", "bpf", "compiled")
ROWS, QUEUE, ROOM = 64, 24, 16
UDP, UDP_SEGMENT = 17, 103  # linux/in.h, linux/udp.h
PEER6 = ("2001:2::1", 9)
MS = 1_000_000


def as_array(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(bytearray(data), np.uint8)


class Device:
    """A device's queue of QUEUE places, the kernel's program before it, and the reader behind it."""

    def __init__(self) -> None:
        self.ring: Ints = np.zeros(RING_HEADER + ROWS * ROW_WORDS, np.int64)
        self.queue: collections.deque[tuple[bytes, int, bool]] = collections.deque()
        self.now_ns, self.not_before_ns, self.noted = 1000, 1, 0

    def send(self, data: bytes, *, noted: bool = True) -> None:
        """What the program does, and then the device. noted: it is of a kind that has rows."""
        self.now_ns += 1
        came = int(self.ring[CAME])
        self.ring[CAME] += 1
        noted = noted and came - int(self.ring[READ]) < ROOM
        if noted:
            number = int(self.ring[HEAD])
            self.ring[HEAD] += 1
            row = RING_HEADER + number % ROWS * ROW_WORDS
            self.ring[row + ROW_STAMP] = self.now_ns
            self.ring[row + ROW_KEY] = key_of(as_array(data), 0, len(data))
            self.ring[row + ROW_LENGTH] = len(data)
            self.ring[row + ROW_NUMBER] = number + 1
        if len(self.queue) < QUEUE:
            self.queue.append((data, self.now_ns, noted))
            self.noted += noted

    def swap(self) -> None:
        """Two processors: the last two came in another order than the program saw them, unless nobody can tell."""
        if len(self.queue) > 1 and self.queue[-1][0] != self.queue[-2][0]:
            self.queue[-1], self.queue[-2] = self.queue[-2], self.queue[-1]

    def read(self) -> tuple[int, int, bool] | None:
        """(stamp or 0, when it came, whether it was noted) of the next frame."""
        self.now_ns += 1
        if not self.queue:
            seen_empty(self.ring, int(self.ring[CAME]))
            self.not_before_ns = self.now_ns
            return None
        data, came_ns, noted = self.queue.popleft()
        return int(stamp_of(self.ring, as_array(data), 0, len(data), self.not_before_ns)), came_ns, noted


steps = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 3)),
    st.tuples(st.just("unnoted"), st.integers(0, 3)),
    st.tuples(st.just("swap"), st.just(0)),
    st.tuples(st.just("read"), st.integers(1, 40)),
)


@given(st.lists(steps, max_size=300), st.booleans())
@settings(deadline=None)
def test_no_stamp_is_earlier_than_its_packet(script: list[tuple[str, int]], alike: bool) -> None:
    """Whatever is sent, swapped, dropped, not noted, however alike packets are; and those that differ have theirs."""
    device, number, full = Device(), 0, False
    for step, value in script:
        if step == "swap":
            device.swap()
        elif step == "read":
            for _ in range(value):
                if (found := device.read()) is None:
                    break
                stamp, came_ns, noted = found
                assert stamp == 0 or came_ns <= stamp <= device.now_ns
                if not alike:
                    assert stamp == (came_ns if noted else 0)
        else:
            number += 1
            device.send(packet(100, value if alike else number), noted=step == "send")
        full |= len(device.queue) == QUEUE
    assert device.ring[TAIL] <= device.ring[HEAD] == device.noted, "what was dropped has no row"
    while device.read() is not None:
        pass
    device.send(packet(100, 10**6))
    assert device.read() == (device.now_ns - 1, device.now_ns - 1, True), "whatever was before"


@given(st.lists(st.integers(1, 3 * QUEUE), min_size=1, max_size=12))
def test_after_an_overflow_stamps_are_there_again_once_the_port_was_seen_empty(bursts: list[int]) -> None:
    device, number = Device(), 0
    for burst in bursts:
        for _ in range(burst):
            number += 1
            device.send(packet(100, number))
        read = []
        while (found := device.read()) is not None:
            read.append(found)
        assert len(read) == min(burst, QUEUE)
        assert [stamp for stamp, _, _ in read] == [came for _, came, _ in read][:ROOM] + [0] * (len(read) - ROOM)


def test_rows_from_before_the_port_was_empty_are_nobodys() -> None:
    """The kernel had no memory for a packet that it had noted: one in a very long time."""
    device = Device()
    device.send(packet(100, 1))
    device.queue.clear()
    assert device.read() is None
    device.send(packet(100, 1))
    assert device.read() == (device.now_ns - 1, device.now_ns - 1, True)


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


@given(st.binary(max_size=200))
def test_without_a_ring_nothing_is_known_and_nothing_written(data: bytes) -> None:
    assert stamp_of(NO_STAMPS, as_array(data), 0, len(data), 1) == 0
    seen_empty(NO_STAMPS, int(NO_STAMPS[CAME]))
    assert not NO_STAMPS.any()


# the kernel's program


@pytest.fixture(params=[TunPort, TapPort])
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
    """Reads a port as the loop does; what the kernel has to say itself is left out."""

    def __init__(self, port: TunPort) -> None:
        self._port = port
        self.reading = np.zeros(READING_WORDS, np.int64)
        self.reading[PORT_KIND] = DEVICE
        self._data = np.zeros(LARGEST_SUPER, np.uint8)
        self._packet_at = VNET_BYTES + (14 if isinstance(port, TapPort) else 0)
        self.guessed = 0
        while self.next() is not None:
            pass

    def next(self, *, wait: bool = False) -> bytes | None:
        """The next IP packet with a datagram; None if there is none."""
        while True:
            if wait:
                assert select.select([self._port.descriptor], [], [], 10.0)[0]
            self.reading[LOOKED], self.reading[EMPTY_AT], self.reading[GUESSED] = time.monotonic_ns(), 0, 0
            length = int(read_frame(self._port.descriptor, self._data, 0, self.reading, self._port.stamps))
            if length < 0:
                self.reading[EMPTY_SINCE] = self.reading[EMPTY_AT]
                return None
            found = self._data[self._packet_at : length].tobytes()
            if found[9 if found[0] >> 4 == 4 else 6] == UDP:
                self.guessed += int(self.reading[GUESSED])
                return found

    @property
    def arrival_ns(self) -> int:
        return int(self.reading[FRAME_ARRIVAL])


@contextlib.contextmanager
def udp(port: TunPort, family: socket.AddressFamily = socket.AF_INET) -> Iterator[socket.socket]:
    with port.namespace.run(lambda: socket.socket(family, socket.SOCK_DGRAM)) as sender:
        yield sender


@live
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.booleans()), min_size=1, max_size=30))
def test_a_packet_came_when_it_was_sent_whenever_it_is_read(port: TunPort, sizes: list[tuple[int, bool]]) -> None:
    """The time at which sending it began, and that at which it was done, stand around its stamp: no tolerance."""
    assert port.stamps_fault == ""
    reader, sent = Reader(port), []
    with udp(port) as four, udp(port, socket.AF_INET6) as six:
        for number, (size, is_six) in enumerate(sizes):
            begun = time.monotonic_ns()
            (six if is_six else four).sendto(filler(size, number), PEER6 if is_six else PEER)
            sent.append((begun, time.monotonic_ns()))
    later = time.monotonic_ns() + MS
    while time.monotonic_ns() < later:
        pass
    for begun, done in sent:
        assert reader.next(wait=True)
        assert begun <= reader.arrival_ns <= done
    assert reader.guessed == 0
    assert reader.next() is None


@live
def test_a_full_device_makes_no_stamp_too_early(port: TunPort) -> None:
    """More comes than is read, the port is never empty, and no key tells one packet from another."""
    reader, sent_ns = Reader(port), []
    with udp(port, socket.AF_INET6) as sender:
        for _ in range(50):
            for _ in range(60):
                sent_ns.append(time.monotonic_ns())
                sender.sendto(bytes(40) + len(sent_ns).to_bytes(8, "big") + bytes(40), PEER6)
            for _ in range(20):
                found = reader.next(wait=True)
                assert found is not None
                assert sent_ns[int.from_bytes(found[88:96], "big") - 1] <= reader.arrival_ns
        while reader.next() is not None:
            pass
        before, reader.guessed = time.monotonic_ns(), 0
        sender.sendto(bytes(88), PEER6)
        done = time.monotonic_ns()
        assert reader.next(wait=True)
        assert before <= reader.arrival_ns <= done
        assert reader.guessed == 0


@live
def test_what_the_kernel_cuts_on_the_way_to_the_device_has_a_stamp_for_each_piece(port: TunPort) -> None:
    fcntl.ioctl(port.descriptor, TUNSETOFFLOAD, TCP_OFFLOADS)
    reader = Reader(port)
    with udp(port) as sender:
        sender.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 100)
        begun = time.monotonic_ns()
        sender.sendto(filler(2000, 1), PEER)
        done = time.monotonic_ns()
    for _ in range(20):
        found = reader.next(wait=True)
        assert found is not None
        assert len(found) == 128
        assert begun <= reader.arrival_ns <= done
    assert reader.guessed == 0


@live
@pytest.mark.needs("tbf")
def test_whatever_shapes_on_the_device_comes_before_the_stamp(port: TunPort) -> None:
    """A packet of 1,250 bytes lasts 5 ms at 2 Mbit/s: the link gets them so, though all were sent at once."""
    sh(port.namespace, "tc qdisc add dev ut0 root tbf rate 2mbit burst 1600 latency 10s")
    reader = Reader(port)
    with udp(port) as sender:
        for number in range(8):
            sender.sendto(filler(1250 - 28, number), PEER)
    arrivals = []
    for _ in range(8):
        assert reader.next(wait=True)
        arrivals.append(reader.arrival_ns)
    assert all(later - before >= 4.9 * MS for before, later in zip(arrivals[1:], arrivals[2:], strict=False))


@live
def test_a_stamp_from_before_the_port_was_empty_is_not_believed(port: TunPort) -> None:
    reader = Reader(port)
    with udp(port) as sender:
        sender.sendto(bytes(100), PEER)
    reader.reading[EMPTY_SINCE] = time.monotonic_ns() + 1000 * MS
    begun = time.monotonic_ns()
    assert reader.next(wait=True)
    assert reader.arrival_ns >= begun
    assert reader.guessed == 1


@live
def test_nothing_is_left_of_it() -> None:
    """No descriptor and no memory of ours; the kernel lets go of the program with the device."""

    def held() -> tuple[int, bool]:
        return len(os.listdir("/proc/self/fd")), "bpf-map" in Path("/proc/self/maps").read_text(encoding="ascii")

    gc.collect()
    before = held()
    with Namespace.create() as space:
        for _ in range(3):
            one = TunPort(space, "ut1", mtu=1500, queue_packets=10)
            assert len(one.stamps) == RING_HEADER + LEAST_ROWS * ROW_WORDS
            assert held()[1]
            one.close()
            one.close()
            del one
        gc.collect()
    assert held() == before


ENDS = """
import ipaddress, os, socket, sys
from emulator.link.link import Link
from emulator.ports.namespace import Namespace
from emulator.ports.relay import Relay
from emulator.ports.tun import TunPort
from emulator.timeline.model import Channel
space = Namespace.create()
ports = [TunPort(space, name, mtu=1500, queue_packets=100) for name in ("ut0", "ut1")]
ports[0].add_address(ipaddress.ip_interface("198.18.0.2/30"))
parent = os.getpid()
sender = space.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
if os.fork() == 0:
    while os.getppid() == parent:
        sender.sendto(b"on and on", ("198.18.0.1", 9))
    os._exit(0)
links = [Link(Channel.constant(0, delay_ns=1000), 1 << 62, seed=0, direction=way) for way in range(2)]
stamps = ports[0].stamps, ports[1].stamps
assert len(stamps[0]) > 1000
relay = Relay(*links, ports[0].descriptor, ports[1].descriptor, (-1, -1), stamps=stamps)
relay.start()
while relay.counters().uplink.offered_packets < 100:
    pass
sys.exit(3)
"""


@live
def test_a_process_may_end_while_its_loop_reads() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", ENDS], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 3, done.stderr


@pytest.mark.needs("netns", "tun", "root")
def test_who_does_not_ask_for_stamps_has_none() -> None:
    with Namespace.create() as space:
        one = TunPort(space, "ut1", mtu=1500, queue_packets=10, stamped=False)
        assert (one.stamps is NO_STAMPS, one.stamps_descriptor, one.stamps_fault) == (True, -1, "not asked for")
        one.close()


@pytest.mark.needs("root", "tun", "netns")
def test_in_a_time_namespace_of_another_clock_arrivals_are_the_loops() -> None:
    """The program knows the machine's clock only."""
    script = (
        "from emulator.ports.namespace import Namespace\nfrom emulator.ports.tun import TunPort\n"
        "print(TunPort(Namespace.create(), 'ut0', mtu=1500, queue_packets=9).stamps_warning)"
    )
    command = ["unshare", "--time", "--monotonic", "1000", "--fork", sys.executable, "-P", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "ut0: a packet's arrival is when the loop reads it (the monotonic clock of this time" in done.stdout


@pytest.mark.needs("compiled")
def test_a_port_from_which_a_batch_has_not_taken_all_was_not_seen_empty() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    scratch = new_scratch()
    with near, far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 23)
        frames = 2 * (BATCH_WORDS * 8 // 60_000)
        for number in range(frames):
            near.send(NO_OFFLOAD + packet(60_000, number))
        taken, ended = 0, False
        while not ended:
            words, data = batch_memory()
            words[H_RECORDS] = 0
            scratch.reading[LOOKED] = time.monotonic_ns()
            collect(far.fileno(), words, data, HEADER_WORDS, 128, scratch)
            taken += int(words[H_RECORDS])
            ended = scratch.reading[EMPTY_AT] > 0
            assert not ended or taken == frames
            assert scratch.reading[GUESSED] == words[H_RECORDS], "a socket has no stamps"
