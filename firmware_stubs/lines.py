"""Where a stub is found: a pty behind a symlink that stays, or a serial port of this machine.

A link is served by one process at a time: it holds a lock on `.NAME.lock` beside the link, which the kernel lets go of
however that process ends. A link whose lock is free belongs to a dead process and is replaced.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import stat
import termios
import threading
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from emulator.errors import EndpointError, ToolMissingError

if TYPE_CHECKING:
    import serial

# termios' constant of each baud rate → the rate
BAUDS = {getattr(termios, name): int(name[1:]) for name in dir(termios) if name[:1] == "B" and name[1:].isdecimal()}
CHOOSE = "pty"  # the port's name that lets us choose where the link is


class Line(Protocol):
    """An open serial line. `path` is what a client opens, `device` what is behind it, `fd` never blocks.

    `clients_come_and_go`: reading fails (EIO) while nobody holds the other end, which is no reason to end.
    """

    path: Path
    device: str
    fd: int
    clients_come_and_go: bool

    def client_baud(self) -> int | None:
        """The rate at which the client has set its end; None where there is no such thing, or it times itself."""

    def listened_to(self) -> bool:
        """Whether anybody holds the other end. True where that cannot be known."""

    def hung_up(self) -> None:
        """The last client went away: what it did not read is thrown away, the next one finds a fresh line."""

    def close(self) -> None:
        """Closes the line and removes what it left in the file system. Twice is allowed."""


def open_line(port: str, *, name: str, baud: int, directory: Path | None = None) -> Line:
    """Opens a port: a serial device, a URL of pyserial's, a path for a link to a pty, or "pty" to choose one.

    `name` is the stub's, for links that are chosen: NAME0, NAME1, … Raises EndpointError naming the port; nothing is
    left behind then.
    """
    if port == CHOOSE:
        if directory is None:
            raise EndpointError(f"{port}: expected a directory to choose a link in")
        return _open_chosen(directory, name, baud)
    if "://" in port:
        return UrlLine(port, baud)
    path = Path(port).expanduser().absolute()
    if _is_device(path) and not _lock_path(path).exists():
        return SerialDevice(path, baud)
    if path.parent == Path("/dev") and path.name.startswith("tty"):
        raise EndpointError(f"{path}: no such serial port")  # a typing error must not make what looks like one
    return PtyLine(path, baud)


def open_hardware(port: str, baud: int) -> Line:
    """Opens the port of a device, by path or URL, as a program does that uses it. Raises EndpointError."""
    return UrlLine(port, baud) if "://" in port else SerialDevice(Path(port).expanduser().absolute(), baud)


def _open_chosen(directory: Path, name: str, baud: int) -> Line:
    for number in range(100):
        with contextlib.suppress(_ServedError):
            return PtyLine(directory / f"{name}{number}", baud)
    raise EndpointError(f"{directory}: expected a free name from {name}0 to {name}99, all are served")


def remove_stale_links(directory: Path) -> list[Path]:
    """Removes the links in `directory` whose process is dead. Returns them; one that is served stays."""
    removed = []
    for lock in sorted(directory.glob(".*.lock")):
        link = lock.with_name(lock.name.removeprefix(".").removesuffix(".lock"))
        with contextlib.suppress(OSError), _claim(link):
            if link.is_symlink():
                link.unlink()
                removed.append(link)
    return removed


def _is_device(path: Path) -> bool:
    try:
        return stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        return False


def _lock_path(link: Path) -> Path:
    return link.with_name(f".{link.name}.lock")


class _ServedError(EndpointError):
    """Another process serves this link."""


class PtyLine:
    """The master of a pty, whose slave clients find through a symlink; they may come and go.

    Clients: no modem-control lines on a pty (ENOTTY), CS8 always, no parity: see shared/INTERFACES.md.
    """

    clients_come_and_go = True

    def __init__(self, link: Path, baud: int) -> None:
        self.path = link
        with contextlib.ExitStack() as undo:
            undo.enter_context(_claim(link))
            try:
                self.fd, slave = os.openpty()
            except OSError as error:
                raise EndpointError(f"{link}: cannot make a pty: {error.strerror}") from error
            undo.callback(os.close, self.fd)
            try:
                self.device = os.ttyname(slave)
                _make_raw(slave, baud)
            finally:
                os.close(slave)  # so that the kernel tells us when the last client has gone
            os.set_blocking(self.fd, False)
            _point(link, self.device)
            undo.callback(_unpoint, link, self.device)
            self._undo = undo.pop_all()

    def client_baud(self) -> int | None:
        """As the client has set its end: the master sees it."""
        with contextlib.suppress(termios.error):
            return BAUDS.get(termios.tcgetattr(self.fd)[5])
        return None

    def listened_to(self) -> bool:
        poll = select.poll()
        poll.register(self.fd, 0)  # POLLHUP is always reported
        return not poll.poll(0)

    def hung_up(self) -> None:
        with contextlib.suppress(OSError, termios.error):
            termios.tcflush(self.fd, termios.TCOFLUSH)  # on its way to the client
            slave = os.open(self.device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            try:
                termios.tcflush(slave, termios.TCIFLUSH)  # arrived, and not read
            finally:
                os.close(slave)

    def close(self) -> None:
        self._undo.close()


class SerialDevice:
    """A serial port of this machine, opened and set up by pyserial, held for us alone."""

    clients_come_and_go = False

    def __init__(self, path: Path, baud: int) -> None:
        try:
            import serial
        except ImportError as error:
            raise ToolMissingError("serial ports need pyserial: pip install pyserial") from error
        self.path, self.device = path, str(path)
        try:
            self._port: serial.Serial = serial.Serial(str(path), baud, timeout=0, write_timeout=0, exclusive=True)
        except (OSError, ValueError, termios.error) as error:  # pyserial's SerialException is an OSError
            raise EndpointError(f"{path}: cannot open the serial port at {baud} baud: {error}") from error
        self.fd = self._port.fileno()
        os.set_blocking(self.fd, False)
        attributes = termios.tcgetattr(self.fd)
        attributes[6][termios.VMIN] = 1  # pyserial's 0 makes an idle line look like one that is gone: read gives b""
        termios.tcsetattr(self.fd, termios.TCSANOW, attributes)

    def client_baud(self) -> int | None:
        return None

    def listened_to(self) -> bool:
        return True

    def hung_up(self) -> None:
        """A real line has no ends that come and go."""

    def close(self) -> None:
        self._port.close()


class UrlLine:
    """A port elsewhere, by pyserial: rfc2217://HOST:PORT, the port of a device server, or socket://HOST:PORT.

    Two threads carry the bytes between it and `fd`.
    """

    clients_come_and_go = False

    def __init__(self, url: str, baud: int) -> None:
        try:
            import serial
        except ImportError as error:
            raise ToolMissingError("serial ports need pyserial: pip install pyserial") from error
        self.path, self.device = Path(url), url
        try:
            self._port = serial.serial_for_url(url, baudrate=baud, timeout=0.1)
        except (OSError, ValueError) as error:
            raise EndpointError(f"{url}: cannot open the serial port at {baud} baud: {error}") from error
        ours, theirs = socket.socketpair()
        self._ours, self._theirs = ours, theirs
        ours.setblocking(False)
        self.fd = ours.fileno()
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"line {url}", daemon=True) for work in (self._inward, self._outward)
        ]
        for thread in self._threads:
            thread.start()

    def _inward(self) -> None:
        with contextlib.suppress(OSError, TypeError):  # TypeError: pyserial's, of a port that was closed under it
            while not self._closing.is_set():
                data = self._port.read(1)
                if data:
                    self._theirs.sendall(data)
        self._theirs.close()  # whoever reads `fd` then sees that the line went away

    def _outward(self) -> None:
        with contextlib.suppress(OSError, TypeError):
            while data := self._theirs.recv(4096):
                self._port.write(data)

    def client_baud(self) -> int | None:
        return None

    def listened_to(self) -> bool:
        return True

    def hung_up(self) -> None:
        """A line elsewhere has no ends that come and go."""

    def close(self) -> None:
        self._closing.set()
        self._ours.close()
        for thread in self._threads:
            thread.join()
        self._port.close()


@contextlib.contextmanager
def _claim(link: Path) -> Iterator[None]:
    """Holds `link` for this process: raises _ServedError if another one does."""
    lock = _lock_path(link)
    descriptor = -1
    while descriptor < 0:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise EndpointError(f"{link}: cannot make the link to a pty here: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            if error.errno != errno.EWOULDBLOCK:
                raise EndpointError(f"{link}: cannot lock {lock.name}: {error.strerror}") from error
            raise _ServedError(f"{link}: is served by process {owner or 'unknown'} already") from error
        if not _same_file(descriptor, lock):  # its former owner removed it just now
            os.close(descriptor)
            descriptor = -1
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(descriptor)


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _point(link: Path, device: str) -> None:
    """Makes `link` point at `device`, in one step; what is there may be a link, and nothing else."""
    if link.exists() and not link.is_symlink():
        raise EndpointError(f"{link}: expected a serial port or a free name, it is a file or directory")
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        fresh.symlink_to(device)
        fresh.replace(link)
    except OSError as error:
        raise EndpointError(f"{link}: cannot make the link to {device}: {error.strerror}") from error


def _unpoint(link: Path, device: str) -> None:
    with contextlib.suppress(OSError):
        if str(link.readlink()) == device:
            link.unlink()


def _make_raw(slave: int, baud: int) -> None:
    tty.setraw(slave)
    speed = getattr(termios, f"B{baud}", None)
    if speed is not None:
        attributes = termios.tcgetattr(slave)
        attributes[4] = attributes[5] = speed
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
