"""`bentpipe run` as a process: its last words, what stops it, and where its packets may not go."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from emulator.control.client import ControlClient
from emulator.ports.namespace import Namespace
from hil_tests.bench.living import PATIENCE_S, World, children, finished, new_world, until

pytestmark = pytest.mark.needs("netns", "tun", "compiled")
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD  # linux/if_ether.h
SO_TIMESTAMPNS = 35  # asm-generic/socket.h
STOPPED_S = 0.4


@pytest.fixture
def world() -> Iterator[World]:
    with new_world() as one:
        yield one


def ignore_interrupts() -> None:
    """As sh does for what it starts with `&`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def running(world: World, *options: str, **more: Any) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """A bench that carries packets, and what it says of itself."""
    process = world.bentpipe("run", "fixed", "--quiet", "--json", *options, **more)
    assert process.stderr is not None
    while "bentpipe enter" not in (said := process.stderr.readline()):
        assert said, f"ended with status {process.wait()}"
    return process, json.loads(next(world.runtime.glob("*/bench.json")).read_text())


def family(pid: int) -> list[int]:
    """A process and what it has started."""
    return [pid, *(one for child in children(pid) for one in family(child))]


@contextlib.contextmanager
def stopped(process: subprocess.Popen[str]) -> Iterator[None]:
    """Within this, and for STOPPED_S, nobody of its family runs: over ZeroMQ it is the link's end that looks."""
    everybody = family(process.pid)
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: all("State:\tT" in Path(f"/proc/{pid}/status").read_text() for pid in everybody))
    try:
        yield
        begun = time.monotonic()
        until(lambda: time.monotonic() > begun + STOPPED_S)
    finally:
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def at_the_terminal(facts: dict[str, Any]) -> Iterator[Namespace]:
    with Namespace(os.open(facts["namespaces"]["terminal"], os.O_RDONLY)) as terminal:
        yield terminal


def send(address: str, count: int = 1, payload: bytes = b"hello") -> Callable[[], None]:
    def work() -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            for _ in range(count):
                sender.sendto(payload, (address, 9))

    return work


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 0)], ids=str
)
def test_its_counters_are_its_last_words_whatever_ends_it(world: World, number: signal.Signals, status: int) -> None:
    process, _ = running(world, preexec_fn=ignore_interrupts)
    process.send_signal(number)
    done = finished(process)
    assert (done.returncode, json.loads(done.stdout)["scenario"]) == (status, "fixed"), done.stderr
    assert world.leftovers() == []


@pytest.mark.needs("root")
@pytest.mark.parametrize("fabric", ["direct", "zmq"])
def test_the_time_for_which_nobody_looked_is_told(world: World, fabric: str) -> None:
    process, facts = running(world, "--fabric", fabric, "--set", "link.delay_ms=1", "--set", "ports.arrival=loop")
    with at_the_terminal(facts) as terminal, stopped(process):
        terminal.run(send(facts["datacenter_ipv4"]))
    with ControlClient(next(world.runtime.glob("*/control.ipc"))) as client:
        until(lambda: client.counters()["uplink"]["offered_packets"] >= 1)
    process.send_signal(signal.SIGTERM)
    told = json.loads(finished(process).stdout)
    assert told["uplink"]["offered_packets"] >= 1
    assert told["ingress_wait_worst_us"] >= STOPPED_S * 1e6


@pytest.mark.needs("root", "bpf")
@pytest.mark.parametrize("fabric", ["direct", "zmq"])
def test_what_came_while_nobody_looked_stays_no_longer_than_its_delay(world: World, fabric: str) -> None:
    """The kernel has noted when it came: a bench that stood still for less than the delay delays nothing."""
    process, facts = running(world, "--fabric", fabric, "--set", "link.delay_ms=1000")
    datacenter = Namespace(os.open(facts["namespaces"]["datacenter"], os.O_RDONLY))
    with datacenter, datacenter.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        receiver.settimeout(PATIENCE_S)
        receiver.bind((facts["datacenter_ipv4"], 9))
        with at_the_terminal(facts) as terminal, stopped(process):
            sent_s = time.time()
            terminal.run(send(facts["datacenter_ipv4"]))
        _, ancillary, _, _ = receiver.recvmsg(100, 100)
    seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
    assert 0.99 <= seconds + nanoseconds / 1e9 - sent_s < 1.0 + STOPPED_S / 2, "the stamps are on the world's clock"
    process.send_signal(signal.SIGTERM)
    assert json.loads(finished(process).stdout)["ingress_wait_worst_us"] == 0


