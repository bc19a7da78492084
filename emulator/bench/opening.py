"""Opens the two ends of a bench: TUN or TAP devices in namespaces of their own, or two network cards."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from emulator.bench.cards import Cards
from emulator.bench.runtime import MARK, RuntimeDirectory
from emulator.bench.sides import (
    Addresses,
    Side,
    SideName,
    give_addresses,
    has_ipv6,
    numbers_in_use,
    plan_addresses,
    side_environment,
)
from emulator.errors import EmulationError, InterfaceError
from emulator.ports import wires
from emulator.ports.access import SATELLITE, AccessNetwork, access_of, plan_access
from emulator.ports.namespace import Namespace
from emulator.ports.tap import TapPort
from emulator.ports.tun import TunPort
from emulator.scenario.model import Host, Ports, Scenario

NAMED = Path("/run/netns")  # where `ip netns` has its names
FREE_NAME = "bp%d"  # of the datacenter's interface, where the scenario names none


@dataclass(frozen=True)
class SharedSides:
    """Where the sides of a further path are: those of the bench that it belongs to, whose simulated time it has too."""

    terminal: Namespace
    datacenter: Namespace
    utc_ns: Callable[[], int]


@dataclass(frozen=True)
class Ends:
    """What is there once they are open. marking: in the environment of each process of the bench.

    longest_packet: the longest IP packet that the ports take, 0 where the kernel sees to that.
    """

    terminal: Side
    datacenter: Side
    marking: dict[str, str]
    access: AccessNetwork | None = None
    longest_packet: int = 0


def open_ends(
    scenario: Scenario,
    runtime: RuntimeDirectory,
    stack: contextlib.ExitStack,
    *,
    isolate: bool,
    within: SharedSides | None,
    warn: Callable[[str], None],
    fail: Callable[[EmulationError], None],
) -> Ends:
    """Opens them, and has `stack` close them. fail: is told that a network card has gone.

    within: for a further path of another bench, whose sides are isolated.

    Raises InterfaceError, PrivilegeError.
    """
    if scenario.ports.kind != "tun" and access_of(scenario) is not None:
        raise InterfaceError(f"ports.kind {scenario.ports.kind!r}: an access network needs kind 'tun'")
    if scenario.ports.kind != "tun" and (within is not None or scenario.paths):
        raise InterfaceError(f"ports.kind {scenario.ports.kind!r}: several paths need kind 'tun'")
    if scenario.ports.kind == "nic":
        return _open_cards(scenario, runtime, stack, warn, fail)
    return _open_devices(scenario, runtime, stack, isolate, within, warn)


def _open_cards(
    scenario: Scenario,
    runtime: RuntimeDirectory,
    stack: contextlib.ExitStack,
    warn: Callable[[str], None],
    fail: Callable[[EmulationError], None],
) -> Ends:
    ports = scenario.ports
    names = ports.terminal, ports.datacenter
    if not all(names) or len(set(names)) < len(names):
        raise InterfaceError(f"ports.terminal, ports.datacenter: expected two network cards, got {names}")
    sides, cards = card_sides(ports, ("terminal", "datacenter"), runtime, stack, warn, fail)
    if cards.mtu < ports.mtu:
        small = ", ".join(f"{port.name} {port.mtu}" for port in cards.ports)
        warn(f"packets longer than {cards.mtu} bytes are dropped: the cards' MTU ({small})")
    return Ends(sides[0], sides[1], card_marking(ports, runtime), longest_packet=min(cards.mtu, ports.mtu))


def card_sides(
    ports: Ports,
    names: Sequence[SideName],
    runtime: RuntimeDirectory,
    stack: contextlib.ExitStack,
    warn: Callable[[str], None],
    fail: Callable[[EmulationError], None],
) -> tuple[list[Side], Cards]:
    """The sides of these names, each behind the card that `ports` names for it, and the cards, taken.

    Raises InterfaceError, PrivilegeError.
    """
    here = stack.enter_context(Namespace.current())
    cards = Cards([getattr(ports, name) for name in names], ports, here, on_warning=warn, on_failure=fail)
    stack.callback(cards.close)
    for note in cards.notes:
        warn(note)
    marking, sides = card_marking(ports, runtime), []
    for name, port in zip(names, cards.ports, strict=True):
        host: Host = getattr(ports, f"{name}_host")
        place = stack.enter_context(_namespace_of(name, host.namespace)) if host.namespace else here
        side = Side(name, place, port, host.ipv4, host.ipv6, marking, own_namespace=False, remote=host.remote)
        side.is_here = not host.remote and host != Host()
        stack.callback(side.close)
        sides.append(side)
    return sides, cards


def card_marking(ports: Ports, runtime: RuntimeDirectory) -> dict[str, str]:
    """What the processes of a bench between network cards find in their environment."""
    hosts = {"TERMINAL": ports.terminal_host, "DATACENTER": ports.datacenter_host}
    told = {f"BENTPIPE_{name}{six}": value for name, host in hosts.items()
            for six, value in (("", host.ipv4), ("6", host.ipv6)) if value}  # fmt: skip
    return {MARK: runtime.token, **told}


def _namespace_of(side: str, name: str) -> Namespace:
    """The network namespace of a host on this machine. Raises InterfaceError."""
    path = Path(name) if "/" in name else NAMED / name
    try:
        return Namespace(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise InterfaceError(
            f"ports.{side}_host.namespace {name!r}: expected a network namespace at {path}: {error.strerror}"
        ) from error


def _open_devices(
    scenario: Scenario,
    runtime: RuntimeDirectory,
    stack: contextlib.ExitStack,
    isolate: bool,
    within: SharedSides | None,
    warn: Callable[[str], None],
) -> Ends:
    ports, access = scenario.ports, access_of(scenario)
    if within is not None:
        terminal, datacenter = within.terminal, within.datacenter
    else:
        terminal = stack.enter_context(Namespace.create())
        datacenter = stack.enter_context(Namespace.create() if isolate else Namespace.current())
    router = datacenter if access is None else stack.enter_context(Namespace.create())
    number = 0
    if within is not None:  # whose network is its own: nobody else takes numbers there
        used = numbers_in_use(datacenter, ports)
        number = next(free for free in range(len(used) + 1) if free not in used)
    elif not isolate:
        number = runtime.take_address_number(numbers_in_use(datacenter, ports))
    first = within is None
    far_name = ports.datacenter_interface or FREE_NAME
    places = (terminal, ports.terminal_interface), (router, far_name if access is None else SATELLITE)
    make, stamped = (TapPort if ports.kind == "tap" else TunPort), ports.arrival == "kernel"
    devices = []
    for namespace, name in places:
        device = make(namespace, name, mtu=ports.mtu, queue_packets=ports.tx_queue_packets, stamped=stamped)
        stack.callback(device.close)
        devices.append(device)
        if device.stamps_warning:
            warn(device.stamps_warning)
    network: AccessNetwork | None = None
    if access is None:
        wanted = plan_addresses(ports, number, ipv6=has_ipv6())
        addresses = give_addresses(wanted, devices[0], devices[1], warn, default_route=first)
    else:
        window = scenario.pep.initial_window_packets if scenario.pep is not None else 0
        six = wires.carries_ipv6(datacenter)
        if has_ipv6() and not six:
            warn("no IPv6: it is switched off at the datacenter's side")
        plan = plan_access(access, ports, number, ipv6=six)
        network = AccessNetwork(
            access, plan, devices[1], devices[0], datacenter, far_name, ports, window, default_route=first
        )
        stack.callback(network.close)
        addresses = Addresses(plan.terminal4, plan.datacenter4, plan.terminal6(0), plan.datacenter6)
    marking = side_environment(addresses, runtime.token)
    sides = []
    for name, namespace, device, own4, own6, own in (
        ("terminal", terminal, devices[0], addresses.terminal4, addresses.terminal6, True),
        ("datacenter", datacenter, devices[1], addresses.datacenter4, addresses.datacenter6, isolate),
    ):
        ipv6 = str(own6.ip) if own6 else ""
        side = Side(name, namespace, device, str(own4.ip), ipv6, marking, own_namespace=own)
        stack.callback(side.close)
        sides.append(side)
    return Ends(sides[0], sides[1], marking, network)
