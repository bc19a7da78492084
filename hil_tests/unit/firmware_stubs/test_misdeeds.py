"""What a device does wrong is logged and recorded, with its bytes and the time: devices played behind a pty."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import serial

from emulator.units import NS_PER_MS, parse_utc_ns
from firmware_stubs.attach import ControllerLine
from firmware_stubs.bridge import Bridge
from firmware_stubs.drivers import Oddity
from firmware_stubs.record import Recorder, as_text

PATIENCE_S = 30
NEVER_MS = 3_600_000
NOW = "2026-03-01T12:00:00.000Z"
NOW_NS = parse_utc_ns(NOW)
POSITION = b"AZ1.0 EL2.0\n"


@contextlib.contextmanager
def device(answer: bytes) -> Iterator[tuple[str, Callable[[], None]]]:
    """A port whose device answers so whatever ends a line; and what is to be called when it was opened."""
    master, slave = os.openpty()
    held = contextlib.ExitStack()  # until the program has opened it: a port that nobody holds has gone
    held.callback(os.close, slave)
    held.enter_context(serial.Serial(os.ttyname(slave), 9600))  # raw: a device's line does not echo by itself

    def serve() -> None:
        with contextlib.suppress(OSError):  # the program went away
            while asked := os.read(master, 4096):
                if asked[-1:] in b"\r\n":
                    os.write(master, answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield os.ttyname(slave), held.close
    finally:
        held.close()
        thread.join()
        os.close(master)


class Told(logging.Handler):
    """The first words about a device."""

    def __init__(self) -> None:
        super().__init__()
        self.message, self.came = "", threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if not self.came.is_set():
            self.message = record.getMessage()
            self.came.set()


@pytest.fixture
def told() -> Iterator[Told]:
    handler, log = Told(), logging.getLogger("bentpipe.hardware")
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


def remarks(record: Path) -> list[tuple[str, bytes, int]]:
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    return [(line["odd"], bytes.fromhex(line["hex"]), line["utc_ns"]) for line in lines if "odd" in line]


def check_told(told: Told, port: str, record: Path, kind: str, data: bytes) -> None:
    """In the log and in the record, with the bytes and the time."""
    assert told.message == f"{NOW}: {port}: {kind}" + (f": {as_text(data)}" if data else "")
    assert remarks(record)[0] == (kind, data, NOW_NS)


@pytest.mark.parametrize(
    ("answer", "silence_ms", "kind", "data"),
    [
        (b"", 50, "silence", b""),
        (b"AZ1.0 EL", 3000, "half a line", b"AZ1.0 EL"),  # and no more
        (b"AZ1.0 E\n", NEVER_MS, "half a line", b"AZ1.0 E"),
        (b"AZ EL \n" + POSITION, NEVER_MS, "echo", b"AZ EL "),
        (b"AZ1234.0 EL456.0\n", NEVER_MS, "other units", b"AZ1234.0 EL456.0"),
        (b"\x00\xf3zz\n", NEVER_MS, "garbage", b"\x00\xf3zz"),
    ],
)
def test_what_a_controller_does_wrong_is_told(
    answer: bytes, silence_ms: int, kind: str, data: bytes, tmp_path: Path, told: Told
) -> None:
    record = tmp_path / "acu.jsonl"
    with contextlib.ExitStack() as running:
        port, opened = running.enter_context(device(answer))
        line = ControllerLine(
            "easycomm2",
            port,
            9600,
            poll_ns=50 * NS_PER_MS,
            silence_ns=silence_ms * NS_PER_MS,
            on_report=lambda report, _: None,
            on_tick=lambda: None,
            utc_ns=lambda: NOW_NS,
            recorder=Recorder(record, lambda: NOW_NS),
        )
        began_ns = time.monotonic_ns()
        running.enter_context(line)
        opened()
        assert told.came.wait(PATIENCE_S)
    at_ns, oddity = line.oddities[0]
    assert began_ns < at_ns < time.monotonic_ns()
    assert oddity == Oddity(kind, data)
    check_told(told, port, record, kind, data)


@pytest.mark.parametrize(
    ("answer", "silence_ms", "kind", "data"),
    [
        (b"", 50, "silence", b""),
        (b"GET apiVersion {}\r", NEVER_MS, "echo", b"GET apiVersion {}\r"),
        (b"200 apiVersion {", NEVER_MS, "half a line", b"200 apiVersion {"),
        (b"\x00\xf3zz\r", NEVER_MS, "garbage", b"\x00\xf3zz"),
    ],
)
def test_what_a_device_behind_a_port_of_ours_does_wrong_is_told(
    answer: bytes, silence_ms: int, kind: str, data: bytes, tmp_path: Path, told: Told
) -> None:
    record = tmp_path / "modem.jsonl"
    with contextlib.ExitStack() as running:
        device_port, opened = running.enter_context(device(answer))
        bridge = Bridge(
            "jspr",
            str(tmp_path / "modem"),
            device_port,
            230400,
            silence_ns=silence_ms * NS_PER_MS,
            utc_ns=lambda: NOW_NS,
            recorder=Recorder(record, lambda: NOW_NS),
        ).start()
        running.callback(bridge.stop)
        opened()
        with serial.Serial(bridge.address, 230400) as program:
            program.write(b"GET apiVersion {}\r")
            assert told.came.wait(PATIENCE_S)
    assert bridge.oddities[0][1:] == (kind, data)
    check_told(told, device_port, record, kind, data)
