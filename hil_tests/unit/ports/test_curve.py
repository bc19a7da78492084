"""Keys: nothing is reached by tcp:// without them, and nobody in a role that he was not given."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from emulator.cli.main import run
from emulator.errors import EndpointError
from emulator.ports.curve import (
    Gate,
    allow,
    allowed,
    check_endpoint,
    client_name,
    make_pair,
    secure_client,
    secure_server,
)

ANSWER_MS, SILENCE_MS = 20_000, 300


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make_pair(tmp_path / "k", "server")
    for name, roles in (("alice", ["control", "observe"]), ("bob", ["observe"]), ("eve", [])):
        make_pair(tmp_path / "k", name)
        allow(tmp_path / "k", name, roles)  # type: ignore[arg-type]
    return tmp_path / "k"


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context: zmq.Context[Any] = zmq.Context()
    yield context
    context.destroy(linger=0)


def answers(context: zmq.Context[Any], server: zmq.Socket[Any], port: int, prepare: Any = None) -> str | None:
    """What the server knows a client as that says hello; None if the client is not let in."""
    with context.socket(zmq.DEALER) as client:
        client.linger = 0
        if prepare:
            prepare(client)
        with client.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | REFUSED) as events:
            client.connect(f"tcp://127.0.0.1:{port}")
            with contextlib.suppress(zmq.Again):  # refused already, its connection has nobody to send to
                client.send(b"hello", zmq.NOBLOCK)
            # A server with keys waits for a client without to speak its language.
            spoken = events.poll(ANSWER_MS if prepare else SILENCE_MS)
            kind = int.from_bytes(events.recv_multipart()[0][:2], "little") if spoken else 0
            client.disable_monitor()
        if kind != zmq.EVENT_HANDSHAKE_SUCCEEDED:
            return None
        assert server.poll(ANSWER_MS)
        return str(server.recv_multipart(copy=False)[-1]["User-Id"])


REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL


def test_only_who_is_on_the_list_of_a_role_gets_in(keys: Path, context: zmq.Context[Any], tmp_path: Path) -> None:
    make_pair(tmp_path / "other", "alice")  # the right name with the wrong key
    make_pair(tmp_path / "other", "server")
    (tmp_path / "wrong_server").mkdir()
    for name in ("alice.key", "alice.key_secret"):
        os.link(keys / name, tmp_path / "wrong_server" / name)
    os.link(tmp_path / "other" / "server.key", tmp_path / "wrong_server" / "server.key")
    (tmp_path / "other" / "server.key").unlink()
    os.link(keys / "server.key", tmp_path / "other" / "server.key")
    with Gate(context, keys, {"door": ["control"]}), context.socket(zmq.ROUTER) as server:
        server.linger = 0
        secure_server(server, keys, "door")
        port = server.bind_to_random_port("tcp://127.0.0.1")
        public = answers(context, server, port, lambda client: secure_client(client, keys, "alice"))
        assert public is not None
        assert allowed(keys, public.encode()) == {"control": "alice", "observe": "alice"}
        for where, name in ((keys, "bob"), (keys, "eve"), (tmp_path / "other", "alice")):
            assert answers(context, server, port, lambda c, w=where, n=name: secure_client(c, w, n)) is None
        assert answers(context, server, port) is None
        (keys / "allow" / "control" / "alice.key").unlink()
        assert answers(context, server, port, lambda client: secure_client(client, keys, "alice")) is None


def test_a_client_does_not_talk_to_another_server(keys: Path, context: zmq.Context[Any], tmp_path: Path) -> None:
    make_pair(tmp_path / "impostor", "server")
    with Gate(context, keys, {"door": ["control"]}), context.socket(zmq.ROUTER) as server:
        server.linger = 0
        secure_server(server, tmp_path / "impostor", "door")
        port = server.bind_to_random_port("tcp://127.0.0.1")
        with context.socket(zmq.DEALER) as client:
            client.linger = 0
            secure_client(client, keys, "alice")
            client.connect(f"tcp://127.0.0.1:{port}")
            with contextlib.suppress(zmq.Again):  # refused already, its connection has nobody to send to
                client.send(b"secret", zmq.NOBLOCK)
            assert not server.poll(SILENCE_MS)


def test_secret_files_are_their_owners_alone(keys: Path) -> None:
    for path in keys.glob("*.key_secret"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (keys / "alice.key_secret").chmod(0o640)
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        with pytest.raises(EndpointError, match=r"alice\.key_secret: expected a file that only its owner can read"):
            secure_client(socket, keys, "alice")
        with pytest.raises(EndpointError, match=r"nobody\.key_secret: no such file; make them with `bentpipe keys`"):
            secure_client(socket, keys, "nobody")


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:5555", "tcp://*:5555", "tcp://[::1]:*"])
def test_tcp_without_keys_is_refused(endpoint: str, keys: Path, tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match="refused without CURVE keys: make them with `bentpipe keys`"):
        check_endpoint(endpoint, None)
    with pytest.raises(EndpointError, match=r"server\.key: no such file"):
        check_endpoint(endpoint, tmp_path)
    check_endpoint(endpoint, keys)


@pytest.mark.parametrize("endpoint", ["udp://1.2.3.4:5", "tcp://", "tcp://host", "inproc://x", "", "tcp://a b:5"])
def test_other_endpoints_are_no_endpoints(endpoint: str, keys: Path) -> None:
    with pytest.raises(EndpointError, match="expected ipc://PATH or tcp://ADDRESS:PORT"):
        check_endpoint(endpoint, keys)


@given(st.binary(max_size=200))
def test_a_file_of_garbage_is_refused_and_allows_nobody(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "allow" / "control").mkdir(parents=True)
        (place / "allow" / "control" / "x.key").write_bytes(data)
        (place / "server.key").write_bytes(data)
        assert allowed(place, b"x" * 40) == {}
        with pytest.raises(EndpointError, match=r"server\.key: expected CURVE keys"):
            check_endpoint("tcp://*:1", place)


def test_the_command_makes_what_a_bench_and_its_clients_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "k"
    assert run(["keys", str(place)]) == 0
    assert capsys.readouterr().out == f"{place}/server.key\n"
    assert run(["keys", str(place), "lab", "--role", "control", "--role", "packets"]) == 0
    assert client_name(place) == "lab"
    public = next(line.split('"')[1] for line in (place / "lab.key").read_text().splitlines() if "public" in line)
    assert allowed(place, public.encode()) == {"packets": "lab", "control": "lab"}
    assert run(["keys", str(place)]) == 71  # never overwritten
    assert run(["keys", str(place), "lab"]) == 2
    assert run(["keys", str(place), "../lab", "--role", "observe"]) == 71
    assert run(["keys", str(place), "server", "--role", "observe"]) == 2
    assert run(["keys", str(tmp_path / "far"), "probe", "--role", "observe"]) == 0
    assert run(["keys", str(place), "probe", "--role", "observe", "--public", str(tmp_path / "far/probe.key")]) == 0
    assert not (place / "probe.key_secret").exists()
    assert list(allowed(place, next(iter((tmp_path / "far/probe.key").read_text().split('"')[1:2])).encode())) == [
        "observe"
    ]
