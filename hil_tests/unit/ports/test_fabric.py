"""The ZeroMQ fabric where its other processes, or strangers at its socket, fail it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from socket import AF_UNIX, SOCK_SEQPACKET, socketpair

import pytest
import zmq

from emulator.errors import EmulationError, EndpointError
from emulator.link.link import Link
from emulator.ports import end_process, messages
from emulator.ports.fabric import SOCKET_NAME, FabricRelay
from emulator.ports.frames import DEVICE
from emulator.ports.messages import Header, Hello, Text, build, parse
from emulator.timeline.model import Channel
from emulator.units import NS_PER_MS
from hil_tests.unit.link.packets import frame
from hil_tests.unit.ports.carriers import END_NS, PATIENCE_S, SMALL, rig

pytestmark = pytest.mark.needs("compiled")
OPEN = Channel.constant(0, delay_ns=0)
HELD_S = 0.4
LONGEST_SOCKET_PATH = 107  # unix(7): sun_path, less its final 0


def test_an_end_that_dies_before_it_connects_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    dies = [sys.executable, "-I", "-S", "-c", "raise SystemExit(3)"]
    monkeypatch.setattr(end_process, "child_command", lambda *_: dies)
    with pytest.raises(EmulationError, match="end of the fabric has ended with status 3"), rig(OPEN, fabric="zmq"):
        pass


def test_an_end_of_ours_that_is_killed_is_told_to_whoever_asks() -> None:
    with rig(OPEN, fabric="zmq") as run:
        assert isinstance(run.relay, FabricRelay)
        os.kill(run.relay.ends[1].process.pid, signal.SIGKILL)
        with pytest.raises(EmulationError, match="gateway's end of the fabric has ended with status -9"):
            run.until(lambda *_: False)


@pytest.mark.parametrize("length", [LONGEST_SOCKET_PATH - len(SOCKET_NAME) - 1, LONGEST_SOCKET_PATH])
def test_a_directory_may_be_as_long_as_sockets_allow(length: int) -> None:
    with tempfile.TemporaryDirectory(prefix="bp", dir="/tmp") as base:
        directory = Path(base, "x" * (length - len(base) - 1))
        directory.mkdir()
        up, down = (Link(OPEN, END_NS, seed=1, direction=way, options=SMALL) for way in range(2))
        relay = FabricRelay(up, down, (-1, -1), endpoints=[f"ipc://{directory / SOCKET_NAME}"])
        try:
            if length == LONGEST_SOCKET_PATH:
                with pytest.raises(EndpointError, match="set BENTPIPE_RUNTIME_DIR to another, shorter directory"):
                    relay.start()
            else:
                relay.start()
                assert relay.counters().uplink.offered_packets == 0
        finally:
            relay.stop()


@contextlib.contextmanager
def stranger(relay: FabricRelay) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, round(PATIENCE_S * 1000))
        socket.connect(relay.endpoints[0])
        yield socket


def test_strangers_and_garbage_are_counted_and_cost_nobody_a_packet() -> None:
    with rig(OPEN, fabric="zmq") as run:
        assert isinstance(run.relay, FabricRelay)
        with stranger(run.relay) as socket:
            socket.send(b"")
            socket.send(os.urandom(1000))
            socket.send_multipart([b"x", b"y", b"z"])
            socket.send(build(Header(messages.ARRIVALS, 0, session=5, records=1)))
            assert parse(socket.recv())[0].kind == messages.WHO, "who has no conversation is asked for his name"
            socket.send((1 << 32 | messages.MARK).to_bytes(8, "little") + bytes(80))
            header, body = parse(socket.recv())
            assert (header.kind, body) == (messages.REFUSE, Text("expected version 2, got 1"))
            run.terminal.send(frame(100, 1))
            assert run.datacenter.recv(1 << 17) == frame(100, 1)
            socket.send(build(Header(messages.HELLO, 0), Hello(clock=0, agreement=9, ethernet=0)))
            header, body = parse(socket.recv())
            assert header.kind == messages.REFUSE
            assert "has other ports" in getattr(body, "text", "")
            socket.send(build(Header(messages.HELLO, 0), Hello(clock=0, agreement=0, ethernet=1)))
            header, body = parse(socket.recv())
            assert header.kind == messages.REFUSE
            assert "the link carries IP packets (ports.kind tun), this end Ethernet frames" in getattr(body, "text", "")
        counted = run.relay.counters()
        assert counted.broken_batches == 4
        assert counted.uplink.offered_packets == counted.uplink.delivered_packets == 1


def test_an_end_says_that_the_link_has_another_version() -> None:
    """Both parts tell the versions; neither goes on."""
    with tempfile.TemporaryDirectory(prefix="bp", dir="/tmp") as base, zmq.Context() as context:
        near, far = socketpair(AF_UNIX, SOCK_SEQPACKET)
        with context.socket(zmq.ROUTER) as link, near, far:
            link.setsockopt(zmq.RCVTIMEO, round(PATIENCE_S * 1000))
            link.bind(f"ipc://{base}/{SOCKET_NAME}")
            end = end_process.EndProcess("gateway")
            try:
                end.prepare({"kind": DEVICE, "agreement": 0, "ethernet": 0}, {"port": far.fileno()})
                end.begin(f"ipc://{base}/{SOCKET_NAME}")
                identity, hello = link.recv_multipart()
                assert parse(hello)[0].kind == messages.HELLO
                link.send_multipart([identity, (3 << 32 | messages.MARK).to_bytes(8, "little") + hello[8:]])
                assert end.told(PATIENCE_S) == {
                    "event": "failed",
                    "text": "the link speaks another format: expected version 2, got 3",
                }
            finally:
                end.stop()


def test_an_end_without_bentpipe_is_served_in_its_own_time() -> None:
    """It speaks the documented format; its clock is an hour ahead, and then jumps back by two."""
    ahead = 3_600_000_000_000
    delay = 20_000_000
    up, down = (
        Link(Channel.constant(0, delay_ns=delay), END_NS, seed=1, direction=way, options=SMALL) for way in (0, 1)
    )
    with tempfile.TemporaryDirectory(prefix="bp", dir="/tmp") as base:
        relay = FabricRelay(up, down, (-1, -1), endpoints=[f"ipc://{base}/{SOCKET_NAME}"])
        try:
            relay.start()
            with stranger(relay) as near, stranger(relay) as far:
                sessions = []
                for way, socket in enumerate((near, far)):
                    socket.send(build(Header(messages.HELLO, way), Hello(clock=0, agreement=0, ethernet=0)))
                    header, _ = parse(socket.recv())
                    assert (header.kind, header.way) == (messages.WELCOME, way)
                    sessions.append(header.session)
                for way, socket in enumerate((near, far)):
                    for _ in range(4):
                        _answer(socket, way, sessions[way], ahead)
                while min(end.clock.exchanges for end in relay.counters_known()) < 4:
                    time.sleep(0)  # the link has its own time to read what was sent
                known = [end.clock for end in relay.counters_known()]
                assert all(abs(clock.offset_ns - ahead) <= clock.error_ns + 1000 for clock in known)
                sent_ns = time.monotonic_ns() + ahead
                words = [messages.MAGIC, messages.ARRIVALS, 0, sessions[0], 0, 0, 0, 1, sent_ns, len(frame(100, 1))]
                message = b"".join(word.to_bytes(8, "little") for word in words) + frame(100, 1)
                near.send(message + bytes(-len(message) % 8))
                while True:
                    reply = far.recv()
                    header, _ = parse(reply)
                    if header.kind == messages.DEPARTURES:
                        break
                count, length, due = (int.from_bytes(reply[at : at + 8], "little") for at in (64, 72, 80))
                assert (count, length, reply[88 : 88 + length]) == (1, len(frame(100, 1)), frame(100, 1))
                assert abs(due - sent_ns - delay) <= known[0].error_ns + known[1].error_ns + 300_000
                while relay.counters_known()[0].clock.steps == 0:
                    _answer(near, 0, sessions[0], -ahead)
                found = relay.counters_known()[0].clock
                assert found.steps == 1
                assert abs(found.offset_ns + ahead) <= found.error_ns + 1000
        finally:
            relay.stop()


def _answer(socket: zmq.Socket[bytes], way: int, session: int, ahead: int) -> None:
    while True:
        _, body = parse(socket.recv())
        if isinstance(body, messages.Ask):
            now = time.monotonic_ns() + ahead
            socket.send(build(Header(messages.STATUS, way, session), messages.Status(body.asked_ns, now, now)))
            return


SENDS = """
import socket, sys, time
with socket.socket(fileno=int(sys.argv[1])) as terminal:
    print("ready", flush=True)
    time.sleep(float(sys.argv[2]))
    terminal.send(bytes.fromhex(sys.argv[3]))
"""


def test_who_holds_pythons_lock_holds_up_no_packet_of_an_undisturbed_loop() -> None:
    """As whoever starts a program does, until it runs; without that the loop wants the lock every 10 ms."""
    hold = ctypes.PyDLL(None).usleep  # unlike CDLL's, with the lock
    with rig(Channel.constant(0, delay_ns=20 * NS_PER_MS), fabric="zmq") as run:
        assert isinstance(run.relay, FabricRelay)
        number = run.terminal.fileno()
        command = [sys.executable, "-I", "-S", "-c", SENDS, str(number), str(HELD_S / 4), frame(100, 7).hex()]
        with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[number]) as sender:
            assert sender.stdout is not None
            assert sender.stdout.readline() == b"ready\n"
            with run.relay.undisturbed():
                hold(round(HELD_S * 1e6))
                assert select.select([run.datacenter], [], [], 0)[0], "it came while nobody else could do anything"
        assert run.datacenter.recv(200) == frame(100, 7)
        assert run.until(lambda up, _: up.delivered_packets == 1)
