"""Several ways between the same two sides: each a link of its own, in namespaces that they share.

The bench's own link is the first of them, called as its interface. Connections stay on the path whose address they
have; new ones take the path in use, which a person (`bentpipe paths --use`) or a routing daemon chooses.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.bench.attach import link_interface
from emulator.bench.opening import SharedSides
from emulator.errors import BentpipeError, InterfaceError, ScenarioError
from emulator.ports import wires
from emulator.ports.access import EVERYWHERE4, EVERYWHERE6, SATELLITE
from emulator.scenario import embedded_scenarios, load_scenario
from emulator.scenario.access import SitePath
from emulator.scenario.model import Scenario

if TYPE_CHECKING:
    from emulator.bench.bench import Bench

SITE4 = {  # RFC 2544; on the sides' loopbacks: addresses that no path owns, for services and daemons
    "terminal": ipaddress.IPv4Address("198.18.62.2"),
    "datacenter": ipaddress.IPv4Address("198.18.62.1"),
}
CABLES4 = ipaddress.IPv4Network("198.18.61.0/24")  # RFC 2544; a /30 for each bypass
FIRST_TABLE = 1000  # of routes, one for each path
CARRIER_PREFIX = 16  # of each path's share of the carrier's network, where it translates
STATIC_METRIC = 1000  # of the routes between the sites' addresses: a daemon's own, of 32, go first


@dataclass(frozen=True)
class PathState:
    """One path now. `bench`-less ones are cables. A path that has failed says why, and carries nothing."""

    name: str
    terminal: str
    datacenter: str
    in_use: bool
    satellite: str
    delay_ms: float
    gate: str
    failure: str
    seed: int  # of its draws; 0 for a cable, which has none


@dataclass(frozen=True)
class _Way:
    name: str
    terminal4: ipaddress.IPv4Address
    datacenter4: ipaddress.IPv4Address
    far: str  # the datacenter's interface
    via: ipaddress.IPv4Address | None  # of the router there, if there is one
    terminal6: ipaddress.IPv6Address | None
    bench: Bench | None


class Paths:
    """Use as a context, inside the bench of the first path.

    `benches`: by the path's name, the first included. `told`: what the sides' programs find in their environment.
    """

    def __init__(self, bench: Bench, warn: Callable[[str], None]) -> None:
        self._bench, self._warn = bench, warn
        self._stack = contextlib.ExitStack()
        self._ways: dict[str, _Way] = {}
        self.benches: dict[str, Bench] = {}
        self.used = ""
        self.told: dict[str, str] = {}

    def __enter__(self) -> Paths:
        wanted = self._bench.scenario.paths
        if not wanted:
            return self
        if not self._bench.isolated:
            raise InterfaceError("[[paths]] needs --isolate: its routes are not for the machine's own network")
        with self._stack:
            for side in (self._bench.terminal, self._bench.datacenter):
                wires.add_address(side.namespace, "lo", ipaddress.IPv4Interface(SITE4[side.name]))
            self._take(self._bench.scenario.ports.terminal_interface, self._bench)
            for number, path in enumerate(wanted):
                if path.name in self._ways:
                    raise ScenarioError([f"paths[{number}].name: expected a name of its own, got {path.name!r}"])
                if path.scenario:
                    self._take(path.name, self._open(number, path))
                else:
                    self._lay_cable(number, path.name)
            self._share_out()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self, number: int, path: SitePath) -> Bench:
        from emulator.bench.bench import Bench

        scenario = scenario_of(self._bench.scenario, path, number)
        main = self._bench
        place = SharedSides(main.terminal.namespace, main.datacenter.namespace, main.utc_ns)
        return self._stack.enter_context(
            Bench(
                scenario,
                start_utc_ns=main.start_utc_ns,
                within=place,
                on_warning=lambda line: self._warn(f"path {path.name}: {line}"),
            )
        )

    def _take(self, name: str, bench: Bench) -> None:
        self.benches[name] = bench
        access = bench.access
        self._ways[name] = _Way(
            name=name,
            terminal4=ipaddress.IPv4Address(bench.terminal.ipv4),
            datacenter4=ipaddress.IPv4Address(bench.datacenter.ipv4),
            far=link_interface(bench),
            via=access.plan.router4.ip if access is not None else None,
            terminal6=ipaddress.IPv6Address(bench.terminal.ipv6) if bench.terminal.ipv6 else None,
            bench=bench,
        )
        if access is not None:
            wires.add_route(access.namespace, ipaddress.IPv4Network(SITE4["terminal"]), by=SATELLITE)

    def _lay_cable(self, number: int, name: str) -> None:
        """The bypass: what the same programs do where there is no satellite."""
        terminal, datacenter = self._bench.terminal.namespace, self._bench.datacenter.namespace
        link = list(CABLES4.subnets(new_prefix=30))[number]
        near, far = wires.cable(terminal, name, datacenter, "by%d", mtu=self._bench.scenario.ports.mtu)
        wires.add_address(terminal, near, ipaddress.IPv4Interface(f"{link[2]}/30"))
        wires.add_address(datacenter, far, ipaddress.IPv4Interface(f"{link[1]}/30"))
        self._ways[name] = _Way(name, link[2], link[1], far, link[2], None, None)

    def _share_out(self) -> None:
        """A table of routes for each path, what the sides' programs are told, and the path that is in use at first."""
        terminal = self._bench.terminal.namespace
        told = {f"BENTPIPE_SITE_{name.upper()}": str(address) for name, address in SITE4.items()}
        for number, way in enumerate(self._ways.values()):
            table = FIRST_TABLE + number
            wires.lead_from(terminal, way.terminal4, table)
            gateway = way.datacenter4 if way.bench is None else None
            wires.add_route(terminal, EVERYWHERE4, by=way.name, via=gateway, table=table)
            wires.add_route(terminal, ipaddress.IPv4Network(way.datacenter4), by=way.name)
            if way.terminal6 is not None:
                wires.lead_from(terminal, way.terminal6, table)
                wires.add_route(terminal, EVERYWHERE6, by=way.name, table=table)
            known = re.sub(r"\W", "_", way.name).upper()
            told |= {f"BENTPIPE_{known}_TERMINAL": str(way.terminal4)}
            told |= {f"BENTPIPE_{known}_DATACENTER": str(way.datacenter4)}
        for side in (self._bench.terminal, self._bench.datacenter):
            side.tell(told)
        self.told = told
        preference = {path.name: path.preference for path in self._bench.scenario.paths}
        self.use(min(self._ways, key=lambda name: preference.get(name, 0)))

    def use(self, name: str) -> PathState:
        """New connections take this path, and so does what goes between the sites' own addresses.

        Raises InterfaceError if there is no such path.
        """
        if name not in self._ways:
            raise InterfaceError(f"{name}: expected a path of this bench: {', '.join(self._ways) or 'it has one only'}")
        way, terminal, datacenter = self._ways[name], self._bench.terminal.namespace, self._bench.datacenter.namespace
        gateway = way.datacenter4 if way.bench is None else None
        wires.add_route(terminal, EVERYWHERE4, by=way.name, via=gateway)
        if way.terminal6 is not None:
            wires.add_route(terminal, EVERYWHERE6, by=way.name, metric=1)
        there, here = (ipaddress.IPv4Network(SITE4[side]) for side in ("datacenter", "terminal"))
        wires.add_route(terminal, there, by=way.name, via=gateway, metric=STATIC_METRIC, source=SITE4["terminal"])
        wires.add_route(datacenter, here, by=way.far, via=way.via, metric=STATIC_METRIC, source=SITE4["datacenter"])
        self.used = name
        return self._state(way)

    def listed(self) -> list[PathState]:
        """Every path, in the scenario's order; empty for a bench of one path."""
        return [self._state(way) for way in self._ways.values()]

    def _state(self, way: _Way) -> PathState:
        satellite, delay_ms, gate, failure = "", 0.0, "PASS", ""
        if way.bench is not None:
            try:
                way.bench.counters()
                now = way.bench.state()
                satellite, delay_ms, gate = now.satellite, now.uplink.delay_ns / 1e6, now.uplink.gate.name
            except BentpipeError as error:
                failure = str(error)
        return PathState(
            name=way.name,
            terminal=str(way.terminal4),
            datacenter=str(way.datacenter4),
            in_use=way.name == self.used,
            satellite=satellite,
            delay_ms=delay_ms,
            gate=gate,
            failure=failure,
            seed=way.bench.scenario.seed if way.bench is not None else 0,
        )


