"""The NTN modem: registration that follows the link, messages both ways, and clients that behave badly."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.units import NS_PER_S
from firmware_stubs.gateway import Failure, MessageGateway, Service, always
from firmware_stubs.ntn_modem import IMEI, IMSI, LONGEST_MESSAGE, MOST_ON_THEIR_WAY, NtnModem
from hil_tests.unit.firmware_stubs.fuzzing import START_NS, exchange, survives
from hil_tests.unit.firmware_stubs.test_sbd import final, idle

LATENCY_NS = 3 * NS_PER_S


GOOD = Service(bars=3, latency_ns=LATENCY_NS)


@dataclass
class Bench:
    """A modem without echo, its gateway, a service that a test may change, and its time."""

    service: Service = GOOD
    gateway: MessageGateway = field(default_factory=MessageGateway)
    now_ns: int = START_NS

    def __post_init__(self) -> None:
        self.modem = NtnModem(self.gateway, lambda utc_ns: self.service)
        exchange(self.modem, b"ATE0\r", self.now_ns)

    def ask(self, command: bytes, for_s: float = 0.0) -> bytes:
        said = exchange(self.modem, b"AT" + command + b"\r", self.now_ns, for_s)
        self.now_ns += int(for_s * NS_PER_S)
        return said

    def hears(self, for_s: float) -> list[bytes]:
        """The lines that nobody asked for."""
        said = exchange(self.modem, b"", self.now_ns, for_s)
        self.now_ns += int(for_s * NS_PER_S)
        return [line for line in said.split(b"\r\n") if line]


def registered() -> Bench:
    bench = Bench()
    bench.ask(b"", 5)
    assert bench.ask(b"+CEREG?") == final(b"+CEREG: 0,1")
    return bench


def test_it_registers_after_a_time_and_tells_who_asked() -> None:
    bench = Bench()
    assert bench.ask(b"+CEREG=2") == b"\r\nOK\r\n"
    assert bench.hears(2.9) == []
    assert bench.hears(0.2) == [b'+CEREG: 1,"0001","00000101",9']
    bench.service = Service(bars=0)
    assert bench.hears(2) == [b"+CEREG: 2"]
    assert bench.ask(b"+CESQ") == final(b"+CESQ: 99,99,255,255,255,255")


def test_a_network_that_refuses_and_a_radio_that_is_off_are_told() -> None:
    bench = Bench(Service(failure=Failure.DENIED))
    bench.ask(b"+CEREG=1")
    assert bench.ask(b"+CEREG?") == final(b"+CEREG: 1,3")
    assert bench.ask(b"+CFUN=0") == b"\r\nOK\r\n\r\n+CEREG: 0\r\n"
    assert bench.ask(b"+CFUN?") == final(b"+CFUN: 0")


def test_a_message_goes_out_as_the_interface_says() -> None:
    bench = registered()
    bench.ask(b"+CSCON=1")
    assert bench.ask(b'+CSODCP=1,5,"68656c6c6f"') == b"\r\nOK\r\n"
    assert bench.gateway.delivered() == []
    bench.hears(3)
    assert bench.gateway.delivered() == [(f"{IMEI}_000000.nidd", b"hello")]
    assert bench.hears(10) == [b"+CSCON: 0"]


def test_the_connection_is_told_after_the_result() -> None:
    bench = registered()
    bench.ask(b"+CSCON=1")
    assert bench.ask(b'+CSODCP=1,2,"6869"', 1) == b"\r\nOK\r\n\r\n+CSCON: 1\r\n"


def test_a_message_comes_in_as_the_interface_says() -> None:
    bench = registered()
    bench.gateway.send("1", b"hi")
    assert bench.hears(5) == []
    assert bench.gateway.waiting() == 1
    bench.ask(b"+CRTDCP=1")
    assert bench.hears(2) == [b'+CRTDCP: 1,2,"6869"']
    assert bench.gateway.waiting() == 0


@given(st.binary(min_size=1, max_size=LONGEST_MESSAGE))
def test_any_message_goes_both_ways_whole(message: bytes) -> None:
    bench = registered()
    bench.ask(b"+CRTDCP=1")
    bench.gateway.send("1", message)
    bench.ask(b'+CSODCP=1,%d,"%s"' % (len(message), message.hex().encode()))
    assert b'+CRTDCP: 1,%d,"%s"' % (len(message), message.hex().encode()) in bench.hears(10)
    assert [sent for _, sent in bench.gateway.delivered()] == [message]


def test_a_link_that_goes_away_loses_what_is_on_its_way_without_a_word() -> None:
    bench = registered()
    bench.ask(b'+CSODCP=1,2,"6869"')
    bench.service = Service(bars=0)
    bench.hears(10)
    bench.service = Service(bars=3)
    assert bench.hears(20) == []
    assert bench.gateway.delivered() == []


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (b'+CSODCP=1,3,"6869"', 50),
        (b'+CSODCP=2,2,"6869"', 50),
        (b'+CSODCP=1,0,""', 50),
        (b"+CEREG=9", 50),
        (b"+CFUN=2", 50),
        (b"+NONE", 4),
        (b"+CSODCP=1,2,6869", 4),
    ],
)
def test_a_wrong_command_has_its_error(command: bytes, error: int) -> None:
    bench = registered()
    assert bench.ask(command) == b"\r\nERROR\r\n"
    bench.ask(b"+CMEE=1")
    assert bench.ask(command) == b"\r\n+CME ERROR: %d\r\n" % error


def test_no_service_and_a_full_queue_are_refused() -> None:
    bench = Bench(Service(bars=0))
    bench.ask(b"+CMEE=2")
    assert bench.ask(b'+CSODCP=1,2,"6869"') == b"\r\n+CME ERROR: no network service\r\n"
    bench = registered()
    answers = [bench.ask(b'+CSODCP=1,2,"6869"') for _ in range(MOST_ON_THEIR_WAY + 1)]
    assert answers[-1] == b"\r\nERROR\r\n"
    assert all(answer == b"\r\nOK\r\n" for answer in answers[:-1])


def test_it_tells_who_it_is_and_keeps_what_it_was_told() -> None:
    bench = registered()
    assert bench.ask(b"+CGSN") == final(IMEI.encode())
    assert bench.ask(b"+CIMI") == final(IMSI.encode())
    bench.ask(b'+CGDCONT=2,"IPV4V6","internet"')
    assert b'+CGDCONT: 2,"IPV4V6","internet",,0,0' in bench.ask(b"+CGDCONT?")
    bench.ask(b"+CGDCONT=2")
    assert b"internet" not in bench.ask(b"+CGDCONT?")
    bench.ask(b'+CEDRXS=2,5,"0101"')
    assert bench.ask(b"+CEDRXRDP") == final(b'+CEDRXRDP: 5,"0101","0101"')


TestNtnModemSurvives = survives(
    lambda now_ns: NtnModem(MessageGateway(), always(Service(bars=3, latency_ns=LATENCY_NS))),
    [
        b"AT",
        b"ATI",
        b"AT+CEREG=2",
        b"AT+CSCON=1",
        b"AT+CRTDCP=1",
        b"AT+CMEE=2",
        b'AT+CSODCP=1,5,"68656c6c6f"',
        b'AT+CSODCP=1,5,"68',
        b"AT+CFUN=0",
        b"AT+CFUN=1",
        b"AT+CGDCONT?",
        b'AT+CGDCONT=3,"NON-IP","x"',
        b"AT+CESQ;+CSQ",
        b"ATV0",
        b"ATQ1",
        b'AT+CEDRXS=2,5,"0101"',
    ],
    settled=idle,
    probe=b"AT+CSODCP=?\r",
    answered=lambda said: said.startswith(b"\r\n+CSODCP: 8,1358\r\n\r\nOK\r\n"),
    most_held=200_000,  # MOST_KEPT messages in memory
)
