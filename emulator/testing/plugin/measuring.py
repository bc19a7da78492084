"""What a test records of its bench: all the time, and what it measures in a block of its own."""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from emulator.errors import EmulationError
from emulator.testing.record import RunRecord
from emulator.testing.recorder import Recorder
from emulator.units import NS_PER_S

if TYPE_CHECKING:
    from emulator.testing.plugin.satlink import Satlink
    from emulator.testing.readings import BulkRun, ProbeRun
    from emulator.testing.record import Direction

TICK_S = 0.1


class Watch:
    """A thread in which a recorder ticks, as long as the context lasts. `failure`: what has ended it earlier."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="recorder", daemon=True)
        self.failure: Exception | None = None

    def _tick(self) -> None:
        try:
            while not self._stopping.wait(TICK_S):
                self.recorder.tick()
        except Exception as error:  # noqa: BLE001 (whoever ends the watch is told)
            self.failure = error

    def end(self) -> None:
        """From now on nothing more is recorded."""
        self._stopping.set()
        self._thread.join()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


class Measuring:
    """One measurement on a running bench: a recorder, probes at both sides, perhaps a transfer."""

    def __init__(self, satlink: Satlink, interval_ns: int, connections: int, *, probes: bool) -> None:
        self._satlink, self._interval_ns, self._connections, self._probes = satlink, interval_ns, connections, probes
        self._stack = contextlib.ExitStack()
        self._record: RunRecord | None = None

    @property
    def ended(self) -> bool:
        """Whether the record is there."""
        return self._record is not None

    @property
    def record(self) -> RunRecord:
        """What was measured, once the block has ended. Raises EmulationError before."""
        if self._record is None:
            raise EmulationError("measuring: expected to be asked for its record after its block")
        return self._record

    def __enter__(self) -> Self:
        from emulator.testing.session import Session

        bench = self._satlink.bench
        for side in (bench.terminal, bench.datacenter):
            if side.remote:
                raise EmulationError(
                    f"measuring: the {side.name}'s side is another machine, whose clock is another one: "
                    "there, use `bentpipe probe`"
                )
        with self._stack:
            self._session = self._stack.enter_context(Session(bench.terminal, bench.datacenter))
            if self._probes:
                self._session.start_receivers()
            recorder = Recorder(bench, self._satlink.title or "measurement")
            self._first_event = len(self._satlink.events)
            if self._probes:
                self._session.start_probes(86_400 * NS_PER_S, self._interval_ns)
            if self._connections:
                self._session.start_download(86_400 * NS_PER_S, self._connections)
            self._watch = self._stack.enter_context(Watch(recorder))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            runs: dict[Direction, ProbeRun] = {}
            bulk: BulkRun | None = None
            if self._probes or self._connections:
                runs, bulk = self._session.finish(self._satlink.bench)
            self._watch.end()
            if self._watch.failure is not None:
                raise self._watch.failure
            recorder = self._watch.recorder
            record = recorder.finish(runs, bulk, interval_ns=self._interval_ns, connections=max(1, self._connections))
            self._record = self._satlink.told(recorder, record, self._first_event)
