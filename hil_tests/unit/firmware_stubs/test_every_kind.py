"""What holds for firmware of every kind, whatever it speaks: bounded memory, bounded answers, no exception."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.terminal import Terminal
from emulator.units import NS_PER_S
from firmware_stubs.registry import KINDS, Hardware, Stub
from firmware_stubs.text import MAX_WAITING, Answers, Lines, Timer
from hil_tests.unit.firmware_stubs.fuzzing import MOST_SAID, START_NS, held_bytes

SITE = Terminal(48.4634, -123.3117, 20.0)
QUERIES = {
    "nmea": b"$EIGPQ,GGA\r\n",
    "ubx": b"\xb5\x62\x01\x07\x00\x00\x08\x19",
    "easycomm2": b"AZ EL \n",
    "easycomm3": b"GS\n",
    "gs232b": b"C2\r",
    "rotctld": b"\\dump_state\n",
    "openamip": b"A 1\n",
    "sbd": b"AT+CGMR\r",
    "ntn": b"ATI\r",
    "jspr": b"GET messageProvisioning {}\r",
}
kinds = pytest.mark.parametrize("kind", KINDS)
answering = pytest.mark.parametrize("kind", QUERIES)  # slip, alone, has nothing to say


def made(kind: str) -> Stub:
    return KINDS[kind].make(SITE.state, START_NS, Hardware())


@answering
def test_a_query_is_answered_at_once_and_wakes_whoever_waits(kind: str) -> None:
    stub = made(kind)
    stub.poll(START_NS)
    stub.receive(QUERIES[kind], START_NS + 1)
    due_ns = stub.next_event_ns()
    assert due_ns is not None
    assert due_ns <= START_NS + 1
    assert stub.poll(START_NS + 1)


@answering
def test_answers_that_nobody_polls_for_are_bounded(kind: str) -> None:
    stub = made(kind)
    for _ in range(30):
        stub.receive(QUERIES[kind] * 200, START_NS)
    assert held_bytes(stub) < 2 * MAX_WAITING
    assert 0 < len(stub.poll(START_NS)) < MOST_SAID
    assert held_bytes(stub) < 10_000


@kinds
@pytest.mark.parametrize("byte", [0x00, 0x20, 0x24, 0x41, 0x7B, 0xB5, 0xFF])
def test_a_line_without_an_end_is_bounded(kind: str, byte: int) -> None:
    stub = made(kind)
    for _ in range(20):
        stub.receive(bytes([byte]) * 10_000, START_NS)
        assert held_bytes(stub) < 2 * MAX_WAITING
        stub.poll(START_NS)
    assert held_bytes(stub) < 10_000


@kinds
def test_noise_neither_raises_nor_grows(kind: str) -> None:
    stub, noise, now_ns = made(kind), random.Random(1), START_NS
    for _ in range(300):
        stub.receive(noise.randbytes(300), now_ns)
        now_ns += NS_PER_S
        assert len(stub.poll(now_ns)) < MOST_SAID
    assert held_bytes(stub) < 10_000


@given(st.lists(st.binary(max_size=30), max_size=30), st.integers(0, 20))
def test_lines_come_whole_or_not_at_all(pieces: list[bytes], longest: int) -> None:
    lines = Lines(b"\n", longest)
    found = [line for piece in pieces for line in lines.feed(piece)]
    whole = b"".join(pieces).split(b"\n")[:-1]
    assert found == [line if len(line) <= longest else None for line in whole if line]


@given(st.lists(st.binary(max_size=30), max_size=30), st.integers(0, 100))
def test_answers_are_kept_whole_or_counted(said: list[bytes], limit: int) -> None:
    answers = Answers(limit)
    for one in said:
        answers.add(one)
    taken = answers.take()
    assert len(taken) <= limit
    assert answers.lost == 0 or len(b"".join(said)) > limit
    assert answers.lost > 0 or taken == b"".join(said)
    assert answers.take() == b""


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1), st.integers(0, 10**9))
def test_a_timer_is_over_after_its_length_however_the_clock_was_set_back(steps: list[int], length_ns: int) -> None:
    timer, lowest_ns = Timer(0, length_ns), 0
    for step_ns in steps:
        lowest_ns = min(lowest_ns, step_ns)
        assert timer.over(step_ns) == (step_ns >= lowest_ns + length_ns)
        assert timer.end_ns() == lowest_ns + length_ns
