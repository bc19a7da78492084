"""One side of a bench in three parts: its namespace and its device with addresses, or its network card.

The packets are `EndProcess`'s.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from emulator.bench.fabrics import require_divisible
from emulator.bench.opening import FREE_NAME, card_marking, card_sides
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
from emulator.errors import EmulationError, InterfaceError
from emulator.ports.messages import agreement_of
from emulator.ports.namespace import Namespace
from emulator.ports.nic import NicPort
from emulator.ports.tap import TapPort
from emulator.ports.tun import TunPort
from emulator.scenario.model import Scenario

Role = Literal["terminal", "gateway"]
SIDES: dict[Role, SideName] = {"terminal": "terminal", "gateway": "datacenter"}


@dataclass(frozen=True)
class OpenEnd:
    """The side, and what the process that carries its packets is to be told and given.

    failures: why the side cannot go on, as soon as there is such a thing.
    """

    side: Side
    settings: dict[str, Any]
    descriptors: dict[str, int]
    failures: list[EmulationError] = field(default_factory=list)


@contextlib.contextmanager
def open_end(scenario: Scenario, role: Role, *, isolate: bool, warn: Callable[[str], None]) -> Iterator[OpenEnd]:
    """Opens the side of a role; `bentpipe enter` finds it. isolate: in a namespace of its own, not the machine's; a
    network card stays where it is.

    Raises InterfaceError, PrivilegeError, ScenarioError; nothing is left behind then.
    """
    require_divisible(scenario)
    remove_leftovers()
    with contextlib.ExitStack() as stack:
        runtime = RuntimeDirectory()
        stack.callback(runtime.close)
        if scenario.ports.kind == "nic":
            yield _open_card(scenario, role, runtime, stack, warn)
            return
        if not isolate and not has_machine_network():
            isolate = True
            warn("an ordinary user has no part in the machine's own network: this side is isolated")
        yield _open_device(scenario, role, runtime, stack, isolate, warn)


def _open_card(
    scenario: Scenario,
    role: Role,
    runtime: RuntimeDirectory,
    stack: contextlib.ExitStack,
    warn: Callable[[str], None],
) -> OpenEnd:
    ports, name = scenario.ports, SIDES[role]
    card = getattr(ports, name)
    if not card:
        raise InterfaceError(f"ports.{name}: expected the network card of this end, or --nic")
    failures: list[EmulationError] = []
    sides, cards = card_sides(ports, [name], runtime, stack, warn, failures.append)
    if cards.mtu < ports.mtu:
        raise InterfaceError(
            f"interface {card}: expected an MTU of ports.mtu, {ports.mtu}, or more, got {cards.mtu}; "
            "raise it, or set ports.mtu at all three parts"
        )
    _describe(runtime, scenario, role, sides[0], card_marking(ports, runtime))
    port = cards.ports[0]
    settings = _settings(scenario, port) | {"index": port.card.index}
    return OpenEnd(sides[0], settings, _descriptors(port), failures)


def _open_device(
    scenario: Scenario,
    role: Role,
    runtime: RuntimeDirectory,
    stack: contextlib.ExitStack,
    isolate: bool,
    warn: Callable[[str], None],
) -> OpenEnd:
    namespace = stack.enter_context(Namespace.create() if isolate else Namespace.current())
    ports, name = scenario.ports, SIDES[role]
    if 0 in numbers_in_use(namespace, ports):
        raise InterfaceError(
            f"ports.ipv4_network {ports.ipv4_network}: its first addresses are taken here; "
            "set another one, at all three parts"
        )
    interface = ports.terminal_interface if role == "terminal" else ports.datacenter_interface or FREE_NAME
    make, stamped = (TapPort if ports.kind == "tap" else TunPort), ports.arrival == "kernel"
    device = make(namespace, interface, mtu=ports.mtu, queue_packets=ports.tx_queue_packets, stamped=stamped)
    stack.callback(device.close)
    if device.stamps_warning:
        warn(device.stamps_warning)
    addresses = plan_addresses(ports, 0, ipv6=has_ipv6())
    addresses = _give(addresses, name, device, warn)
    own4, own6 = addresses.of(name)
    marking = side_environment(addresses, runtime.token)
    side = Side(name, namespace, device, str(own4.ip), str(own6.ip) if own6 else "", marking, own_namespace=isolate)
    stack.callback(side.close)
    _describe(runtime, scenario, role, side, marking)
    return OpenEnd(side, _settings(scenario, device), _descriptors(device))


def _settings(scenario: Scenario, port: TunPort | NicPort) -> dict[str, Any]:
    """What the process is told, as `end_part.EndPart` takes it, whatever the port is."""
    return {
        "kind": port.kind,
        "agreement": agreement_of(scenario),
        "ethernet": int(scenario.ports.kind != "tun"),
        "interface": port.name,
    }


def _descriptors(port: TunPort | NicPort) -> dict[str, int]:
    """What the process is given, as `EndProcess.prepare` takes it."""
    return {"port": port.descriptor, "statistics": port.statistics, "stamps": port.stamps_descriptor}


def _describe(runtime: RuntimeDirectory, scenario: Scenario, role: Role, side: Side, marking: dict[str, str]) -> None:
    """For `bentpipe enter`."""
    runtime.describe(
        {
            "scenario": f"{scenario.name or 'scenario'}, the {role}'s part",
            "paths": {},
            "isolated": side.own_namespace,
            "terminal_ipv4": marking.get("BENTPIPE_TERMINAL", ""),
            "datacenter_ipv4": marking.get("BENTPIPE_DATACENTER", ""),
            "terminal_ipv6": marking.get("BENTPIPE_TERMINAL6", ""),
            "datacenter_ipv6": marking.get("BENTPIPE_DATACENTER6", ""),
            "ports": scenario.ports.kind,
            "interfaces": [side.port.name],
            "namespaces": {side.name: side.namespace.path} if side.is_here else {},
            "mtu": scenario.ports.mtu,
        }
    )


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
