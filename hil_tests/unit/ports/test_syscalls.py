"""The thin seam to the kernel: every offset is checked, because an index of −1 wraps unseen, checked build or not."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.ports.syscalls import POLLHUP, POLLIN, monotonic_ns, read_into, wait_readable, write_two
from hil_tests.unit.link.subprocesses import python

pytestmark = pytest.mark.needs("compiled")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    yield reader, writer
    for descriptor in (reader, writer):
        os.close(descriptor)


def wait(descriptors: list[int], timeout_ns: int = 0) -> tuple[int, list[int]]:
    found = np.array(descriptors, np.int64)
    events, scratch = np.zeros_like(found), np.zeros(2 + len(found), np.int64)
    return int(wait_readable(found, events, timeout_ns, scratch)), events.tolist()


@given(st.integers(-70, 70), st.integers(-70, 70))
def test_reading_stays_inside_the_array(at: int, room: int) -> None:
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with reader, writer:
        reader.setblocking(False)
        writer.send(b"x" * 64)
        memory = np.zeros(192, np.uint8)
        data = memory[64:128]
        length = read_into(reader.fileno(), data, at, room)
        assert not memory[:64].any()
        assert not memory[128:].any()
        if at < 0 or room < 0 or at + room > 64:
            assert length == -1
        else:
            assert length == min(room, 64)
            assert data[at : at + length].tobytes() == b"x" * length


@given(st.integers(-10, 20), st.integers(-20, 40), st.integers(-20, -1) | st.integers(1, 40))
def test_writing_stays_inside_the_arrays(head_length: int, at: int, length: int) -> None:
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with reader, writer:
        reader.setblocking(False)
        head, data = np.arange(10, dtype=np.uint8), np.arange(100, 130, dtype=np.uint8)
        written = write_two(writer.fileno(), head, head_length, data, at, length, np.zeros(4, np.int64))
        if not (0 <= head_length <= 10 and at >= 0 and length >= 0 and at + length <= 30):
            assert written == -1
        else:
            assert written == head_length + length
            assert reader.recv(64) == bytes(range(head_length)) + bytes(range(100 + at, 100 + at + length))


def test_nothing_there_is_no_error(pipe: tuple[int, int]) -> None:
    assert read_into(pipe[0], np.zeros(8, np.uint8), 0, 8) == -1
    assert wait([pipe[0]]) == (0, [0])


def test_waiting_tells_who_is_ready_and_who_has_hung_up(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    assert wait([-1, pipe[0]]) == (1, [0, POLLIN])
    reader, writer = os.pipe()
    os.close(writer)
    assert wait([pipe[0], reader]) == (2, [POLLIN, POLLHUP])
    os.close(reader)


def test_waiting_ends_in_time(pipe: tuple[int, int]) -> None:
    before = time.monotonic_ns()
    assert wait([pipe[0]], 3_000_000) == (0, [0])
    assert time.monotonic_ns() - before >= 3_000_000


def test_the_clock_is_pythons_monotonic_clock() -> None:
    scratch = np.zeros(2, np.int64)
    before, middle, after = time.monotonic_ns(), int(monotonic_ns(scratch)), time.monotonic_ns()
    assert before <= middle <= after


def test_interpreted_a_packet_loop_is_refused_in_one_line() -> None:
    code = """
import numpy as np
from emulator.errors import EmulationError
from emulator.link.link import Link, LinkOptions
from emulator.ports.relay import Relay
from emulator.timeline.model import Channel

links = [Link(Channel.constant(0, delay_ns=0), 10, seed=1, direction=0, options=LinkOptions()) for _ in range(2)]
try:
    Relay(*links, -1, -1, (-1, -1)).start()
except EmulationError as error:
    print(error)
"""
    assert "NUMBA_DISABLE_JIT" in python("-c", code, NUMBA_DISABLE_JIT="1")
