"""What carries the packets of a bench: the loop in this process, or the ZeroMQ fabric with its ends near or far."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from emulator.bench.sides import Side, has_ipv6, plan_addresses
from emulator.errors import InterfaceError, ScenarioError
from emulator.link.link import Link
from emulator.ports.curve import allow, make_pair
from emulator.ports.end_process import EndProcess
from emulator.ports.fabric import SOCKET_NAME, FabricRelay
from emulator.ports.messages import ROLES, agreement_of
from emulator.ports.relay import Relay
from emulator.ports.remote import RemotePort
from emulator.scenario.model import Host, Scenario
from emulator.units import NS_PER_US

Fabric = Literal["direct", "zmq", "zmq-curve"]
"""`zmq-curve`: as zmq, over tcp:// on this machine with keys made for the occasion; for measuring what these cost."""


@dataclass(frozen=True)
class Listening:
    """Where the link of a bench in three parts waits for its two ends: endpoints, and for tcp:// keys and doors."""

    endpoints: tuple[str, ...]
    keys: Path | None = None
    doors: Mapping[str, int] = field(default_factory=dict)


class RemoteSide(Side):
    """A side that is a part of its own, on this machine or another: nothing can be done there from here."""

    is_here = False

    def __init__(self, name: Any, port: RemotePort, ipv4: str, ipv6: str) -> None:  # nothing of a side's is made
        self.name, self.port, self.ipv4, self.ipv6, self.own_namespace = name, port, ipv4, ipv6, False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise InterfaceError(f"the {self.name}'s side is a part of its own: do this there")

    def popen(self, *_: Any, **__: Any) -> Any:
        raise InterfaceError(f"the {self.name}'s side is a part of its own: run programs there")

    def tell(self, more: Mapping[str, str]) -> None:
        """Nothing: its programs are started elsewhere."""

    def close(self) -> None:
        """Nothing is held here."""


def require_divisible(scenario: Scenario) -> None:
    """Raises ScenarioError for a scenario that cannot run in three parts."""
    faults = [
        f"{scenario.name or 'scenario'}: {key}: expected none where the bench runs in three parts"
        for key, there in (
            ("access", scenario.access is not None),
            ("pep", scenario.pep is not None),
            ("paths", bool(scenario.paths)),
            ("devices", bool(scenario.devices)),
        )
        if there
    ]
    if faults:
        raise ScenarioError(faults)


def remote_sides(scenario: Scenario, drops: Callable[[int], int]) -> tuple[RemoteSide, RemoteSide]:
    """Both sides of a bench in three parts, with the addresses that they give themselves; behind network cards, those
    that the scenario tells.

    drops: what the end of a role (0 terminal, 1 gateway) says of its device's queue.
    """
    addresses = plan_addresses(scenario.ports, 0, ipv6=has_ipv6())
    ports = scenario.ports
    ethernet = ports.kind != "tun"

    def side(role: int, name: Literal["terminal", "datacenter"]) -> RemoteSide:
        own4, own6 = addresses.of(name)
        port = RemotePort(f"the {name}'s interface", ethernet=ethernet, drops=lambda: drops(role))
        if ports.kind == "nic":
            host: Host = getattr(ports, f"{name}_host")
            return RemoteSide(name, port, host.ipv4, host.ipv6)
        return RemoteSide(name, port, str(own4.ip), str(own6.ip) if own6 else "")

    return side(0, "terminal"), side(1, "datacenter")


def make_relay(
    scenario: Scenario,
    fabric: Fabric,
    listening: Listening | None,
    links: tuple[Link, Link],
    sides: tuple[Side, Side],
    injection: tuple[int, int],
    *,
    directory: Path,
    stack: contextlib.ExitStack,
    tell: Callable[[str], None],
) -> Relay | FabricRelay:
    """What carries the packets between the sides; not started yet. `stack` ends what is started for it."""
    quantum_ns = round(scenario.ports.write_quantum_us * NS_PER_US)
    near, far = (side.port for side in sides)
    if fabric == "direct" and listening is None:
        kinds = near.kind, far.kind
        stamps = near.stamps, far.stamps
        devices = near.descriptor, far.descriptor
        return Relay(*links, *devices, injection, kinds=kinds, stamps=stamps, quantum_ns=quantum_ns)
    agreement = agreement_of(scenario)
    how: Any = {"agreement": agreement, "quantum_ns": quantum_ns, "tell": tell}
    if listening is not None:
        return FabricRelay(
            *links, injection, endpoints=listening.endpoints, keys=listening.keys, doors=listening.doors, **how
        )
    endpoint, keys = f"ipc://{directory / SOCKET_NAME}", None
    known: dict[str, Any] = {}
    if fabric == "zmq-curve":
        endpoint, keys = "tcp://127.0.0.1:*", directory / "keys"
        make_pair(keys, "server")
        make_pair(keys, "ends")
        allow(keys, "ends", ["packets"])
        known = {"keys": str(keys), "name": "ends"}
    ends = []
    for role, port in zip(ROLES, (near, far), strict=True):
        end = EndProcess(role)
        stack.callback(end.stop)
        settings = {"kind": port.kind, "agreement": agreement, "ethernet": int(scenario.ports.kind != "tun"), **known}
        end.prepare(settings, {"port": port.descriptor, "stamps": port.stamps_descriptor})
        ends.append(end)
    return FabricRelay(*links, injection, endpoints=[endpoint], ends=ends, keys=keys, **how)
