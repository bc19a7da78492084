"""`replay` equals live: what arrived at a bench, sent through virtual time at its stamps, fares the same."""

from __future__ import annotations

import io
import ipaddress
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from emulator.bench import Bench
from emulator.bench.captures import serving_captures
from emulator.bench.fabrics import Fabric
from emulator.scenario import load_scenario
from emulator.taps.consumer import CaptureStream, blocks, packet_of
from emulator.taps.replay import replay
from emulator.timeline.build import windows_for
from hil_tests.bench.living import until

START_UTC_NS = 1_767_225_612_000_000_000  # 2026-01-01T00:00:12Z, where a slot of Starlink begins
FIXED = (
    "link.delay_ms=20",
    "link.jitter_ms=3",
    "link.loss=0.02",
    "link.bursts.every_s=0.2",
    "link.bursts.length_ms=10",
    "link.frame_ms=1.333",
    "link.reorder.share=0.05",
    "link.reorder.late_ms=4",
    "link.uplink.rate_mbps=20",
    "link.uplink.queue_packets=60",
    "link.uplink.queue_discipline='drop_front'",
    "link.downlink.rate_mbps=50",
    "link.downlink.queue_discipline='fq_codel'",
    "classes=[{name='small', ports=['5000']}, {name='rest', protocols=['tcp'], queue_discipline='codel'}]",
)
UP = """
import socket, sys, time
with socket.socket(type=socket.SOCK_DGRAM) as large, socket.socket(type=socket.SOCK_DGRAM) as small:
    for burst in range(20):
        for number in range(60):
            large.sendto(number.to_bytes(4) + bytes(1200), (sys.argv[1], 9))
            small.sendto(number.to_bytes(4) + bytes(40), (sys.argv[1], 5000))
        time.sleep(0.01)
"""
SERVE = """
import socket
with socket.create_server(("", 7001)) as server:
    print("ready", flush=True)
    peer, _ = server.accept()
    with peer:
        peer.sendall(bytes(600_000))
"""
FETCH = """
import socket, sys
with socket.create_connection((sys.argv[1], 7001), timeout=30) as peer:
    total = 0
    while piece := peer.recv(1 << 16):
        total += len(piece)
assert total == 600_000, total
"""
FATE = re.compile(r"(uplink|downlink), (delivered after [\d.]+ ms|dropped: \w+)")


def fates(capture: bytes) -> dict[str, list[tuple[bytes, str]]]:
    """By direction: each packet, its number at first where the capture has it, and what became of it."""
    found: dict[str, list[tuple[bytes, str]]] = {"uplink": [], "downlink": []}
    for block in blocks(capture):
        packet = packet_of(block)
        if packet is not None:
            at = 28 + (len(packet) + 3) // 4 * 4
            length = int.from_bytes(block[at + 2 : at + 4], "little")
            told = FATE.match(block[at + 4 : at + 4 + length].decode())
            assert told is not None
            found[told[1]].append((packet, told[2]))
    return found


def settled(bench: Bench) -> bool:
    counters = bench.counters()
    return counters.uplink.held_packets == counters.downlink.held_packets == 0


def traffic(bench: Bench) -> None:
    """More than the uplink can carry, and a transfer down beside it."""
    python = [sys.executable, "-c"]
    server = bench.datacenter.popen([*python, SERVE], stdout=-1, text=True)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    client = bench.terminal.popen([*python, FETCH, bench.datacenter.ipv4])
    flood = bench.terminal.popen([*python, UP, bench.datacenter.ipv4])
    assert [flood.wait(60), client.wait(60), server.wait(60)] == [0, 0, 0]
    server.stdout.close()


@pytest.mark.needs("tun", "netns", "compiled")
@pytest.mark.parametrize(
    ("name", "settings", "fabric"),
    [
        ("fixed", FIXED, "direct"),
        pytest.param("fixed", FIXED, "zmq", marks=pytest.mark.long),
        pytest.param("starlink_2025", ("link.uplink.loss=0.02",), "direct", marks=pytest.mark.long),
    ],
)
def test_each_packet_of_a_live_bench_fares_the_same_in_a_replay(
    tmp_path: Path, name: str, settings: tuple[str, ...], fabric: Fabric
) -> None:
    scenario = load_scenario(name, list(settings))
    windows = windows_for(scenario, epoch_utc_ns=START_UTC_NS)
    with Bench(scenario, start_utc_ns=START_UTC_NS, fabric=fabric) as bench, serving_captures(bench):
        assert bench.counters().uplink.offered_packets == bench.counters().downlink.offered_packets == 0
        terminals = [ipaddress.ip_address(bench.terminal.ipv4)]
        with CaptureStream(bench.runtime_dir, directions=("uplink", "downlink"), places=("before",)) as stream:
            source = iter(stream)
            pieces = [next(source)]
            traffic(bench)
            until(lambda: settled(bench))
            stream.stop()
            pieces += source
        counters: Any = bench.counters()
        assert stream.lost == 0
    live = fates(b"".join(pieces))
    for direction, packets in live.items():
        assert len(packets) == getattr(counters, direction).offered_packets
        assert sum("dropped" in fate for _, fate in packets) == getattr(counters, direction).dropped_packets
    assert {fate for _, fate in live["uplink"] if "dropped" in fate} >= (
        {"dropped: loss", "dropped: queue"} if name == "fixed" else {"dropped: loss"}
    )
    recorded, out = tmp_path / "live.pcapng", io.BytesIO()
    recorded.write_bytes(b"".join(pieces))
    replay(scenario, windows, recorded, out, terminals=terminals)
    again = fates(out.getvalue())
    for direction, packets in live.items():
        assert Counter(again[direction]) == Counter(packets)
