"""Relays between socket pairs: both fabrics, with everything but the TUN devices."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from emulator.link.link import DirectionCounters, Link, LinkOptions
from emulator.ports.end_process import EndProcess
from emulator.ports.fabric import SOCKET_NAME, FabricRelay
from emulator.ports.frames import DEVICE
from emulator.ports.messages import ROLES
from emulator.ports.relay import Relay
from emulator.timeline.model import Channel

Fabric = Literal["direct", "zmq"]
PATIENCE_S = 30.0
END_NS = 1 << 60
SMALL = LinkOptions(memory_bytes=1 << 24, flight_packets=1 << 14)


@dataclass
class Rig:
    """`terminal` and `datacenter`: what the kernel would be; `injectors`: into the uplink and the downlink."""

    relay: Relay | FabricRelay
    links: list[Link]
    terminal: socket.socket
    datacenter: socket.socket
    injectors: list[socket.socket]
    inside: list[socket.socket] = field(default_factory=list)

    def counters(self) -> tuple[DirectionCounters, DirectionCounters]:
        counted = self.relay.counters()
        return counted.uplink, counted.downlink

    def until(self, reached: Callable[[DirectionCounters, DirectionCounters], bool]) -> tuple[Any, Any]:
        """The counters once they are as wanted; fails if they never are."""
        deadline = time.monotonic() + PATIENCE_S
        while not reached(*(counters := self.counters())):
            assert time.monotonic() < deadline, counters
        return counters


@contextlib.contextmanager
def rig(
    channel: Channel, options: LinkOptions = SMALL, *, fabric: Fabric = "direct", seed: int = 1, quantum_ns: int = 0
) -> Iterator[Rig]:
    """A running relay. Each message on the sockets is a frame, virtio_net_hdr first."""
    with contextlib.ExitStack() as stack:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(4)]
        for outside, inside in pairs:
            outside.settimeout(PATIENCE_S)
            inside.setblocking(False)
            for end in (outside, inside):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
                stack.enter_context(end)
        insides = [inside for _, inside in pairs]
        ports = insides[0].fileno(), insides[1].fileno(), (insides[2].fileno(), insides[3].fileno())
        up, down = (Link(channel, END_NS, seed=seed, direction=way, options=options) for way in range(2))
        relay: Relay | FabricRelay
        if fabric == "direct":
            relay = Relay(up, down, *ports, quantum_ns=quantum_ns)
        else:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bp", dir="/tmp")))
            relay = fabric_of(up, down, *ports, directory=directory, quantum_ns=quantum_ns)
        stack.callback(relay.stop)
        relay.start()
        terminal, datacenter, *injectors = (one for one, _ in pairs)
        yield Rig(relay, [up, down], terminal, datacenter, injectors, insides)


def fabric_of(
    up: Link,
    down: Link,
    terminal: int,
    datacenter: int,
    injection: tuple[int, int],
    *,
    directory: Path,
    quantum_ns: int = 0,
) -> FabricRelay:
    """A fabric whose two ends are processes of ours."""
    ends = []
    endpoint = f"ipc://{directory / SOCKET_NAME}"
    for role, descriptor in zip(ROLES, (terminal, datacenter), strict=True):
        end = EndProcess(role)
        end.prepare({"kind": DEVICE, "agreement": 0, "ethernet": 0}, {"port": descriptor})
        ends.append(end)
    return FabricRelay(up, down, injection, endpoints=[endpoint], ends=ends, quantum_ns=quantum_ns)
