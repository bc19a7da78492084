"""The baseline of `bentpipe bench`: a kernel that routes, with offloads on or off, and nothing of it is left."""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path

import pytest

from emulator.testing.performance.baselines import (
    GET_AND_SET,
    SERVER,
    KernelForwarding,
    _ethtool,
    fill_super_packets,
    pin_congestion,
    widen_tcp_buffers,
)
from emulator.testing.performance.loads import Window, many, tcp, udp

pytestmark = pytest.mark.needs("netns")

BUFFER_BYTES = 123_456_789


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def read_offloads(interface: str) -> dict[str, int]:
    return {name: _ethtool(interface, get, 0) for name, (get, _) in GET_AND_SET.items()}


@pytest.mark.parametrize("offloads", [True, False])
def test_packets_are_routed_and_every_one_is_counted(offloads: bool) -> None:
    before = descriptors()
    with KernelForwarding(offloads=offloads) as route:
        flood = udp(route.client, route.server, packets_per_s=2000, seconds=0.2, window=Window())
    assert flood.sent + flood.left_out == 400
    assert flood.sent == flood.received + flood.no_room + flood.lost
    assert flood.lost == 0
    assert descriptors() == before


@pytest.mark.parametrize("offloads", [True, False])
def test_offloads_are_what_was_asked_for(offloads: bool) -> None:
    with KernelForwarding(offloads=offloads) as route:
        for station, interface in ((route.client, "client"), (route.server, "server")):
            found = station.namespace.run(partial(read_offloads, interface))
            assert found["tso"] == found["gso"] == int(offloads)
            if not offloads:
                assert found["gro"] == 0


def test_tcp_buffers_grow_in_the_namespace_and_nowhere_else() -> None:
    setting = Path("/proc/sys/net/ipv4/tcp_rmem")
    here = setting.read_text()
    with KernelForwarding(offloads=True) as route:
        assert widen_tcp_buffers(route.server.namespace, BUFFER_BYTES) is None
        assert route.server.namespace.run(lambda: setting.read_text().split()[-1]) == str(BUFFER_BYTES)
        assert setting.read_text() == here


def test_the_congestion_control_is_pinned_before_a_connection_begins() -> None:
    with KernelForwarding(offloads=True) as route:
        here, there = route.client.namespace, route.server.namespace
        assert "nosuch" in (pin_congestion(here, "nosuch") or "")
        assert pin_congestion(here, "reno") is None
        listening = there.run(lambda: socket.create_server((SERVER, 0)))
        with listening, here.run(lambda: socket.create_connection(listening.getsockname())) as begun:
            assert begun.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == b"reno"


@pytest.mark.parametrize("tool", ["own", pytest.param("iperf3", marks=pytest.mark.needs("iperf3"))])
def test_both_senders_carry_tcp_with_the_pinned_congestion_control(tool: str) -> None:
    looked: list[str] = []
    window = Window(lambda: looked.append("begin"), lambda: looked.append("end"))
    with KernelForwarding(offloads=True) as route:
        carried = tcp(
            "own" if tool == "own" else "iperf3", route.client, route.server, ramp_s=1.0, seconds=1.0, window=window
        )
    assert carried.goodput_bps > 0
    assert carried.congestion == "cubic"
    assert looked == ["begin", "end"]


def test_a_hundred_connections_are_one_load() -> None:
    with KernelForwarding(offloads=True) as route:
        carried = many(
            route.client, route.server, flows=100, ramp_s=0.3, seconds=0.3, window=Window(), congestion="reno"
        )
    assert carried.goodput_bps > 0
    assert carried.congestion == "reno"


def test_super_packets_are_filled_in_the_namespace_and_nowhere_else() -> None:
    setting = Path("/proc/sys/net/ipv4/tcp_tso_rtt_log")
    if not setting.exists():  # Linux before 5.18 has it not, and does not need it
        return
    here = setting.read_text()
    with KernelForwarding(offloads=True) as route:
        fill_super_packets(route.client.namespace)
        assert route.client.namespace.run(setting.read_text) == "31\n"
        assert setting.read_text() == here
