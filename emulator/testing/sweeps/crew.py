"""The crew that works through a sweep: processes of this machine, or a cluster of `distributed`.

Each worker has one case at a time, so that of a worker that dies it is known what it died of: the case goes to another
one, and if that dies too it is an error of this case, and the sweep goes on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from emulator.child import deaf_to_ctrl_c, ignore_ctrl_c
from emulator.errors import BentpipeError, EmulationError
from emulator.testing.store import Run
from emulator.testing.sweeps.matrix import Case

ATTEMPTS = 2
CONNECT_S = 10.0

Outcome = tuple[Case, Run | str]
"""A case and its run, or one line that says why there is none."""


def work_here(cases: Sequence[Case], workers: int) -> Iterator[Outcome]:
    """The outcomes as they come, from `workers` processes. Closing the iterator ends them."""
    if not all(case.live for case in cases):
        from emulator.taps.replay import warm_up

        warm_up()  # before several workers would do so at the same time
    waiting = deque((case, 1) for case in cases)
    with contextlib.ExitStack() as stack:
        crew = [_Worker() for _ in range(min(workers, len(cases)))]
        for worker in crew:
            stack.callback(worker.end)
        while waiting or any(worker.case for worker in crew):
            for worker in crew:
                if worker.case is None and waiting:
                    worker.give(*waiting.popleft())
            busy = [worker for worker in crew if worker.case is not None]
            ready = wait([each for worker in busy for each in (worker.line, worker.process.sentinel)])
            for worker in busy:
                if worker.line in ready or worker.process.sentinel in ready:
                    case, attempt, outcome = worker.take()
                    if outcome is not None:
                        yield case, outcome
                    elif attempt < ATTEMPTS:
                        waiting.appendleft((case, attempt + 1))
                    else:
                        yield case, f"its worker died, {attempt} times: {worker.last_words}"


class _Worker:
    """One process, replaced when it dies."""

    def __init__(self) -> None:
        self.case: Case | None = None
        self.attempt = 0
        self.last_words = ""
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit the threads of NumPy
        ours, theirs = context.Pipe()
        self.line: Connection = ours
        self.process: BaseProcess = context.Process(target=_work, args=(theirs,), daemon=True)
        with deaf_to_ctrl_c():
            self.process.start()
        theirs.close()

    def give(self, case: Case, attempt: int) -> None:
        self.case, self.attempt = case, attempt
        with contextlib.suppress(OSError):  # it has died meanwhile: `take` finds that out
            self.line.send(case)

    def take(self) -> tuple[Case, int, Run | str | None]:
        """The case, the attempt, and what came of it; None if the worker has died of it."""
        case, outcome = self.case, None
        assert case is not None
        self.case = None
        try:
            outcome = self.line.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            self.last_words = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            self.line.close()
            self._start()
        return case, self.attempt, outcome

    def end(self) -> None:
        self.line.close()
        self.process.terminate()
        self.process.join(2)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _work(line: Connection) -> None:
    """A worker's life: the end of the line is its end."""
    ignore_ctrl_c()
    with contextlib.suppress(EOFError, OSError):
        while True:
            line.send(attempt(line.recv()))


def attempt(case: Case) -> Run | str:
    """The run of a case, or why there is none."""
    from emulator.testing.sweeps.case import run_case

    try:
        return run_case(case)
    except BentpipeError as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 (one case of many: it is told, and the others go on)
        return f"defect: {type(error).__name__}: {error}"


def work_on_cluster(cases: Sequence[Case], address: str) -> Iterator[Outcome]:
    """The outcomes as they come, from the workers of a `distributed` scheduler. Raises EmulationError, and
    ModuleNotFoundError where `distributed` is not installed.
    """
    from distributed import Client, as_completed

    try:
        client = Client(address, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise EmulationError(f"{address}: no scheduler of distributed answers: {error}") from error
    with client:
        futures = {client.submit(attempt, case, key=f"bentpipe-{case.key}"): case for case in cases}
        for future in as_completed(list(futures)):
            case = futures.pop(future)
            try:
                yield case, future.result()
            except Exception as error:  # noqa: BLE001 (KilledWorker and its kin: of this case alone)
                yield case, f"{type(error).__name__}: {error}"


def run_sweep(
    cases: Sequence[Case],
    work: Callable[[Sequence[Case]], Iterator[Outcome]],
    keep: Callable[[Run], object],
    told: Callable[[int], None] = lambda done: None,
) -> dict[str, str]:
    """Works through the cases and keeps each run as soon as it is there; returns the errors, by the key of the case.

    told: how many are done. Raises what `keep` raises, at once: what it has kept stays.
    """
    errors: dict[str, str] = {}
    outcomes = work(cases)
    try:
        for done, (case, outcome) in enumerate(outcomes, 1):
            if isinstance(outcome, str):
                errors[case.key] = outcome
            else:
                keep(outcome)
            told(done)
    finally:
        close = getattr(outcomes, "close", None)
        if close:
            close()
    return errors
