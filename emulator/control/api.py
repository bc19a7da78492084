"""Benches from Python: `with emulator.Bench("starlink_2025") as bench: …`.

Light to import: NumPy and what needs it come when a bench starts. An ordinary user's process has to move into a user
namespace before anything starts a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Awaitable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from emulator.bench.privilege import ensure_network_privilege
from emulator.control.model import Command, Direction
from emulator.control.verbs import Reply, Verbs
from emulator.errors import EmulationError
from emulator.ports.curve import open_doors
from emulator.scenario import Scenario, load_scenario
from emulator.units import parse_utc_ns

if TYPE_CHECKING:
    from emulator.bench import Bench as RunningBench
    from emulator.bench import Counters, LinkState
    from emulator.bench.sides import Side
    from emulator.control.session import Session
    from emulator.control.subscriber import Message


class Bench(Verbs[Reply]):
    """A bench that carries packets for as long as its context lasts, in this process; its verbs change the link.

    scenario: a name, a path or a Scenario. overrides: `KEY=VALUE`, as `--set`; only with a name or a path. start: the
    simulated UTC at the beginning, as text or ns since 1970; default: now. control, telemetry: endpoints beside those
    in `runtime_dir`, for which tcp:// needs `keys`. log: a file for the events. The rest as for emulator.bench.Bench.
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
        log: Path | None = None,
        control: Sequence[str] = (),
        telemetry: Sequence[str] = (),
        keys: Path | None = None,
    ) -> None:
        self.scenario = loaded(scenario, overrides, seed)
        self._start_utc_ns = parse_utc_ns(start) if isinstance(start, str) else start
        self._isolate, self._fabric, self._realtime, self._elements = isolate, fabric, realtime, elements
        self._log, self._control, self._telemetry, self._keys = log, control, telemetry, keys
        self._doors: dict[str, int] | None = None
        self._stop_asked = threading.Event()
        self._running: RunningBench | None = None
        self._session: Session | None = None
        self._stack = contextlib.ExitStack()

    def prepare(self) -> None:
        """What has to be done while the process has one thread, for an ordinary user's bench gets a network of its own.

        Part of entering the context; twice is allowed. Raises PrivilegeError, EndpointError.
        """
        if self._doors is None:
            self._doors = open_doors((*self._control, *self._telemetry), self._keys)
            ensure_network_privilege()

    def __enter__(self) -> Self:
        self.prepare()
        from emulator.bench.bench import Bench as RunningBench
        from emulator.control.session import session

        with contextlib.ExitStack() as stack:
            running = RunningBench(
                self.scenario,
                start_utc_ns=self._start_utc_ns,
                isolate=self._isolate,
                fabric=self._fabric,
                realtime=self._realtime,
                elements=self._elements,
                log=self._log,
            )
            self._running = stack.enter_context(running)
            stack.callback(setattr, self, "_running", None)
            self._session = stack.enter_context(
                session(
                    running,
                    on_stop=self._stop_asked.set,
                    control=self._control,
                    telemetry=self._telemetry,
                    keys=self._keys,
                    doors=self._doors,
                )
            )
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

    @property
    def stop_asked(self) -> threading.Event:
        """Set when a client asks the bench to end: its owner decides."""
        return self._stop_asked

    def utc_ns(self) -> int:
        """Simulated UTC now."""
        return self.running.utc_ns()

    def state(self) -> LinkState:
        """The link now."""
        return self.running.state()

    def counters(self) -> Counters:
        """A snapshot that adds up."""
        return self.running.counters()

    def plan(self, duration_s: float = 60.0, start: str | None = None) -> Reply:
        """What is planned ahead, for at most 10 minutes from a UTC on; None: from now."""
        return self._give("plan", duration_s=duration_s, start=start)

    def inject(self, direction: Direction, packet: bytes) -> None:
        """An IP packet enters the link as if that side had sent it."""
        self.running.inject(direction, packet)

    def do(self, command: Command) -> Reply:
        """Gives any command of emulator.control.model."""
        if self._session is None:
            raise EmulationError("the bench does not run: use it as a context, `with emulator.Bench(…) as bench:`")
        reply: Reply = self._session.commands.do(command, "python")
        return reply

    def messages(self, *topics: str) -> Iterator[Message]:
        """What happens from now on, by telemetry topic, all of them without any; ends with the bench.

        The subscription begins with this call. Close the iterator, or let it go, to end it.
        """
        from emulator.control.subscriber import Subscriber
        from emulator.control.topics import SOCKET_NAME

        subscriber = Subscriber(self.runtime_dir / SOCKET_NAME, topics)

        def received() -> Iterator[Message]:
            with subscriber:
                yield from subscriber

        return received()


class AsyncBench(Verbs[Awaitable[Reply]]):
    """The same for asyncio: `async with emulator.AsyncBench("fixed") as bench: await bench.outage(5.0)`.

    Takes what Bench takes. `bench` is the Bench, for what answers at once (addresses, `popen`, `warnings`).
    """

    def __init__(self, scenario: str | Path | Scenario, **options: Any) -> None:
        self.bench = Bench(scenario, **options)

    async def __aenter__(self) -> Self:
        self.bench.prepare()  # in this thread, and before there is another one
        await asyncio.to_thread(self.bench.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.bench.__exit__, kind, error, trace)

    @property
    def terminal(self) -> Side:
        return self.bench.terminal

    @property
    def datacenter(self) -> Side:
        return self.bench.datacenter

    async def state(self) -> LinkState:
        """The link now."""
        return await asyncio.to_thread(self.bench.state)

    async def counters(self) -> Counters:
        """A snapshot that adds up."""
        return await asyncio.to_thread(self.bench.counters)

    async def plan(self, duration_s: float = 60.0, start: str | None = None) -> Reply:
        """What is planned ahead."""
        return await asyncio.to_thread(self.bench.plan, duration_s, start)

    def do(self, command: Command) -> Awaitable[Reply]:
        """Gives any command of emulator.control.model."""
        return asyncio.to_thread(self.bench.do, command)

    async def messages(self, *topics: str) -> AsyncGenerator[Message, None]:
        """What happens from now on, by telemetry topic; ends with the bench."""
        received = self.bench.messages(*topics)
        while True:
            message = await asyncio.to_thread(next, received, None)
            if message is None:
                return
            yield message


def loaded(scenario: str | Path | Scenario, overrides: Sequence[str] = (), seed: int | None = None) -> Scenario:
    """A scenario by name, path or as it is. Raises ScenarioError."""
    if isinstance(scenario, Scenario):
        if overrides:
            raise ValueError("overrides: expected none with a Scenario that is loaded already")
        return scenario if seed is None else scenario.model_copy(update={"seed": seed})
    return load_scenario(str(scenario), overrides if seed is None else (*overrides, f"seed={seed}"))
