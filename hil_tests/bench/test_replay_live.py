"""`replay` equals live: what arrived at a bench, sent through virtual time at its stamps, fares the same."""

from __future__ import annotations

import io
import ipaddress
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from emulator.bench import Bench
from emulator.bench.captures import serving_captures
from emulator.bench.fabrics import Fabric
from emulator.scenario import Scenario, load_scenario
from emulator.taps.consumer import CaptureStream, blocks, packet_of
from emulator.taps.replay import replay
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Cause
from emulator.timeline.model import Windows
from hil_tests.bench.living import until
from hil_tests.bench.wires import inline, wires
from hil_tests.unit.link.packets import filler, packet
from hil_tests.unit.link.test_ethernet import ETHERTYPE, MACS

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
    "link.uplink.rate_mbps=4",  # less than a sender has that must wait for a processor
    "link.uplink.queue_packets=60",
    "link.uplink.queue_discipline='drop_front'",
    "link.downlink.rate_mbps=50",
    "link.downlink.queue_discipline='fq_codel'",
    "classes=[{name='small', ports=['5000']}, {name='rest', protocols=['tcp'], queue_discipline='codel'}]",
)
OVERLAY = ", ".join(f"{{kind='extra_delay', at_s={n / 5}, duration_s=0.1, extra_delay_ms=9}}" for n in range(200))
TAP = (*FIXED, "ports.kind=tap", f"overlay=[{OVERLAY}]")
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
        ("fixed", TAP, "direct"),
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
        terminals = [ipaddress.ip_address(bench.terminal.ipv4)]
        with CaptureStream(bench.runtime_dir, directions=("uplink", "downlink"), places=("before",)) as stream:
            source = iter(stream)
            pieces = [next(source)]
            before: Any = bench.counters()  # over TAP, the kernel's own questions have begun before any capture
            traffic(bench)
            until(lambda: settled(bench))
            stream.stop()
            pieces += source
        counters: Any = bench.counters()
    assert stream.lost == 0
    live = fates(b"".join(pieces))
    for direction, packets in live.items():
        counted, earlier = getattr(counters, direction), getattr(before, direction)
        assert counted.offered_packets > earlier.offered_packets
        dropped = sum("dropped" in fate for _, fate in packets)
        assert 0 <= counted.offered_packets - len(packets) <= earlier.offered_packets  # came before the capture
        assert 0 <= counted.dropped_packets - dropped <= earlier.dropped_packets
        if scenario.ports.kind == "tun":
            assert earlier.offered_packets == 0
    assert {fate for _, fate in live["uplink"] if "dropped" in fate} >= (
        {"dropped: loss", "dropped: queue"} if name == "fixed" else {"dropped: loss"}
    )
    assert replayed(scenario, windows, tmp_path, b"".join(pieces), terminals) == live_counts(live)


def live_counts(live: dict[str, list[tuple[bytes, str]]]) -> dict[str, Counter[tuple[bytes, str]]]:
    return {direction: Counter(packets) for direction, packets in live.items()}


def replayed(
    scenario: Scenario, windows: Windows, folder: Path, capture: bytes, terminals: Sequence[Any] = ()
) -> dict[str, Counter[tuple[bytes, str]]]:
    """How often each packet has each fate in a replay of the capture."""
    recorded, out = folder / "live.pcapng", io.BytesIO()
    recorded.write_bytes(capture)
    counters = replay(scenario, windows, recorded, out, terminals=terminals)
    assert counters.notes == ()
    return live_counts(fates(out.getvalue()))


@pytest.mark.needs("root", "netns", "compiled", "ip")
def test_each_frame_between_two_cards_fares_the_same_in_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not IP takes part, and what is too long for the cards."""
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path / "r"))
    keys = ("link.rate_mbps=2", "link.loss=0.2", "link.jitter_ms=3", "ports.mtu=1400", f"overlay=[{OVERLAY}]")
    with wires(addresses=False) as found, inline(found, *keys, start_utc_ns=START_UTC_NS) as bench:
        scenario = bench.scenario
        with (
            serving_captures(bench),
            found.terminal.raw() as here,
            found.datacenter.raw() as there,
            CaptureStream(bench.runtime_dir, directions=("uplink", "downlink"), places=("before",)) as stream,
        ):
            source = iter(stream)
            pieces = [next(source)]
            for number in range(60):
                for port in (here, there):
                    port.send(MACS + b"\x08\x06" + filler(28, number))
                    port.send(MACS + ETHERTYPE[4] + packet(100 + 23 * number, number))
            until(lambda: bench.counters().uplink.offered_packets >= 120 and settled(bench))
            until(lambda: bench.counters().downlink.offered_packets >= 120 and settled(bench))
            stream.stop()
            pieces += source
        assert bench.counters().uplink.dropped[Cause.TOO_LONG] > 0
    assert stream.lost == 0
    live = fates(b"".join(pieces))
    assert [len(packets) for packets in live.values()] == [120, 120]
    windows = windows_for(scenario, epoch_utc_ns=START_UTC_NS)
    assert replayed(scenario, windows, tmp_path, b"".join(pieces)) == live_counts(live)
