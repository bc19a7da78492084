"""How long stubs take to answer: the program's own work by CPU time, which a busy machine does not make longer."""

from __future__ import annotations

import socket
import time

import numpy as np
import pytest

from emulator.units import NS_PER_MS
from firmware_stubs.registry import Stub
from firmware_stubs.transport import SerialStub
from hil_tests.unit.firmware_stubs.fuzzing import START_NS
from hil_tests.unit.firmware_stubs.test_every_kind import QUERIES, SITE, made

ANSWERS = 200
MOST_NS = 5 * NS_PER_MS  # of a serial query, at the emulator's side
PATIENCE_S = 30


def answered_ns(stub: Stub, query: bytes, now_ns: int) -> int:
    """CPU time from the last byte of a question until the answer is there."""
    began_ns = time.thread_time_ns()
    stub.receive(query, now_ns)
    said = stub.poll(now_ns)
    took_ns = time.thread_time_ns() - began_ns
    assert said
    return took_ns


@pytest.mark.parametrize("kind", QUERIES)
def test_an_answer_takes_less_than_five_milliseconds(kind: str) -> None:
    stub = made(kind)
    stub.poll(START_NS)
    took_ns = [answered_ns(stub, QUERIES[kind], START_NS + number) for number in range(ANSWERS)]
    print(f"{kind}: {np.median(took_ns) / 1e3:.0f} µs, the longest {max(took_ns) / 1e3:.0f} µs")
    assert float(np.median(took_ns)) < MOST_NS


@pytest.mark.long
@pytest.mark.parametrize("kind", [kind for kind in QUERIES if kind != "nmea"])  # which says more than it is asked
def test_a_client_on_a_socket_waits_as_long_as_is_told_here(kind: str) -> None:
    """There and back, a client's wake-up and a stub's included; the bytes take no time. The figure is the machine's."""
    with SerialStub(kind, SITE.state, "tcp:127.0.0.1:0") as stub:
        host, port = stub.address.removeprefix("tcp:").rsplit(":", 1)
        took_ms = []
        with socket.create_connection((host, int(port)), PATIENCE_S) as client:
            for _ in range(ANSWERS):
                began_ns = time.monotonic_ns()
                client.sendall(QUERIES[kind])
                assert client.recv(65_536)
                took_ms.append((time.monotonic_ns() - began_ns) / 1e6)
    p50, p99 = np.percentile(took_ms, [50, 99])
    print(f"{kind}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
