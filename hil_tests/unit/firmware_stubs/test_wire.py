"""Laws of the serial line: a byte takes its time, a wrong rate makes garbage, faults do what they say and then end."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import EndpointError
from emulator.terminal import Antenna, Mount, Terminal
from emulator.units import NS_PER_S
from firmware_stubs.bridge import Bridge
from firmware_stubs.easycomm import EasycommController
from firmware_stubs.record import Recorder, read_record
from firmware_stubs.registry import Hardware
from firmware_stubs.transport import SerialStub
from firmware_stubs.wire import TURN_NS, LineFault, Pipe, WiredStub, byte_ns, missampled

PATIENCE_S = 30
SITE = Terminal(0, 0, 0)
POSITION = b"AZ10.0 EL20.0\n"
pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial's RFC 2217 client
bauds = st.sampled_from([300, 1200, 4800, 9600, 19200, 115200])


@given(st.binary(max_size=60), bauds, st.lists(st.integers(0, 10**8), max_size=20))
def test_each_byte_takes_its_time_and_none_overtakes(data: bytes, baud: int, looks: list[int]) -> None:
    """Not before its time, and no later than the turn that it comes in: a short one comes whole."""
    pipe = Pipe(baud)
    pipe.push(data, 0)
    came, last_ns = b"", len(data) * byte_ns(baud)
    for now in sorted(looks):
        came += pipe.take(now)
        assert data.startswith(came)
        assert min(len(data), (now - TURN_NS) // byte_ns(baud)) <= len(came) <= now // byte_ns(baud)
        if last_ns - byte_ns(baud) <= TURN_NS:
            assert came in (b"", data)
        assert (pipe.next_ns(now) or last_ns) <= last_ns
    assert came + pipe.take(last_ns) == data


@given(st.binary(max_size=60), bauds, st.floats(0.97, 1.03))
def test_a_rate_that_is_nearly_right_is_right(data: bytes, baud: int, off: float) -> None:
    assert missampled(data, baud, round(baud * off)) == data


@given(st.binary(min_size=1, max_size=60), bauds, bauds)
def test_a_wrong_rate_is_garbage_of_the_length_that_the_time_allows(data: bytes, sent: int, read: int) -> None:
    garbage = missampled(data, sent, read)
    if sent == read:
        assert garbage == data
    assert len(garbage) <= max(1, 10 * len(data) * read / sent / 9) + 1


def test_what_people_see_at_a_wrong_rate() -> None:
    assert missampled(b"AZ123.4 EL45.6\n", 9600, 19200) != b"AZ123.4 EL45.6\n"
    assert missampled(b"A", 9600, 115200)[0] == 0  # the start bit alone is longer than a byte


@given(st.binary(min_size=200, max_size=400), st.integers(0, 5))
def test_noise_is_the_same_for_the_same_seed_and_ends(data: bytes, seed: int) -> None:
    fault = LineFault("noise", 1, 1, 0.2)

    def through(at_ns: int, seed: int) -> bytes:
        pipe = Pipe(None, (fault,), seed=seed)
        pipe.push(data, at_ns)
        return pipe.take(at_ns)

    noisy = through(NS_PER_S, seed)
    assert noisy == through(NS_PER_S, seed)
    assert noisy != data
    assert len(noisy) == len(data)
    assert through(2 * NS_PER_S, seed) == through(0, seed) == data


@pytest.mark.parametrize("kind", ["cut", "lost", "stuck", "partial"])
def test_a_fault_is_over_when_it_is(kind: str) -> None:
    pipe = Pipe(9600, (LineFault.parse(f"{kind}@1+1"),), from_device=True)
    pipe.push(b"x" * 500, NS_PER_S)
    early = pipe.take(NS_PER_S * 3 // 2)
    later = pipe.take(60 * NS_PER_S)
    assert len(early) < (500 if kind != "lost" else 501)
    assert len(early + later) == {"cut": 0, "stuck": 500, "partial": 500}.get(kind, len(early + later))
    pipe.push(b"y", 60 * NS_PER_S)
    assert pipe.take(61 * NS_PER_S) == b"y"


@given(st.integers(1, 200_000))
def test_what_nobody_takes_is_bounded(size: int) -> None:
    pipe = Pipe(9600)
    pipe.push(bytes(size), 0)
    assert len(pipe.take(10**15)) + pipe.lost == size
    assert pipe.lost == max(0, size - 65_536)


@pytest.mark.parametrize("text", ["", "fire", "cut=0.5", "noise=2", "cut@1", "noise=x", "stuck@-1+2", "cut@1+2+3"])
def test_a_fault_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(EndpointError, match="expected one of cut, stuck"):
        LineFault.parse(text)


def test_a_wired_stub_answers_when_the_bytes_have_passed_both_ways() -> None:
    now = 0
    antenna = Antenna(Mount(park_azimuth_deg=10, park_elevation_deg=20))
    stub = WiredStub(EasycommController(antenna, 2), 9600, clock=lambda: now)
    stub.receive(b"AZ EL\n", 1000)
    assert stub.poll(1000) == b""
    now = 6 * byte_ns(9600)
    assert stub.poll(1000) == b""
    assert stub.next_event_ns() == 1000 + len(POSITION) * byte_ns(9600)  # it comes together
    now += len(POSITION) * byte_ns(9600)
    assert stub.poll(1000) == POSITION
    assert stub.next_event_ns() is None


@pytest.fixture(params=["pty", "rfc2217:127.0.0.1:0", "tcp:127.0.0.1:0", "unix"])
def stub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SerialStub]:
    port = f"unix:{tmp_path}/modem" if request.param == "unix" else request.param
    antenna = Antenna(Mount(park_azimuth_deg=10, park_elevation_deg=20))
    with SerialStub("easycomm2", SITE.state, port, hardware=Hardware(antenna=antenna), directory=tmp_path) as running:
        yield running
    assert list(tmp_path.iterdir()) == []


def open_client(address: str, baud: int) -> serial.Serial:
    for scheme, url in (("tcp:", "socket://"), ("rfc2217:", "rfc2217://")):
        address = address.replace(scheme, url, 1)
    return serial.serial_for_url(address, baud, timeout=PATIENCE_S)


def test_a_client_is_answered_over_every_transport(stub: SerialStub) -> None:
    if stub.address.startswith("unix:"):
        with socket.socket(socket.AF_UNIX) as client, client.makefile("rb") as file:
            client.settimeout(PATIENCE_S)
            client.connect(stub.address.removeprefix("unix:"))
            client.sendall(b"AZ EL \n")
            assert file.readline() == POSITION
        return
    for _ in range(2):
        with open_client(stub.address, 19200) as port:
            for _ in range(3):
                port.write(b"AZ EL \n")
                assert port.readline() == POSITION


@pytest.mark.parametrize("stub", ["pty", "rfc2217:127.0.0.1:0"], indirect=True)
def test_a_client_at_a_wrong_rate_reads_garbage_until_it_finds_the_right_one(stub: SerialStub) -> None:
    with open_client(stub.address, 9600) as port:
        port.write(b"\nAZ EL \nAZ EL \n")
        port.timeout = 0.3
        assert POSITION not in port.read(100)
        port.baudrate = 19200
        port.timeout = PATIENCE_S
        port.write(b"\n\nAZ EL \n")
        assert POSITION in port.read_until(POSITION)


def test_a_stub_answers_at_a_port_elsewhere(tmp_path: Path) -> None:
    """The far port is a device server's, which we play: it stays until the stub has gone."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as server:
        url = f"socket://127.0.0.1:{listener.getsockname()[1]}"
        antenna = Antenna(Mount(park_azimuth_deg=10, park_elevation_deg=20))
        with SerialStub("easycomm2", SITE.state, url, hardware=Hardware(antenna=antenna)) as running:
            assert running.address.endswith(url.rpartition("/")[2])
            program = server.enter_context(listener.accept()[0])
            file = server.enter_context(program.makefile("rb"))
            program.settimeout(PATIENCE_S)
            program.sendall(b"AZ EL \n")
            assert file.readline() == POSITION


