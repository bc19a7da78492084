"""The transport between stubs and their lines: real ptys, clients that come, go, flood, and do not read."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial

from emulator.errors import EndpointError
from emulator.terminal import Terminal
from emulator.units import NS_PER_S
from firmware_stubs.lines import PtyLine
from firmware_stubs.nmea import sentence
from firmware_stubs.transport import SerialStub, StubServer

TERMINAL = Terminal(48.4634, -123.3117, 20.0)
QUERY = sentence("CCGPQ,GGA")
PATIENCE_S = 30


class Talker:
    """Firmware that says a numbered burst at each poll and never sleeps: `enough` is set after `bursts` of them."""

    BURST = 997  # a size that divides no buffer

    def __init__(self, bursts: int) -> None:
        self.bursts, self.said, self.received = bursts, 0, b""
        self.enough = threading.Event()

    def receive(self, data: bytes, now_ns: int) -> None:
        self.received = (self.received + data)[-10:]

    def poll(self, now_ns: int) -> bytes:
        if self.said == self.bursts:
            self.enough.set()
            return b""
        self.said += 1
        return f"{self.said:08d}".encode().ljust(self.BURST - 1, b".") + b"\n"

    def next_event_ns(self) -> int | None:
        return None if self.said == self.bursts else 0


@contextlib.contextmanager
def served(stub: Talker, line: PtyLine) -> Iterator[StubServer]:
    server, stop = StubServer(stub, line), os.eventfd(0)
    thread = threading.Thread(target=server.serve, args=(stop,))
    thread.start()
    try:
        yield server
    finally:
        os.eventfd_write(stop, 1)
        thread.join()
        os.close(stop)


class WatchedLine(PtyLine):
    """Says when the last client's going away was noticed."""

    def __init__(self, link: Path) -> None:
        super().__init__(link, 9600)
        self.noticed = threading.Event()

    def hung_up(self) -> None:
        super().hung_up()
        self.noticed.set()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[WatchedLine]:
    line = WatchedLine(tmp_path / "line")
    yield line
    line.close()


def test_a_query_over_serial_gets_the_position_back(tmp_path: Path) -> None:
    with SerialStub("nmea", TERMINAL.state, str(tmp_path / "gnss")) as stub:
        with serial.Serial(str(stub.path), 9600, timeout=PATIENCE_S) as client:
            client.write(QUERY)
            answer = client.readline()
        assert answer.startswith((b"$GPGGA,", b"$GPRMC,"))
        assert b",4827.80400,N,12318.70200,W," in answer
    assert list(tmp_path.iterdir()) == []


def test_the_line_survives_clients_that_come_and_go(tmp_path: Path) -> None:
    with SerialStub("nmea", TERMINAL.state, directory=tmp_path) as stub:
        for _ in range(20):
            with serial.Serial(str(stub.path), 9600, timeout=PATIENCE_S) as client:
                client.write(QUERY)
                assert client.readline().endswith(b"\r\n")


