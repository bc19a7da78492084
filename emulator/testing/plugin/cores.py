"""A machine-wide budget of cores: benches that would take more than there are wait for their turn.

Each core of the budget is a file that its user holds the lock of: the kernel gives it back when the holder dies,
however it dies. Everybody who shares the runtime directory shares the budget: xdist's workers, and other runs of this
user.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from emulator.errors import EmulationError

LOOK_S = 0.05
PATIENCE_S = 2.0  # before somebody is told that we wait


def default_budget() -> int:
    """All cores that this process may use but one, which the traffic's own programs need; at least one."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


@contextlib.contextmanager
def core(
    budget: int, *, directory: Path, longest_wait_s: float = 3600.0, tell: Callable[[str], None] = lambda line: None
) -> Iterator[int]:
    """The number of a core of the `budget` for as long as the block lasts.

    Raises EmulationError, naming who holds the cores, if none came free within `longest_wait_s`.
    """
    from emulator.bench.runtime import take_lock

    pause = threading.Event()
    began_s, told = time.monotonic(), False
    while True:
        for number in range(budget):
            path = directory / f"core-{number}.lock"
            lock = take_lock(path)
            if lock is None:
                continue
            with lock:
                lock.seek(0)
                lock.truncate()
                lock.write(f"{os.getpid()}\n")
                lock.flush()
                yield number
                return
        waited_s = time.monotonic() - began_s
        if waited_s >= longest_wait_s:
            raise EmulationError(
                f"no core for a bench came free within {longest_wait_s:g} s: all {budget} are held, by "
                f"{', '.join(_holders(directory, budget))}"
            )
        if not told and waited_s >= PATIENCE_S:
            told = True
            tell(f"waiting for a core: all {budget} are held, by {', '.join(_holders(directory, budget))}")
        pause.wait(LOOK_S)


def _holders(directory: Path, budget: int) -> list[str]:
    found = []
    for number in range(budget):
        with contextlib.suppress(OSError):
            found.append(f"process {(directory / f'core-{number}.lock').read_text().strip() or '?'}")
    return found
