"""What can stand between two applications, behind one face: memory, sockets or TUN devices, over either fabric."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

from emulator.bench import Bench
from emulator.link.link import DirectionCounters, Link
from emulator.ports.assembly import Direction, change_of, link_options
from emulator.ports.namespace import Namespace
from emulator.ports.relay import Relay
from emulator.ports.tap import TapPort
from emulator.scenario import Scenario, load_scenario
from emulator.scenario.links import FixedLink
from emulator.scenario.model import OverlayEvent
from emulator.timeline.fixed import FixedWindows
from emulator.timeline.model import Timeline
from hil_tests.bench.wires import CARDS, no_ipv6, running, sh, wires
from hil_tests.unit.link.driver import END_NS, drain
from hil_tests.unit.link.packets import NO_OFFLOAD, fold, ones_sum
from hil_tests.unit.ports.carriers import PATIENCE_S, rig

DIRECTIONS: tuple[Direction, Direction] = ("uplink", "downlink")
PORTS = {"uplink": (4000, 5000), "downlink": (5000, 4000)}
ADDRESSES = {"uplink": ("198.18.0.2", "198.18.0.1"), "downlink": ("198.18.0.1", "198.18.0.2")}
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
HEADERS = 28  # IPv4 and UDP
Counted = dict[Direction, DirectionCounters]


class Carrier(Protocol):
    """Carries UDP payloads both ways under a fixed link's conditions."""

    def now_ns(self) -> int:
        """Its time: the monotonic clock's, or a virtual one."""
        ...

    def send(self, direction: Direction, payload: bytes) -> None: ...

    def receive(self, direction: Direction, count: int) -> list[bytes]:
        """The next `count` payloads that arrive."""
        ...

    def rest(self, direction: Direction) -> list[bytes]:
        """What has arrived and was not received yet."""
        ...

    def counters(self) -> Counted: ...

    def apply(self, event: OverlayEvent) -> None: ...


def udp_packet(direction: Direction, payload: bytes) -> bytes:
    """An IPv4 packet as a kernel would send it."""
    source, target = (socket.inet_aton(address) for address in ADDRESSES[direction])
    udp = struct.pack(">HHHH", *PORTS[direction], 8 + len(payload), 0) + payload
    checksum = ~fold(ones_sum(source + target + udp) + 17 + len(udp)) & 0xFFFF
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
    whole = ~fold(ones_sum(head + source + target)) & 0xFFFF
    return (
        head[:10]
        + struct.pack(">H", whole)
        + source
        + target
        + udp[:6]
        + struct.pack(">H", checksum or 0xFFFF)
        + payload
    )


def payload_of(direction: Direction, packet: bytes) -> bytes:
    """The payload of a packet that must be, byte for byte, one of `udp_packet`'s."""
    assert packet == udp_packet(direction, packet[HEADERS:])
    return packet[HEADERS:]


