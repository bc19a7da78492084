"""Stubs on a network: `tcp:127.0.0.1:4533`, `rfc2217:127.0.0.1:2217`, `unix:/tmp/modem`; on this machine only.

Several clients at once. With RFC 2217 each sees a serial port whose settings it may change.

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
from pathlib import Path

from emulator.errors import EndpointError
from emulator.units import NS_PER_S
from firmware_stubs.registry import Stub

SCHEME, SERIAL_SCHEME, UNIX_SCHEME = "tcp:", "rfc2217:", "unix:"
MAX_CLIENTS = 64  # one more is sent away at once
READ_BYTES = 512  # so little that the answers to it have room
READS_PER_TURN = 16
LONGEST_SLEEP_S = 0.5  # simulated UTC may be stepped while we sleep


def is_tcp(port: str) -> bool:
    """Whether the port's name is one of a network's; that of a URL is not."""
    return port.startswith((SCHEME, SERIAL_SCHEME, UNIX_SCHEME)) and "://" not in port


def listen(port: str) -> socket.socket:
    """A listening socket for `tcp:ADDRESS:PORT`, `rfc2217:…` or `unix:PATH`; port 0 is any free one.

    Raises EndpointError naming the port.

    The address must be of this machine only: nothing here asks a client who it is.
    """
    if port.startswith(UNIX_SCHEME):
        return _listen_unix(port, Path(port.removeprefix(UNIX_SCHEME)))
    address, colon, number = port.removeprefix(SCHEME).removeprefix(SERIAL_SCHEME).rpartition(":")
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


def _listen_unix(port: str, path: Path) -> socket.socket:
    """A socket at `path`; one that nobody listens at is replaced."""
    with contextlib.suppress(OSError):
        if path.is_socket():
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(str(path))
                except ConnectionRefusedError:
                    path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        listener.listen(MAX_CLIENTS)
    except OSError as error:
        listener.close()
        raise EndpointError(f"{port}: cannot listen: {error.strerror or error}") from error
    listener.setblocking(False)
    return listener


class PortSettings:
    """The serial port that an RFC 2217 client believes to have: settings it may change, lines that never move."""

    def __init__(self, baud: int) -> None:
        self.baudrate, self.bytesize, self.parity, self.stopbits = baud, 8, "N", 1
        self.xonxoff = self.rtscts = self.break_condition = False
        self.dtr = self.rts = self.cts = self.dsr = self.cd = True
        self.ri = False
        self.purged = False

    def reset_input_buffer(self) -> None:
        """What the device has said by now is not for the client."""
        self.purged = True

    def reset_output_buffer(self) -> None:
        """Nothing waits here."""


class Telnet:
    """RFC 2217's side of a client: what it says without its negotiations, and what it is told, by pyserial."""

    def __init__(self, baud: int) -> None:
        from serial import rfc2217

        self.settings = PortSettings(baud)
        self._replies = bytearray()
        self._manager = rfc2217.PortManager(self.settings, self)  # type: ignore[arg-type]

    def write(self, data: bytes) -> None:
        """What the negotiation answers; called by pyserial."""
        self._replies += data

    def heard(self, data: bytes) -> bytes:
        """The client's own bytes. Raises ValueError over a negotiation that is none."""
        try:
            return b"".join(self._manager.filter(data))
        except Exception as error:  # pyserial does not check what it is told
            raise ValueError("no RFC 2217") from error

    def told(self, data: bytes) -> bytes:
        """Bytes for the client, behind what the negotiation has to say."""
        said = bytes(self._replies) + b"".join(self._manager.escape(data))
        self._replies.clear()
        return said


@dataclass(slots=True, eq=False)
class _Client:
    connection: socket.socket
    stub: Stub
    unsent: bytes = b""
    telnet: Telnet | None = None
    leaving: bool = False  # it will say no more, or was told that it is done; what waits for it is still sent
    watched: int = field(default=select.EPOLLIN)


class TcpServer:
    """Serves firmware on `listener`, which it closes in the end.

    `make` makes the firmware: for each client if it keeps sessions, else once. `telnet_baud`: clients speak RFC 2217,
    and find a port at this rate.
    """

    def __init__(
        self,
        make: Callable[[], Stub],
        listener: socket.socket,
        utc_ns: Callable[[], int],
        *,
        sessions: bool,
        telnet_baud: int | None = None,
    ) -> None:
        self._make, self._listener, self._utc_ns, self._telnet_baud = make, listener, utc_ns, telnet_baud
        self._path: Path | None = None
        if listener.family == socket.AF_UNIX:
            self._path = Path(listener.getsockname())
            self.address = f"{UNIX_SCHEME}{self._path}"
        else:
            address, port = listener.getsockname()[:2]
            scheme = SERIAL_SCHEME if telnet_baud else SCHEME
            self.address = f"{scheme}[{address}]:{port}" if ":" in address else f"{scheme}{address}:{port}"
        self.client_baud: int | None = None  # as the last RFC 2217 client has set it
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
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

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
            if self._path is None:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = self._clients[connection.fileno()] = _Client(connection, self._device or self._make())
            if self._telnet_baud is not None:
                client.telnet = Telnet(self._telnet_baud)
                client.unsent = client.telnet.told(b"")
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
            if client.telnet is not None:
                try:
                    data = client.telnet.heard(data)
                except ValueError:
                    client.leaving = True
                    return
                self.client_baud = client.telnet.settings.baudrate
                if client.telnet.settings.purged:  # as far as the line's time goes, however late we are
                    client.telnet.settings.purged = False
                    self._speak(but=client)
                client.unsent += client.telnet.told(b"")
                self._flush(client)
            client.stub.receive(data, self._utc_ns())
            if self._device is None:
                self._hear(client)
                if client.unsent:
                    return

    def _speak(self, but: _Client | None = None) -> None:
        if self._device is None:
            for client in self._clients.values():
                self._hear(client)
            return
        said = self._device.poll(self._utc_ns())
        if said and not self._clients:
            self.unheard += len(said)
        for client in self._clients.values() if said else ():
            if client.unsent or client is but:
                self.dropped += len(said)
            else:
                client.unsent = client.telnet.told(said) if client.telnet is not None else said
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
