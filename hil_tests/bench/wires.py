"""Two hosts wired to a machine with two network cards: three namespaces, and a veth pair for each cable."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import socket
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.bench import Bench
from emulator.ports.frames import PACKET_AUXDATA, SOL_PACKET, TP_STATUS_VLAN_VALID
from emulator.ports.namespace import Namespace
from emulator.ports.nic import ETH_P_ALL, IFF_RUNNING, SIOCGIFFLAGS
from emulator.scenario import load_scenario
from hil_tests.bench.living import until

PATIENCE_S = 30.0
CARDS = ("eth1", "eth2")


@dataclass(frozen=True)
class Host:
    """Somebody with a network card called h0."""

    space: Namespace
    ipv4: str
    ipv6: str

    def sh(self, line: str) -> str:
        """A shell line's stdout; raises if it fails."""
        return sh(self.space, line)

    @property
    def mac(self) -> str:
        return self.sh("ip -br link show h0").split()[2]

    def running(self) -> bool:
        """Whether h0 has carrier."""
        return bool(flags_of(self.space, "h0") & IFF_RUNNING)

    @contextlib.contextmanager
    def raw(self) -> Iterator[socket.socket]:
        """An AF_PACKET socket on h0."""
        with self.space.run(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)) as port:
            port.settimeout(PATIENCE_S)
            port.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            port.bind(("h0", ETH_P_ALL))
            yield port


@dataclass(frozen=True)
class Wires:
    """`middle` has the two cards; terminal and datacenter are what is wired to them."""

    terminal: Host
    middle: Namespace
    datacenter: Host

    def flags(self, card: str) -> int:
        """What the kernel says of a card (IFF_…)."""
        return flags_of(self.middle, card)

    def promiscuous(self, card: str) -> bool:
        return "promiscuity 0" not in sh(self.middle, f"ip -d link show {card}")

    def have_carrier(self) -> bool:
        """Whether both cables have carrier at both ends: the kernel takes up to a second to say so."""
        hosts = self.terminal.running() and self.datacenter.running()
        return hosts and all(self.flags(card) & IFF_RUNNING for card in CARDS)


@contextlib.contextmanager
def wires(*, addresses: bool = True) -> Iterator[Wires]:
    """The hosts are up, the cards are down. Without `addresses` nobody says anything that he is not told to."""
    with contextlib.ExitStack() as stack:
        left, middle, right = (stack.enter_context(Namespace.create()) for _ in range(3))
        middle.run(lambda: no_ipv6("default"))
        hosts = []
        for number, (space, card) in enumerate(zip((left, right), CARDS, strict=True), 1):
            if not addresses:
                space.run(lambda: no_ipv6("default"))
            middle.run(functools.partial(_cable, card, space))
            host = Host(space, f"10.9.0.{number}", f"fd00::{number}")
            sh(space, "sysctl -qw net.ipv4.tcp_wmem='4096 65536 33554432' net.ipv4.tcp_rmem='4096 65536 33554432'")
            if addresses:
                sh(space, f"ip addr add {host.ipv4}/24 dev h0; ip addr add {host.ipv6}/64 dev h0 nodad")
            sh(space, "ip link set h0 up")
            hosts.append(host)
        yield Wires(hosts[0], middle, hosts[1])


def flags_of(space: Namespace, name: str) -> int:
    def look() -> int:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            answer = fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16sH22x", name.encode(), 0))
        return int(struct.unpack_from("16xH", answer)[0])

    return space.run(look)


def no_ipv6(conf: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # this kernel has none
        Path(f"/proc/sys/net/ipv6/conf/{conf}/disable_ipv6").write_text("1")


def _cable(card: str, space: Namespace) -> None:
    from pyroute2 import IPRoute

    with IPRoute() as netlink:
        netlink.link("add", ifname=card, kind="veth", peer={"ifname": "h0", "net_ns_fd": space.path})


def sh(space: Namespace, line: str) -> str:
    """A shell line's stdout in a namespace; raises if it fails."""
    done = space.run(
        lambda: subprocess.run(["sh", "-ec", line], capture_output=True, text=True, timeout=60, check=False)
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@contextlib.contextmanager
def inline(found: Wires, *overrides: str, **options: Any) -> Iterator[Bench]:
    """A bench between the two cards: no rate limit and 5 ms each way unless said otherwise."""
    keys = [
        "ports.kind=nic",
        *(f"ports.{side}={card}" for side, card in zip(("terminal", "datacenter"), CARDS, strict=True)),
    ]
    scenario = load_scenario("fixed", [*keys, "link.rate_mbps=0", "link.delay_ms=5", *overrides])
    with running(found, Bench(scenario, **options)) as bench:
        yield bench


@contextlib.contextmanager
def running(found: Wires, bench: Bench) -> Iterator[Bench]:
    """The bench, where the cards are, once all cables have carrier."""
    found.middle.run(bench.__enter__)
    try:
        until(found.have_carrier)
        sh(found.middle, "ip link set eth1 up")  # as it is: waits for the kernel's lock, under which queues are started
        yield bench
    finally:
        bench.__exit__(None, None, None)


def receive(port: socket.socket) -> bytes:
    """The next frame as it was on the wire: the tag that the kernel took off is put back."""
    data, ancillary, _, _ = port.recvmsg(1 << 17, 256)
    for level, kind, value in ancillary:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tag, kind_of_tag = struct.unpack("IIIHHHH", value[:20])
            if status & TP_STATUS_VLAN_VALID:
                return data[:12] + struct.pack(">HH", kind_of_tag, tag) + data[12:]
    return data
