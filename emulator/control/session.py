"""All that a running bench offers to programs outside, started and ended together: captures, control, telemetry."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.bench.captures import serving_captures
from emulator.bench.recording import Recording
from emulator.control import topics
from emulator.control.commands import Commands
from emulator.control.messages import SOCKET_NAME
from emulator.control.server import ControlServer
from emulator.control.telemetry import Telemetry
from emulator.ports.interrupts import interrupts_wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.bench import Bench


@dataclass(frozen=True)
class Session:
    """commands: for the owner of the bench, in its own process."""

    commands: Commands
    server: ControlServer
    telemetry: Telemetry


@contextlib.contextmanager
def session(
    bench: Bench,
    *,
    on_stop: Callable[[], None] | None = None,
    control: Sequence[str] = (),
    telemetry: Sequence[str] = (),
    keys: Path | None = None,
    doors: Mapping[str, int] | None = None,
) -> Iterator[Session]:
    """Serves a running bench in its runtime directory, and at more endpoints: tcp:// needs `keys`.

    Raises EndpointError.
    """
    captures = Recording(bench.runtime_dir)
    told = Telemetry(bench, bench.runtime_dir / topics.SOCKET_NAME, listen=telemetry, keys=keys, doors=doors)
    server = ControlServer(
        bench,
        bench.runtime_dir / SOCKET_NAME,
        on_stop=on_stop,
        captures=captures,
        snapshot=told.snapshot,
        listen=control,
        keys=keys,
        doors=doors,
    )
    with serving_captures(bench), contextlib.ExitStack() as stack:
        with interrupts_wait():
            stack.enter_context(told)
            stack.enter_context(server)
        yield Session(Commands(bench, on_stop, captures=captures, snapshot=told.snapshot), server, told)