@pytest.mark.needs("root")
class TestAMachineThatRoutes:
    """Its own networks are no part of the emulated one."""

    @pytest.fixture
    def lan(self, world: World) -> socket.socket:
        """All that leaves for the machine's LAN, a TAP's stand-in: a pair of devices of which we hear the far one."""
        assert world.space is not None

        def build() -> socket.socket:
            with IPRoute() as netlink:
                netlink.link("add", ifname="lan0", kind="veth", peer={"ifname": "lan1"})
                near, far = (netlink.link_lookup(ifname=name)[0] for name in ("lan0", "lan1"))
                for index in (near, far):
                    netlink.link("set", index=index, state="up")
                netlink.addr("add", index=near, address="192.0.2.1", prefixlen=24)
                netlink.addr("add", index=near, address="2001:db8::1", prefixlen=64, flags=2)
                netlink.neigh("add", dst="192.0.2.99", lladdr="02:00:00:00:00:99", ifindex=near, state=128)
                netlink.neigh("add", dst="2001:db8::99", lladdr="02:00:00:00:00:99", ifindex=near, state=128)
            for family in ("ipv4/conf", "ipv6/conf"):
                Path(f"/proc/sys/net/{family}/all/forwarding").write_text("1")
            listener = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))  # ETH_P_ALL
            listener.bind(("lan1", 3))
            listener.settimeout(30.0)
            return listener

        return world.inside(build)

    def test_no_packet_of_the_terminal_leaves_for_the_lan(self, world: World, lan: socket.socket) -> None:
        process, facts = running(world, "--set", "link.delay_ms=0")
        assert not facts["isolated"]
        with at_the_terminal(facts) as terminal, lan:
            terminal.run(send("192.0.2.99", 3))
            with contextlib.suppress(OSError):  # no route to there at all is as good
                terminal.run(send("2001:db8::99", 3))
            with contextlib.suppress(OSError):
                terminal.run(send(facts["datacenter_ipv6"]))
            with world.inside(lambda: socket.create_server(("192.0.2.1", 9), family=socket.AF_INET)) as own:
                own.settimeout(PATIENCE_S)
                terminal.run(lambda: socket.create_connection(("192.0.2.1", 9), PATIENCE_S).close())  # is reached,
                own.accept()[0].close()  # and all that was sent before has arrived
            world.inside(lambda: Path("/proc/sys/net/ipv4/conf/bp0/forwarding").write_text("1"))
            terminal.run(send("192.0.2.99", payload=b"it does leave where nobody holds it: hello"))
            leaked: list[bytes] = []
            while not leaked or b"nobody holds it" not in leaked[-1]:
                leaked.append(lan.recv(2000))
            assert [frame for frame in leaked if frame.endswith(b"hello")] == leaked[-1:]
            process.send_signal(signal.SIGTERM)
            done = finished(process)
            world.inside(send("192.0.2.99"))  # the end of what can have come: our own packet, by the same way
            world.inside(send("2001:db8::99"))
            heard: list[int] = []
            while len(heard) < 2:
                frame, (_, protocol, *_rest) = lan.recvfrom(2000)
                if protocol in (ETH_P_IP, ETH_P_IPV6) and frame.endswith(b"hello"):
                    heard.append(protocol)
        assert sorted(heard) == [ETH_P_IP, ETH_P_IPV6], "one of each: ours, and none of the terminal's"
        told = json.loads(done.stdout)
        assert told["uplink"]["delivered_packets"] >= 5
