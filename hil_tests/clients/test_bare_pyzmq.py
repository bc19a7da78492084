"""Programs that know nothing of Bentpipe but its published formats command a bench, and see what happens."""

from __future__ import annotations

import json
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

import emulator

HERE = Path(__file__).parent
pytestmark = pytest.mark.needs("tun", "netns")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[emulator.Bench]:
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path / "r"))
    with emulator.Bench("starlink_2025", start="2026-01-01T00:00:13Z") as bench:
        yield bench


def command(bench: emulator.Bench, verb: str, *packets: bytes, **values: Any) -> Any:
    program = [sys.executable, "-I", str(HERE / "bare_controller.py"), str(bench.runtime_dir / "control.ipc"), verb]
    done = subprocess.run(
        [*program, json.dumps(values), *(one.hex() for one in packets)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    reply = json.loads(done.stdout)
    assert done.returncode == (0 if reply["ok"] else 3)
    return reply


@contextmanager
def subscribed(bench: emulator.Bench, *topics: str) -> Iterator[IO[str]]:
    """The lines of a subscriber, once it has its snapshot."""
    program = [sys.executable, "-I", str(HERE / "bare_subscriber.py"), str(bench.runtime_dir / "telemetry.ipc")]
    with subprocess.Popen([*program, "snapshot", *topics], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            first = json.loads(process.stdout.readline())
            assert first["topic"] == "snapshot"
            assert first["data"]["state"]["satellite"] == bench.state().satellite
            assert set(first["data"]["sequences"]) >= {"state", "counters", "command"}
            yield process.stdout
        finally:
            process.kill()


def test_a_bare_controller_changes_the_link_and_a_bare_subscriber_sees_it(bench: emulator.Bench) -> None:
    with subscribed(bench, "outage", "command", "handover") as lines:
        what = {"duration_s": 0.5, "direction": "downlink", "cause": "obstruction"}
        answer = command(bench, "outage", at="+0.5", **what)["result"]
        told = [json.loads(lines.readline()) for _ in range(3)]
        assert [(one["topic"], one["missed"]) for one in told] == [("command", 0), ("outage", 0), ("outage", 0)]
        assert (told[0]["author"], told[0]["data"]["verb"], told[0]["data"]["number"]) == ("bare", "outage", 1)
        begins, ends = told[1], told[2]
        assert begins["monotonic_ns"] == answer["monotonic_ns"]
        assert ends["monotonic_ns"] == answer["monotonic_ns"] + 500_000_000
        assert begins["data"] == {"direction": "downlink", "cause": "OBSTRUCTION", "begins": True}
        assert ends["data"]["lasted_ns"] == 500_000_000
        before = bench.state().satellite
        done = command(bench, "handover")["result"]
        told = [json.loads(lines.readline()) for _ in range(2)]
        assert {one["topic"] for one in told} == {"command", "handover"}
        handover = next(one for one in told if one["topic"] == "handover")
        assert handover["monotonic_ns"] == done["monotonic_ns"]
        assert handover["data"]["from_satellite"] == before != handover["data"]["satellite"]


def test_the_world_may_stand_still_jump_and_go_on(bench: emulator.Bench) -> None:
    frozen = command(bench, "freeze")["result"]
    assert command(bench, "snapshot")["result"]["standing"]
    jumped = command(bench, "jump", to="+3600")["result"]
    assert jumped["to_utc_ns"] == frozen["utc_ns"] + 3600 * 10**9
    state = command(bench, "state")["result"]
    assert state["utc_ns"] == jumped["to_utc_ns"]
    assert command(bench, "resume")["result"]["utc_ns"] == jumped["to_utc_ns"]
    planned = command(bench, "plan", duration_s=60)["result"]
    assert len(planned["slot"]) == 4
    late = command(bench, "mark", text="x", at="2026-01-01T00:00:00Z")["result"]
    assert late["late_ns"] > 13 * 10**9  # of the packets' clock: the bench began 13 s after that UTC
    assert not late["scheduled"]


def test_a_bare_injector_is_heard_at_the_far_side(bench: emulator.Bench) -> None:
    """An unmodified socket gets the datagram; the link has counted it as any other."""
    text = b"bare"
    side = bench.datacenter
    with side.namespace.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as receiver:
        receiver.settimeout(60)
        receiver.bind((side.ipv4, 0))
        udp = struct.pack(">HHHH", 4000, receiver.getsockname()[1], 8 + len(text), 0) + text
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0)
        head += socket.inet_aton(bench.terminal.ipv4) + socket.inet_aton(side.ipv4)
        total = sum(struct.unpack(">10H", head))
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        before = bench.counters().uplink.offered_packets
        packet = head[:10] + checksum.to_bytes(2, "big") + head[12:] + udp
        for _ in range(50):  # this link loses a packet now and then
            told = command(bench, "inject", packet, direction="uplink")["result"]
            assert (told["packets"], told["bytes"]) == (1, len(packet))
            if select.select([receiver], [], [], 1)[0]:
                break
        assert receiver.recvfrom(100) == (text, (bench.terminal.ipv4, 4000))
        assert bench.counters().uplink.offered_packets > before
    assert command(bench, "inject", b"x", direction="uplink")["error"].startswith("inject: packets")


def test_what_is_wrong_is_told(bench: emulator.Bench) -> None:
    assert command(bench, "fade", fade_db=-1)["error"].startswith("fade: fade_db: ")
    assert command(bench, "pin", satellite="SPUTNIK")["kind"] == "EmulationError"
    assert command(bench, "stop", at="yesterday")["error"].startswith("stop: expected a UTC time")
    assert command(bench, "reboot")["kind"] == "MessageError"
    assert command(bench, "capture", switch="off")["error"] == "capture: none is on"
    assert bench.counters().relay.starved == 0
