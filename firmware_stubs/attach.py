"""A program's end of a line to an antenna controller, stub or hardware: a driver on a port of pyserial's.

One thread reads, asks, writes commands and ticks; a port that goes away is opened again when it is back. What the
controller does wrong is told, with the bytes.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from emulator.errors import EndpointError, ToolMissingError
from emulator.terminal.pointing import Report
from emulator.units import NS_PER_S, format_utc
from firmware_stubs.drivers import DRIVERS, Driver, Oddity
from firmware_stubs.record import Recorder, as_text

if TYPE_CHECKING:
    import serial

TICK_S = 0.01
REOPEN_NS = NS_PER_S
TOLD_EVERY_NS = NS_PER_S  # the same oddity is logged once in this time
KEPT_ODDITIES = 1000
KEPT_HALF = 256  # bytes of an answer that does not end

log = logging.getLogger("bentpipe.hardware")


def open_port(url: str, baud: int) -> serial.Serial:
    """A port by pyserial: a device, a pty, rfc2217://HOST:PORT, socket://HOST:PORT. Raises EndpointError naming it."""
    try:
        import serial
    except ImportError as error:
        raise ToolMissingError("serial ports need pyserial: pip install pyserial") from error
    try:
        port: serial.Serial = serial.serial_for_url(url, do_not_open=True)
        port.baudrate, port.timeout = baud, TICK_S
        if "://" not in url:  # pyserial's ports elsewhere know neither
            port.exclusive, port.write_timeout = True, 1.0
        port.open()
    except (OSError, ValueError, AssertionError) as error:  # SerialException is an OSError
        raise EndpointError(f"{url}: cannot open the serial port at {baud} baud: {error}") from error
    return port


class ControllerLine:
    """A context that talks to the controller at `url`. The callbacks come from its thread.

    on_report: a report, and the monotonic ns at which its last byte was read. on_tick: every 10 ms or so, and after
    each report. `recorder` is closed in the end. `oddities` holds (monotonic ns, oddity) of what went wrong. Raises
    EndpointError if the port cannot be opened at first.
    """

    def __init__(
        self,
        protocol: str,
        url: str,
        baud: int,
        *,
        poll_ns: int,
        silence_ns: int,
        on_report: Callable[[Report, int], None],
        on_tick: Callable[[], None],
        utc_ns: Callable[[], int] = time.time_ns,
        recorder: Recorder | None = None,
        satellite_deg: float | None = None,
    ) -> None:
        self.driver: Driver = DRIVERS[protocol]()
        self.oddities: deque[tuple[int, Oddity]] = deque(maxlen=KEPT_ODDITIES)
        self.reports = 0
        self._url, self._baud, self._poll_ns, self._silence_ns = url, baud, poll_ns, silence_ns
        self._on_report, self._on_tick, self._utc_ns, self._recorder = on_report, on_tick, utc_ns, recorder
        self._port: serial.Serial | None = None
        self._commands: deque[bytes] = deque(maxlen=64)
        self._satellite_deg = satellite_deg
        self.say(self.driver.hello(satellite_deg))
        self._stopping = threading.Event()
        self._asked_ns: int | None = None  # since when an answer is due
        self._next_ask_ns = self._reopen_ns = 0
        self._silent = False
        self._half = b""  # what came of an answer that has not ended
        self._told_ns: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="antenna line", daemon=True)

    def say(self, command: bytes) -> None:
        """Has `command` written, in its turn. From any thread."""
        if command:
            self._commands.append(command)

    def __enter__(self) -> Self:
        self._port = open_port(self._url, self._baud)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._close()
        if self._recorder is not None:
            self._recorder.close()

    def _close(self) -> None:
        if self._port is not None:
            with contextlib.suppress(OSError):
                self._port.close()
            self._port = None

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._turn()
        except Exception:
            log.exception("%s: the line to the antenna's controller failed", self._url)

    def _turn(self) -> None:
        now_ns = time.monotonic_ns()
        if self._port is None:
            self._stopping.wait(TICK_S)
            if now_ns >= self._reopen_ns:
                self._reopen_ns = now_ns + REOPEN_NS
                with contextlib.suppress(EndpointError):
                    self._port = open_port(self._url, self._baud)
                    self.say(self.driver.hello(self._satellite_deg))
        else:
            try:
                self._speak(now_ns)
                data = self._port.read(1)
                if data:
                    data += self._port.read(self._port.in_waiting)
                    self._hear(data, time.monotonic_ns())
            except (OSError, TypeError) as error:  # TypeError: pyserial's, of a port that was closed under it
                self._odd(Oddity("line lost", str(error).encode("ascii", "replace")), now_ns)
                self._close()
                self._asked_ns, self._reopen_ns = None, now_ns + REOPEN_NS
        self._on_tick()

    def _speak(self, now_ns: int) -> None:
        while self._commands:
            self._write(self._commands.popleft())
        if self._asked_ns is not None and now_ns - self._asked_ns >= self._silence_ns:
            self._asked_ns = None
            if not self._silent:
                self._silent = True
                self._odd(Oddity("half a line" if self._half else "silence", self._half), now_ns)
        if self._asked_ns is None and now_ns >= self._next_ask_ns:
            question = self.driver.ask()
            self._next_ask_ns = max(self._next_ask_ns + self._poll_ns, now_ns)
            if question:
                self._asked_ns = now_ns
                self._write(question)

    def _write(self, data: bytes) -> None:
        assert self._port is not None
        self._port.write(data)
        if self._recorder is not None:
            self._recorder.note("client", data)

    def _hear(self, data: bytes, now_ns: int) -> None:
        if self._recorder is not None:
            self._recorder.note("device", data)
        self._half = (self._half + data)[-KEPT_HALF:]
        for heard in self.driver.receive(data):
            self._half = b""
            if isinstance(heard, Oddity):
                self._odd(heard, now_ns)
                continue
            self.reports += 1
            self._asked_ns, self._silent = None, False
            self._on_report(heard, now_ns)

    def _odd(self, oddity: Oddity, now_ns: int) -> None:
        self.oddities.append((now_ns, oddity))
        if self._recorder is not None:
            self._recorder.remark(oddity.kind, oddity.data)
        if now_ns - self._told_ns.get(oddity.kind, -TOLD_EVERY_NS) >= TOLD_EVERY_NS:
            self._told_ns[oddity.kind] = now_ns
            said = f": {as_text(oddity.data)}" if oddity.data else ""
            log.warning("%s: %s: %s%s", format_utc(self._utc_ns()), self._url, oddity.kind, said)
