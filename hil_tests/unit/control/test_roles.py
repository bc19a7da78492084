"""Who may do what at an endpoint that other machines reach; and what the wire may bring."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgpack
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.control.allowance import Allowance
from emulator.control.client import ControlClient
from emulator.control.messages import MAX_MESSAGE_BYTES, encode
from emulator.control.model import COMMANDS, may
from emulator.control.server import BURST, REQUESTS_PER_S, ControlServer
from emulator.errors import EmulationError, EndpointError, PrivilegeError
from emulator.ports.curve import ROLES, Role, allow, make_pair
from emulator.units import NS_PER_S
from hil_tests.unit.control.small_bench import UTC_NS, SmallBench

PACKET = bytes([0x45]) + bytes(27)
ROLES_OF: dict[str, list[Role]] = {"boss": ["control"], "eye": ["observe"], "shovel": ["packets"]}


@contextmanager
def far_bench() -> Iterator[tuple[SmallBench, str, Path]]:
    """A bench that listens at tcp://, and the keys of its clients."""
    with tempfile.TemporaryDirectory(prefix="bp-") as directory:
        keys = Path(directory) / "keys"
        make_pair(keys, "server")
        for name, roles in ROLES_OF.items():
            make_pair(keys, name)
            allow(keys, name, roles)
        make_pair(keys, "stranger")
        bench = SmallBench()
        place = Path(directory) / "control.ipc"
        with ControlServer(bench, place, listen=["tcp://127.0.0.1:*"], keys=keys) as server:
            yield bench, server.endpoints[1], keys


def test_each_role_does_its_part_and_is_known_by_its_key() -> None:
    with far_bench() as (bench, endpoint, keys):
        with ControlClient(endpoint, keys=keys, name="boss", author="script") as boss:
            assert boss.outage(1.0)["number"] == 1
            assert boss.state()["utc_ns"] == UTC_NS
            with pytest.raises(PrivilegeError, match="inject: expected the role packets, boss may not do this"):
                boss.inject("uplink", [PACKET])
        told = [(event.author, event.data["verb"], event.data["phase"]) for event in bench.machinery.commands()]
        assert told == [("boss/script", "outage", "done"), ("boss/script", "inject", "refused")]
        with ControlClient(endpoint, keys=keys, name="eye") as eye:
            assert eye.counters()["dropped"] == {"QUEUE": 3, "LOSS": 0}
            with pytest.raises(PrivilegeError, match="outage: expected the role control, eye may not do this"):
                eye.outage(1.0)
        assert bench.machinery.commands()[-1].author == "eye"
        assert "expected the role control" in bench.machinery.commands()[-1].data["error"]
        with ControlClient(endpoint, keys=keys, name="shovel") as shovel:
            assert shovel.inject("downlink", [PACKET])["packets"] == 1
            with pytest.raises(PrivilegeError, match="state: expected the role observe"):
                shovel.state()
        assert bench.injected == [("downlink", PACKET)]


def test_a_stranger_gets_no_answer_and_a_key_that_is_taken_off_the_list_no_longer() -> None:
    with far_bench() as (bench, endpoint, keys):
        with (
            ControlClient(endpoint, keys=keys, name="stranger", time_limit_s=0.3) as stranger,
            pytest.raises(EmulationError, match=r"did not answer|cannot ask"),
        ):
            stranger.state()
        with ControlClient(endpoint, keys=keys, name="boss") as boss:
            boss.state()
            (keys / "allow" / "control" / "boss.key").unlink()
            with pytest.raises(PrivilegeError, match="state: expected the role observe"):
                boss.state()
        with zmq.Context() as context, context.socket(zmq.REQ) as plain:
            plain.linger = 0
            plain.connect(endpoint)
            with suppress(zmq.Again):  # refused already, its connection has nobody to send to
                plain.send(encode({"version": 1, "verb": "stop"}), zmq.NOBLOCK)
            assert not plain.poll(300)
        assert not bench.touched


def test_without_keys_nothing_listens_beyond_this_machine(tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match="refused without CURVE keys"):
        ControlServer(SmallBench(), tmp_path / "c", listen=["tcp://127.0.0.1:5599"])
    with pytest.raises(EndpointError, match="refused without CURVE keys"):
        ControlClient("tcp://127.0.0.1:5599")
    with pytest.raises(EndpointError, match=r"server\.key: no such file"):
        ControlServer(SmallBench(), tmp_path / "c", listen=["tcp://127.0.0.1:5599"], keys=tmp_path)


@given(st.sets(st.sampled_from(ROLES)))
def test_control_includes_observing_and_nothing_else_does(roles: set[Role]) -> None:
    for command in COMMANDS.values():
        expected = command.role in roles or (command.role == "observe" and "control" in roles)
        assert may(frozenset(roles), command) == expected


messages = st.one_of(
    st.binary(max_size=300),
    st.dictionaries(st.text(max_size=8), st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8)).map(msgpack.packb),
    st.builds(
        lambda verb, version, cut: msgpack.packb({"version": version, "verb": verb})[:cut],
        st.sampled_from(list(COMMANDS)),
        st.integers(-1, 3),
        st.integers(0, 40),
    ),
    st.just(b"\x00" * (MAX_MESSAGE_BYTES + 1)),
)


@pytest.fixture(scope="module")
def served() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bp-") as directory:
        place = Path(directory) / "control.ipc"
        with ControlServer(SmallBench(), place):
            yield place


@given(frames=st.lists(st.lists(messages, max_size=10), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_whatever_the_wire_brings_the_next_client_is_answered(served: Path, frames: list[list[bytes]]) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as rude:
        rude.linger = 0
        rude.connect(f"ipc://{served}")
        for parts in frames:
            if parts:
                rude.send_multipart(parts)
        with ControlClient(served) as client:
            assert client.state()["utc_ns"] == UTC_NS


@given(st.lists(st.integers(0, NS_PER_S), max_size=60), st.integers(1, 100), st.integers(1, 20))
def test_nobody_gets_more_than_the_allowance(gaps: list[int], per_s: int, burst: int) -> None:
    allowance, now, taken = Allowance(per_s, burst), 0, 0
    for gap in gaps:
        now += gap
        taken += allowance.take(b"one", now)
    assert taken <= burst + now * per_s / NS_PER_S + 1
    assert taken >= min(len(gaps), burst)
    assert allowance.take(b"another", now)


def test_a_client_that_asks_too_often_is_told(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="bp-") as directory:
        place = Path(directory) / "c"
        server = ControlServer(SmallBench(), place)
        server._allowance = Allowance(0.0, 3)
        with server, ControlClient(place) as client:
            for _ in range(3):
                client.state()
            with pytest.raises(EmulationError, match="rate: expected at most"):
                client.state()
    assert REQUESTS_PER_S < BURST