def settled(carrier: Carrier, offered: int) -> Counted:
    """The counters when `offered` packets have come in and nothing is under way."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        counted = carrier.counters()
        ways = counted.values()
        if sum(way.offered_packets for way in ways) >= offered and not any(way.held_packets for way in ways):
            return counted
        assert time.monotonic() < deadline, counted


def plan_of(scenario: Scenario) -> Timeline:
    assert isinstance(scenario.link, FixedLink)
    return FixedWindows(scenario.link).window(0, END_NS)


class MemoryCarrier:
    """A link in virtual time: a packet each microsecond, and all the time that it takes when somebody waits."""

    def __init__(self, scenario: Scenario) -> None:
        self._now_ns = 0
        self._links: dict[Direction, Link] = {}
        self._arrived: dict[Direction, list[bytes]] = {"uplink": [], "downlink": []}
        for number, direction in enumerate(DIRECTIONS):
            channel = getattr(plan_of(scenario), direction)
            options = link_options(scenario, direction, int(channel.delay_ns.max()))
            self._links[direction] = Link(channel, END_NS, seed=scenario.seed, direction=number, options=options)

    def now_ns(self) -> int:
        return self._now_ns

    def send(self, direction: Direction, payload: bytes) -> None:
        self._now_ns += 1000
        self._links[direction].offer(udp_packet(direction, payload), self._now_ns)
        self._take(direction)

    def receive(self, direction: Direction, count: int) -> list[bytes]:
        arrived = self._arrived[direction]
        while len(arrived) < count:
            at = self._links[direction].next_event_ns()
            assert at is not None, "nothing more is under way"
            self._now_ns = max(self._now_ns, at)
            self._take(direction)
        self._arrived[direction] = arrived[count:]
        return arrived[:count]

    def rest(self, direction: Direction) -> list[bytes]:
        return self.receive(direction, len(self._arrived[direction]))

    def counters(self) -> Counted:
        for direction, link in self._links.items():
            self._arrived[direction] += [payload_of(direction, delivery.packet) for delivery in drain(link)]
        return {direction: link.counters() for direction, link in self._links.items()}

    def apply(self, event: OverlayEvent) -> None:
        for direction in DIRECTIONS:
            self._links[direction].overlay([change_of(event, self._now_ns)])

    def _take(self, direction: Direction) -> None:
        due = self._links[direction].poll(self._now_ns)
        self._arrived[direction] += [payload_of(direction, delivery.packet) for delivery in due]


class SocketCarrier:
    """Two sockets of our own; how frames get to them and from them, subclasses know."""

    def __init__(self, ends: dict[Direction, tuple[socket.socket, socket.socket]]) -> None:
        self._ends = ends
        self._ready: dict[Direction, list[bytes]] = {"uplink": [], "downlink": []}

    def wrap(self, direction: Direction, payload: bytes) -> bytes:
        return payload

    def unwrap(self, direction: Direction, data: bytes) -> bytes:
        return data

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def send(self, direction: Direction, payload: bytes) -> None:
        self._ends[direction][0].send(self.wrap(direction, payload))

    def receive(self, direction: Direction, count: int) -> list[bytes]:
        receiver = self._ends[direction][1]
        return [self.unwrap(direction, receiver.recv(1 << 17)) for _ in range(count)]

    def rest(self, direction: Direction) -> list[bytes]:
        receiver, found = self._ends[direction][1], []
        receiver.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.unwrap(direction, receiver.recv(1 << 17)))
        receiver.settimeout(PATIENCE_S)
        return found

    def counters(self) -> Counted:
        raise NotImplementedError

    def apply(self, event: OverlayEvent) -> None:
        raise NotImplementedError


class PairCarrier(SocketCarrier):
    """A relay between socket pairs: everything but the kernel's devices."""

    def __init__(self, run: object, ends: dict[Direction, tuple[socket.socket, socket.socket]]) -> None:
        super().__init__(ends)
        self._run = run

    def wrap(self, direction: Direction, payload: bytes) -> bytes:
        return NO_OFFLOAD + udp_packet(direction, payload)

    def unwrap(self, direction: Direction, data: bytes) -> bytes:
        assert data.startswith(NO_OFFLOAD)
        return payload_of(direction, data[10:])

    def counters(self) -> Counted:
        return dict(zip(DIRECTIONS, self._run.counters(), strict=True))  # type: ignore[attr-defined]

    def apply(self, event: OverlayEvent) -> None:
        for link in self._run.links:  # type: ignore[attr-defined]
            link.overlay([change_of(event, time.monotonic_ns())])


class RelayCarrier(SocketCarrier):
    """The kernel's own UDP, across devices between which a relay stands."""

    def __init__(
        self, relay: Relay, links: Sequence[Link], ends: dict[Direction, tuple[socket.socket, socket.socket]]
    ) -> None:
        super().__init__(ends)
        self._relay, self._links = relay, links

    def counters(self) -> Counted:
        counted = self._relay.counters()
        return {"uplink": counted.uplink, "downlink": counted.downlink}

    def apply(self, event: OverlayEvent) -> None:
        for link in self._links:
            link.overlay([change_of(event, time.monotonic_ns())])


class TunCarrier(SocketCarrier):
    """A real bench: the kernel's own UDP, across its devices."""

    def __init__(self, bench: Bench, ends: dict[Direction, tuple[socket.socket, socket.socket]]) -> None:
        super().__init__(ends)
        self._bench = bench

    def counters(self) -> Counted:
        counted = self._bench.counters()
        return {"uplink": counted.uplink, "downlink": counted.downlink}

    def apply(self, event: OverlayEvent) -> None:
        begins_ns = self._bench.apply(event)
        while time.monotonic_ns() < begins_ns:
            pass


@contextlib.contextmanager
def memory(scenario: Scenario) -> Iterator[Carrier]:
    yield MemoryCarrier(scenario)


@contextlib.contextmanager
def sockets(scenario: Scenario, *, fabric: Literal["direct", "zmq"]) -> Iterator[Carrier]:
    timeline = plan_of(scenario)
    options = link_options(scenario, "uplink", int(timeline.uplink.delay_ns.max()))
    with rig(timeline.uplink, options, fabric=fabric, seed=scenario.seed) as run:
        up, down = (run.terminal, run.datacenter), (run.datacenter, run.terminal)
        yield PairCarrier(run, {"uplink": up, "downlink": down})


@contextlib.contextmanager
def tun(scenario: Scenario, *, fabric: Literal["direct", "zmq"]) -> Iterator[Carrier]:
    with Bench(scenario, fabric=fabric) as bench, contextlib.ExitStack() as stack:
        ends = []
        for side, other, (own_port, port) in (
            (bench.terminal, bench.datacenter, PORTS["uplink"]),
            (bench.datacenter, bench.terminal, PORTS["downlink"]),
        ):
            end = stack.enter_context(side.namespace.run(functools.partial(socket.socket, type=socket.SOCK_DGRAM)))
            end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
            end.settimeout(PATIENCE_S)
            end.bind((side.ipv4, own_port))
            end.connect((other.ipv4, port))
            ends.append(end)
        yield TunCarrier(bench, {"uplink": (ends[0], ends[1]), "downlink": (ends[1], ends[0])})


