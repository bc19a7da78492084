"""The other end of telemetry: receives messages, and sees by their numbers what it has missed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq

from emulator.control.client import endpoint_of
from emulator.control.messages import MAX_MESSAGE_BYTES, MessageError
from emulator.control.topics import SOCKET_NAME, TOPICS, decode_message
from emulator.errors import EmulationError
from emulator.ports.curve import check_endpoint, client_name, secure_client
from emulator.ports.interrupts import interrupts_wait

WAITING_MESSAGES = 10_000


@dataclass(frozen=True)
class Message:
    """`missed`: how many messages of this topic were lost just before this one."""

    topic: str
    sequence: int
    utc_ns: int
    monotonic_ns: int
    author: str
    data: dict[str, Any]
    missed: int = 0


class Subscriber:
    """Messages of a running bench, of all topics or of those named. For one thread; a context manager, and an iterator.

    target, keys, name: as for ControlClient. Raises ValueError for a topic that there is not.
    """

    def __init__(
        self,
        target: Path | str | int | None = None,
        topics: Sequence[str] = (),
        *,
        keys: Path | None = None,
        name: str | None = None,
    ) -> None:
        if unknown := [topic for topic in topics if topic not in TOPICS]:
            raise ValueError(f"topic: expected {', '.join(TOPICS)}, got {unknown[0]!r}")
        where = self.where = endpoint_of(target, SOCKET_NAME)
        self._next: dict[str, int] = {}
        with interrupts_wait(), contextlib.ExitStack() as undo:
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            undo.callback(context.term)
            self._socket = context.socket(zmq.SUB)
            undo.callback(self._socket.close)
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.setsockopt(zmq.RCVHWM, WAITING_MESSAGES)
            self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
            if not where.startswith("ipc://"):
                check_endpoint(where, keys)
                assert keys is not None
                secure_client(self._socket, keys, name or client_name(keys))
            for topic in topics or [""]:
                self._socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
            self._socket.connect(where)
            self._undo = undo.pop_all()

    def receive(self, time_limit_s: float | None = None) -> Message | None:
        """The next message; None if none comes in time. Raises EmulationError for what is none."""
        if not self._socket.poll(None if time_limit_s is None else round(time_limit_s * 1000)):
            return None
        try:
            found = decode_message(self._socket.recv_multipart())
        except MessageError as error:
            raise EmulationError(f"telemetry: {error}") from error
        topic, sequence = str(found["topic"]), int(found["sequence"])
        missed = max(0, sequence - self._next.get(topic, sequence))
        self._next[topic] = sequence + 1
        return Message(
            topic, sequence, found["utc_ns"], found["monotonic_ns"], found.get("author", ""), found["data"], missed
        )

    def expected(self, topic: str) -> int:
        """The number that the next message of a topic has, if none is lost; 0 before the first."""
        return self._next.get(topic, 0)

    def __iter__(self) -> Iterator[Message]:
        """Until the message `end`, the last one."""
        while (message := self.receive()) is not None:
            yield message
            if message.topic == "end":
                return

    def close(self) -> None:
        """Twice is allowed."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
