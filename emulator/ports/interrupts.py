"""Signals that must not come in the middle of something."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """Signals with a handler of Python's come at the end of this, whether it succeeds or not.

    Only the main thread gets signals: in others this does nothing.

    For ZeroMQ's sockets, above all: one that a signal's exception cuts off from its owner while it is being made is
    never closed, and the end of its context waits for it for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    found = {number: signal.getsignal(number) for number in SIGNALS}
    handlers = {int(number): handler for number, handler in found.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number, frame in came:
            handlers[number](number, frame)
