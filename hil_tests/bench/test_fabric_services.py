"""What a bench offers beside carrying packets is there over the ZeroMQ fabric too, and many who watch cost nothing."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path

import pytest
import zmq

from emulator.bench import Bench
from emulator.bench.captures import serving_captures
from emulator.bench.operator import Moment
from emulator.control.messages import endpoint
from emulator.control.telemetry import Telemetry
from emulator.control.topics import decode_message
from emulator.scenario import load_scenario
from emulator.taps.consumer import CaptureStream, blocks, packet_of
from emulator.units import NS_PER_S
from hil_tests.bench.living import finished, line, new_world, until

pytestmark = pytest.mark.needs("tun", "netns", "compiled")
NOW = Moment(None)


@pytest.fixture(autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path_factory.mktemp("r")))


def send(bench: Bench, count: int) -> None:
    with bench.terminal.namespace.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        for number in range(count):
            sender.sendto(number.to_bytes(4, "big") + bytes(96), (bench.datacenter.ipv4, 9))


def test_captures_and_changes_of_course_over_zeromq() -> None:
    """Every packet is in the capture, once, with its fate; time may stand, go on and jump while packets flow."""
    scenario = load_scenario("fixed", ["link.delay_ms=1", "link.loss=0.2"])
    with Bench(scenario, fabric="zmq") as bench, serving_captures(bench):
        with CaptureStream(bench.runtime_dir, directions=("uplink",), places=("before",)) as stream:
            source = iter(stream)
            pieces = [next(source)]
            send(bench, 300)
            while sum(packet_of(block) is not None for piece in pieces for block in blocks(piece)) < 300:
                pieces.append(next(source))
            bench.operator.freeze(NOW, "test")
            assert bench.standing
            before_ns = bench.utc_ns()
            send(bench, 10)
            bench.operator.resume(NOW, "test")
            bench.operator.jump("+3600", 0, NOW, "test")
            assert until(lambda: 3600 * NS_PER_S <= bench.utc_ns() - before_ns < 3700 * NS_PER_S)
            send(bench, 10)
            while sum(packet_of(block) is not None for piece in pieces for block in blocks(piece)) < 320:
                pieces.append(next(source))
            stream.stop()
            pieces += source
        packets = [packet for piece in pieces for block in blocks(piece) if (packet := packet_of(block)) is not None]
        assert [packet[28:32] for packet in packets[:300]] == [number.to_bytes(4, "big") for number in range(300)]
        assert (len(packets), stream.packets, stream.lost) == (320, 320, 0)

        def settled() -> bool:
            uplink = bench.counters().uplink
            return uplink.offered_packets == 320 and not uplink.held_packets

        assert until(settled)
        uplink = bench.counters().uplink
        lost = b"".join(pieces).count(b"uplink, dropped: loss")
        assert uplink.delivered_packets == 320 - lost
    assert bench.counters().uplink.delivered_packets == 320 - lost, "a bench that is over still knows"


@pytest.mark.long
@pytest.mark.needs("ping")
def test_three_parts_with_keys_are_everybodys() -> None:
    """On one machine, over tcp://, as whoever runs this: root or an ordinary user."""
    with new_world() as world:
        keys = str(world.directory / "keys")
        for name in ((), ("terminal", "--role", "packets"), ("gateway", "--role", "packets")):
            assert finished(world.bentpipe("keys", keys, *name)).returncode == 0
        with world.inside(lambda: socket.create_server(("127.0.0.1", 0))) as free:
            where = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        link = world.bentpipe("link", "fixed", "--listen", where, "--keys", keys, "--quiet", "--json")
        how = ("fixed", "--link", where, "--keys", keys, "--isolate")
        gateway = world.bentpipe("gateway", *how, "--as", "gateway", "--", "sh", "-c", "echo here; exec sleep 1000")
        assert line(gateway) == "here"
        pinging = world.bentpipe("terminal", *how, "--as", "terminal", "--", "ping", "-c", "3", "198.18.0.1")
        said = finished(pinging)
        assert said.returncode == 0, said
        assert link.stderr is not None
        while "waiting for the ends" not in link.stderr.readline():
            assert link.poll() is None
        link.send_signal(signal.SIGINT)
        ended = finished(link)
        assert ended.returncode == 0, ended
        assert json.loads(ended.stdout)["downlink"]["delivered_packets"] >= 3
        gateway.send_signal(signal.SIGINT)
        finished(gateway)
        assert world.leftovers() == []


@pytest.mark.long
def test_a_hundred_subscribers_of_which_half_never_read(tmp_path: Path) -> None:
    """Who reads misses nothing, who does not costs nobody: neither a packet nor another subscriber a message."""
    seconds = 6.0
    with (
        Bench(load_scenario("fixed", ["link.delay_ms=1", "link.rate_mbps=0"])) as bench,
        Telemetry(bench, tmp_path / "t.ipc") as told,
        zmq.Context() as context,
    ):
        subscribers = []
        for _ in range(100):
            subscriber = context.socket(zmq.SUB)
            subscriber.setsockopt(zmq.LINGER, 0)
            subscriber.setsockopt(zmq.RCVHWM, 10)
            subscriber.subscribe(b"")
            subscriber.connect(endpoint(told.path))
            subscribers.append(subscriber)
        try:
            readers = subscribers[::2]
            for reader in readers:
                assert reader.poll(20_000), "each late joiner gets a snapshot"
            sequences: list[dict[str, int]] = [{} for _ in readers]
            ends, sent = time.monotonic() + seconds, 0
            while time.monotonic() < ends:
                send(bench, 50)
                sent += 50
                for reader, seen in zip(readers, sequences, strict=True):
                    while reader.poll(0):
                        message = decode_message(reader.recv_multipart())
                        topic, sequence = message["topic"], message["sequence"]
                        assert sequence == seen.get(topic, sequence - 1) + 1, f"a gap in {topic}"
                        seen[topic] = sequence
            assert all({"counters", "lag"} <= set(seen) for seen in sequences)

            def settled() -> bool:
                uplink = bench.counters().uplink
                return uplink.offered_packets == sent and not uplink.held_packets

            assert until(settled)
            assert bench.counters().uplink.dropped == {}
        finally:
            for subscriber in subscribers:
                subscriber.close()
