"""The two sides of a bench: a namespace, an interface, addresses, and processes that die with the bench."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.bench import guardian
from emulator.bench.commands import check_command
from emulator.bench.runtime import MARK
from emulator.errors import InterfaceError
from emulator.ports.namespace import Namespace
from emulator.ports.tun import TunPort
from emulator.scenario.model import Ports

TERMINATION_GRACE_S = 2.0  # what a process gets to end itself after SIGTERM


@dataclass(frozen=True)
class Addresses:
    """A bench's two pairs of addresses, with their prefix lengths. The IPv6 pair is None where there is no IPv6."""

    terminal4: ipaddress.IPv4Interface
    datacenter4: ipaddress.IPv4Interface
    terminal6: ipaddress.IPv6Interface | None
    datacenter6: ipaddress.IPv6Interface | None


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
    addresses: Addresses, terminal: TunPort, datacenter: TunPort, warn: Callable[[str], None]
) -> Addresses:
    """Gives both ends their addresses; what they have got: not those of IPv6, with a warning, if the kernel refuses."""
    terminal.add_address(addresses.terminal4, default_route=True)
    datacenter.add_address(addresses.datacenter4)
    given6: list[ipaddress.IPv6Interface | None] = []
    for name, device, address in (
        ("terminal", terminal, addresses.terminal6),
        ("datacenter", datacenter, addresses.datacenter6),
    ):
        given6.append(address)
        if address is not None:
            try:
                device.add_address(address, default_route=name == "terminal")
            except OSError as error:
                warn(f"no IPv6 at the {name}'s side: {error}")
                given6[-1] = None
    return Addresses(addresses.terminal4, addresses.datacenter4, *given6)


def numbers_in_use(namespace: Namespace, ports: Ports) -> set[int]:
    """The bench numbers whose IPv4 network overlaps an address or a route that `namespace` has already."""

    def look() -> set[int]:
        from pyroute2 import IPRoute

        base = int(ports.ipv4_network.network_address)
        used = set()
        with IPRoute() as netlink:
            for message in netlink.get_addr(family=2):
                address = ipaddress.IPv4Interface(f"{message.get('address')}/{message['prefixlen']}")
                overlap = (
                    max(int(address.network.network_address), base),
                    min(int(address.network.broadcast_address), int(ports.ipv4_network.broadcast_address)),
                )
                used |= set(range((overlap[0] - base) // 4, min((overlap[1] - base) // 4, 1 << 16) + 1))
        return used

    return namespace.run(look)


def has_ipv6() -> bool:
    """Whether this kernel speaks IPv6 at all."""
    return Path("/proc/sys/net/ipv6").exists()


class Side:
    """One side of the bench. `ipv4` and `ipv6` are its own addresses, `ipv6` empty where there is none."""

    def __init__(
        self,
        name: str,
        namespace: Namespace,
        port: TunPort,
        ipv4: str,
        ipv6: str,
        environment: Mapping[str, str],
        *,
        own_namespace: bool,
    ) -> None:
        self.name, self.namespace, self.port = name, namespace, port
        self.ipv4, self.ipv6 = ipv4, ipv6
        self.own_namespace = own_namespace
        self._environment = dict(environment)
        self._life, self._held = os.pipe2(os.O_CLOEXEC)
        self._processes: list[subprocess.Popen[Any]] = []

    def popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Starts `command` at this side; `options` as for subprocess.Popen. It and its children die with the bench.

        Raises CommandNotFoundError or CommandNotExecutableError.
        """
        check_command(command)
        environment = {**(options.pop("env", None) or os.environ), **self._environment}
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
        process = subprocess.Popen(guarded, env=environment, pass_fds=passed, **options)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Ends this side's processes: SIGTERM first, and after a grace the guardians kill what is left."""
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


def side_environment(addresses: Addresses, token: str) -> dict[str, str]:
    """What each process of the bench finds in its environment."""
    six = {"BENTPIPE_TERMINAL6": addresses.terminal6, "BENTPIPE_DATACENTER6": addresses.datacenter6}
    return {
        MARK: token,
        "BENTPIPE_TERMINAL": str(addresses.terminal4.ip),
        "BENTPIPE_DATACENTER": str(addresses.datacenter4.ip),
        **{name: str(address.ip) for name, address in six.items() if address is not None},
    }
