"""`bentpipe capture` of a real bench: every packet once, as on the wire, with its fate; nobody waits for it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.bench import Bench
from emulator.bench.captures import CapturedBench, serving_captures
from emulator.bench.recording import Recording
from emulator.errors import BenchNotFoundError, EmulationError, EndpointError, ExpressionError, ScenarioError
from emulator.ports.relay import Relay
from emulator.scenario import load_scenario
from emulator.taps.capture import MOST_CONSUMERS, capture_endpoint
from emulator.taps.consumer import CaptureStream, PacketFilter, RotatingFiles, blocks, choose_blocks, packet_of
from emulator.taps.pcapng import RAW, read_capture
from emulator.units import NS_PER_S

ROOT = Path(__file__).parents[2]
BOTH_WAYS, BOTH_PLACES = ("uplink", "downlink"), ("before", "after")
SEND = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    for number in range(int(sys.argv[2])):
        sender.sendto(number.to_bytes(4) + bytes(96), (sys.argv[1], 9))
"""

pytestmark = pytest.mark.needs("tun", "netns", "compiled")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path_factory.mktemp("r")))
        scenario = load_scenario("fixed", ["link.delay_ms=1", "link.rate_mbps=0", "link.loss=0.2"])
        with Bench(scenario) as bench, serving_captures(bench):
            yield bench


def send_up(bench: Bench, count: int) -> None:
    sender = bench.terminal.popen([sys.executable, "-c", SEND, bench.datacenter.ipv4, str(count)])
    assert sender.wait() == 0


def captured(bench: Bench, count: int, **wanted: Any) -> tuple[bytes, CaptureStream]:
    """The capture of `count` datagrams, from the first to the last, and what the bench said of it."""
    request = {"directions": ("uplink",), "places": ("before",)} | wanted
    with CaptureStream(bench.runtime_dir, **request) as stream:
        source = iter(stream)
        pieces = [next(source)]
        send_up(bench, count)
        while sum(packet_of(block) is not None for piece in pieces for block in blocks(piece)) < count:
            pieces.append(next(source))
        stream.stop()
        pieces += source
    return b"".join(pieces), stream


def comments(capture: bytes) -> list[str]:
    """The first comment of each packet."""
    told = []
    for block in blocks(capture):
        packet = packet_of(block)
        if packet is not None:
            at = 28 + (len(packet) + 3) // 4 * 4
            length = int.from_bytes(block[at + 2 : at + 4], "little")
            told.append(block[at + 4 : at + 4 + length].decode())
    return told


def test_every_packet_is_there_once_with_the_fate_that_the_counters_know(bench: Bench, tmp_path: Path) -> None:
    before = bench.counters().uplink
    data, stream = captured(bench, 2000)
    after = bench.counters().uplink
    assert (stream.packets, stream.lost) == (2000, 0)
    fates = Counter(comment.split(" after")[0] for comment in comments(data))
    delivered = after.delivered_packets - before.delivered_packets
    assert fates == {"uplink, delivered": delivered, "uplink, dropped: loss": 2000 - delivered}
    path = tmp_path / "all.pcapng"
    path.write_bytes(data)
    frames = list(read_capture(path))
    assert [frame.packet[28:32] for frame in frames if frame.packet] == [n.to_bytes(4) for n in range(2000)]


def test_behind_the_link_there_are_the_delivered_ones_a_delay_later(bench: Bench, tmp_path: Path) -> None:
    with CaptureStream(bench.runtime_dir, directions=("uplink",), places=BOTH_PLACES) as stream:
        assert stream.interfaces == ("uplink, before the link", "uplink, after the link")
        source = iter(stream)
        pieces = [next(source)]
        send_up(bench, 50)
        seen = 0
        while seen < 50:
            pieces.append(next(source))
            seen = sum(packet_of(block) is not None and block[8] == 0 for piece in pieces for block in blocks(piece))
        stream.stop()
        pieces += source
    path = tmp_path / "both.pcapng"
    path.write_bytes(b"".join(pieces))
    stamps: dict[bytes, list[int]] = {}
    for frame in read_capture(path):
        assert frame.packet is not None
        stamps.setdefault(frame.packet[28:32], []).append(frame.utc_ns)
    assert len(stamps) == 50
    stays = {pair[1] - pair[0] for pair in stamps.values() if len(pair) == 2}
    assert stays == {1_000_000}, "each packet alone on the link stays exactly its delay"


