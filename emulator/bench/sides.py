"""The two sides of a bench: a namespace, an interface, addresses, and processes that die with the bench."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from emulator.bench import guardian
from emulator.bench.commands import check_command
from emulator.bench.runtime import ADDRESSES, MARK
from emulator.bench.snapshot import Port
from emulator.errors import InterfaceError
from emulator.link.wire import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from emulator.ports.namespace import Namespace
from emulator.ports.nic import NicPort
from emulator.ports.tap import TapPort
from emulator.ports.tun import TunPort
from emulator.scenario.model import Ports

SideName = Literal["terminal", "datacenter"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

BROADCAST, INJECTOR_MAC = bytes(6 * [255]), bytes.fromhex("02bb00000000")  # 02: locally administered
TERMINATION_GRACE_S = 2.0  # what a process gets to end itself after SIGTERM


@dataclass(frozen=True)
class Addresses:
    """A bench's two pairs of addresses, with their prefix lengths. The IPv6 pair is None where there is no IPv6."""

    terminal4: ipaddress.IPv4Interface
    datacenter4: ipaddress.IPv4Interface
    terminal6: ipaddress.IPv6Interface | None
    datacenter6: ipaddress.IPv6Interface | None

    def of(self, side: SideName) -> tuple[ipaddress.IPv4Interface, ipaddress.IPv6Interface | None]:
        """The addresses of one side."""
        if side == "terminal":
            return self.terminal4, self.terminal6
        return self.datacenter4, self.datacenter6


def plan_addresses(ports: Ports, number: int, *, ipv6: bool) -> Addresses:
    """The addresses of bench `number`: a /30 and a /64 of the scenario's networks.

    Raises InterfaceError if the networks are too small for that many benches.
    """
    try:
        base4 = ports.ipv4_network.network_address + 4 * number
        net4 = ipaddress.IPv4Network((base4, 30))
        net6 = ipaddress.IPv6Network((ports.ipv6_network.network_address + (number << 64), 64))
        if not (net4.subnet_of(ports.ipv4_network) and net6.subnet_of(ports.ipv6_network)):
            raise ValueError
    except ValueError as error:  # AddressValueError too
        raise InterfaceError(
            f"ports.ipv4_network {ports.ipv4_network}, ports.ipv6_network {ports.ipv6_network}: "
            f"expected room for a /30 and a /64 number {number}"
        ) from error
    return Addresses(
        terminal4=ipaddress.IPv4Interface(f"{net4[2]}/30"),
        datacenter4=ipaddress.IPv4Interface(f"{net4[1]}/30"),
        terminal6=ipaddress.IPv6Interface(f"{net6[2]}/64") if ipv6 else None,
        datacenter6=ipaddress.IPv6Interface(f"{net6[1]}/64") if ipv6 else None,
    )


def give_addresses(
    addresses: Addresses,
    terminal: TunPort,
    datacenter: TunPort,
    warn: Callable[[str], None],
    *,
    default_route: bool = True,
) -> Addresses:
    """Gives both ends their addresses; what they have got: not those of IPv6, with a warning, if the kernel refuses.

    Where the datacenter's side forwards IPv6, the terminal gets no way to everywhere: it would lead out of the machine.
    """
    routed6 = not forwards_ipv6(datacenter.namespace)
    if not routed6:
        warn("this machine forwards IPv6: over IPv6 the terminal reaches the datacenter's address only")
    gateway4 = gateway6 = ""
    if isinstance(terminal, TapPort):  # at layer 2 the kernel asks for the next hop's Ethernet address
        gateway4 = str(addresses.datacenter4.ip)
        gateway6 = str(addresses.datacenter6.ip) if addresses.datacenter6 else ""
    terminal.add_address(addresses.terminal4, default_route=default_route, gateway=gateway4)
    datacenter.add_address(addresses.datacenter4)
    given6: list[ipaddress.IPv6Interface | None] = []
    for name, device, address in (
        ("terminal", terminal, addresses.terminal6),
        ("datacenter", datacenter, addresses.datacenter6),
    ):
        given6.append(address)
        if address is not None:
            try:
                device.add_address(
                    address, default_route=routed6 and default_route and name == "terminal", gateway=gateway6
                )
            except OSError as error:
                warn(f"no IPv6 at the {name}'s side: {error}")
                given6[-1] = None
    return Addresses(addresses.terminal4, addresses.datacenter4, *given6)


def numbers_in_use(namespace: Namespace, ports: Ports) -> set[int]:
    """The bench numbers whose networks overlap an address of `namespace`, or a route that ends inside of `ports`' own.

    A route that is wider than the network for benches is a way to everywhere, as the default route is, and not counted.
    """

    def look() -> set[int]:
        from pyroute2 import IPRoute

        used: set[int] = set()
        with IPRoute() as netlink:
            for family, ours, spacing in (
                (socket.AF_INET, ports.ipv4_network, 4),
                (socket.AF_INET6, ports.ipv6_network, 1 << 64),
            ):
                taken = [f"{one.get('address')}/{one['prefixlen']}" for one in _dumped(netlink.get_addr, family)]
                taken += [
                    f"{one.get('dst')}/{one['dst_len']}"
                    for one in _dumped(netlink.get_routes, family)
                    if one.get("dst") and one["dst_len"] >= ours.prefixlen
                ]
                for network in taken:
                    used.update(numbers_within(ipaddress.ip_interface(network).network, ours, spacing))
        return used

    return namespace.run(look)


