"""The network-card port: real frames over a veth pair, the kernel's stamps, and every frame accounted for."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.link.state import Ints
from emulator.link.store import LARGEST_SUPER
from emulator.ports.frames import PACKET, PACKET_AUXDATA, SCM_TIMESTAMPNS, SOL_PACKET, read_frame, stamp_and_tag
from emulator.ports.nic import LEAST_RECEIVE_BYTES, NicPort
from emulator.ports.stamp_ring import NO_STAMPS
from emulator.ports.syscalls import (
    CONTROL,
    CONTROL_BYTES,
    EMPTY_SINCE,
    FRAME_ARRIVAL,
    FRAME_OFFSET,
    PORT_KIND,
    READING_WORDS,
)
from hil_tests.bench.living import until
from hil_tests.bench.wires import Wires, sh, wires
from hil_tests.unit.link.packets import filler
from hil_tests.unit.link.test_ethernet import MACS, TAGS

ETHERTYPE = b"\x88\xb5"  # IEEE 802.1: for local experiments
live = pytest.mark.needs("root", "netns", "ip")
MS = 1_000_000


@pytest.fixture
def cable() -> Iterator[tuple[Wires, NicPort, socket.socket]]:
    """A port on eth1, and a socket at the other end of its cable."""
    with wires(addresses=False) as found, found.terminal.raw() as here:
        port = NicPort(found.middle, "eth1", queue_packets=1)
        sh(found.middle, "ip link set eth2 up")
        until(found.have_carrier)
        sh(found.middle, "ip link set eth1 up")  # waits for the kernel's lock, under which queues are started
        yield found, port, here
        port.close()


def new_reading(empty_since_ns: int = 0) -> Ints:
    reading = np.zeros(READING_WORDS, np.int64)
    reading[PORT_KIND], reading[EMPTY_SINCE] = PACKET, empty_since_ns
    return reading


def read(port: NicPort, reading: Ints) -> bytes:
    """The next frame, without its virtio_net_hdr; empty if there is none."""
    data = np.zeros(LARGEST_SUPER + 64, np.uint8)
    length = int(read_frame(port.descriptor, data, 16, reading, NO_STAMPS))
    at = int(reading[FRAME_OFFSET])
    return data[at + 10 : at + length].tobytes() if length > 0 else b""


def wait_for(port: NicPort) -> None:
    import select

    poll = select.poll()
    poll.register(port.descriptor, select.POLLIN)
    assert poll.poll(10_000)


@live
@pytest.mark.needs("compiled")
@pytest.mark.parametrize("tags", TAGS)
def test_a_frame_is_read_with_its_tags_and_when_it_arrived(
    cable: tuple[Wires, NicPort, socket.socket], tags: bytes
) -> None:
    """The kernel's stamp, on the packets' clock: not when we came to read it."""
    _, port, here = cable
    frame = MACS + tags + ETHERTYPE + filler(100, 1)
    before_ns = time.monotonic_ns()
    here.send(frame)
    wait_for(port)
    seen_ns = time.monotonic_ns()
    while time.monotonic_ns() < seen_ns + 20 * MS:
        pass
    reading = new_reading(before_ns)
    assert read(port, reading) == frame
    assert before_ns - MS <= reading[FRAME_ARRIVAL] <= seen_ns + MS
    assert read(port, reading) == b""


@live
@pytest.mark.needs("compiled")
def test_a_stamp_from_before_the_port_was_empty_is_not_believed(cable: tuple[Wires, NicPort, socket.socket]) -> None:
    """So a step of the world's clock between stamp and reading is worth no more than the wait of that packet."""
    _, port, here = cable
    here.send(MACS + ETHERTYPE + filler(100, 1))
    wait_for(port)
    later_ns = time.monotonic_ns() + 30 * MS
    while time.monotonic_ns() < later_ns:
        pass
    reading = new_reading(later_ns)
    assert read(port, reading)
    assert later_ns <= reading[FRAME_ARRIVAL] <= time.monotonic_ns()


