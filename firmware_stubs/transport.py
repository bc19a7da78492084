"""The one transport of the stubs: it moves bytes between a stub and its line, and alone reads a clock.

How to read it: `StubServer.serve` is the loop of a serial line (tcp.py has that of a socket); `open_stub` opens either;
`SerialStub` runs it in a thread, beside a bench. One turn reads what
clients wrote, polls the stub, writes, and sleeps until the stub's next event, a client's byte, or the order to stop.
A client that stops reading fills the kernel's buffer for the line and then loses what the stub says, whole bursts at
a time; nothing waits for it, and nothing grows.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from emulator.errors import EndpointError
from emulator.units import NS_PER_S
from firmware_stubs.lines import Line, open_line
from firmware_stubs.record import RecordedStub, Recorder
from firmware_stubs.registry import Hardware, StateAt, Stub, StubKind, find
from firmware_stubs.tcp import SERIAL_SCHEME, TcpServer, is_tcp, listen
from firmware_stubs.wire import LineFault, WiredStub

READ_BYTES = 4096
READS_PER_TURN = 16  # a client that floods us gets its answers all the same
LONGEST_SLEEP_S = 0.5  # simulated UTC may be stepped while we sleep

log = logging.getLogger("bentpipe.stub")


@dataclass(frozen=True, slots=True)
class LineStatistics:
    """Bytes since the start. `unheard`: said while no client was there. `dropped`: said to one that does not read."""

    received: int
    sent: int
    unheard: int
    dropped: int


class StubServer:
    """Serves `stub` on `line`, in simulated UTC as `utc_ns` gives it. Closes neither."""

    def __init__(self, stub: Stub, line: Line, utc_ns: Callable[[], int] = time.time_ns) -> None:
        self._stub, self._line, self._utc_ns = stub, line, utc_ns
        self._unsent = b""  # the rest of a burst of which the client has got the beginning
        self._heard = False
        self._received = self._sent = self._unheard = self._dropped = 0

    def serve(self, stop_fd: int | None = None) -> None:
        """Runs until `stop_fd` is readable. Raises EndpointError if the line goes away."""
        with select.epoll() as epoll:
            # Edges, not levels: a pty without a client reports its hang-up once, and an open, once.
            epoll.register(self._line.fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
            if stop_fd is not None:
                epoll.register(stop_fd, select.EPOLLIN)
            if (wake_fd := getattr(self._stub, "wake_fd", -1)) >= 0:
                epoll.register(wake_fd, select.EPOLLIN | select.EPOLLET)
            while True:
                more = self._read()
                self._notice_client()
                self._flush()
                self._say(self._stub.poll(self._utc_ns()))
                ready = epoll.poll(0 if more else self._sleep_s())
                if any(fd == stop_fd for fd, _ in ready):
                    return

    def statistics(self) -> LineStatistics:
        """An immutable snapshot."""
        return LineStatistics(self._received, self._sent, self._unheard, self._dropped)

    def _sleep_s(self) -> float:
        due_ns = self._stub.next_event_ns()
        if due_ns is None:
            return LONGEST_SLEEP_S
        return min(LONGEST_SLEEP_S, max(0.0, (due_ns - self._utc_ns()) / NS_PER_S))

    def _read(self) -> bool:
        """Hands what clients wrote to the stub. True if there may be more."""
        for _ in range(READS_PER_TURN):
            try:
                data = os.read(self._line.fd, READ_BYTES)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno == errno.EIO and self._line.clients_come_and_go:
                    return False
                raise EndpointError(f"{self._line.path}: the serial line went away: {error.strerror}") from error
            if not data:
                raise EndpointError(f"{self._line.path}: the serial line went away")
            self._received += len(data)
            self._stub.receive(data, self._utc_ns())
        return True

    def _notice_client(self) -> None:
        heard = self._line.listened_to()
        if self._heard and not heard:
            self._unheard += len(self._unsent)
            self._unsent = b""
            self._line.hung_up()
        self._heard = heard

    def _say(self, data: bytes) -> None:
        if not data:
            return
        if not self._heard:
            self._unheard += len(data)
        elif self._unsent:
            self._dropped += len(data)
        else:
            self._unsent = data
            self._flush()
            if len(self._unsent) == len(data):  # not a byte of it fitted: dropped whole, so that sentences stay whole
                self._dropped += len(data)
                self._unsent = b""

    def _flush(self) -> None:
        while self._unsent:
            try:
                written = os.write(self._line.fd, self._unsent)
            except BlockingIOError:
                return
            except OSError as error:
                raise EndpointError(f"{self._line.path}: the serial line went away: {error.strerror}") from error
            if written == 0:
                return
            self._sent += written
            self._unsent = self._unsent[written:]


class Serving(Protocol):
    """Firmware on its line or its socket, opened and ready to be served.

    `address` is what a client opens, a path or `tcp:ADDRESS:PORT`; `device` is what is behind it.
    """

    address: str
    device: str

    def serve(self, stop_fd: int | None = None) -> None:
        """Runs until `stop_fd` is readable. Raises EndpointError if the line goes away."""

    def statistics(self) -> LineStatistics:
        """An immutable snapshot, also after the end."""

    def close(self) -> None:
        """Closes the line or socket and removes what it left. Twice is allowed."""


def open_stub(
    kind: StubKind,
    state_at: StateAt,
    port: str,
    *,
    hardware: Hardware | None = None,
    utc_ns: Callable[[], int] = time.time_ns,
    directory: Path | None = None,
    baud: int | None = None,
    faults: tuple[LineFault, ...] = (),
    recorder: Recorder | None = None,
) -> Serving:
    """Opens `port` for firmware of `kind`: clients may open its address when this returns. Raises EndpointError.

    On a pty and with RFC 2217 a byte takes its time at `baud`, the kind's own by default, and a client that has set
    another rate reads garbage; over TCP only if `baud` is given; a serial device times itself. `faults`: of the line.
    `recorder` is told what passes there, and is not closed.
    """
    attached, own_baud = hardware or Hardware(), baud or kind.baud

    def make(wire_baud: int | None, client_baud: Callable[[], int | None]) -> Stub:
        stub: Stub = kind.make(state_at, utc_ns(), attached)
        if wire_baud or faults:
            stub = WiredStub(stub, wire_baud, faults, client_baud=client_baud)
        return stub if recorder is None else RecordedStub(stub, recorder)

    if is_tcp(port):
        telnet_baud = own_baud if port.startswith(SERIAL_SCHEME) and not kind.sessions else None
        if port.startswith(SERIAL_SCHEME) and telnet_baud is None:
            raise EndpointError(f"{port}: the {kind.name} stub has no serial port: expected tcp:ADDRESS:PORT")
        served: list[TcpServer] = []
        client_baud = lambda: served[0].client_baud if served else None  # noqa: E731
        made = partial(make, telnet_baud or baud, client_baud)
        served.append(TcpServer(made, listen(port), utc_ns, sessions=kind.sessions, telnet_baud=telnet_baud))
        return _TcpStub(served[0])
    if kind.sessions:
        raise EndpointError(f"{port}: the {kind.name} stub is reached over TCP: expected tcp:ADDRESS:PORT")
    line = open_line(port, name=kind.name, baud=own_baud, directory=directory)
    try:
        stub = make(own_baud if line.clients_come_and_go else None, line.client_baud)
        return _LineStub(StubServer(stub, line, utc_ns), line)
    except BaseException:
        line.close()
        raise


class _LineStub:
    def __init__(self, server: StubServer, line: Line) -> None:
        self._line = line
        self.address, self.device = str(line.path), line.device
        self.serve, self.statistics, self.close = server.serve, server.statistics, line.close


class _TcpStub:
    def __init__(self, server: TcpServer) -> None:
        self.address = self.device = server.address
        self.serve, self.close, self._server = server.serve, server.close, server

    def statistics(self) -> LineStatistics:
        server = self._server
        return LineStatistics(server.received, server.sent, server.unheard, server.dropped)


class SerialStub:
    """A stub on its line, in a thread: `SerialStub("nmea", terminal.state, "pty", utc_ns=bench.utc_ns)`.

    `state_at` gives the terminal's state at an instant of simulated UTC, from the stub's thread; `hardware` is what the
    firmware is attached to, for those that drive something. `port` is "pty" (a link is chosen in `directory`), the path
    of a link to make, a serial device, or `tcp:ADDRESS:PORT`. `address` is what a client opens. `recorder` is closed at
    the end.
    """

    def __init__(
        self,
        kind: str,
        state_at: StateAt,
        port: str = "pty",
        *,
        hardware: Hardware | None = None,
        utc_ns: Callable[[], int] = time.time_ns,
        directory: Path | None = None,
        baud: int | None = None,
        faults: tuple[LineFault, ...] = (),
        recorder: Recorder | None = None,
    ) -> None:
        self._kind, self._state_at, self._port, self._hardware = find(kind), state_at, port, hardware
        self._utc_ns, self._directory, self._baud = utc_ns, directory, baud
        self._faults, self._recorder = faults, recorder
        self._serving: Serving | None = None
        self._thread: threading.Thread | None = None
        self._stop_fd = -1
        self._failure: Exception | None = None

    @property
    def address(self) -> str:
        """What clients open: a path, or `tcp:ADDRESS:PORT`. Raises EndpointError unless the stub was started."""
        if self._serving is None or self._thread is None:
            raise EndpointError(f"{self._port}: the {self._kind.name} stub is not running")
        return self._serving.address

    @property
    def path(self) -> Path:
        """The same, of a line, as a path."""
        return Path(self.address)

    def start(self) -> Self:
        """Opens the line and serves it: clients may open it when this returns. Raises EndpointError."""
        if self._thread is not None:
            raise EndpointError(f"{self.address}: the {self._kind.name} stub is running already")
        serving = open_stub(
            self._kind,
            self._state_at,
            self._port,
            hardware=self._hardware,
            utc_ns=self._utc_ns,
            directory=self._directory,
            baud=self._baud,
            faults=self._faults,
            recorder=self._recorder,
        )
        with contextlib.ExitStack() as undo:
            undo.callback(serving.close)
            self._stop_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, self._stop_fd)
            self._failure = None
            self._serving = serving
            name = f"stub {self._kind.name}"
            self._thread = threading.Thread(target=self._run, args=(serving,), name=name, daemon=True)
            self._thread.start()
            self._undo = undo.pop_all()
        return self

    def stop(self) -> None:
        """Stops, and removes the link. Twice is allowed. Raises what ended the stub, if something did."""
        if self._thread is None:
            return
        os.eventfd_write(self._stop_fd, 1)
        self._thread.join()
        self._undo.close()
        self._thread = None
        if self._recorder is not None:
            self._recorder.close()
        if self._failure is not None:
            raise self._failure

    def statistics(self) -> LineStatistics:
        """An immutable snapshot, also after the end. Zeros before the start."""
        return self._serving.statistics() if self._serving is not None else LineStatistics(0, 0, 0, 0)

    def _run(self, serving: Serving) -> None:
        try:
            serving.serve(self._stop_fd)
        except EndpointError as error:
            self._failure = error
            log.warning("%s", error)
        except Exception as error:  # a defect of the stub must neither take the bench with it nor be lost
            self._failure = error
            log.exception("the %s stub failed", self._kind.name)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
        else:
            with contextlib.suppress(Exception):
                self.stop()
