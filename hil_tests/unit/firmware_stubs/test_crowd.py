"""Clients that behave badly at once, over sockets of every kind and a pty: whoever comes after them is answered."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from emulator.terminal import Antenna, Mount, Terminal
from firmware_stubs.beacon import BeaconReceiver
from firmware_stubs.easycomm import EasycommController
from firmware_stubs.nmea import NmeaReceiver
from firmware_stubs.openamip import OpenAmipAntenna
from firmware_stubs.registry import Hardware
from firmware_stubs.slip import SlipStub, frame
from firmware_stubs.transport import SerialStub
from firmware_stubs.wire import LineFault, WiredStub
from hil_tests.unit.firmware_stubs.fuzzing import held_bytes, survives
from hil_tests.unit.firmware_stubs.test_every_kind import QUERIES

PATIENCE_S = 30
SITE = Terminal(48.5, -123.3, 0.0)
POSITION = b"AZ10.0 EL20.0\n"
MOST_HELD = 400_000  # bytes, of the stub, its line and what waits for its clients: 64 of them, and a line's 64 KB twice
TELNET = st.sampled_from(
    [b"\xff", b"\xff\xff", b"\xff\xfa", b"\xff\xf0", b"\xff\xfb\x2c", b"\xff\xfa\x2c\x01\x00\xff\xf0"]
)
said = st.one_of(
    st.binary(max_size=200),
    st.lists(st.one_of(TELNET, st.just(b"AZ EL \n"), st.binary(max_size=5)), max_size=8).map(b"".join),
    st.sampled_from([b"AZ EL \n" * 500, b"A" * 10_000, b"AZ EL", b"\n"]),
)


class Crowd(RuleBasedStateMachine):
    """Nothing that a client says may move the antenna, so that its position tells whether the answer is right."""

    port = "tcp:127.0.0.1:0"

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="bp")
        fixed = Mount(
            azimuth_min_deg=10, azimuth_max_deg=10, elevation_min_deg=20, elevation_max_deg=20,
            park_azimuth_deg=10, park_elevation_deg=20,
        )  # fmt: skip
        port = self.port.replace("FOLDER", self.folder.name)
        self.stub = SerialStub("easycomm2", SITE.state, port, hardware=Hardware(antenna=Antenna(fixed))).start()
        self.clients: list[int] = []

    def connect(self) -> int:
        """A descriptor that does not block."""
        address = self.stub.address
        if not self.port.endswith("pty"):
            unix = address.startswith("unix:")
            connection = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
            connection.settimeout(PATIENCE_S)
            host, _, port = address.rpartition(":")
            connection.connect(address.removeprefix("unix:") if unix else (host.rpartition(":")[2], int(port)))
            connection.setblocking(False)
            return connection.detach()
        return os.open(address, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    @rule()
    def comes(self) -> None:
        if len(self.clients) < 8:
            self.clients.append(self.connect())

    @rule(which=st.integers(0, 7), words=said)
    def says_something_and_does_not_read(self, which: int, words: bytes) -> None:
        if self.clients:
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):  # sent away, or full
                os.write(self.clients[which % len(self.clients)], words)

    @rule(which=st.integers(0, 7))
    def reads(self, which: int) -> None:
        if self.clients:
            with contextlib.suppress(BlockingIOError, ConnectionResetError):
                os.read(self.clients[which % len(self.clients)], 4096)

    @rule(which=st.integers(0, 7))
    def goes(self, which: int) -> None:
        if self.clients:
            os.close(self.clients.pop(which % len(self.clients)))

    def teardown(self) -> None:
        try:
            for client in self.clients:  # a pty's one line is shared: who does not read it keeps others from it
                os.close(client)
            fresh = self.connect()
            try:
                self.is_answered(fresh)
            finally:
                os.close(fresh)
            assert held_bytes(self.stub) < MOST_HELD
        finally:
            self.stub.stop()
            self.folder.cleanup()

    def is_answered(self, client: int) -> None:
        os.set_blocking(client, True)
        with open(client, "r+b", buffering=0, closefd=False) as file:
            heard = b""
            file.write(b"\nAZ EL \n")
            while POSITION not in heard:
                piece = os.read(client, 4096)
                assert piece
                heard += piece


@pytest.mark.parametrize("port", ["tcp:127.0.0.1:0", "rfc2217:127.0.0.1:0", "unix:FOLDER/s", "FOLDER/pty"])
def test_whoever_comes_after_a_crowd_is_answered(port: str) -> None:
    class OverThis(Crowd):
        pass

    OverThis.port = port
    case = OverThis.TestCase
    case.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
    case("runTest").debug()


ANSWERS = {  # to QUERIES
    "nmea": b"GGA,", "ubx": b"\xb5\x62\x01\x07\x5c", "easycomm2": b" EL", "easycomm3": b"GS", "gs232b": b"AZ=",
    "rotctld": b"max_el=", "openamip": b"s 1 ", "sbd": b"\r\nOK\r\n", "ntn": b"\r\nOK\r\n",
    "jspr": b" messageProvisioning ",
}  # fmt: skip


@pytest.mark.parametrize("kind", ANSWERS)
def test_one_who_does_not_read_and_one_who_talks_nonsense_keep_nobody_from_an_answer(kind: str) -> None:
    query, ended = QUERIES[kind], b"\r" if kind in ("gs232b", "sbd", "ntn", "jspr") else b"\n"
    with SerialStub(kind, SITE.state, "tcp:127.0.0.1:0") as stub, contextlib.ExitStack() as clients:
        host, _, port = stub.address.removeprefix("tcp:").rpartition(":")
        deaf, mad, good = (
            clients.enter_context(socket.create_connection((host, int(port)), PATIENCE_S)) for _ in range(3)
        )
        deaf.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(200):
                deaf.send(query * 50)
        mad.sendall(bytes(range(256)) * 4 + b"[{" * 5_000 + b"\x00" * 5_000 + ended)
        heard = b""
        for _ in range(PATIENCE_S):  # a line that is shared may lose a question among what others say
            good.sendall(ended + query)
            good.settimeout(1.0)
            with contextlib.suppress(TimeoutError):
                while ANSWERS[kind] not in heard:
                    heard += good.recv(4096)
                break
        assert ANSWERS[kind] in heard
    assert held_bytes(stub) < MOST_HELD


PACKET = b"\x45\x00\x00\x1c" + bytes(24)


class Loopback:
    """A data path that gives back what it was given, a little of it."""

    fd = -1

    def __init__(self) -> None:
        self._packets: deque[bytes] = deque(maxlen=16)

    def read(self) -> bytes:
        return self._packets.popleft() if self._packets else b""

    def write(self, packet: bytes) -> None:
        self._packets.append(packet)


def line_ended(stub: object, now_ns: int) -> int:
    """What a client does to start afresh."""
    stub.receive(b"\n", now_ns)  # type: ignore[attr-defined]
    stub.poll(now_ns)  # type: ignore[attr-defined]
    return now_ns


TestOpenamipSurvives = survives(
    lambda now_ns: OpenAmipAntenna(SITE.state, Antenna()),
    [b"S -120.0 90.0 0.0", b"A 1", b"W 1", b"L 1 1", b"H 12000 20", b"P L R", b"F", b"K 10", b"A 0", b"W 3600"],
    settled=line_ended,
    probe=b"A 5\n",
    answered=lambda heard: b"s 1 " in heard,
    ends=b"\n",
)
TestNmeaSurvives = survives(
    lambda now_ns: NmeaReceiver(SITE.state, now_ns),
    [b"$EIGPQ,GGA", b"$EIGPQ,RMC*3A", b"$EIGPQ,GSV*00", b"$PMTK605*31", b"$PUBX,00*33", b"$GPGGA,,,,,,0", b"$", b"$$*"],
    settled=line_ended,
    probe=b"$EIGPQ,GGA\r\n",
    answered=lambda heard: b"$GPGGA," in heard or b"$GNGGA," in heard,
    ends=b"\r\n",
)
TestBeaconSurvives = survives(
    lambda now_ns: BeaconReceiver(lambda utc_ns: (None, False), now_ns),
    [b"$PBPB", b"$PBPQ,1", b"AT"],
    settled=lambda stub, now_ns: now_ns,
    probe=b"",
    answered=lambda heard: b"$PBPB," in heard,
    ends=b"\r\n",
)
TestSlipSurvives = survives(
    lambda now_ns: SlipStub(Loopback()),
    [frame(PACKET), frame(PACKET)[:10], b"\xdb", b"\xdb\x00", b"\xc0\xc0", frame(b"no packet"), b"\x60" + bytes(39)],
    settled=line_ended,
    probe=frame(PACKET),
    answered=lambda heard: frame(PACKET) in heard,
    ends=b"\xc0",
    most_held=MOST_HELD,
)
TestABadLineIsSurvived = survives(
    lambda now_ns: WiredStub(
        EasycommController(Antenna(), 3),
        None,
        (LineFault("noise", share=0.3), LineFault("lost", share=0.3), LineFault("echo")),
        clock=lambda: 0,
    ),
    [b"AZ EL ", b"GS", b"CR 1", b"AZ10 EL20"],
    settled=line_ended,
    probe=b"AZ EL \n" * 200,
    answered=lambda heard: b"Z" in heard,
    ends=b"\n",
    most_held=MOST_HELD,
)
