"""The bench's end of the control socket: a thread that answers one request at a time."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import zmq

from emulator.control.commands import Commands, ControlledBench
from emulator.control.messages import MAX_MESSAGE_BYTES, endpoint
from emulator.errors import EndpointError

LINGER_MS = 500  # for the last reply, that to "stop"
MAX_ENVELOPE_FRAMES = 8  # a REQ socket sends three


class ControlServer:
    """Answers requests for `bench` at the socket `path`, which is removed at the end.

    `on_stop` is called, from the control thread, when a client asks the bench to end: set an event in it. Use as a
    context manager, inside the bench's.
    """

    def __init__(self, bench: ControlledBench, path: Path, *, on_stop: Callable[[], None] | None = None) -> None:
        self.path = path
        self._commands = Commands(bench, on_stop)
        self._thread: threading.Thread | None = None
        self._undo = contextlib.ExitStack()

    def start(self) -> Self:
        """Binds the socket: clients may connect when this returns. Raises EndpointError."""
        if self._thread is not None:
            raise EndpointError(f"{self.path}: the control server is running already")
        where = endpoint(self.path)
        with contextlib.ExitStack() as undo:
            context = zmq.Context()
            undo.callback(context.term)
            socket = context.socket(zmq.ROUTER)  # REP loses a reply after a malformed request whose sender has gone
            undo.callback(socket.close)
            socket.setsockopt(zmq.LINGER, LINGER_MS)
            socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
            try:
                socket.bind(where)
                undo.callback(self._unlink)
                self.path.chmod(0o600)
            except (OSError, zmq.ZMQError) as error:
                raise EndpointError(f"{self.path}: cannot make the control socket: {error.strerror}") from error
            stop_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, stop_fd)
            thread = threading.Thread(target=self._serve, args=(socket, stop_fd), name="control", daemon=True)
            thread.start()
            undo.callback(thread.join)
            undo.callback(os.eventfd_write, stop_fd, 1)
            self._thread = thread
            self._undo = undo.pop_all()
        return self

    def stop(self) -> None:
        """Ends the thread and removes the socket. Twice is allowed."""
        self._undo.close()
        self._thread = None

    def _serve(self, socket: zmq.Socket[bytes], stop_fd: int) -> None:
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(stop_fd, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if stop_fd in ready:
                return
            # A peer may go away in the middle of a conversation: then there is nobody to tell.
            with contextlib.suppress(zmq.ZMQError):
                *envelope, request = socket.recv_multipart(zmq.NOBLOCK)  # the envelope is the peer's, and goes back
                if len(envelope) <= MAX_ENVELOPE_FRAMES:
                    socket.send_multipart([*envelope, self._commands.answer(request)], zmq.NOBLOCK)

    def _unlink(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
