"""Adafruit's RockBLOCK driver, unmodified, takes the SBD stub for a 9602."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial
from adafruit_rockblock import RockBlock

from emulator.terminal import Terminal
from emulator.units import NS_PER_MS, parse_utc_ns
from firmware_stubs.gateway import Failure, MessageGateway, Service
from firmware_stubs.registry import Hardware
from firmware_stubs.sbd import IMEI
from firmware_stubs.transport import SerialStub

SITE = Terminal(51.5074, -0.1278, 20.0)
PATIENCE_S = 30
SESSION_NS = 20 * NS_PER_MS


class Link:
    """The service, as a test sets it."""

    def __init__(self) -> None:
        self.service = Service(bars=4, latency_ns=SESSION_NS)

    def at(self, utc_ns: int) -> Service:
        return self.service


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def mailbox(tmp_path: Path) -> MessageGateway:
    return MessageGateway(tmp_path / "mail")


pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial's RFC 2217 client


@pytest.fixture(params=["pty", "tcp", "rfc2217"])
def modem(request: pytest.FixtureRequest, tmp_path: Path, link: Link, mailbox: MessageGateway) -> Iterator[RockBlock]:
    port = str(tmp_path / "modem") if request.param == "pty" else f"{request.param}:127.0.0.1:0"
    hardware = Hardware(gateway=mailbox, service_at=link.at)
    with SerialStub("sbd", SITE.state, port, hardware=hardware) as stub:
        url = stub.address.replace("tcp:", "socket://").replace("rfc2217:", "rfc2217://")
        with serial.serial_for_url(url, 19200, timeout=PATIENCE_S) as line:
            yield RockBlock(line)


def test_a_message_goes_out_and_one_comes_in(modem: RockBlock, mailbox: MessageGateway, tmp_path: Path) -> None:
    message = bytes(range(256)).replace(b"\r", b"").replace(b"\n", b"")  # at which the driver's reading ends
    modem.ring_alert = False  # a ring may come between a question and its answer, which this driver takes for it
    mailbox.send("1.sbd", message[:200])
    modem.data_out = message
    assert modem.status[0] == 1
    assert modem.satellite_transfer() == (0, 0, 1, 1, 200, 0)
    assert (tmp_path / "mail" / "mo" / f"{IMEI}_000000.sbd").read_bytes() == message
    assert modem.data_in == message[:200]
    assert list((tmp_path / "mail" / "mt").iterdir()) == []
    assert modem.status == (0, 1, 1, 1, 0, 0)
    modem.data_in = None
    assert modem.data_in is None


def test_text_goes_out_and_comes_in(modem: RockBlock, mailbox: MessageGateway) -> None:
    modem.ring_alert = False
    mailbox.send("1.sbd", b"and a good day to you")
    modem.text_out = "a good day"
    assert modem.satellite_transfer("+5130.000,-00007.000")[:3] == (0, 0, 1)
    assert modem.text_in == "and a good day to you"
    assert [message for _, message in mailbox.delivered()] == [b"a good day"]


@pytest.mark.parametrize(
    ("service", "status"),
    [(Service(bars=0, latency_ns=0), 32), (Service(latency_ns=SESSION_NS, failure=Failure.RF_DROP), 18)],
)
def test_what_the_link_does_reaches_the_client(
    modem: RockBlock, link: Link, mailbox: MessageGateway, service: Service, status: int
) -> None:
    link.service = service
    modem.data_out = b"hello"
    assert modem.satellite_transfer()[0] == status
    assert modem.data_out == b"hello"
    assert mailbox.delivered() == []


def test_it_tells_who_it_is_and_what_it_hears(modem: RockBlock, link: Link) -> None:
    assert modem.serial_number == IMEI
    assert modem.model == "IRIDIUM 9600 Family SBD Transceiver"
    assert modem.revision[0].startswith("Call Processor Version: ")
    assert modem.signal_quality == 4
    assert modem.ring_alert is True
    modem.ring_alert = False
    assert modem.ring_alert is False
    assert modem.ring_indication == ("000", "000", "00000000")
    modem.energy_monitor = 12
    assert modem.energy_monitor == 12
    modem._transfer_buffer()
    link.service = Service(bars=0)
    assert modem.signal_quality == 0
    assert modem.system_time is None


def test_its_place_and_time_are_the_terminals(modem: RockBlock) -> None:
    before_s = time.time()
    x, y, z, _ = modem.geolocation
    latitude, longitude = math.radians(51.5074), math.radians(-0.1278)
    assert (x, y, z) == pytest.approx(
        (
            6376 * math.cos(latitude) * math.cos(longitude),
            6376 * math.cos(latitude) * math.sin(longitude),
            6376 * math.sin(latitude),
        ),
        abs=2.01,
    )
    # the driver knows the era of 2014 only; the modem counts from the next one's begin
    counted_s = time.mktime(modem.system_time) - time.mktime((2014, 5, 11, 14, 23, 55, 6, -1, -1))
    assert counted_s == pytest.approx(before_s - parse_utc_ns("2025-02-14T18:14:17Z") / 1e9, abs=PATIENCE_S)