def test_a_client_that_does_not_read_loses_whole_bursts_and_stops_nobody(line: PtyLine) -> None:
    talker = Talker(bursts=200)
    client = os.open(line.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    with served(talker, line) as server:
        assert talker.enough.wait(PATIENCE_S)
        heard = b""
        deadline = time.monotonic() + PATIENCE_S
        while (
            server.statistics().sent + server.statistics().dropped < 200 * Talker.BURST
            or heard[-1:] != b"\n"
            or (len(heard) < server.statistics().sent)
        ):
            with contextlib.suppress(BlockingIOError):
                heard += os.read(client, 65_536)
            assert time.monotonic() < deadline
        counts = server.statistics()
    os.close(client)
    assert counts.unheard == 0
    assert counts.dropped > 0
    assert counts.sent == len(heard)
    assert counts.sent + counts.dropped == 200 * Talker.BURST
    bursts = heard.split(b"\n")[:-1]
    assert all(len(burst) == Talker.BURST - 1 for burst in bursts)
    numbers = [int(burst[:8]) for burst in bursts]
    assert numbers == sorted(set(numbers))


def test_what_nobody_hears_is_counted_and_not_kept_for_the_next_client(line: PtyLine) -> None:
    talker = Talker(bursts=100)
    with served(talker, line) as server:
        assert talker.enough.wait(PATIENCE_S)
        assert server.statistics().unheard == 100 * Talker.BURST
        client = os.open(line.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        with pytest.raises(BlockingIOError):
            os.read(client, 100)
        os.close(client)


def test_what_a_client_did_not_read_is_not_there_for_the_next(line: WatchedLine) -> None:
    talker = Talker(bursts=100)
    first = os.open(line.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    with served(talker, line) as server:
        assert talker.enough.wait(PATIENCE_S)
        os.close(first)
        assert line.noticed.wait(PATIENCE_S)
        counts = server.statistics()
    assert counts.sent + counts.dropped + counts.unheard == 100 * Talker.BURST
    second = os.open(line.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        os.read(second, 100)
    os.close(second)


def test_a_flood_from_a_client_is_drained_and_the_stub_goes_on(tmp_path: Path) -> None:
    with SerialStub("nmea", TERMINAL.state, directory=tmp_path) as stub:
        with serial.Serial(str(stub.path), 9600, timeout=PATIENCE_S, write_timeout=PATIENCE_S) as client:
            for _ in range(64):
                client.write(os.urandom(4096).replace(b"$", b"#"))
            client.write(QUERY)
            assert client.readline().startswith(b"$GP")
        assert stub.statistics().received >= 64 * 4096


def test_simulated_time_is_told(tmp_path: Path) -> None:
    shift_ns = 1_748_560_887 * NS_PER_S - time.time_ns()
    with (
        SerialStub("nmea", TERMINAL.state, directory=tmp_path, utc_ns=lambda: time.time_ns() + shift_ns) as stub,
        serial.Serial(str(stub.path), 9600, timeout=PATIENCE_S) as client,
    ):
        client.write(sentence("CCGPQ,RMC"))
        line = client.readline()
        while not line.startswith(b"$GPRMC"):
            line = client.readline()
        assert line.split(b",")[9] == b"290525"


def test_a_device_is_served_too_and_its_end_is_told() -> None:
    master, slave = os.openpty()
    stub = SerialStub("nmea", TERMINAL.state, os.ttyname(slave)).start()
    os.close(slave)
    os.write(master, QUERY)
    ready, _, _ = select.select([master], [], [], PATIENCE_S)
    assert ready
    assert os.read(master, 1000).startswith(b"$GP")
    assert stub._thread is not None
    os.close(master)
    stub._thread.join(PATIENCE_S)
    with pytest.raises(EndpointError, match="the serial line went away"):
        stub.stop()


def test_a_stub_may_be_started_again_after_its_end(tmp_path: Path) -> None:
    stub = SerialStub("nmea", TERMINAL.state, directory=tmp_path)
    for _ in range(2):
        stub.start()
        with pytest.raises(EndpointError, match="is running already"):
            stub.start()
        stub.stop()
        stub.stop()
    with pytest.raises(EndpointError, match="is not running"):
        _ = stub.path


def test_an_unknown_kind_is_refused_by_naming_those_that_there_are() -> None:
    with pytest.raises(EndpointError, match=r"stub: expected one of nmea, .*, got 'nema'"):
        SerialStub("nema", TERMINAL.state)


def test_a_stub_that_fails_is_told_at_the_end_and_leaves_nothing(tmp_path: Path) -> None:
    def broken(utc_ns: int) -> object:
        raise RuntimeError("no state")

    stub = SerialStub("nmea", broken, directory=tmp_path).start()  # type: ignore[arg-type]
    with serial.Serial(str(stub.path), 9600, timeout=PATIENCE_S) as client:
        client.write(QUERY)
        assert stub._thread is not None
        stub._thread.join(PATIENCE_S)
    with pytest.raises(RuntimeError, match="no state"):
        stub.stop()
    assert list(tmp_path.iterdir()) == []