def _dumped(dump: Callable[..., Any], family: int) -> list[Any]:
    """What the kernel tells of a family; one without IPv6 answers with what else it has."""
    return [message for message in dump(family=family) if message["family"] == family]


def numbers_within(network: Network, ours: Network, spacing: int) -> range:
    """The numbers, below ADDRESSES, of the networks of `spacing` addresses in `ours` that overlap `network`."""
    base = int(ours.network_address)
    first = max(int(network.network_address), base)
    last = min(int(network.broadcast_address), int(ours.broadcast_address))
    return range((first - base) // spacing, min((last - base) // spacing + 1, ADDRESSES))


def has_ipv6() -> bool:
    """Whether this kernel speaks IPv6 at all."""
    return Path("/proc/sys/net/ipv6").exists()


def forwards_ipv6(namespace: Namespace) -> bool:
    """Whether `namespace` routes IPv6 between its interfaces: unlike IPv4's, no interface can be kept out of that."""
    setting = Path("/proc/sys/net/ipv6/conf/all/forwarding")
    return namespace.run(lambda: setting.exists() and setting.read_text().strip() != "0")


class Station:
    """A place where processes run that die with the bench: a namespace, and what holds them to our own life."""

    def __init__(self, name: str, namespace: Namespace, ipv4: str, ipv6: str = "") -> None:
        self.name, self.namespace = name, namespace
        self.ipv4, self.ipv6 = ipv4, ipv6
        self._life, self._held = os.pipe2(os.O_CLOEXEC)
        self._processes: list[subprocess.Popen[Any]] = []
        self.undisturbed: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
        self.closing = False

    def popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Starts `command` here; `options` as for subprocess.Popen. It and its children die with the bench.

        Raises CommandNotFoundError or CommandNotExecutableError.
        """
        check_command(command)
        passed = (*options.pop("pass_fds", ()), self._life, self.namespace.descriptor)
        guarded = [
            sys.executable,
            "-I",
            "-S",
            guardian.__file__,
            str(self.namespace.descriptor),
            str(self._life),
            *command,
        ]
        with self.undisturbed():  # Python's lock is held until the new program runs: tens of ms on a busy machine
            process = subprocess.Popen(guarded, pass_fds=passed, **options)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Ends the processes: SIGTERM first, and after a grace the guardians kill what is left."""
        self.closing = True
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(TERMINATION_GRACE_S)
        for descriptor in (self._held, self._life):
            if descriptor >= 0:
                os.close(descriptor)
        self._held = self._life = -1
        for process in self._processes:
            process.wait()
        self._processes.clear()


class Side(Station):
    """One side of the bench. `ipv4` and `ipv6` are its own addresses, empty where there is none.

    `environment` is that of its processes, on top of what they are given. is_here: neither a part elsewhere nor on
    another machine, nor behind a card of which nobody has said who is wired to it.
    """

    is_here = True

    def __init__(
        self,
        name: str,
        namespace: Namespace,
        port: Port,
        ipv4: str,
        ipv6: str,
        environment: Mapping[str, str],
        *,
        own_namespace: bool,
        remote: Sequence[str] = (),
    ) -> None:
        super().__init__(name, namespace, ipv4, ipv6)
        self.port, self.own_namespace, self.remote = port, own_namespace, tuple(remote)
        self._environment = dict(environment)

    def tell(self, more: Mapping[str, str]) -> None:
        """Processes to come find these in their environment too."""
        self._environment |= more

    def popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        environment = {**(options.pop("env", None) or os.environ), **self._environment}
        if self.remote:  # its environment is its own, but for ours
            ours = [f"{key}={value}" for key, value in self._environment.items()]
            command = [*self.remote, shlex.join(["env", *ours, *command])]
        return super().popen(command, env=environment, **options)


def side_environment(addresses: Addresses, token: str) -> dict[str, str]:
    """What each process of the bench finds in its environment."""
    six = {"BENTPIPE_TERMINAL6": addresses.terminal6, "BENTPIPE_DATACENTER6": addresses.datacenter6}
    return {
        MARK: token,
        "BENTPIPE_TERMINAL": str(addresses.terminal4.ip),
        "BENTPIPE_DATACENTER": str(addresses.datacenter4.ip),
        **{name: str(address.ip) for name, address in six.items() if address is not None},
    }


def ethernet_header(ends: Sequence[Port], packet: bytes) -> bytes:
    """What goes before an IP packet that enters the link at the first of `ends` and leaves it at the other.

    Nothing at layer 3. Nobody knows who is wired to a network card: there the packet goes to everybody.
    """
    if not any(isinstance(port, TapPort | NicPort) or getattr(port, "ethernet", False) for port in ends):
        return b""
    source, target = (port.mac if isinstance(port, TapPort) else b"" for port in ends)
    ethertype = ETHERTYPE_IPV6 if packet[:1] and packet[0] >> 4 == 6 else ETHERTYPE_IPV4
    return (target or BROADCAST) + (source or INJECTOR_MAC) + ethertype.to_bytes(2, "big")