@live
@pytest.mark.needs("compiled")
def test_what_the_machine_itself_sends_is_not_read(cable: tuple[Wires, NicPort, socket.socket]) -> None:
    found, port, here = cable
    with found.middle.run(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)) as own:
        own.bind(("eth1", 0))
        own.send(MACS + ETHERTYPE + b"our own")
        os.write(port.descriptor, bytes(10) + MACS + ETHERTYPE + b"the link's")
    here.send(MACS + ETHERTYPE + b"theirs")
    wait_for(port)
    assert read(port, new_reading()).endswith(b"theirs")
    assert read(port, new_reading()) == b""


@live
def test_what_finds_no_room_is_counted(cable: tuple[Wires, NicPort, socket.socket]) -> None:
    _, port, here = cable
    sent = 2 * 2 * LEAST_RECEIVE_BYTES // 1500  # the kernel doubles the room that it is asked for
    for _ in range(sent):
        here.send(MACS + ETHERTYPE + bytes(1400))
    kept = 0
    while True:
        try:
            os.read(port.descriptor, 2000)
            kept += 1
        except BlockingIOError:
            break
    assert 0 < kept < sent
    assert port.kernel_drops().transmit == sent - kept
    assert port.kernel_drops().transmit == sent - kept, "asking does not change it"


@live
def test_frames_of_protocols_that_nobody_knows_are_not_drops(cable: tuple[Wires, NicPort, socket.socket]) -> None:
    """The kernel's rx_dropped counts them, although we have read them."""
    _, port, here = cable
    for tags in TAGS * 5:
        here.send(MACS + tags + ETHERTYPE + bytes(100))
    for _ in range(len(TAGS) * 5):
        wait_for(port)
        os.read(port.descriptor, 2000)
    assert port.kernel_drops().transmit == 0


ANCILLARY = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 50), st.binary(max_size=32)), max_size=3)


@given(ANCILLARY, st.integers(0, 2**33), st.integers(0, 999_999_999), st.integers(0, 0xFFFF))
def test_stamp_and_tag_are_found_among_what_else_the_kernel_says(
    others: list[tuple[int, int, bytes]], seconds: int, nanoseconds: int, tag: int
) -> None:
    others = [one for one in others if one[:2] not in ((1, SCM_TIMESTAMPNS), (SOL_PACKET, PACKET_AUXDATA))]
    auxdata = struct.pack("IIIHHHH", 1 << 4 | 1 << 6, 60, 60, 0, 14, tag, 0x88A8)
    messages = [*others[:1], (SOL_PACKET, PACKET_AUXDATA, auxdata), *others[1:2]]
    messages.append((1, SCM_TIMESTAMPNS, struct.pack("qq", seconds, nanoseconds)))
    control = b""
    for level, kind, data in messages:
        packed = struct.pack("qii", 16 + len(data), level, kind) + data
        control += packed + bytes(-len(packed) % 8)
    reading = np.zeros(READING_WORDS + 32, np.int64)
    words = np.frombuffer(control, np.int64)
    reading[CONTROL : CONTROL + len(words)] = words
    reading[CONTROL_BYTES] = len(control)
    stamp, status, found, kind_of_tag = (int(value) for value in stamp_and_tag(reading))
    assert (stamp, found, kind_of_tag) == (seconds * 10**9 + nanoseconds, tag, 0x88A8)
    assert status == 1 << 4 | 1 << 6


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=READING_WORDS, max_size=READING_WORDS))
def test_ancillary_data_that_makes_no_sense_ends_the_search(words: list[int]) -> None:
    reading = np.array(words, np.int64)
    reading[CONTROL_BYTES] = (READING_WORDS - CONTROL) * 8
    reading[CONTROL::2] &= 0xFF
    assert len(stamp_and_tag(reading)) == 4


@pytest.mark.parametrize("told_bytes", [16, 32, 35])
@pytest.mark.parametrize("room_words", [2, 3, 4, 16])
def test_a_message_that_its_memory_does_not_hold_is_not_read(told_bytes: int, room_words: int) -> None:
    """Of auxiliary data that begin in the last words only as much is read as the kernel can have written."""
    reading = np.zeros(CONTROL + room_words, np.int64)
    reading[CONTROL_BYTES] = room_words * 8
    reading[CONTROL:] = -1
    reading[CONTROL : CONTROL + 2] = told_bytes, SOL_PACKET | PACKET_AUXDATA << 32
    assert stamp_and_tag(reading) == (0, 0, 0, 0)