@pytest.mark.needs("tshark")
def test_tshark_reads_every_field(bench: Bench, tmp_path: Path) -> None:
    data, _ = captured(bench, 20)
    path = tmp_path / "t.pcapng"
    path.write_bytes(data)
    fields = ["frame.interface_name", "ip.src", "udp.checksum.status", "frame.packet_id", "frame.comment"]
    told = subprocess.run(
        [
            "tshark",
            "-r",
            str(path),
            "-o",
            "udp.check_checksum:TRUE",
            "-T",
            "fields",
            *(f"-e{field}" for field in fields),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split("\t") for line in told.stdout.splitlines()]
    assert len(rows) == 20
    numbers = [int(row[3]) for row in rows]
    assert numbers == list(range(numbers[0], numbers[0] + 20))
    for row in rows:
        assert row[:3] == ["uplink, before the link", bench.terminal.ipv4, "1"]
        assert row[4].startswith(("uplink, delivered after 1.000000 ms", "uplink, dropped: loss"))


def test_a_snap_length_keeps_the_head_and_the_length_of_a_packet(bench: Bench) -> None:
    data, _ = captured(bench, 5, snap_bytes=40)
    found = [(packet_of(block), block) for block in blocks(data)]
    for packet, block in found:
        if packet is not None:
            assert len(packet) == 40
            assert int.from_bytes(block[24:28], "little") == 128


def test_a_filter_is_that_of_tcpdump() -> None:
    packet = bytes.fromhex("4500001c000000004011000001020304050607080035003500080000")
    assert PacketFilter("udp port 53", RAW).accepts(packet, len(packet))
    assert not PacketFilter("tcp", RAW).accepts(packet, len(packet))
    with pytest.raises(ExpressionError, match="--filter 'udp prot 53'"):
        PacketFilter("udp prot 53", RAW)


def test_the_count_is_kept_to_the_packet(bench: Bench) -> None:
    data, _ = captured(bench, 30)
    chosen, packets = choose_blocks(data, None, 7)
    assert packets == 7
    assert len(comments(chosen)) == 7


def test_files_that_follow_each_other_are_each_whole(bench: Bench, tmp_path: Path) -> None:
    data, _ = captured(bench, 100)
    head = b"".join(list(blocks(data))[:2])
    files = RotatingFiles(tmp_path / "x.pcapng", most_bytes=2000, keep=3)
    files.begin(head)
    for block in list(blocks(data))[2:]:
        files.write(block)
    files.close()
    assert [path.name for path in sorted(tmp_path.iterdir())] == [path.name for path in files.paths]
    assert len(files.paths) == 3
    for path in files.paths:
        assert path.stat().st_size <= 2000
        assert list(read_capture(path))


def test_a_full_disk_is_an_error_that_names_the_file() -> None:
    files = RotatingFiles(Path("/dev/full"))
    with pytest.raises(EndpointError, match="/dev/full: No space left on device"):
        files.begin(bytes(12))


def test_a_consumer_that_never_reads_or_dies_costs_nobody_a_packet(bench: Bench) -> None:
    before = bench.counters().uplink
    asking = (
        "import sys, time; from pathlib import Path; from emulator.taps.consumer import CaptureStream\n"
        "with CaptureStream(Path(sys.argv[1]), directions=['uplink'], places=['before']) as stream:\n"
        "    print('ready', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", asking, str(bench.runtime_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    ) as idle:
        assert idle.stdout is not None
        assert idle.stdout.readline() == "ready\n"
        send_up(bench, 500)
        idle.send_signal(signal.SIGKILL)
    data, stream = captured(bench, 500)
    after = bench.counters().uplink
    assert after.offered_packets - before.offered_packets == 1000
    assert (len(comments(data)), stream.lost) == (500, 0)


@given(
    request=st.binary(max_size=60)
    | st.dictionaries(st.text(max_size=12), st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5))
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_request_of_another_shape_gets_an_error(bench: Bench, request: Any) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as consumer:
        consumer.setsockopt(zmq.LINGER, 0)
        consumer.connect(capture_endpoint(bench.runtime_dir))
        consumer.send(request if isinstance(request, bytes) else msgpack.packb(request))
        if request == b"stop":
            return
        assert consumer.poll(5000)
        kind, text = consumer.recv_multipart()
        assert kind == b"error"
        assert text


def test_no_more_captures_than_the_bench_will_serve(bench: Bench) -> None:
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(CaptureStream(bench.runtime_dir, directions=BOTH_WAYS, places=BOTH_PLACES))
            for _ in range(MOST_CONSUMERS)
        ]
        with pytest.raises(EmulationError, match=f"at most {MOST_CONSUMERS} captures"):
            stack.enter_context(CaptureStream(bench.runtime_dir, directions=BOTH_WAYS, places=BOTH_PLACES))
        for stream in streams:
            stream.stop()
            list(stream)


def test_a_bench_without_captures_says_why(tmp_path: Path) -> None:
    stream = CaptureStream(tmp_path, directions=BOTH_WAYS, places=BOTH_PLACES)
    with pytest.raises(BenchNotFoundError, match="bentpipe link"), stream:
        pass


def test_the_command_writes_to_a_pipe_until_ctrl_c(bench: Bench) -> None:
    command = [sys.executable, "-m", "emulator.cli.main", "capture", "--at", "uplink", "-w", "-"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"BENTPIPE_RUNTIME_DIR": str(bench.runtime_dir.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        data = os.read(running.stdout.fileno(), 8)  # it is capturing when its head is out
        send_up(bench, 10)
        while data.count(b"uplink, d") < 10:
            data += os.read(running.stdout.fileno(), 65536)
        running.send_signal(signal.SIGINT)
        data += running.stdout.read()
        told = running.stderr.read().decode()
        assert running.wait() == 0
    assert len(comments(data)) == 10
    assert "10 packets captured" in told


def test_the_command_tells_what_it_wrote(bench: Bench, tmp_path: Path) -> None:
    target = tmp_path / "c.pcapng"
    command = [sys.executable, "-m", "emulator.cli.main", "capture", "-w", str(target), "--count", "5", "--json"]
    with (
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"BENTPIPE_RUNTIME_DIR": str(bench.runtime_dir.parent)},
            stdout=subprocess.PIPE,
            text=True,
        ) as running,
        sending(bench),
    ):
        told = json.loads(running.communicate(timeout=60)[0])
    assert told["packets"] == 5
    assert told["files"] == [str(target)]
    assert len(list(read_capture(target))) == 5


@contextlib.contextmanager
def sending(bench: Bench, size: int = 20) -> Iterator[None]:
    """Datagrams of so many bytes into the uplink, a hundred a second, for as long as the block lasts."""
    over = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not over.wait(0.01):
                sender.sendto(bytes(size), (bench.datacenter.ipv4, 9))

    thread = threading.Thread(target=bench.terminal.namespace.run, args=(send,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.needs("root")
def test_a_full_disk_ends_the_capture_and_nothing_else(bench: Bench, tmp_path: Path) -> None:
    """What had been written can be read; the link goes on, and what it counts adds up."""
    disk, kept = tmp_path / "disk", tmp_path / "kept.pcapng"
    disk.mkdir()
    capture = [sys.executable, "-m", "emulator.cli.main", "capture", "--at", "uplink", "-w", f"{disk}/c.pcapng"]
    line = 'mount -t tmpfs -o size=64k tmpfs "$1"; "${@:3}" || ended=$?; cp "$1/c.pcapng" "$2"; exit $ended'
    with (
        subprocess.Popen(
            ["unshare", "--mount", "bash", "-ec", line, "bash", str(disk), str(kept), *capture],
            cwd=ROOT,
            env=os.environ | {"BENTPIPE_RUNTIME_DIR": str(bench.runtime_dir.parent)},
            stderr=subprocess.PIPE,
            text=True,
        ) as running,
        sending(bench, size=1400),
    ):
        _, told = running.communicate(timeout=60)
    assert running.returncode == EndpointError.exit_status
    assert f"{disk}/c.pcapng: No space left on device" in told
    frames = list(read_capture(kept))
    assert 20 < len(frames) < 60
    send_up(bench, 10)
    counted = bench.counters().uplink
    while counted.held_packets:
        counted = bench.counters().uplink
    assert counted.offered_packets == counted.delivered_packets + counted.dropped_packets


def test_a_recording_by_command_tells_what_it_holds(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    switch = Recording(bench.runtime_dir)
    assert switch(True, {"file": "a.pcapng", "at": "uplink"}) == {"file": "a.pcapng"}
    with pytest.raises(EmulationError, match="one is on already"):
        switch(True, {})
    send_up(bench, 40)
    before = bench.counters().uplink
    while before.held_packets:
        before = bench.counters().uplink
    told = switch(False, {})
    assert (told["packets"], told["lost"], told["files"]) == (40, 0, ["a.pcapng"])
    assert len(list(read_capture(tmp_path / "a.pcapng"))) == 40
    with pytest.raises(EmulationError, match="none is on"):
        switch(False, {})


def test_a_recording_names_every_option_that_is_wrong(bench: Bench) -> None:
    with pytest.raises(ScenarioError) as refused:
        Recording(bench.runtime_dir)(True, {"file": "/etc/passwd", "at": "sideways", "keep": -1})
    assert [line.split(":")[1].strip() for line in refused.value.problems] == ["file", "at", "keep"]


def test_a_capture_has_the_simulated_time_of_a_bench_that_began_when_it_was_ready() -> None:
    """Its clock begins with the first packet's time, not with the bench's coming up."""
    with Bench(load_scenario("fixed"), start_utc_ns=1_700_000_000 * NS_PER_S) as one:
        relay = one.packet_loop
        assert isinstance(relay, Relay)
        now_ns = time.monotonic_ns()
        assert CapturedBench(one, relay).offset_ns() == one.utc_of_monotonic_ns(now_ns) - now_ns
