"""Server and client over a real socket: between processes, with peers that misbehave, with nobody there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from emulator.control.client import ControlClient, choose
from emulator.control.messages import MAX_MESSAGE_BYTES, decode
from emulator.control.server import ControlServer
from emulator.errors import BenchNotFoundError, EmulationError, EndpointError, ScenarioError
from hil_tests.unit.control.small_bench import UTC_NS, SmallBench

ROOT = Path(__file__).parents[3]
PACKET = bytes([0x45]) + bytes(27)


@pytest.fixture
def place() -> Iterator[Path]:
    """A path short enough for a socket, wherever pytest keeps its own."""
    with tempfile.TemporaryDirectory(prefix="bp-") as directory:
        yield Path(directory) / "control.ipc"


def test_a_client_gets_what_the_bench_says(place: Path) -> None:
    bench = SmallBench()
    with ControlServer(bench, place), ControlClient(place) as client:
        assert client.state()["satellite"] == "STARLINK-1234"
        assert client.counters()["dropped"] == {"QUEUE": 3, "LOSS": 0}
        assert client.addresses().terminal6 == "2001:2::2"
        assert client.inject("downlink", [PACKET, PACKET])["packets"] == 2
        assert client.overlay({"kind": "outage", "at_s": 0, "duration_s": 1})["utc_ns"] > UTC_NS
    assert bench.injected == [("downlink", PACKET)] * 2
    assert not place.exists()


def test_it_works_between_processes(place: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from emulator.control.client import ControlClient\n"
        "with ControlClient(Path(sys.argv[1])) as client: print(client.state()['satellite'])"
    )
    with ControlServer(SmallBench(), place):
        child = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, str(place)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (child.returncode, child.stdout, child.stderr) == (0, "STARLINK-1234\n", "")


def test_several_clients_are_answered_each_its_own(place: Path) -> None:
    bench = SmallBench()
    with ControlServer(bench, place):

        def ask() -> None:
            with ControlClient(place) as client:
                for _ in range(50):
                    assert client.inject("uplink", [PACKET])["packets"] == 1

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(bench.injected) == 200


def test_garbage_gets_an_error_and_the_next_request_its_answer(place: Path) -> None:
    with ControlServer(SmallBench(), place), zmq.Context() as context, context.socket(zmq.DEALER) as rude:
        rude.setsockopt(zmq.LINGER, 0)
        rude.connect(f"ipc://{place}")
        for frames in ([b"", b"garbage"], [b"", b""], [b"", b"one", b"two"], [b"", b"\xff" * 1000], [b"no envelope"]):
            rude.send_multipart(frames)
            assert rude.poll(5000)
            assert decode(rude.recv_multipart()[-1])["ok"] is False
            with ControlClient(place) as client:
                assert client.state()["utc_ns"] == UTC_NS
        rude.send_multipart([b""] * 20)
        rude.send_multipart([b"", b"\x00" * (MAX_MESSAGE_BYTES + 1)])  # ends this peer's connection
        with ControlClient(place) as client:
            assert client.state()["utc_ns"] == UTC_NS


def test_an_error_arrives_as_the_class_that_the_bench_raised(place: Path) -> None:
    bench = SmallBench()
    bench.failing = True
    with ControlServer(bench, place), ControlClient(place) as client:
        with pytest.raises(ScenarioError, match=r"overlay: event.kind: .*\noverlay: event.duration_s: "):
            client.request("overlay", event={"kind": "rain", "at_s": 0, "duration_s": 0})
        with pytest.raises(EmulationError, match="the packet loop has ended"):
            client.inject("uplink", [PACKET])
        with pytest.raises(EmulationError, match="verb: expected one of"):
            client.request("reboot")
        with pytest.raises(EmulationError, match="expected a request of at most"):
            client.inject("uplink", [bytes(65_000)] * 20)


def test_a_late_answer_is_not_taken_for_the_next(place: Path) -> None:
    bench = SmallBench()
    with ControlServer(bench, place), ControlClient(place, time_limit_s=0.2) as client:
        bench.gate.clear()
        with pytest.raises(EmulationError, match="did not answer 'state' within 200 ms"):
            client.state()
        bench.gate.set()
        with ControlClient(place) as other:  # answered after the late one was
            other.addresses()
        assert client.addresses().terminal == "198.18.0.2"


def test_stop_is_answered_although_the_server_ends(place: Path) -> None:
    asked = threading.Event()
    server = ControlServer(SmallBench(), place, on_stop=asked.set).start()
    with ControlClient(place) as client:

        def end() -> None:
            asked.wait(30)
            server.stop()

        ending = threading.Thread(target=end)
        ending.start()
        client.stop()
        ending.join()
    assert not place.exists()
    server.stop()


def test_a_peer_that_goes_away_at_once_costs_nobody_an_answer(place: Path) -> None:
    with ControlServer(SmallBench(), place), zmq.Context() as context, ControlClient(place) as client:
        for number in range(50):
            with context.socket(zmq.DEALER) as rude:
                rude.setsockopt(zmq.LINGER, 0 if number % 2 else 1000)
                rude.connect(f"ipc://{place}")
                rude.send_multipart([b"no envelope"] if number % 3 else [b"", b"\x00" * (MAX_MESSAGE_BYTES + 1)])
            assert client.state()["utc_ns"] == UTC_NS


def test_nobody_there_is_told_at_once(place: Path) -> None:
    began = time.monotonic()
    with pytest.raises(BenchNotFoundError, match="no bench answers at this control socket"):
        ControlClient(place, time_limit_s=600)
    code = (
        "import os, sys; from pathlib import Path; from hil_tests.unit.control.small_bench import SmallBench\n"
        "from emulator.control.server import ControlServer\n"
        "server = ControlServer(SmallBench(), Path(sys.argv[1])).start(); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(place)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert place.exists()
    with pytest.raises(BenchNotFoundError, match="no bench answers at this control socket"):
        ControlClient(place, time_limit_s=600)
    assert time.monotonic() - began < 500  # it did not wait for an answer
    with ControlServer(SmallBench(), place), ControlClient(place) as client:  # a socket of the dead is no obstacle
        assert client.state()["utc_ns"] == UTC_NS


def test_a_path_that_is_too_long_is_refused_at_both_ends(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 108)
    with pytest.raises(EndpointError, match="expected a socket path of at most 107 bytes"):
        ControlServer(SmallBench(), long).start()
    with pytest.raises(BenchNotFoundError, match="expected a socket path of at most 107 bytes"):
        ControlClient(long)


def test_a_place_that_cannot_be_written_is_named() -> None:
    with pytest.raises(EndpointError, match=r"^/nonexistent/control\.ipc: cannot make the control socket"):
        ControlServer(SmallBench(), Path("/nonexistent/control.ipc")).start()


def test_the_socket_belongs_to_this_user_alone(place: Path) -> None:
    with ControlServer(SmallBench(), place):
        assert place.stat().st_mode & 0o077 == 0


def test_a_server_leaves_no_descriptor_open(place: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for _ in range(3):
        with ControlServer(SmallBench(), place), ControlClient(place) as client:
            client.state()
    assert descriptors() == before


def make_bench(directory: Path, pid: int, scenario: str) -> Path:
    directory.mkdir()
    (directory / "bench.json").write_text(json.dumps({"pid": pid, "scenario": scenario}))
    return directory


def test_the_one_running_bench_is_taken(tmp_path: Path) -> None:
    one = make_bench(tmp_path / "one", 11, "fixed")
    (tmp_path / "starting").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "bench.json").write_text("{")
    assert choose(tmp_path.iterdir()) == one


def test_of_several_benches_one_must_be_named(tmp_path: Path) -> None:
    benches = [make_bench(tmp_path / "a", 11, "fixed"), make_bench(tmp_path / "b", 22, "starlink_2025")]
    with pytest.raises(BenchNotFoundError, match=r"more than one .* --bench PID: 11 \(fixed\), 22 \(starlink_2025\)$"):
        choose(benches)
    assert choose(benches, 22) == benches[1]
    with pytest.raises(BenchNotFoundError, match=r"no running bench has .* 33, these run: 11 \(fixed\), 22"):
        choose(benches, 33)


@pytest.mark.parametrize("pid", [None, 11])
def test_no_bench_is_told_with_how_to_start_one(pid: int | None) -> None:
    with pytest.raises(BenchNotFoundError, match="no bench is running: start one with `bentpipe run`"):
        choose([], pid)