def seed_of(main_seed: int, name: str) -> int:
    """The seed of a further path: a hash of the bench's seed and the path's name, below 2⁶³."""
    digest = hashlib.blake2b(f"{main_seed} {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def scenario_of(main: Scenario, path: SitePath, number: int) -> Scenario:
    """The scenario of a further path: its interface has the path's name, and its carrier a network of its own.

    Its draws are its own, by `seed_of`; rain is that of the site. The path's `set` may say either seed, a seed in the
    file that it names is for runs of that file alone. Raises ScenarioError with the path's name.
    """
    where: str | Path = path.scenario
    if path.scenario not in embedded_scenarios() and main.source is not None:
        where = main.source.parent / path.scenario
    try:
        scenario = load_scenario(
            where,
            [
                f"seed={seed_of(main.seed, path.name)}",  # before the path's own changes, which may say another
                f"weather_seed={main.rain_seed}",
                *path.set,
                f"ports.terminal_interface={path.name}",
            ],
        )
    except ScenarioError as error:
        raise ScenarioError([f"paths[{number}] {path.name}: {problem}" for problem in error.problems]) from error
    if scenario.paths:
        raise ScenarioError([f"paths[{number}] {path.name}: expected a scenario of one path, got [[paths]] in it"])
    if scenario.access is None:
        return scenario
    carrier = scenario.access.terminal_network
    if carrier.prefixlen < CARRIER_PREFIX:
        shares = carrier.subnets(new_prefix=CARRIER_PREFIX)
        carrier = next(share for place, share in enumerate(shares) if place == number + 1)
    return scenario.model_copy(update={"access": scenario.access.model_copy(update={"terminal_network": carrier})})
