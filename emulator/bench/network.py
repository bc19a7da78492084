"""What stands around a bench's link: access network, proxy, attachments; and the changes of the point of presence."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from emulator.bench.attach import Attachments
from emulator.bench.daemons import Daemons
from emulator.bench.paths import Paths
from emulator.bench.pep import Proxy
from emulator.bench.sides import Side
from emulator.errors import BentpipeError, EndpointError, InterfaceError
from emulator.units import NS_PER_S

if TYPE_CHECKING:
    from emulator.bench.bench import Bench
    from emulator.bench.devices import BenchDevices
    from emulator.ports.access import AccessNetwork
    from emulator.ports.namespace import Namespace

LOOK_AGAIN_S = 1.0  # at most, before the next change is looked for anew: the world's clock may be set


class Surroundings:
    """Use as a context, inside a bench whose link carries packets."""

    def __init__(self, bench: Bench, warn: Callable[[str], None]) -> None:
        self._bench, self._warn = bench, warn
        self.attachments = Attachments(bench)
        self.paths = Paths(bench, warn)
        sides, source = {side.name: side for side in (bench.terminal, bench.datacenter)}, bench.scenario.source
        self.daemons = Daemons(bench.scenario.daemons, sides, source.parent if source is not None else None, warn)
        self.proxy: Proxy | None = None
        self._stack = contextlib.ExitStack()
        self._stopping = threading.Event()
        self._verbs: dict[str, Callable[..., Any]] = {
            "access": self.access_state,
            "new_address": self.new_address,
            "attach": lambda **values: asdict(self.attachments.attach(**values)),
            "detach": lambda name: asdict(self.attachments.detach(name)),
            "paths": lambda: [asdict(item) for item in self.paths.listed()],
            "use_path": lambda name: asdict(self.paths.use(name)),
            "daemons": lambda: [asdict(item) for item in self.daemons.listed()],
            "attachments": lambda: [asdict(item) for item in self.attachments.listed()],
            "mail": lambda **values: self._devices().mail(**values),
            "mail_send": lambda **values: self._devices().mail_send(**values),
            "mail_take": lambda **values: self._devices().mail_take(**values),
        }

    def __enter__(self) -> Surroundings:
        with self._stack:
            self._stack.callback(self.attachments.close)
            bench = self._bench
            if bench.scenario.pep is not None and bench.access is not None:
                near = self._end("terminal", bench.terminal.namespace)
                far = self._end("gateway", bench.access.namespace)
                self.proxy = Proxy(bench.scenario.pep, near, far, bench.access, bench.runtime_dir, self._warn)
                self._stack.callback(self.proxy.close)
            self._stack.enter_context(self.paths)
            self._stack.enter_context(self.daemons)
            wanted = bench.scenario.access
            if wanted is not None and (wanted.new_address == "gateway" or wanted.new_address_at_s):
                roaming = threading.Thread(target=self._roam, name="points of presence", daemon=True)
                roaming.start()
                self._stack.callback(roaming.join)
                self._stack.callback(self._stopping.set)
            self._stack = self._stack.pop_all()
        return self

    def _end(self, name: str, space: Namespace) -> Side:
        """Where one end of the proxy lives; its processes are not the side's, and end after those."""
        side = Side(name, space, self._bench.terminal.port, "", "", self._bench.marking, own_namespace=True)
        self._stack.callback(side.close)
        return side

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._verbs = {}  # they hold us, and we the bench

    def do(self, verb: str, **values: Any) -> Any:
        """One of the verbs, as the control socket has them. Raises TypeError for wrong values, and BentpipeError."""
        return self._verbs[verb](**values)

    def access_state(self) -> dict[str, Any]:
        """The access network and the proxy. Raises InterfaceError if the bench has no access network."""
        network = self._network()
        pep = self.proxy.counts() if self.proxy is not None else {}
        return {**asdict(network.state()), "pep": {name: asdict(counts) for name, counts in pep.items()}}

    def new_address(self) -> dict[str, Any]:
        """Another point of presence, hence another public address, from now on."""
        self._network().change_point_of_presence()
        return self.access_state()

    def _devices(self) -> BenchDevices:
        if self._bench.devices is None:
            raise EndpointError(f"{self._bench.scenario.name or 'this bench'} has no [[devices]], hence no mail")
        return self._bench.devices

    def _network(self) -> AccessNetwork:
        if self._bench.access is None:
            raise InterfaceError(f"{self._bench.scenario.name or 'this bench'} has no [access] table")
        return self._bench.access

    def _roam(self) -> None:
        bench, wanted = self._bench, self._bench.scenario.access
        assert wanted is not None
        script = sorted(bench.started_monotonic_ns + round(at * NS_PER_S) for at in wanted.new_address_at_s)
        gateway = ""
        while True:
            wait_s = LOOK_AGAIN_S
            changed = False
            if script:
                left_ns = script[0] - time.monotonic_ns()
                wait_s = min(wait_s, left_ns / NS_PER_S)
                if left_ns <= 0:
                    del script[0]
                    changed = True
            if wanted.new_address == "gateway":
                now = bench.state()
                changed |= bool(gateway and now.gateway and now.gateway != gateway)
                gateway = now.gateway or gateway
                if now.next_handover_ns is not None:
                    wait_s = min(wait_s, (now.next_handover_ns - now.utc_ns) / NS_PER_S)
            if changed:
                self._try_change()
                wait_s = 0
            if self._stopping.wait(max(0.0, wait_s)):
                return

    def _try_change(self) -> None:
        try:
            self.new_address()
        except (BentpipeError, OSError) as error:
            self._warn(f"the point of presence could not be changed: {error}")