def test_hardware_at_a_device_server_stands_behind_a_port_of_ours(tmp_path: Path) -> None:
    """As a bench has it: program, pty, bridge, RFC 2217, device."""
    antenna = Antenna(Mount(park_azimuth_deg=10, park_elevation_deg=20))
    with SerialStub("easycomm2", SITE.state, "rfc2217:127.0.0.1:0", hardware=Hardware(antenna=antenna)) as device:
        url = device.address.replace("rfc2217:", "rfc2217://")
        bridge = Bridge(
            "easycomm2", str(tmp_path / "port"), url, 19200, silence_ns=PATIENCE_S * NS_PER_S, utc_ns=time.time_ns
        )
        bridge.start()
        try:
            with open_client(bridge.address, 19200) as client:
                for _ in range(3):
                    client.write(b"AZ EL \n")
                    assert client.readline() == POSITION
        finally:
            bridge.stop()
        assert not bridge.oddities


def test_telnet_that_is_none_is_sent_away_and_the_next_is_served() -> None:
    antenna = Antenna(Mount(park_azimuth_deg=10, park_elevation_deg=20))
    with SerialStub("easycomm2", SITE.state, "rfc2217:127.0.0.1:0", hardware=Hardware(antenna=antenna)) as running:
        port = int(running.address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as broken:
            broken.sendall(b"\xff\xfa\x2c\x01\x00\xff\xf0\xff\xfa\x2c\x05\xff\xf0\xff\xfa\xff\xf0" * 10)
            broken.shutdown(socket.SHUT_WR)
            while broken.recv(1000):
                pass
        with open_client(running.address, 19200) as client:
            client.write(b"AZ EL \n")
            assert client.readline() == POSITION


def test_a_record_tells_who_said_what_and_when(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    with (
        Recorder(path) as recorder,
        SerialStub("easycomm2", SITE.state, directory=tmp_path, recorder=recorder) as running,
        open_client(running.address, 19200) as client,
    ):
        client.write(b"AZ EL \n")
        assert client.readline() == b"AZ0.0 EL90.0\n"
    pieces = list(read_record(path))
    for speaker, said in (("client", b"AZ EL \n"), ("device", b"AZ0.0 EL90.0\n")):
        assert b"".join(piece.data for piece in pieces if piece.speaker == speaker) == said
    times = [piece.t_s for piece in pieces]
    assert times == sorted(times)
    assert {"t", "utc_ns", "from", "hex", "text"} == set(json.loads(path.read_text().splitlines()[0]))


@pytest.mark.parametrize(
    "line", ["x", "{}", '{"t": 1, "from": "me", "hex": ""}', '{"t": 1, "from": "client", "hex": "z"}']
)
def test_a_record_that_is_none_is_told_by_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "record.jsonl"
    path.write_text(f'{{"odd": "silence", "hex": ""}}\n{line}\n')
    with pytest.raises(EndpointError, match=r"record\.jsonl: line 2: expected a line of a record"):
        list(read_record(path))
