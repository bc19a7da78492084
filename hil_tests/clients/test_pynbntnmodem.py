"""pynbntnmodem, unmodified, takes the NTN stub for a module on a satellite network.

It opens ports of this machine only; one at a device server, RFC 2217 or TCP, stands behind a port of ours.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynbntnmodem import NbntnModem, PdnType, RegistrationState, RrcState

from emulator.terminal import Terminal
from emulator.units import NS_PER_MS, NS_PER_S
from firmware_stubs.bridge import Bridge
from firmware_stubs.gateway import MessageGateway, Service
from firmware_stubs.ntn_modem import IMEI, IMSI
from firmware_stubs.registry import Hardware
from firmware_stubs.transport import SerialStub

SITE = Terminal(51.5074, -0.1278, 20.0)
PATIENCE_S = 30


class Link:
    """The service, as a test sets it."""

    def __init__(self) -> None:
        self.service = Service(bars=3, latency_ns=400 * NS_PER_MS)

    def at(self, utc_ns: int) -> Service:
        return self.service


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def mailbox() -> MessageGateway:
    return MessageGateway()


pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial's RFC 2217 client
over_every_transport = pytest.mark.parametrize("modem", ["pty", "rfc2217", "tcp"], indirect=True)


@contextlib.contextmanager
def path_of(stub: SerialStub, directory: Path) -> Iterator[str]:
    """A port of this machine behind which the stub is."""
    transport, _, place = stub.address.partition(":")
    if not place:
        yield stub.address
        return
    url = f"{'socket' if transport == 'tcp' else transport}://{place}"
    bridge = Bridge("ntn", str(directory / "port"), url, 115200, silence_ns=60 * NS_PER_S, utc_ns=time.time_ns)
    bridge.start()
    try:
        yield bridge.address
    finally:
        bridge.stop()
    assert not bridge.oddities


@pytest.fixture
def modem(request: pytest.FixtureRequest, tmp_path: Path, link: Link, mailbox: MessageGateway) -> Iterator[NbntnModem]:
    transport = getattr(request, "param", "pty")
    port = str(tmp_path / "modem") if transport == "pty" else f"{transport}:127.0.0.1:0"
    hardware = Hardware(gateway=mailbox, service_at=link.at)
    with SerialStub("ntn", SITE.state, port, hardware=hardware) as stub, path_of(stub, tmp_path) as path:
        client = NbntnModem()
        client.connect(port=path, baudrate=115200)
        try:
            assert client.set_regconfig(2)
            while not client.get_reginfo().is_registered():
                await_line(client, "+CEREG: 1")
            yield client
        finally:
            client.disconnect()


def await_line(client: NbntnModem, begin: str) -> str:
    while True:
        line = client.get_urc(timeout=PATIENCE_S)
        assert line is not None
        if line.startswith(begin):
            return str(line)


@over_every_transport
def test_a_message_goes_out_and_one_comes_in(modem: NbntnModem, link: Link, mailbox: MessageGateway) -> None:
    link.service = Service(bars=3, latency_ns=0)
    assert modem.send_message_nidd(b"hello") is not None
    assert modem.enable_nidd_urc()
    assert [message for _, message in mailbox.delivered()] == [b"hello"]
    mailbox.send("1", bytes(range(256)))
    line = await_line(modem, "+CRTDCP:")
    assert modem.receive_message_nidd(line, raw=True) == bytes(range(256))


def test_the_connection_of_a_message_is_told(modem: NbntnModem) -> None:
    assert modem.enable_rrc_urc()
    assert modem.get_rrc_state() == RrcState.IDLE
    assert modem.send_message_nidd(b"hello") is not None
    await_line(modem, "+CSCON: 1")
    assert modem.get_rrc_state() == RrcState.CONNECTED


def test_it_tells_who_it_is_and_what_it_hears(modem: NbntnModem) -> None:
    assert (modem.imei, modem.imsi, modem.apn) == (IMEI, IMSI, "bentpipe")
    assert modem.manufacturer == "BENTPIPE"
    registration = modem.get_reginfo()
    assert (registration.state, registration.tac) == (RegistrationState.HOME, "0001")
    assert modem.get_siginfo().rsrp == -109
    assert modem.set_context("lab", PdnType.NON_IP)
    assert [(one.pdn_type, one.apn, one.active) for one in modem.get_contexts()] == [(PdnType.NON_IP, "lab", True)]


def test_what_the_link_does_reaches_the_client(modem: NbntnModem, link: Link, mailbox: MessageGateway) -> None:
    link.service = Service(bars=0)
    await_line(modem, "+CEREG: 2")
    assert not modem.get_reginfo().is_registered()
    assert modem.send_message_nidd(b"hello") is None
    link.service = Service(bars=3, latency_ns=400 * NS_PER_MS)
    await_line(modem, "+CEREG: 1")
    assert modem.send_message_nidd(b"hello") is not None
