"""`bentpipe inject` into a real bench: the packet crosses the link, and a real socket gets it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from emulator.bench import Bench
from emulator.bench.sides import Side
from emulator.control.client import ControlClient
from emulator.control.messages import SOCKET_NAME
from emulator.control.server import ControlServer
from emulator.scenario import load_scenario

ROOT = Path(__file__).parents[2]
RECEIVER = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as receiver:
    receiver.bind((sys.argv[1], 9))
    print("ready", flush=True)
    for _ in range(int(sys.argv[2])):
        data, source = receiver.recvfrom(2000)
        print(data.decode(), source[0], source[1], flush=True)
"""

pytestmark = pytest.mark.needs("tun", "netns")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path / "r"))
    scenario = load_scenario("fixed", ["link.delay_ms=1", "link.rate_mbps=0"])
    with Bench(scenario) as bench, ControlServer(bench, bench.runtime_dir / SOCKET_NAME):
        yield bench


@contextmanager
def receiving(side: Side, address: str, count: int) -> Iterator[IO[str]]:
    """The lines of a process at `side` that receives `count` datagrams at port 9, from when it can."""
    receiver = side.popen([sys.executable, "-c", RECEIVER, address, str(count)], stdout=subprocess.PIPE, text=True)
    assert receiver.stdout is not None
    with receiver.stdout as lines:
        assert lines.readline() == "ready\n"
        yield lines
    assert receiver.wait() == 0


def inject(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "emulator.cli.main", "inject", *arguments],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
    )


def delivered(bench: Bench, direction: str) -> int:
    return int(getattr(bench.counters(), direction).delivered_packets)


def test_an_injected_datagram_arrives_as_if_the_terminal_had_sent_it(bench: Bench) -> None:
    with receiving(bench.datacenter, bench.datacenter.ipv4, 3) as lines:
        sent = inject("--count", "3", "--json", "IP(dst=datacenter)/UDP(sport=4000, dport=9)/b'hello'")
        assert sent.stderr == ""
        assert json.loads(sent.stdout)["packets"] == 3
        assert [lines.readline() for _ in range(3)] == [f"hello {bench.terminal.ipv4} 4000\n"] * 3
    assert delivered(bench, "uplink") >= 3


@pytest.mark.needs("ipv6")
def test_an_injected_ipv6_datagram_goes_down_as_well(bench: Bench) -> None:
    with receiving(bench.terminal, bench.terminal.ipv6, 1) as lines:
        assert inject("--at", "downlink", "IPv6()/UDP(sport=4000, dport=9)/b'six'").returncode == 0
        assert lines.readline() == f"six {bench.datacenter.ipv6} 4000\n"


def test_what_was_injected_is_in_the_counters_and_adds_up(bench: Bench) -> None:
    with ControlClient.find() as client:
        assert client.state()["uplink"]["gate"] == "PASS"
        before = client.counters()["uplink"]["offered_packets"]
        assert inject("--count", "1000", "IP(dst=datacenter, proto=253)").returncode == 0
        uplink = client.counters()["uplink"]
        while uplink["offered_packets"] < before + 1000:  # the test's own time limit ends it
            uplink = client.counters()["uplink"]
        assert uplink["offered_packets"] == (
            uplink["delivered_packets"] + uplink["held_packets"] + sum(uplink["dropped"].values())
        )


def test_a_packet_injected_behind_the_link_arrives_and_is_not_counted(bench: Bench) -> None:
    before = bench.counters().downlink.offered_packets
    with receiving(bench.terminal, bench.terminal.ipv4, 1) as lines:
        sent = inject("--at", "downlink", "--place", "after", "IP(dst=terminal)/UDP(sport=53, dport=9)/b'lie'")
        assert sent.returncode == 0, sent.stderr
        assert lines.readline() == f"lie {bench.datacenter.ipv4} 53\n"
    assert bench.counters().downlink.offered_packets == before
