"""Progress of long work, on stderr, only once it has lasted two seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE_S = 2.0
TICK_S = 0.3


@contextmanager
def progress(what: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Gives a function that takes how much of `total` is done. Shows nothing on a stderr that is no terminal.

    `quiet`: nothing at all, as when the work's own output goes to the same terminal.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from emulator.cli.console import console_for

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console_for(stderr=True),
        transient=True,
    )
    task = bar.add_task(what, total=total)
    began = time.monotonic()
    shown = False

    def advance(done: int) -> None:
        nonlocal shown
        if not shown and time.monotonic() - began > PATIENCE_S:
            bar.start()
            shown = True
        if shown:
            bar.update(task, completed=done)

    try:
        yield advance
    finally:
        if shown:
            bar.stop()


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """The same for work of which nobody knows how much is done: something turns until it is.

    Gives a function that takes how far it is, in words.
    """
    if not sys.stderr.isatty():
        yield lambda where: None
        return
    from rich.text import Text

    from emulator.cli.console import console_for

    status = console_for(stderr=True).status(Text(f"{what} …"))
    patience = threading.Timer(PATIENCE_S, status.start)
    patience.daemon = True
    patience.start()
    try:
        yield lambda where: status.update(f"{what}: {where} …")
    finally:
        patience.cancel()
        patience.join()
        status.stop()


@contextmanager
def elapsing(what: str, duration_s: float) -> Iterator[None]:
    """The same for work that lasts as long as was asked for."""
    over = threading.Event()

    def tell(advance: Callable[[int], None]) -> None:
        began = time.monotonic()
        while not over.wait(TICK_S):
            advance(round(10 * min(duration_s, time.monotonic() - began)))

    with progress(what, round(10 * duration_s)) as advance:
        clock = threading.Thread(target=tell, args=[advance], daemon=True)
        clock.start()
        try:
            yield
        finally:
            over.set()
            clock.join()