@contextlib.contextmanager
def tap(scenario: Scenario) -> Iterator[Carrier]:
    """A relay between two TAP devices whose kernels know each other's address and say nothing of their own."""
    scenario = with_ports(scenario, kind="tap")
    timeline = plan_of(scenario)
    with contextlib.ExitStack() as stack:
        links = [
            Link(
                getattr(timeline, direction),
                END_NS,
                seed=scenario.seed,
                direction=number,
                options=link_options(scenario, direction, int(getattr(timeline, direction).delay_ns.max())),
            )
            for number, direction in enumerate(DIRECTIONS)
        ]
        spaces, devices = [], []
        for direction in DIRECTIONS:
            space = stack.enter_context(Namespace.create())
            space.run(lambda: no_ipv6("default"))
            device = TapPort(space, "tap0", mtu=1500, queue_packets=1000)
            stack.callback(device.close)
            device.add_address(ipaddress.ip_interface(f"{ADDRESSES[direction][0]}/30"))
            spaces.append(space)
            devices.append(device)
        for space, device, direction in zip(spaces, devices[::-1], DIRECTIONS, strict=True):
            know(space, "tap0", ADDRESSES[direction][1], device.mac.hex(":"))
        readers = []
        for _ in DIRECTIONS:
            pair = [stack.enter_context(end) for end in socket.socketpair()]
            readers.append(pair[0])
        relay = Relay(
            links[0], links[1], devices[0].descriptor, devices[1].descriptor, (readers[0].fileno(), readers[1].fileno())
        )
        stack.callback(relay.stop)
        relay.start()
        yield RelayCarrier(relay, links, ends_in(stack, spaces))


@contextlib.contextmanager
def nic(scenario: Scenario, *, fabric: Literal["direct", "zmq"]) -> Iterator[Carrier]:
    """A bench between two network cards, to which two quiet hosts are wired."""
    scenario = with_ports(scenario, kind="nic", terminal=CARDS[0], datacenter=CARDS[1])
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(wires(addresses=False))
        hosts = found.terminal, found.datacenter
        for host, direction in zip(hosts, DIRECTIONS, strict=True):
            host.sh(f"ip addr add {ADDRESSES[direction][0]}/30 dev h0")
        for host, other, direction in zip(hosts, hosts[::-1], DIRECTIONS, strict=True):
            know(host.space, "h0", ADDRESSES[direction][1], other.mac)
        bench = stack.enter_context(running(found, Bench(scenario, fabric=fabric)))
        yield TunCarrier(bench, ends_in(stack, [host.space for host in hosts]))


def with_ports(scenario: Scenario, **keys: str) -> Scenario:
    return scenario.model_copy(update={"ports": scenario.ports.model_copy(update=keys)})


def know(space: Namespace, interface: str, address: str, mac: str) -> None:
    """A neighbour's Ethernet address, so that nobody asks for it."""
    sh(space, f"ip neigh replace {address} lladdr {mac} dev {interface} nud permanent")


def ends_in(
    stack: contextlib.ExitStack, spaces: Sequence[Namespace]
) -> dict[Direction, tuple[socket.socket, socket.socket]]:
    """A UDP socket in each namespace, connected to the other."""
    ends = []
    for space, direction in zip(spaces, DIRECTIONS, strict=True):
        end = stack.enter_context(space.run(functools.partial(socket.socket, type=socket.SOCK_DGRAM)))
        end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
        end.settimeout(PATIENCE_S)
        end.bind((ADDRESSES[direction][0], PORTS[direction][0]))
        end.connect((ADDRESSES[direction][1], PORTS[direction][1]))
        ends.append(end)
    return {"uplink": (ends[0], ends[1]), "downlink": (ends[1], ends[0])}


CARRIERS: dict[str, Callable[[Scenario], contextlib.AbstractContextManager[Carrier]]] = {
    "memory": memory,
    "sockets-direct": functools.partial(sockets, fabric="direct"),
    "sockets-zmq": functools.partial(sockets, fabric="zmq"),
    "tun-direct": functools.partial(tun, fabric="direct"),
    "tun-zmq": functools.partial(tun, fabric="zmq"),
    "tap-direct": tap,
    "nic-direct": functools.partial(nic, fabric="direct"),
    "nic-zmq": functools.partial(nic, fabric="zmq"),
}
NEEDS = {"memory": (), "sockets": ("compiled",), "tun": ("compiled", "root", "netns", "tun")}
NEEDS |= {"tap": (*NEEDS["tun"], "ip"), "nic": ("compiled", "root", "netns", "ip")}


def conditions(*overrides: str) -> Scenario:
    """The fixed link, with no limit and 2 ms of delay unless said otherwise."""
    return load_scenario("fixed", ["link.rate_mbps=0", "link.delay_ms=2", *overrides])
