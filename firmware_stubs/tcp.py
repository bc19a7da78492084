"""Stubs over TCP: `tcp:127.0.0.1:4533`, several clients at once, on this machine only.

Firmware that keeps a session per client (rotctld) gets one each. Any other is a device with one line: what any client
says goes to it, what it says goes to all of them, as a serial port that is shared on a network does. A client that
stops reading a session is not read from either; one that stops reading a device loses what the device says, whole
bursts at a time. Nothing waits for it, and nothing grows.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from emulator.errors import EndpointError
from emulator.units import NS_PER_S
from firmware_stubs.registry import Stub

SCHEME = "tcp:"
MAX_CLIENTS = 64  # one more is sent away at once
READ_BYTES = 512  # so little that the answers to it have room
READS_PER_TURN = 16
LONGEST_SLEEP_S = 0.5  # simulated UTC may be stepped while we sleep


def is_tcp(port: str) -> bool:
    """Whether the port's name is one of TCP's."""
    return port.startswith(SCHEME)


def listen(port: str) -> socket.socket:
    """A listening socket for `tcp:ADDRESS:PORT`; port 0 is any free one. Raises EndpointError naming the port.

    The address must be of this machine only: nothing here asks a client who it is.
    """
    address, colon, number = port.removeprefix(SCHEME).rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    if not colon or not number.isascii() or not number.isdecimal() or int(number) > 65_535:
        raise EndpointError(f"{port}: expected tcp:ADDRESS:PORT, such as tcp:127.0.0.1:4533")
    try:
        local = ipaddress.ip_address("127.0.0.1" if address == "localhost" else address)
    except ValueError as error:
        raise EndpointError(f"{port}: expected an IP address of this machine, got {address!r}") from error
    if not local.is_loopback:
        raise EndpointError(f"{port}: expected a loopback address such as 127.0.0.1: stubs do not ask who a client is")
    family = socket.AF_INET6 if local.version == 6 else socket.AF_INET
    try:
        listener = socket.create_server((str(local), int(number)), family=family, backlog=MAX_CLIENTS)
    except OSError as error:
        raise EndpointError(f"{port}: cannot listen: {os.strerror(error.errno or 0)}") from error
    listener.setblocking(False)
    return listener


@dataclass(slots=True, eq=False)
class _Client:
    connection: socket.socket
    stub: Stub
    unsent: bytes = b""
    leaving: bool = False  # it will say no more, or was told that it is done; what waits for it is still sent
    watched: int = field(default=select.EPOLLIN)


class TcpServer:
    """Serves firmware on `listener`, which it closes in the end.

    `make` makes the firmware: for each client if it keeps sessions, else once.
    """

    def __init__(
        self, make: Callable[[], Stub], listener: socket.socket, utc_ns: Callable[[], int], *, sessions: bool
    ) -> None:
        self._make, self._listener, self._utc_ns = make, listener, utc_ns
        address, port = listener.getsockname()[:2]
        self.address = f"{SCHEME}[{address}]:{port}" if ":" in address else f"{SCHEME}{address}:{port}"
        self._device = None if sessions else make()
        self._clients: dict[int, _Client] = {}
        self.received = self.sent = self.unheard = self.dropped = self.clients = self.sent_away = 0

    def serve(self, stop_fd: int | None = None) -> None:
        """Runs until `stop_fd` is readable."""
        with select.epoll() as epoll:
            epoll.register(self._listener.fileno(), select.EPOLLIN)
            if stop_fd is not None:
                epoll.register(stop_fd, select.EPOLLIN)
            while True:
                ready = epoll.poll(self._sleep_s())
                for fd, event in ready:
                    if fd == stop_fd:
                        return
                    if fd == self._listener.fileno():
                        self._accept(epoll)
                    elif event & ~select.EPOLLOUT:
                        self._read(self._clients[fd])
                self._speak()
                for client in list(self._clients.values()):
                    self._settle(client, epoll)

    def close(self) -> None:
        """Sends everybody away. Twice is allowed."""
        for client in self._clients.values():
            client.connection.close()
        self._clients.clear()
        self._listener.close()

    def _sleep_s(self) -> float:
        stubs = [self._device] if self._device else [one.stub for one in self._clients.values() if not one.unsent]
        due = [due_ns for stub in stubs if (due_ns := stub.next_event_ns()) is not None]
        return min(LONGEST_SLEEP_S, max(0.0, (min(due) - self._utc_ns()) / NS_PER_S)) if due else LONGEST_SLEEP_S

    def _accept(self, epoll: select.epoll) -> None:
        with contextlib.suppress(OSError):  # it left before it was let in
            connection, _ = self._listener.accept()
            if len(self._clients) >= MAX_CLIENTS:
                self.sent_away += 1
                connection.close()
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._clients[connection.fileno()] = _Client(connection, self._device or self._make())
            self.clients += 1
            epoll.register(connection.fileno(), select.EPOLLIN)

    def _read(self, client: _Client) -> None:
        for _ in range(READS_PER_TURN):
            try:
                data = client.connection.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError:  # it was reset: nobody is there to be answered
                data, client.unsent = b"", b""
            if not data:
                client.leaving = True
                return
            self.received += len(data)
            client.stub.receive(data, self._utc_ns())
            if self._device is None:
                self._hear(client)
                if client.unsent:
                    return

    def _speak(self) -> None:
        if self._device is None:
            for client in self._clients.values():
                self._hear(client)
            return
        said = self._device.poll(self._utc_ns())
        if said and not self._clients:
            self.unheard += len(said)
        for client in self._clients.values() if said else ():
            if client.unsent:
                self.dropped += len(said)
            else:
                client.unsent = said
                self._flush(client)

    def _hear(self, client: _Client) -> None:
        """Takes what a session says, if the client has read what it said before."""
        self._flush(client)
        if not client.unsent:
            client.unsent = client.stub.poll(self._utc_ns())
            self._flush(client)
        client.leaving = client.leaving or getattr(client.stub, "closed", False)

    def _flush(self, client: _Client) -> None:
        while client.unsent:
            try:
                written = client.connection.send(client.unsent)
            except BlockingIOError:
                return
            except OSError:
                self.unheard += len(client.unsent)
                client.unsent, client.leaving = b"", True
                return
            self.sent += written
            client.unsent = client.unsent[written:]

    def _settle(self, client: _Client, epoll: select.epoll) -> None:
        """Sends on what waits, lets go of who is done, and asks to be woken for what this client needs next."""
        self._flush(client)
        fd = client.connection.fileno()
        if client.leaving and not client.unsent:
            epoll.unregister(fd)
            client.connection.close()
            del self._clients[fd]
            return
        listening = not client.leaving and (self._device is not None or not client.unsent)
        wanted = (select.EPOLLIN if listening else 0) | (select.EPOLLOUT if client.unsent else 0)
        if wanted != client.watched:
            epoll.modify(fd, wanted)
            client.watched = wanted
