"""Hardware behind the port that a stub would have: bytes pass as they are, and what the hardware does wrong is told.

The program opens the same port whether there is a stub or a device behind it. `Watch` looks at what passes, sans-I/O;
it knows no more of a protocol than what tells a healthy device from one that is not.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from emulator.errors import EndpointError
from emulator.units import NS_PER_S, format_utc
from firmware_stubs.lines import Line, open_hardware, open_line
from firmware_stubs.record import Recorder, as_text
from firmware_stubs.text import Lines

READ_BYTES = 4096
LOOK_S = 0.2
REMEMBERED = 64  # bytes that an echo may repeat
LONGEST_LINE = 8192
HALF_NS = NS_PER_S  # a line that goes on for longer than this has stopped half way
TALKERS = ("nmea", "ubx")  # what speaks without being asked
ECHOERS = ("sbd", "ntn")  # AT commands are echoed by right

log = logging.getLogger("bentpipe.hardware")

_NMEA = re.compile(rb"\$[A-Z0-9]{1,10},?[\x20-\x7e]*\*([0-9A-F]{2})")
_PRINTABLE = re.compile(rb"[\t\x20-\x7e]*")


class Watch:
    """Looks at what passes between a program and a device of `kind`; times are ns of a clock that only rises.

    Told are: silence (no answer, or nothing from what should speak), an echo, half a line, garbage.
    """

    def __init__(self, kind: str, silence_ns: int, now_ns: int) -> None:
        self._kind, self._silence_ns = kind, silence_ns
        self._lines = Lines(b"\r\n", LONGEST_LINE)
        self._asked_ns: int | None = now_ns if kind in TALKERS else None
        self._said = b""
        self._heard_ns = now_ns
        self._half_told = False
        self._joined = kind in TALKERS  # in the middle of a sentence, as a rule

    def client(self, data: bytes, now_ns: int) -> None:
        """The program said something."""
        self._said = (self._said + data)[-REMEMBERED:]
        if self._asked_ns is None:
            self._asked_ns = now_ns

    def device(self, data: bytes, now_ns: int) -> Iterator[tuple[str, bytes]]:
        """The device said something: what is odd about it, and its bytes."""
        self._asked_ns = now_ns if self._kind in TALKERS else None
        self._heard_ns, self._half_told = now_ns, False
        if self._kind not in ECHOERS and len(self._said) >= 4 and data[: len(self._said)] == self._said:
            yield "echo", data
        self._said = b""
        if self._kind in ("ubx", "slip", "sbd"):  # binary by right
            return
        for line in self._lines.feed(data):
            if line is None:
                yield "garbage", b""
            elif (fault := self._fault_of(line)) and not self._joined:
                yield fault, line
            self._joined = False

    def _fault_of(self, line: bytes) -> str:
        if not _PRINTABLE.fullmatch(line):
            return "garbage"
        if self._kind != "nmea":
            return ""
        match = _NMEA.fullmatch(line)
        if match is None:
            return "half a line"
        total = 0
        for byte in line[1:-3]:
            total ^= byte
        return "" if total == int(match[1], 16) else "garbage"

    def tick(self, now_ns: int) -> Iterator[tuple[str, bytes]]:
        """Time passes."""
        if self._asked_ns is not None and now_ns - self._asked_ns >= self._silence_ns:
            self._asked_ns = None
            yield "silence", b""
        if not self._half_told and now_ns - self._heard_ns >= HALF_NS and (half := self._lines.unfinished):
            self._half_told = True
            yield "half a line", half


class Bridge:
    """Carries bytes between `port`, which programs open, and the hardware at `url`, in a thread.

    `oddities` holds (monotonic ns, kind, bytes). Raises EndpointError if either cannot be opened.
    """

    def __init__(
        self,
        kind: str,
        port: str,
        url: str,
        baud: int,
        *,
        silence_ns: int,
        utc_ns: Callable[[], int],
        directory: Path | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._kind, self._port, self._url, self._baud = kind, port, url, baud
        self._utc_ns, self._directory, self._recorder = utc_ns, directory, recorder
        self._silence_ns = silence_ns
        self.oddities: deque[tuple[int, str, bytes]] = deque(maxlen=1000)
        self.address = ""
        self._told_ns: dict[str, int] = {}
        self._stop_fd = -1
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        with contextlib.ExitStack() as undo:
            if self._recorder is not None:
                undo.callback(self._recorder.close)
            device = open_hardware(self._url, self._baud)
            undo.callback(device.close)
            client = open_line(self._port, name=self._kind, baud=self._baud, directory=self._directory)
            undo.callback(client.close)
            self.address = str(client.path)
            self._stop_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, self._stop_fd)
            self._thread = threading.Thread(
                target=self._run, args=(client, device), name=f"bridge {self._kind}", daemon=True
            )
            self._thread.start()
            self._undo = undo.pop_all()
        return self

    def stop(self) -> None:
        """Twice is allowed."""
        if self._thread is not None:
            os.eventfd_write(self._stop_fd, 1)
            self._thread.join()
            self._thread = None
            self._undo.close()

    def _run(self, client: Line, device: Line) -> None:
        watch = Watch(self._kind, self._silence_ns, time.monotonic_ns())
        try:
            with select.epoll() as epoll:
                epoll.register(self._stop_fd, select.EPOLLIN)
                for fd in (client.fd, device.fd):
                    epoll.register(fd, select.EPOLLIN | select.EPOLLET)
                while all(fd != self._stop_fd for fd, _ in epoll.poll(LOOK_S)):
                    while self._carry(client, device, watch):
                        pass
                    self._tell(watch.tick(time.monotonic_ns()))
        except OSError as error:
            self._tell([("line lost", str(error).encode("ascii", "replace"))])
        except Exception:
            log.exception("%s: the bridge failed", self._url)

    def _carry(self, client: Line, device: Line, watch: Watch) -> bool:
        """A piece in each direction. True if there may be more."""
        asked, answered = _read(client), _read(device)
        if asked:
            watch.client(asked, time.monotonic_ns())
            if self._recorder is not None:
                self._recorder.note("client", asked)
            _write(device, asked)
        if answered:
            if self._recorder is not None:
                self._recorder.note("device", answered)
            self._tell(watch.device(answered, time.monotonic_ns()))
            if client.listened_to():
                _write(client, answered)
        return bool(asked or answered)

    def _tell(self, odd: Iterator[tuple[str, bytes]] | list[tuple[str, bytes]]) -> None:
        for kind, data in odd:
            now_ns = time.monotonic_ns()
            self.oddities.append((now_ns, kind, data))
            if self._recorder is not None:
                self._recorder.remark(kind, data)
            if now_ns - self._told_ns.get(kind, -NS_PER_S) >= NS_PER_S:
                self._told_ns[kind] = now_ns
                said = f": {as_text(data)}" if data else ""
                log.warning("%s: %s: %s%s", format_utc(self._utc_ns()), self._url, kind, said)


def _read(line: Line) -> bytes:
    """What waits; b"" for nothing. Raises OSError if the line went away."""
    try:
        data = os.read(line.fd, READ_BYTES)
    except BlockingIOError:
        return b""
    except OSError:
        if line.clients_come_and_go:
            return b""
        raise
    if not data and not line.clients_come_and_go:
        raise EndpointError(f"{line.path}: the serial line went away")
    return data


def _write(line: Line, data: bytes) -> None:
    """All of it, or as much as there is room for: who does not read loses the rest."""
    with contextlib.suppress(BlockingIOError):
        while data:
            data = data[os.write(line.fd, data) :]
