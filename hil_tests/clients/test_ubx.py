"""pyubx2 on the u-blox stub's line, and gpsd's decoder over what came from it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial
from pyubx2 import POLL, SET, UBX_PROTOCOL, UBXMessage, UBXReader

from emulator.terminal import Terminal
from firmware_stubs.transport import SerialStub

SITE = Terminal(-33.8568, 151.2153, 42.0)
PATIENCE_S = 30


@pytest.fixture
def line(tmp_path: Path) -> Iterator[serial.Serial]:
    with (
        SerialStub("ubx", SITE.state, str(tmp_path / "gnss")) as stub,
        serial.Serial(str(stub.path), 9600, timeout=PATIENCE_S) as client,
    ):
        yield client


def messages(line: serial.Serial) -> Iterator[tuple[bytes, UBXMessage]]:
    yield from UBXReader(line, protfilter=UBX_PROTOCOL, quitonerror=2)


def test_pyubx2_polls_a_position(line: serial.Serial) -> None:
    line.write(UBXMessage("NAV", "NAV-PVT", POLL).serialize())
    _, message = next(messages(line))
    assert (message.identity, message.lat, message.lon, message.height) == ("NAV-PVT", -33.8568, 151.2153, 42_000)
    assert message.fixType == 3


@pytest.mark.needs("gpsdecode")
def test_positions_that_were_switched_on_come_by_themselves_and_gpsdecode_reads_them(line: serial.Serial) -> None:
    line.write(UBXMessage("CFG", "CFG-MSG", SET, msgClass=0x01, msgID=0x07, rateUART1=1).serialize())
    heard = messages(line)
    assert next(heard)[1].identity == "ACK-ACK"
    raw = [next(heard)[0] for _ in range(2)]
    gpsdecode = shutil.which("gpsdecode", path="/usr/bin:/usr/sbin")
    assert gpsdecode
    decoded = subprocess.run([gpsdecode, "-j"], input=b"".join(raw), capture_output=True, check=True)
    fixes = [json.loads(report) for report in decoded.stdout.splitlines()]
    assert [(fix["class"], fix["mode"], fix["lat"], fix["lon"]) for fix in fixes] == [
        ("TPV", 3, -33.8568, 151.2153)
    ] * 2
