"""The proxy of RFC 3135 with real sockets: TCP is split and arrives whole; it is off for all else; an end may die."""

from __future__ import annotations

import functools
import hashlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.bench import Bench
from emulator.bench.guardian import descendants
from emulator.errors import EmulationError
from hil_tests.bench.field import PATIENCE_S, connected, receive, running
from hil_tests.bench.living import until

pytestmark = [pytest.mark.needs("netns", "tun", "root", "compiled", "nft"), pytest.mark.usefixtures("nothing_left")]
LONG_WAY = ("link.delay_ms=150", "link.rate_mbps=50", "pep.buffer_bytes=4000000")


def serve(bench: Bench, answer: Callable[[socket.socket], None], family: int = socket.AF_INET) -> int:
    """A server at the datacenter's side for one connection; its port."""
    server = bench.datacenter.namespace.run(functools.partial(socket.socket, family, socket.SOCK_STREAM))
    server.bind(("", 0))
    server.listen()
    server.settimeout(PATIENCE_S)

    def work() -> None:
        with server:
            connection, _ = server.accept()
            connection.settimeout(PATIENCE_S)
            with connection:
                answer(connection)

    threading.Thread(target=work, daemon=True).start()
    return int(server.getsockname()[1])


def digest_of(connection: socket.socket) -> bytes:
    seen = hashlib.sha256()
    while chunk := connection.recv(1 << 16):
        seen.update(chunk)
    return seen.digest()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("access", [(), ("access.nat44=true",)], ids=["plain", "nat"])
def test_bytes_arrive_whole_both_ways_and_a_half_closed_connection_stays_half_open(
    family: int, access: tuple[str, ...]
) -> None:
    data = os.urandom(300_000)
    with running("fixed", "link.delay_ms=20", "link.loss=0.01", "pep.buffer_bytes=1000000", *access) as bench:
        assert bench.access is not None
        peers = []

        def answer(connection: socket.socket) -> None:
            peers.append(connection.getpeername()[0])
            connection.sendall(digest_of(connection))
            connection.sendall(data)

        port = serve(bench, answer, family)
        with bench.terminal.namespace.run(functools.partial(socket.socket, family, socket.SOCK_STREAM)) as client:
            client.settimeout(PATIENCE_S)
            client.connect((bench.datacenter.ipv4 if family == socket.AF_INET else bench.datacenter.ipv6, port))
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            assert receive(client, 32) == hashlib.sha256(data).digest()
            assert receive(client, len(data)) == data
            assert client.recv(1) == b""
        assert peers == [bench.access.public_ipv4 if family == socket.AF_INET else bench.terminal.ipv6]
        until(lambda: not any(end["open"] for end in bench.network.do("access")["pep"].values()))
        for end in bench.network.do("access")["pep"].values():
            assert (end["accepted"], end["failed"]) == (1, 0)
            assert (end["bytes_from_terminal"], end["bytes_to_terminal"]) == (len(data), len(data) + 32)


def test_the_client_is_connected_before_the_server_is_and_udp_is_left_alone() -> None:
    """The round trip takes 300 ms; a handshake that takes less has been answered on this side of the link."""
    with running("fixed", *LONG_WAY) as bench:
        port = serve(bench, lambda connection: connection.sendall(b"hello"))
        with bench.terminal.namespace.run(functools.partial(socket.socket)) as client:
            client.settimeout(PATIENCE_S)
            client.connect((bench.datacenter.ipv4, port))
            info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            assert int.from_bytes(info[68:72], "little") < 150_000, "linux/tcp.h: tcpi_rtt, µs"
            assert receive(client, 5) == b"hello"
        sent = time.monotonic_ns()
        near, far = (side.namespace.run(functools.partial(socket.socket, type=socket.SOCK_DGRAM))
                     for side in (bench.terminal, bench.datacenter))  # fmt: skip
        with near, far:
            far.settimeout(PATIENCE_S)
            far.bind((bench.datacenter.ipv4, 5000))
            near.sendto(b"datagram", (bench.datacenter.ipv4, 5000))
            assert far.recv(100) == b"datagram"
            assert time.monotonic_ns() - sent >= 150_000_000


def test_only_the_ports_that_are_named_are_split_and_inbound_is_not() -> None:
    with running("fixed", "link.delay_ms=1", "pep.ports=['80', '8000-8999']") as bench:
        for port in (81, 8080):
            client, accepted = connected(bench.terminal, bench.datacenter, port=port)
            client.close()
            accepted.close()
        client, accepted = connected(bench.datacenter, bench.terminal, port=8081)
        client.close()
        accepted.close()
        assert [end["accepted"] for end in bench.network.do("access")["pep"].values()] == [1, 1]


def test_a_server_that_refuses_is_a_reset_for_the_client() -> None:
    with running("fixed", "link.delay_ms=1", "pep.buffer_bytes=1000000") as bench:
        with bench.terminal.namespace.run(functools.partial(socket.socket)) as client:
            client.settimeout(PATIENCE_S)
            client.connect((bench.datacenter.ipv4, 9))
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        until(lambda: bench.network.do("access")["pep"]["gateway"]["failed"] == 1)


@pytest.mark.parametrize("which", ["terminal", "gateway"])
def test_an_end_that_dies_resets_its_connections_is_named_and_the_rest_goes_on(which: str) -> None:
    """Those at the far side too, where the reset comes when the death has long been told."""
    with running("fixed", "link.delay_ms=200", "pep.buffer_bytes=1000000") as bench:
        assert bench.network.proxy is not None
        client, accepted = connected(bench.terminal, bench.datacenter)
        with client, accepted:
            client.sendall(b"before")
            assert receive(accepted, 6) == b"before"
            (worker,) = descendants(bench.network.proxy.pids[which])
            os.kill(worker, signal.SIGKILL)
            for end in (client, accepted):
                with pytest.raises(ConnectionResetError):
                    end.recv(1)
        said = f"the proxy's end at the {which} has ended (SIGKILL): 1 connections reset"
        until(lambda: any(said in warning for warning in bench.warnings))
        assert bench.network.do("access")["pep"][which]["resets"] == 1
        client, accepted = connected(bench.terminal, bench.datacenter)  # unsplit
        with client, accepted:
            client.sendall(b"after")
            assert receive(accepted, 5) == b"after"
        assert bench.network.do("access")["pep"]["terminal"]["accepted"] == 1


def test_a_congestion_control_that_the_kernel_has_not_is_named() -> None:
    with (
        pytest.raises(EmulationError, match=r"pep.congestion_control 'nosuch': No such file"),
        running("fixed", "pep.congestion_control='nosuch'"),
    ):
        pass
    assert not list(Path(os.environ["BENTPIPE_RUNTIME_DIR"]).glob("*-*/"))
