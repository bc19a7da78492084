"""The other end of the control socket: finds a running bench and asks it."""

from __future__ import annotations

import contextlib
import json
import socket as sockets
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq

from emulator import errors
from emulator.control.messages import MAX_MESSAGE_BYTES, SOCKET_NAME, VERSION, MessageError, decode, encode, endpoint
from emulator.control.model import Command
from emulator.control.verbs import Reply, Verbs, values_of
from emulator.errors import BenchNotFoundError, BentpipeError, EmulationError, ScenarioError
from emulator.ports.curve import check_endpoint, client_name, secure_client
from emulator.ports.interrupts import interrupts_wait
from emulator.taps.inject import Addresses, Direction, Place

TIME_LIMIT_S = 5.0


def describe(directory: Path) -> dict[str, Any]:
    """What the bench of a runtime directory says of itself in `bench.json`; empty if it is just going away."""
    try:
        facts = json.loads((directory / "bench.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def choose(directories: Iterable[Path], pid: int | None = None) -> Path:
    """The runtime directory of the one running bench, or of the one with this `pid`.

    Raises BenchNotFoundError, listing those that run if that helps.
    """
    benches = {path: facts for path in directories if (facts := describe(path))}
    wanted = [path for path, facts in benches.items() if pid is None or facts.get("pid") == pid]
    if len(wanted) == 1:
        return wanted[0]
    if not benches:
        raise BenchNotFoundError("no bench is running: start one with `bentpipe run` or `bentpipe shell`")
    listed = ", ".join(f"{facts.get('pid')} ({facts.get('scenario') or 'unnamed'})" for facts in benches.values())
    if wanted:
        raise BenchNotFoundError(f"more than one bench is running, name one with --bench PID: {listed}")
    raise BenchNotFoundError(f"no running bench has the process id {pid}, these run: {listed}")


class ControlClient(Verbs[Reply]):
    """Asks a running bench. For one thread; close it, or use it as a context manager.

    target: the path of a control socket, an endpoint (ipc://, tcp://), a process id, or None for this user's one
    running bench. keys, name: for tcp://, a directory with CURVE keys and which client of it we are, if it has several.
    author: who gives the commands, for the event log.
    Raises BenchNotFoundError if nobody serves that socket, EndpointError for keys that cannot be used. A request that
    takes longer than `time_limit_s` raises EmulationError; one that the bench refuses, the error that the bench names.
    """

    def __init__(
        self,
        target: Path | str | int | None = None,
        *,
        time_limit_s: float = TIME_LIMIT_S,
        keys: Path | None = None,
        name: str | None = None,
        author: str = "",
    ) -> None:
        self._time_limit_ms = max(1, round(time_limit_s * 1000))
        self._author = author
        where = endpoint_of(target, SOCKET_NAME)
        self.path = Path(where.removeprefix("ipc://"))
        if where.startswith("ipc://"):
            _check_served(self.path)
        with interrupts_wait(), contextlib.ExitStack() as undo:
            context = zmq.Context()
            undo.callback(context.term)
            self._socket: zmq.Socket[bytes] = context.socket(zmq.REQ)
            undo.callback(self._socket.close)
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.setsockopt(zmq.REQ_RELAXED, 1)  # a request without an answer does not end the conversation,
            self._socket.setsockopt(zmq.REQ_CORRELATE, 1)  # and an answer that comes late is not taken for the next
            self._socket.setsockopt(zmq.SNDTIMEO, self._time_limit_ms)
            if not where.startswith("ipc://"):
                check_endpoint(where, keys)
                assert keys is not None
                secure_client(self._socket, keys, name or client_name(keys))
            self._socket.connect(where)
            self._where = where.removeprefix("ipc://")
            self._undo = undo.pop_all()

    @classmethod
    def find(cls, pid: int | None = None, *, time_limit_s: float = TIME_LIMIT_S) -> Self:
        """A client of this user's one running bench, or of that with this `pid`. Raises BenchNotFoundError."""
        return cls(pid, time_limit_s=time_limit_s)

    def do(self, command: Command) -> Reply:
        """What the bench answers to a command."""
        return dict(self.request(command.verb, **values_of(command)))

    def request(self, verb: str, **values: Any) -> Any:
        """The result of a verb; see docs/reference/control.md."""
        author = {"author": self._author} if self._author else {}
        data = encode({"version": VERSION, "verb": verb, **author, **values})
        if len(data) > MAX_MESSAGE_BYTES:
            raise EmulationError(f"{verb}: expected a request of at most {MAX_MESSAGE_BYTES} bytes, got {len(data)}")
        try:
            self._socket.send(data)
            if not self._socket.poll(self._time_limit_ms):
                raise EmulationError(
                    f"{self._where}: the bench did not answer {verb!r} within {self._time_limit_ms} ms"
                )
            reply = decode(self._socket.recv())
        except zmq.ZMQError as error:
            raise EmulationError(f"{self._where}: cannot ask the bench for {verb!r}: {error.strerror}") from error
        except MessageError as error:
            raise EmulationError(f"{self._where}: the bench's answer to {verb!r}: {error}") from error
        if reply.get("ok") is not True:
            raise _refused(str(reply.get("kind")), str(reply.get("error")))
        return reply.get("result")

    def addresses(self) -> Addresses:
        """The addresses of the link's two ends."""
        return Addresses(**self.request("addresses"))

    def state(self) -> Reply:
        """The link now: the bench's LinkState as a map, gates and causes by name."""
        return dict(self.request("state"))

    def counters(self) -> Reply:
        """The bench's counters as a map."""
        return dict(self.request("counters"))

    def plan(self, duration_s: float = 60.0, start: str | None = None) -> Reply:
        """What is planned ahead, for at most 10 minutes from a UTC on; None: from now."""
        return dict(self.request("plan", duration_s=duration_s, start=start))

    def pending(self) -> list[Reply]:
        """The commands that are in force or still to come."""
        return list(self.request("pending"))

    def snapshot(self) -> Reply:
        """Where telemetry stands."""
        return dict(self.request("snapshot"))

    def inject(self, direction: Direction, packets: Sequence[bytes], place: Place = "before") -> Reply:
        """Sends IP packets into the link, at most model.MAX_PACKETS; {packets, bytes, utc_ns}."""
        return dict(self.request("inject", direction=direction, place=place, packets=list(packets)))

    def close(self) -> None:
        """Twice is allowed."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def endpoint_of(target: Path | str | int | None, socket_name: str) -> str:
    """A bench's socket by path, endpoint or process id; None: this user's one bench. Raises BenchNotFoundError."""
    if target is None or isinstance(target, int):
        from emulator.bench.runtime import running_benches

        target = choose(running_benches(), target) / socket_name
    elif isinstance(target, str) and "://" in target and not target.startswith("ipc://"):
        return target
    return endpoint(Path(str(target).removeprefix("ipc://")), BenchNotFoundError)


def _check_served(path: Path) -> None:
    """ZeroMQ would wait for a server for ever: ask the kernel whether there is one."""
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError as error:
            raise BenchNotFoundError(f"{path}: no bench answers at this control socket: {error.strerror}") from error


def _refused(kind: str, text: str) -> BentpipeError:
    error = getattr(errors, kind, None)
    if error is ScenarioError:
        return ScenarioError(text.splitlines())
    if isinstance(error, type) and issubclass(error, BentpipeError):
        return error(text)
    return EmulationError(text)
