"""A bench over TAP devices: the same link, one layer lower."""

from __future__ import annotations

import socket
import subprocess
import threading
from pathlib import Path

import pytest

from emulator.bench import Bench
from emulator.bench.sides import Side
from emulator.errors import InterfaceError
from emulator.ports.namespace import Namespace
from emulator.ports.tap import TapPort
from emulator.scenario import load_scenario
from emulator.timeline.causes import Cause
from hil_tests.bench.living import until
from hil_tests.contract.carriers import know
from hil_tests.unit.link.test_conservation import adds_up

pytestmark = pytest.mark.needs("netns", "tun", "root", "compiled")
PATIENCE_S = 30
TRANSFER_BYTES = 500_000
UDP_SEGMENT = 103  # linux/udp.h


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path / "r"))


def bench_of(*overrides: str) -> Bench:
    keys = ["ports.kind=tap", "link.rate_mbps=0", "link.delay_ms=5", *overrides]
    return Bench(load_scenario("fixed", keys))


def said(side: Side, line: str) -> str:
    process = side.popen(["sh", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    return str(out)


@pytest.mark.needs("ping", "ip", "ipv6")
def test_neighbours_find_each_other_and_tcp_crosses_both_ways_over_both_ips() -> None:
    with bench_of() as bench:
        for target in (bench.datacenter.ipv4, bench.datacenter.ipv6):
            out = said(bench.terminal, f"ping -c 3 -i 0.1 {target}")
            assert " 0% packet loss" in out
            assert float(out.split("min/avg/max/mdev = ")[1].split("/")[0]) >= 10.0
        known = said(bench.terminal, "ip neigh show dev ut0")
        assert bench.datacenter.ipv4 in known
        assert bench.datacenter.ipv6 in known
        for sender, receiver in ((bench.terminal, bench.datacenter), (bench.datacenter, bench.terminal)):
            for family, address in ((socket.AF_INET, receiver.ipv4), (socket.AF_INET6, receiver.ipv6)):
                transfer(sender, receiver, family, address)
        until(lambda: not any(way.held_packets for way in (bench.counters().uplink, bench.counters().downlink)))
        counted = bench.counters()
        for way in (counted.uplink, counted.downlink):
            assert adds_up(way)
            assert way.dropped == {}
            assert way.offered_packets > 2 * TRANSFER_BYTES // 1448, "super-packets count as what they hold"


def transfer(sender: Side, receiver: Side, family: int, address: str) -> None:
    """TCP, with whatever super-packets the kernel makes: all of it arrives, and in order."""
    data = bytes(range(250)) * (TRANSFER_BYTES // 250)
    server, client = (
        side.namespace.run(lambda: socket.socket(family, socket.SOCK_STREAM)) for side in (receiver, sender)
    )
    with server, client:
        server.bind((address, 0))
        server.listen()
        client.settimeout(PATIENCE_S)
        server.settimeout(PATIENCE_S)
        client.connect(server.getsockname()[:2])
        connection, _ = server.accept()
        with connection:
            connection.settimeout(PATIENCE_S)
            sending = threading.Thread(target=client.sendall, args=(data,))
            sending.start()
            received = b""
            while len(received) < len(data):
                received += connection.recv(1 << 16) or pytest.fail("the connection ended early")
            sending.join()
    assert received == data


@pytest.mark.needs("uso", "ipv6")
def test_datagrams_sent_as_one_are_lost_one_by_one_and_arrive_sound() -> None:
    """UDP segmentation offload at layer 2, seen through: half of the packets are lost, none of the others is broken."""
    with bench_of("link.loss=0.5", "ports.ipv6_network=2001:2::/48") as bench:
        far = bench.datacenter.port
        assert isinstance(far, TapPort)
        for family, address in ((socket.AF_INET, bench.datacenter.ipv4), (socket.AF_INET6, bench.datacenter.ipv6)):
            know(bench.terminal.namespace, "ut0", address, far.mac.hex(":"))  # half of questions are lost
            datagrams_cross(bench, family, address)


def datagrams_cross(bench: Bench, family: int, address: str) -> None:
    """40 in one super-packet, half of them lost."""
    sender, receiver = (
        side.namespace.run(lambda: socket.socket(family, socket.SOCK_DGRAM))
        for side in (bench.terminal, bench.datacenter)
    )
    with sender, receiver:
        receiver.bind((address, 9))
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        payload = b"".join(bytes([number]) * 1000 for number in range(40))
        before = bench.counters().uplink
        sender.sendto(payload, (address, 9))
        until(lambda: bench.counters().uplink.offered_packets >= before.offered_packets + 40)
        until(lambda: bench.counters().uplink.held_packets == 0)
        after = bench.counters().uplink
        lost = after.dropped.get(Cause.LOSS, 0) - before.dropped.get(Cause.LOSS, 0)
        assert 5 < lost < 35
        receiver.setblocking(False)
        arrived = []
        while True:
            try:
                arrived.append(receiver.recv(2000))
            except BlockingIOError:
                break
        arrived = [one for one in arrived if len(one) == 1000]
        assert len(arrived) >= 40 - lost
        assert all(one == bytes([one[0]]) * 1000 for one in arrived)
        assert [one[0] for one in arrived] == sorted(one[0] for one in arrived)


def test_an_injected_packet_is_addressed_to_the_far_device() -> None:
    with bench_of() as bench:
        receiver = bench.datacenter.namespace.run(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        with receiver:
            receiver.settimeout(PATIENCE_S)
            receiver.bind((bench.datacenter.port.name, 0x0003))
            packet = b"\x45" + bytes([0, 0, 20]) + bytes(16)
            bench.inject("uplink", packet)
            frame = receiver.recv(100)
            while not frame.endswith(packet):
                frame = receiver.recv(100)
        near, far = bench.terminal.port, bench.datacenter.port
        assert isinstance(near, TapPort)
        assert isinstance(far, TapPort)
        assert frame[:14] == far.mac + near.mac + b"\x08\x00"


def test_the_device_has_an_ethernet_address_of_its_own() -> None:
    with Namespace.create() as space:
        port = TapPort(space, "tap0", mtu=1500, queue_packets=10)
        assert len(port.mac) == 6
        assert port.mac[0] & 1 == 0
        port.close()


def test_an_access_network_needs_tun() -> None:
    with pytest.raises(InterfaceError, match="an access network needs kind 'tun'"), bench_of("access.nat44=true"):
        pass
