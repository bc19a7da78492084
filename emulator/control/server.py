"""The bench's end of the control socket: a thread that answers one request at a time."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq

from emulator.control.allowance import Allowance
from emulator.control.commands import ALL_ROLES, Commands, ControlledBench, Switch, refusal
from emulator.control.messages import MAX_MESSAGE_BYTES, endpoint
from emulator.errors import EndpointError
from emulator.ports.curve import Gate, Role, allowed, check_endpoint, offer

LINGER_MS = 500  # for the last reply, that to "stop"
MAX_ENVELOPE_FRAMES = 8  # a REQ socket sends three
WAITING_REQUESTS = 64  # of a client that does not wait for its answers
DOMAIN = "control"
REQUESTS_PER_S, BURST = 5_000, 10_000  # of one client; 100 packets to inject are one request


class ControlServer:
    """Answers requests for `bench` at the socket `path`, which is removed at the end.

    listen: more endpoints, ipc:// or tcp://; for tcp:// the directory `keys` must hold CURVE keys and allow-lists, and
    a client may do what its roles allow. doors: of `curve.open_doors`. `on_stop` is called, from the control thread,
    when a client asks the bench to end: set an event in it. captures, snapshot: see Commands. Use as a context manager,
    inside the bench's.
    """

    def __init__(
        self,
        bench: ControlledBench,
        path: Path,
        *,
        on_stop: Callable[[], None] | None = None,
        captures: Switch | None = None,
        snapshot: Callable[[], Any] | None = None,
        listen: Sequence[str] = (),
        keys: Path | None = None,
        doors: Mapping[str, int] | None = None,
    ) -> None:
        self.path = path
        for one in listen:
            check_endpoint(one, keys)
        self._bench, self._listen, self._keys = bench, tuple(listen), keys
        self._doors = doors or {}
        self._commands = Commands(bench, on_stop, captures=captures, snapshot=snapshot)
        self._allowance = Allowance(REQUESTS_PER_S, BURST)
        self._thread: threading.Thread | None = None
        self._undo = contextlib.ExitStack()
        self.endpoints: list[str] = []

    def start(self) -> Self:
        """Binds the sockets: clients may connect when this returns. Raises EndpointError."""
        if self._thread is not None:
            raise EndpointError(f"{self.path}: the control server is running already")
        where = endpoint(self.path)
        with contextlib.ExitStack() as undo:
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            undo.callback(context.term)
            if self._keys is not None and self._listen:
                undo.enter_context(Gate(context, self._keys, {DOMAIN: ("packets", "control", "observe")}))
            sockets = [self._bind(context, one, undo) for one in (where, *self._listen)]
            stop_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, stop_fd)
            thread = threading.Thread(target=self._serve, args=(sockets, stop_fd), name="control", daemon=True)
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

    def _bind(
        self, context: zmq.Context[zmq.Socket[bytes]], where: str, undo: contextlib.ExitStack
    ) -> zmq.Socket[bytes]:
        socket = context.socket(zmq.ROUTER)  # REP loses a reply after a malformed request whose sender has gone
        undo.callback(socket.close)
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        socket.setsockopt(zmq.RCVHWM, WAITING_REQUESTS)
        self.endpoints.append(
            offer(socket, where, what="control socket", keys=self._keys, domain=DOMAIN, doors=self._doors, undo=undo)
        )
        return socket

    def _serve(self, sockets: list[zmq.Socket[bytes]], stop_fd: int) -> None:
        poller = zmq.Poller()
        for socket in sockets:
            poller.register(socket, zmq.POLLIN)
        poller.register(stop_fd, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if stop_fd in ready:
                return
            for socket in sockets:
                if socket in ready:
                    # A peer may go away in the middle of a conversation: then there is nobody to tell.
                    with contextlib.suppress(zmq.ZMQError):
                        self._answer_one(socket)

    def _answer_one(self, socket: zmq.Socket[bytes]) -> None:
        *envelope, request = socket.recv_multipart(zmq.NOBLOCK, copy=False)  # the envelope is the peer's, and goes back
        if len(envelope) > MAX_ENVELOPE_FRAMES:
            return
        client = envelope[0].bytes if envelope else b""
        if self._allowance.take(client, self._bench.monotonic_ns()):
            answer = self._commands.answer(request.bytes, *self._who(socket, request))
        else:
            answer = refusal("MessageError", f"rate: expected at most {REQUESTS_PER_S} requests per second")
        socket.send_multipart([*(frame.bytes for frame in envelope), answer], zmq.NOBLOCK)

    def _who(self, socket: zmq.Socket[bytes], request: zmq.Frame) -> tuple[frozenset[Role], str]:
        """The sender's roles and name: at a local socket whoever may open it, else by the key that he has shown."""
        if not socket.getsockopt(zmq.CURVE_SERVER):
            return ALL_ROLES, ""
        assert self._keys is not None
        found = allowed(self._keys, str(request.get("User-Id")).encode())
        return frozenset(found), next(iter(found.values()), "")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
