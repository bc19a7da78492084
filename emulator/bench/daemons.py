"""Programs that a scenario keeps at its sides, a routing daemon above all; what if one dies.

They end with the bench. One that ends before is told as a warning and counted, and the routes that it has left in the
kernel are taken away: traffic falls back to what else leads there.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.errors import BentpipeError
from emulator.ports import wires

if TYPE_CHECKING:
    from emulator.bench.sides import Side
    from emulator.scenario.access import Daemon


@dataclass(frozen=True)
class DaemonState:
    """One program now. `ended`: how, where it has ended; `routes_removed`: what it had left behind."""

    name: str
    at: str
    alive: bool
    ended: str
    routes_removed: int


class Daemons:
    """All of a scenario's; use as a context. base: the folder from which their relative file names count.

    Raises CommandNotFoundError or CommandNotExecutableError, and then none is left.
    """

    def __init__(
        self, wanted: tuple[Daemon, ...], sides: Mapping[str, Side], base: Path | None, warn: Callable[[str], None]
    ) -> None:
        self._wanted, self._sides, self._base, self._warn = wanted, sides, base, warn
        self._processes: list[subprocess.Popen[Any]] = []
        self._states: list[DaemonState] = []
        self._watchers: list[threading.Thread] = []
        self._stopping = threading.Event()

    def __enter__(self) -> Daemons:
        try:
            for number, daemon in enumerate(self._wanted):
                options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
                process = self._sides[daemon.at].popen(daemon.command, cwd=self._base, **options)
                self._processes.append(process)
                self._states.append(DaemonState(daemon.name, daemon.at, True, "", 0))
                watcher = threading.Thread(
                    target=self._watch, args=(number,), name=f"daemon {daemon.name}", daemon=True
                )
                self._watchers.append(watcher)
                watcher.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def listed(self) -> list[DaemonState]:
        """In the scenario's order."""
        return list(self._states)

    def close(self) -> None:
        """Ends them; the side's own end kills what does not."""
        self._stopping.set()
        for process in self._processes:
            process.terminate()
        for watcher in self._watchers:
            watcher.join()

    def _watch(self, number: int) -> None:
        status = self._processes[number].wait()
        daemon = self._wanted[number]
        if self._stopping.is_set() or self._sides[daemon.at].closing:
            return
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        removed = 0
        if daemon.routes:
            with contextlib.suppress(BentpipeError, OSError):
                removed = wires.remove_routes_of(self._sides[daemon.at].namespace, daemon.routes)
        self._states[number] = DaemonState(daemon.name, daemon.at, False, how, removed)
        left = f"; {removed} routes of its taken away" if daemon.routes else ""
        self._warn(f"daemon {daemon.name} at the {daemon.at}'s side has ended ({how}){left}")
