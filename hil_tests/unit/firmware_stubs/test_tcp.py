"""Stubs over TCP: several clients at once, clients that leave, flood, or do not read."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator

import pytest

from emulator.errors import EndpointError
from emulator.terminal import Antenna, Mount, Terminal
from firmware_stubs.registry import Hardware
from firmware_stubs.tcp import MAX_CLIENTS, TcpServer, listen
from firmware_stubs.transport import SerialStub

TERMINAL = Terminal(48.4634, -123.3117, 20.0)
ANYWHERE = "tcp:127.0.0.1:0"
PATIENCE_S = 30


def running(kind: str, port: str = ANYWHERE) -> SerialStub:
    hardware = Hardware(antenna=Antenna(Mount(park_azimuth_deg=10, park_elevation_deg=80)))
    return SerialStub(kind, TERMINAL.state, port, hardware=hardware)


@contextlib.contextmanager
def client(stub: SerialStub, receive_bytes: int | None = None) -> Iterator[socket.socket]:
    host, port = stub.address.removeprefix("tcp:").rsplit(":", 1)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as connection:
        if receive_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.settimeout(PATIENCE_S)
        connection.connect((host.strip("[]"), int(port)))
        yield connection


def test_several_clients_are_answered_each_and_drive_one_antenna() -> None:
    with running("rotctld") as stub, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client(stub)) for _ in range(8)]
        files = [stack.enter_context(one.makefile("rwb")) for one in clients]
        for one in clients:
            one.sendall(b"p\n")
        assert [(file.readline(), file.readline()) for file in files] == [(b"10.00\n", b"80.00\n")] * 8
        clients[0].sendall(b"P 200 10\n")
        assert files[0].readline() == b"RPRT 0\n"
        clients[7].sendall(b"+s\n")
        assert b"MOVING_RIGHT" in files[7].readline() + files[7].readline()


@pytest.mark.parametrize("last", [b"", b"q\n"])
def test_a_client_that_ends_its_side_is_answered_first_and_then_left(last: bytes) -> None:
    commands = 40_000
    with running("rotctld") as stub, client(stub, receive_bytes=4096) as one, one.makefile("rb") as file:

        def write() -> None:
            one.sendall(b"\\dump_state\n" * commands + last)
            one.shutdown(socket.SHUT_WR)

        writer = threading.Thread(target=write)
        writer.start()
        lines = file.readlines()
        writer.join()
        assert lines.count(b"done\n") == commands
        assert len(lines) == 9 * commands


def test_good_bye_ends_the_session_and_no_other() -> None:
    with running("rotctld") as stub, client(stub) as staying, client(stub) as leaving:
        leaving.sendall(b"q\n")
        assert leaving.recv(10) == b""
        staying.sendall(b"S\n")
        assert staying.recv(10) == b"RPRT 0\n"


def test_a_client_that_does_not_read_stops_nobody_and_is_not_read_from() -> None:
    with running("rotctld") as stub, client(stub, receive_bytes=4096) as mute, client(stub) as other:
        mute.setblocking(False)

        def turns(number: int) -> None:
            for _ in range(number):
                other.sendall(b"S\n")
                assert other.recv(20) == b"RPRT 0\n"

        for _ in range(30):
            with contextlib.suppress(BlockingIOError):
                while True:
                    mute.send(b"\\dump_state\n" * 1000)
            turns(100)
        before = stub.statistics().received
        turns(500)
        assert stub.statistics().received == before + 500 * len(b"S\n")


def test_a_client_that_resets_is_let_go() -> None:
    with running("rotctld") as stub:
        for _ in range(3 * MAX_CLIENTS):
            with client(stub) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                one.sendall(b"p\n")
        with client(stub) as one:
            one.sendall(b"p\n")
            assert one.recv(20).startswith(b"10.00\n")


def test_one_client_too_many_is_sent_away_and_the_others_stay() -> None:
    with running("rotctld") as stub, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client(stub)) for _ in range(MAX_CLIENTS)]
        for one in clients:
            one.sendall(b"S\n")
            assert one.recv(10) == b"RPRT 0\n"
        with client(stub) as late:
            assert late.recv(10) == b""
        clients[0].sendall(b"S\n")
        assert clients[0].recv(10) == b"RPRT 0\n"


def test_a_device_with_one_line_is_shared_by_its_clients() -> None:
    with running("easycomm2") as stub, client(stub) as one, client(stub) as two:
        one.sendall(b"VE\n")
        assert one.recv(64).startswith(b"VE")
        two.sendall(b"AZ EL \n")
        answer = b"AZ10.0 EL80.0\n"
        assert one.recv(64) == answer
        with two.makefile("rb") as file:
            assert answer in (file.readline(), file.readline())


def test_a_receiver_speaks_over_tcp_by_itself() -> None:
    with running("nmea") as stub, client(stub) as one, one.makefile("rb") as file:
        assert file.readline().startswith(b"$GPRMC,")


PURGE, CONTROL = b"\xff\xfa\x2c\x0c\x01\xff\xf0", b"\xff\xfa\x2c\x05\x08\xff\xf0"  # RFC 2217: of the input; DTR on
PURGED, CONTROLLED = b"\xff\xfa\x2c\x70\x01\xff\xf0", b"\xff\xfa\x2c\x69\x08\xff\xf0"


class Said:
    """A device whose `words` have come although nobody was woken for them, and that answers what it is asked."""

    def __init__(self) -> None:
        self.words = deque[bytes]()  # added to by another thread

    def receive(self, data: bytes, now_ns: int) -> None:
        self.words.append(data.upper())

    def poll(self, now_ns: int) -> bytes:
        return self.words.popleft() if self.words else b""

    def next_event_ns(self) -> int | None:
        return 0 if self.words else None


@pytest.mark.parametrize(("asked", "told"), [(PURGE, PURGED), (CONTROL, CONTROLLED)])
def test_what_came_before_a_purge_is_not_behind_it_and_nothing_else_is_lost(asked: bytes, told: bytes) -> None:
    """However late the server is: it may well be the purge that wakes it."""
    device, stop_fd = Said(), os.eventfd(0)
    server = TcpServer(lambda: device, listen("rfc2217:127.0.0.1:0"), time.time_ns, sessions=False, telnet_baud=9600)
    thread = threading.Thread(target=server.serve, args=(stop_fd,))
    thread.start()
    try:
        with socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2])), PATIENCE_S) as one:
            one.sendall(CONTROL)
            until(one, CONTROLLED)
            device.words.append(b"OLD")
            one.sendall(asked)
            before, _, behind = until(one, told).partition(told)
            one.sendall(b"new")
            behind += until(one, b"NEW", behind)
            if asked == PURGE:
                assert behind == b"NEW"
                assert before in (b"", b"OLD")
            else:
                assert before + behind == b"OLDNEW"
    finally:
        os.eventfd_write(stop_fd, 1)
        thread.join()
        server.close()
        os.close(stop_fd)


def until(connection: socket.socket, end: bytes, heard: bytes = b"") -> bytes:
    """What comes up to `end`, which may be in `heard` already."""
    came = b""
    while end not in heard + came:
        piece = connection.recv(4096)
        assert piece
        came += piece
    return came


def test_ipv6_is_an_address_too() -> None:
    with running("rotctld", "tcp:[::1]:0") as stub, client(stub) as one:
        assert stub.address.startswith("tcp:[::1]:")
        one.sendall(b"S\n")
        assert one.recv(10) == b"RPRT 0\n"


@pytest.mark.parametrize(
    ("port", "fault"),
    [
        ("tcp:127.0.0.1", "expected tcp:ADDRESS:PORT"),
        ("tcp:127.0.0.1:99999", "expected tcp:ADDRESS:PORT"),
        ("tcp:127.0.0.1:x", "expected tcp:ADDRESS:PORT"),
        ("tcp:0.0.0.0:0", "expected a loopback address"),
        ("tcp:192.0.2.1:0", "expected a loopback address"),
        ("tcp:dish:0", "expected an IP address of this machine, got 'dish'"),
    ],
)
def test_a_port_that_cannot_be_is_refused(port: str, fault: str) -> None:
    with pytest.raises(EndpointError, match=fault):
        running("rotctld", port).start()


def test_a_port_that_is_taken_is_refused() -> None:
    with running("rotctld") as stub, pytest.raises(EndpointError, match="cannot listen: Address already in use"):
        running("rotctld", stub.address).start()


def test_firmware_with_sessions_has_no_serial_line() -> None:
    with pytest.raises(EndpointError, match="the rotctld stub is reached over TCP: expected tcp:ADDRESS:PORT"):
        running("rotctld", "pty").start()
