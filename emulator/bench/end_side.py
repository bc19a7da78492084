"""One side of a bench in three parts: its namespace, its device and its addresses; the packets are `EndProcess`'s."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from emulator.bench.fabrics import require_divisible
from emulator.bench.opening import FREE_NAME
from emulator.bench.privilege import has_machine_network
from emulator.bench.runtime import RuntimeDirectory, remove_leftovers
from emulator.bench.sides import (
    Addresses,
    Side,
    SideName,
    forwards_ipv6,
    has_ipv6,
    numbers_in_use,
    plan_addresses,
    side_environment,
)
from emulator.errors import InterfaceError
from emulator.ports.messages import agreement_of
from emulator.ports.namespace import Namespace
from emulator.ports.tap import TapPort
from emulator.ports.tun import TunPort
from emulator.scenario.model import Scenario

Role = Literal["terminal", "gateway"]
SIDES: dict[Role, SideName] = {"terminal": "terminal", "gateway": "datacenter"}


@dataclass(frozen=True)
class OpenEnd:
    """The side, and what the process that carries its packets is to be told and given."""

    side: Side
    settings: dict[str, Any]
    descriptors: tuple[int, ...]


@contextlib.contextmanager
def open_end(scenario: Scenario, role: Role, *, isolate: bool, warn: Callable[[str], None]) -> Iterator[OpenEnd]:
    """Opens the side of a role; `bentpipe enter` finds it. isolate: in a namespace of its own, not the machine's.

    Raises InterfaceError, PrivilegeError, ScenarioError; nothing is left behind then.
    """
    require_divisible(scenario)
    remove_leftovers()
    if not isolate and not has_machine_network():
        isolate = True
        warn("an ordinary user has no part in the machine's own network: this side is isolated")
    with contextlib.ExitStack() as stack:
        runtime = RuntimeDirectory()
        stack.callback(runtime.close)
        namespace = stack.enter_context(Namespace.create() if isolate else Namespace.current())
        ports, name = scenario.ports, SIDES[role]
        if 0 in numbers_in_use(namespace, ports):
            raise InterfaceError(
                f"ports.ipv4_network {ports.ipv4_network}: its first addresses are taken here; "
                "set another one, at all three parts"
            )
        interface = ports.terminal_interface if role == "terminal" else ports.datacenter_interface or FREE_NAME
        make = TapPort if ports.kind == "tap" else TunPort
        device = make(namespace, interface, mtu=ports.mtu, queue_packets=ports.tx_queue_packets)
        stack.callback(device.close)
        addresses = plan_addresses(ports, 0, ipv6=has_ipv6())
        addresses = _give(addresses, name, device, warn)
        own4, own6 = addresses.of(name)
        marking = side_environment(addresses, runtime.token)
        side = Side(name, namespace, device, str(own4.ip), str(own6.ip) if own6 else "", marking, own_namespace=isolate)
        stack.callback(side.close)
        runtime.describe(
            {
                "scenario": f"{scenario.name or 'scenario'}, the {role}'s part",
                "paths": {},
                "isolated": isolate,
                "terminal_ipv4": marking["BENTPIPE_TERMINAL"],
                "datacenter_ipv4": marking["BENTPIPE_DATACENTER"],
                "terminal_ipv6": marking.get("BENTPIPE_TERMINAL6", ""),
                "datacenter_ipv6": marking.get("BENTPIPE_DATACENTER6", ""),
                "ports": ports.kind,
                "interfaces": [device.name],
                "namespaces": {name: namespace.path},
                "mtu": ports.mtu,
            }
        )
        settings = {
            "kind": device.kind,
            "agreement": agreement_of(scenario),
            "ethernet": int(ports.kind != "tun"),
            "interface": device.name,
        }
        yield OpenEnd(side, settings, (device.descriptor, device.statistics))


def _give(addresses: Addresses, name: SideName, device: TunPort, warn: Callable[[str], None]) -> Addresses:
    """Gives the device the addresses of its side; the other side's are its next hop."""
    own4, own6 = addresses.of(name)
    terminal = name == "terminal"
    tap = isinstance(device, TapPort)
    device.add_address(own4, default_route=terminal, gateway=str(addresses.datacenter4.ip) if terminal and tap else "")
    if own6 is None or addresses.datacenter6 is None:
        return addresses
    routed6 = terminal and not forwards_ipv6(device.namespace)
    gateway6 = str(addresses.datacenter6.ip) if routed6 and tap else ""
    try:
        device.add_address(own6, default_route=routed6, gateway=gateway6)
    except OSError as error:
        warn(f"no IPv6 at the {name}'s side: {error}")
        return Addresses(addresses.terminal4, addresses.datacenter4, None, None)
    return addresses
