"""Receivers and controllers behind an RFC 2217 port, as a device server has one, for clients that know it and not."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial
from pynmeagps import NMEAReader
from pyubx2 import UBXReader

from emulator.terminal import Antenna, Mount, Terminal
from emulator.terminal.pointing import Report
from emulator.units import NS_PER_MS, NS_PER_S
from firmware_stubs.registry import Hardware, bridge, controller_line
from firmware_stubs.transport import SerialStub

SITE = Terminal(-33.8568, 151.2153, 42.0)
PATIENCE_S = 60

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial's RFC 2217 client


@pytest.fixture
def receiver() -> Iterator[serial.Serial]:
    with SerialStub("ubx", SITE.state, "rfc2217:127.0.0.1:0") as stub:
        url = stub.address.replace("rfc2217:", "rfc2217://")
        with serial.serial_for_url(url, 9600, timeout=PATIENCE_S) as port:
            yield port


def test_pynmeagps_reads_the_position(receiver: serial.Serial) -> None:
    for _, message in NMEAReader(receiver, validate=1, quitonerror=0):
        if message is not None and message.msgID == "GGA":
            assert (message.lat, message.lon) == (-33.8568, 151.2153)
            return


def test_pyubx2_is_answered_in_binary(receiver: serial.Serial) -> None:
    receiver.write(b"\xb5\x62\x01\x07\x00\x00\x08\x19")  # a poll of NAV-PVT, with a byte that Telnet would escape
    for _, message in UBXReader(receiver, protfilter=2):
        if message.identity == "NAV-PVT":
            assert message.lat == pytest.approx(-33.8568)
            return


@pytest.mark.needs("rotctl")
def test_rotctl_that_opens_paths_alone_finds_it_behind_one(tmp_path: Path) -> None:
    antenna = Antenna(Mount(park_azimuth_deg=10, park_elevation_deg=80))
    with SerialStub("easycomm2", SITE.state, "rfc2217:127.0.0.1:0", hardware=Hardware(antenna=antenna)) as stub:
        url = stub.address.replace("rfc2217:", "rfc2217://")
        door = bridge("easycomm2", str(tmp_path / "rotator"), url, None, silence_ns=NS_PER_S, utc_ns=time.time_ns)
        door.start()
        try:
            command = ["rotctl", "-m", "202", "-r", door.address, "p"]
            told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
        finally:
            door.stop()
    assert [float(line) for line in told.stdout.split()] == [10, 80]


def test_the_bench_reaches_a_controller_at_a_device_server() -> None:
    heard, reports = threading.Event(), list[Report]()

    def on_report(report: Report, now_ns: int) -> None:
        reports.append(report)
        if report.azimuth_deg == 123.4:
            heard.set()

    antenna = Antenna(Mount(azimuth_rate_deg_s=1000, elevation_rate_deg_s=1000))
    with SerialStub("easycomm2", SITE.state, "rfc2217:127.0.0.1:0", hardware=Hardware(antenna=antenna)) as stub:
        line = controller_line(
            "easycomm2",
            stub.address.replace("rfc2217:", "rfc2217://"),
            None,
            poll_ns=50 * NS_PER_MS,
            silence_ns=PATIENCE_S * NS_PER_S,
            on_report=on_report,
            on_tick=lambda: None,
            utc_ns=time.time_ns,
        )
        with line:
            line.say(line.driver.point(123.4, 45.6))
            assert heard.wait(PATIENCE_S)
    assert reports[-1] == Report(123.4, 45.6)
