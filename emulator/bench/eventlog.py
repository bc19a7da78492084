"""What happened in a run: one JSON object per line, in the bench's runtime directory, and for who listens."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from emulator.bench.clock import WorldClock
from emulator.errors import EndpointError
from emulator.units import format_utc

LOG_NAME = "events.jsonl"
LARGEST_BYTES = 32 << 20  # of the one in the runtime directory, which may be in memory; then it begins anew beside one


@dataclass(frozen=True)
class Event:
    """`kind`: see docs/reference/telemetry.md. author: who gave a command; empty for what the link does by itself."""

    kind: str
    utc_ns: int
    monotonic_ns: int
    author: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]


class EventLog:
    """Written from any thread. Lines that a full disk did not take are counted in `lost`; they never end a run."""

    def __init__(self, clock: WorldClock, directory: Path, *, also: Path | None = None) -> None:
        self._clock = clock
        self._writing = threading.Lock()
        self._listeners: list[Listener] = []
        self.lost = 0
        self.path = directory / LOG_NAME
        self._files: list[tuple[Path, IO[str]]] = []
        with contextlib.ExitStack() as undo:
            for path in (self.path, *([also] if also else [])):
                try:
                    file = path.open("w", encoding="utf-8", buffering=1)
                except OSError as error:
                    raise EndpointError(f"{path}: cannot write the event log: {error.strerror}") from error
                undo.callback(file.close)
                self._files.append((path, file))
            undo.pop_all()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tells `listener` each event from now on, from whichever thread it comes; returns how to stop that."""
        with self._writing:
            self._listeners = [*self._listeners, listener]

        def forget() -> None:
            with self._writing:
                self._listeners = [one for one in self._listeners if one is not listener]

        return forget

    def record(self, kind: str, *, author: str = "", monotonic_ns: int | None = None, **data: Any) -> Event:
        """Notes what happens now, or at a time of the packets' clock."""
        at_ns = time.monotonic_ns() if monotonic_ns is None else monotonic_ns
        event = Event(kind, self._clock.utc_of_monotonic_ns(at_ns), at_ns, author, data)
        line = json.dumps({"utc": format_utc(event.utc_ns, 6), **asdict(event)}, default=str) + "\n"
        with self._writing:
            listeners = self._listeners
            for _, file in self._files:
                try:
                    file.write(line)
                except (OSError, ValueError):  # a full disk, or closed
                    self.lost += 1
        for listener in listeners:
            listener(event)
        self._turn_over()
        return event

    def _turn_over(self) -> None:
        with self._writing, contextlib.suppress(OSError, ValueError):
            path, file = self._files[0]
            if file.tell() > LARGEST_BYTES:
                file.close()
                path.replace(path.with_suffix(".1.jsonl"))
                self._files[0] = path, path.open("w", encoding="utf-8", buffering=1)

    def close(self) -> None:
        with self._writing:
            for _, file in self._files:
                with contextlib.suppress(OSError):
                    file.close()
