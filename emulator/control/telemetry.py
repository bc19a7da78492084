"""Publishes what happens on a bench: a thread of its own, which looks, and sends without ever waiting for anybody.

A subscriber that does not read loses messages once its queue is full, and sees it by the sequence numbers; the packet
loop knows nothing of subscribers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import zmq

from emulator.bench.eventlog import Event
from emulator.bench.operator import Operator
from emulator.control.messages import endpoint, plain
from emulator.control.topics import TOPICS, encode_message
from emulator.control.watcher import LOOK_NS, WatchedBench, Watcher
from emulator.errors import EmulationError
from emulator.ports.curve import Gate, check_endpoint, offer
from emulator.scenario.model import Scenario
from emulator.units import NS_PER_MS

DOMAIN = "telemetry"
WAITING_MESSAGES = 1000  # of one subscriber, before it loses some
SNAPSHOT_NS = 200 * NS_PER_MS
LARGEST_SUBSCRIPTION_BYTES = 256
SUBSCRIPTIONS_PER_TURN = 256
LINGER_MS = 200

log = logging.getLogger("bentpipe.telemetry")


class TelemetryBench(WatchedBench, Protocol):
    """What telemetry needs of a bench."""

    @property
    def operator(self) -> Operator: ...

    @property
    def scenario(self) -> Scenario: ...

    @property
    def standing(self) -> bool: ...

    def utc_of_monotonic_ns(self, monotonic_ns: int, /) -> int: ...


class Telemetry:
    """Publishes at the socket `path`, and at `listen` besides; a context manager, inside the bench's.

    For tcp:// endpoints the directory `keys` must hold CURVE keys; who has the role observe or control may subscribe.
    """

    def __init__(
        self,
        bench: TelemetryBench,
        path: Path,
        *,
        listen: Sequence[str] = (),
        keys: Path | None = None,
        doors: Mapping[str, int] | None = None,
    ) -> None:
        for one in listen:
            check_endpoint(one, keys)
        self.path, self._listen, self._keys = path, tuple(listen), keys
        self._bench = bench
        self._doors = doors or {}
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._sequences: defaultdict[str, int] = defaultdict(int)
        self._sockets: list[zmq.Socket[bytes]] = []
        self._stopping = threading.Event()
        self._undo = contextlib.ExitStack()
        self._watcher: Watcher | None = None
        self.endpoints: list[str] = []

    def start(self) -> Self:
        """Binds the sockets: subscribers may connect when this returns. Raises EndpointError."""
        with contextlib.ExitStack() as undo:
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            undo.callback(context.term)
            if self._keys is not None and self._listen:
                undo.enter_context(Gate(context, self._keys, {DOMAIN: ("observe", "control")}))
            for where in (endpoint(self.path), *self._listen):
                self._sockets.append(self._bind(context, where, undo))
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, self._wake)
            self._watcher = Watcher(self._bench, self._send)
            undo.callback(self._bench.events.listen(self._heard))
            thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
            thread.start()
            undo.callback(thread.join)
            undo.callback(os.eventfd_write, self._wake, 1)
            undo.callback(self._stopping.set)
            self._undo = undo.pop_all()
        return self

    def stop(self) -> None:
        """Twice is allowed."""
        self._undo.close()

    def snapshot(self) -> dict[str, Any]:
        """How things stand: for who comes late."""
        last = {} if self._watcher is None else dict(self._watcher.last)
        facts = {"scenario": self._bench.scenario.name, "seed": self._bench.scenario.seed}
        course = {"standing": self._bench.standing, "pending": self._bench.operator.standing()}
        last["state"] = plain(self._bench.state_at_monotonic_ns(self._bench.monotonic_ns()))
        return {**last, **course, **facts, "sequences": {topic: self._sequences[topic] for topic in TOPICS}}

    def _bind(
        self, context: zmq.Context[zmq.Socket[bytes]], where: str, undo: contextlib.ExitStack
    ) -> zmq.Socket[bytes]:
        socket = context.socket(zmq.XPUB)
        undo.callback(socket.close)
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.setsockopt(zmq.SNDHWM, WAITING_MESSAGES)
        socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_SUBSCRIPTION_BYTES)
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # every subscription is seen, and answered by a snapshot
        self.endpoints.append(
            offer(socket, where, what="telemetry socket", keys=self._keys, domain=DOMAIN, doors=self._doors, undo=undo)
        )
        return socket

    def _heard(self, event: Event) -> None:
        """From any thread."""
        self._events.put(event)
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        assert self._watcher is not None
        poller = zmq.Poller()
        for socket in self._sockets:
            poller.register(socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        self._watcher.begin()
        clock = self._bench.monotonic_ns
        look_ns, told_ns, wanted, failed = clock() + LOOK_NS, 0, False, False
        while not self._stopping.is_set():
            next_ns = min(look_ns, told_ns + SNAPSHOT_NS) if wanted else look_ns
            poller.poll(max(0, (next_ns - clock()) // NS_PER_MS + 1))
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            wanted |= sum(map(self._subscribed, self._sockets)) > 0
            self._hand_on()
            if clock() >= look_ns:
                look_ns = clock() + LOOK_NS
                try:
                    if not failed:
                        self._watcher.look()
                except EmulationError as error:  # the bench has failed, and tells it to whoever runs it
                    failed = True
                    self._bench.events.record("warning", text=f"telemetry stops: {error}")
                except Exception:
                    failed = True
                    log.exception("telemetry failed")
                self._hand_on()
            if wanted and clock() >= told_ns + SNAPSHOT_NS:
                wanted, told_ns = False, clock()
                self._send("snapshot", told_ns, self.snapshot())
        if not failed:
            self._watcher.finish()
        self._hand_on()
        self._send("end", clock(), {})

    def _hand_on(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                event = self._events.get_nowait()
                self._send(event.kind, event.monotonic_ns, event.data, event.utc_ns, event.author)

    def _subscribed(self, socket: zmq.Socket[bytes]) -> bool:
        """Whether somebody has subscribed since."""
        found = False
        with contextlib.suppress(zmq.ZMQError):
            for _ in range(SUBSCRIPTIONS_PER_TURN):
                found |= socket.recv(zmq.NOBLOCK)[:1] == b"\x01"
        return found

    def _send(
        self, topic: str, monotonic_ns: int, data: Mapping[str, Any], utc_ns: int | None = None, author: str = ""
    ) -> None:
        utc_ns = self._bench.utc_of_monotonic_ns(monotonic_ns) if utc_ns is None else utc_ns
        frames = encode_message(topic, self._sequences[topic], utc_ns, monotonic_ns, plain(data), author)
        self._sequences[topic] += 1
        for socket in self._sockets:
            with contextlib.suppress(zmq.ZMQError):
                socket.send_multipart(frames, zmq.NOBLOCK)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
