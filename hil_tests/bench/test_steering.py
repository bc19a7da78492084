"""A live bench whose time jumps, stands and goes on, while real packets cross it: none is lost, none overtakes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import emulator
from emulator.timeline.causes import Cause
from emulator.units import NS_PER_S, format_utc
from hil_tests.bench.living import until

pytestmark = pytest.mark.needs("tun", "netns")

PACKETS = 2000
UNDER_WAY = 80  # at most: so many the receiver's socket holds, however late it looks
SENDER = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.connect((sys.argv[1], 9))
    for number in range(int(sys.argv[2])):
        sys.stdin.buffer.read(1)
        sender.send(number.to_bytes(4, "big"))
        time.sleep(0.0005)
"""
RECEIVER = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
    receiver.bind((sys.argv[1], 9))
    receiver.settimeout(60)
    print("ready", flush=True)
    for _ in range(int(sys.argv[2])):
        print(int.from_bytes(receiver.recv(100), "big"), flush=True)
"""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[emulator.Bench]:
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path / "r"))
    calm = ["link.outages.per_hour=0", "link.handover.drop_ms=0", "link.uplink.loss=0", "link.downlink.loss=0"]
    calm += ["link.uplink.bursts.loss=0", "link.downlink.bursts.loss=0", "link.uplink.queue_ms=10000"]
    calm += [f"link.uplink.queue_packets={PACKETS}"]
    with emulator.Bench("starlink_2025", start="2026-01-01T00:00:13Z", overrides=calm) as bench:
        yield bench


def test_the_packets_clock_goes_on_whatever_the_worlds_does(bench: emulator.Bench) -> None:
    near = bench.terminal.popen(
        [sys.executable, "-c", SENDER, bench.datacenter.ipv4, str(PACKETS)], stdin=subprocess.PIPE
    )
    far = bench.datacenter.popen(
        [sys.executable, "-c", RECEIVER, bench.datacenter.ipv4, str(PACKETS)], stdout=subprocess.PIPE, text=True
    )
    assert near.stdin is not None
    assert far.stdout is not None
    got: list[int] = []
    with near.stdin as allowed, far.stdout as lines:

        def receive(count: int) -> None:
            """For each packet that has come another one may go."""
            for _ in range(count):
                got.append(int(lines.readline()))
                if len(got) + UNDER_WAY <= PACKETS:
                    allow(1)

        def allow(count: int) -> None:
            allowed.write(bytes(count))
            allowed.flush()

        assert lines.readline() == "ready\n"
        allow(UNDER_WAY)
        receive(100)
        bench.jump("+86400")
        receive(100)
        bench.freeze()
        receive(100)
        bench.jump("-172800")
        bench.handover()
        bench.pin(bench.state().satellite)  # while its slot lasts: in the next it may be too low
        receive(100)
        bench.unpin()
        bench.resume()
        receive(100)
        bench.jump("next-slot", before_s=0.1)
        receive(PACKETS - len(got))
    counters = bench.counters()
    assert counters.uplink.dropped == {}
    assert got == list(range(PACKETS))
    assert counters.relay.starved == 0


def test_a_gate_is_shut_exactly_for_the_packets_of_its_time(bench: emulator.Bench) -> None:
    """Injected packets are served as they come: those before the instant pass, those after it are lost."""
    packet = bytes.fromhex("4500001c000100004011") + bytes(18)
    for _ in range(10):
        bench.inject("downlink", packet)
    until(lambda: bench.counters().downlink.offered_packets == 10)
    done = bench.outage(3600, direction="downlink", cause="obstruction")
    until(lambda: bench.running.monotonic_ns() > done["monotonic_ns"])
    for _ in range(7):
        bench.inject("downlink", packet)
    until(lambda: bench.counters().downlink.offered_packets == 17)
    until(lambda: not bench.counters().downlink.held_packets)
    counters = bench.counters().downlink
    assert counters.dropped == {Cause.OBSTRUCTION: 7}
    assert counters.delivered_packets == 10


def test_a_plan_that_is_asked_for_is_what_the_link_does(bench: emulator.Bench) -> None:
    planned = bench.plan(30.0)
    bench.freeze()
    for row in planned["uplink"][1:10]:
        second_ns = row["utc_ns"] // NS_PER_S * NS_PER_S
        window = bench.running.windows.window(second_ns, second_ns + NS_PER_S)
        assert window.uplink.at(row["utc_ns"]).delay_ns == row["delay_ns"]
    bench.jump(format_utc(planned["uplink"][3]["utc_ns"], 9))
    until(lambda: bench.running.utc_ns() == planned["uplink"][3]["utc_ns"])
    assert bench.state().uplink.delay_ns == planned["uplink"][3]["delay_ns"]
    assert bench.state().uplink.rate_bps == planned["uplink"][3]["rate_bps"]
