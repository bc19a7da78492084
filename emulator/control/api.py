"""Benches from Python: `with emulator.Bench("starlink_2025") as bench: …`.

Light to import: NumPy and what needs it come when a bench starts. An ordinary user's process has to move into a user
namespace before anything starts a thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from emulator.bench.privilege import ensure_network_privilege
from emulator.errors import EmulationError
from emulator.scenario import Scenario, load_scenario
from emulator.units import parse_utc_ns

if TYPE_CHECKING:
    from emulator.bench import Bench as RunningBench
    from emulator.bench import Counters, LinkState
    from emulator.bench.sides import Side


class Bench:
    """A bench that carries packets for as long as its context lasts.

    scenario: a name, a path or a Scenario. overrides: `KEY=VALUE`, as `--set`; only with a name or a path. start: the
    simulated UTC at the beginning, as text or ns since 1970; default: now. The rest is as for `emulator.bench.Bench`.
    Raises the errors of `emulator.errors`; nothing is left behind then.
    """

    def __init__(
        self,
        scenario: str | Path | Scenario,
        *,
        overrides: Sequence[str] = (),
        seed: int | None = None,
        start: str | int | None = None,
        isolate: bool = True,
        fabric: Literal["direct", "zmq"] = "direct",
        realtime: bool = False,
        elements: Path | None = None,
    ) -> None:
        self.scenario = loaded(scenario, overrides, seed)
        self._start_utc_ns = parse_utc_ns(start) if isinstance(start, str) else start
        self._isolate, self._fabric, self._realtime, self._elements = isolate, fabric, realtime, elements
        self._running: RunningBench | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        ensure_network_privilege()
        from emulator.bench.bench import Bench as RunningBench
        from emulator.bench.captures import serving_captures
        from emulator.control.messages import SOCKET_NAME
        from emulator.control.server import ControlServer

        with contextlib.ExitStack() as stack:
            running = RunningBench(
                self.scenario,
                start_utc_ns=self._start_utc_ns,
                isolate=self._isolate,
                fabric=self._fabric,
                realtime=self._realtime,
                elements=self._elements,
            )
            self._running = stack.enter_context(running)
            stack.callback(setattr, self, "_running", None)
            stack.enter_context(serving_captures(running))
            stack.enter_context(ControlServer(running, running.runtime_dir / SOCKET_NAME))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def running(self) -> RunningBench:
        """The bench itself. Raises EmulationError outside the context."""
        if self._running is None:
            raise EmulationError("the bench does not run: use it as a context, `with emulator.Bench(…) as bench:`")
        return self._running

    @property
    def terminal(self) -> Side:
        """The terminal's side: `popen` runs programs there, `ipv4` and `ipv6` are its addresses."""
        return self.running.terminal

    @property
    def datacenter(self) -> Side:
        """The far side."""
        return self.running.datacenter

    @property
    def runtime_dir(self) -> Path:
        return self.running.runtime_dir

    @property
    def warnings(self) -> list[str]:
        """What the bench had to say so far."""
        return self.running.warnings

    def utc_ns(self) -> int:
        """Simulated UTC now."""
        return self.running.utc_ns()

    def state(self) -> LinkState:
        """The link now."""
        return self.running.state()

    def counters(self) -> Counters:
        """A snapshot that adds up."""
        return self.running.counters()


def loaded(scenario: str | Path | Scenario, overrides: Sequence[str] = (), seed: int | None = None) -> Scenario:
    """A scenario by name, path or as it is. Raises ScenarioError."""
    if isinstance(scenario, Scenario):
        if overrides:
            raise ValueError("overrides: expected none with a Scenario that is loaded already")
        return scenario if seed is None else scenario.model_copy(update={"seed": seed})
    return load_scenario(str(scenario), overrides if seed is None else (*overrides, f"seed={seed}"))
