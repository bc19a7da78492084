"""The SBD modem: sessions with every outcome, times that wrap, and clients that behave badly."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.terminal import Terminal
from emulator.units import NS_PER_MS, NS_PER_S, format_utc
from firmware_stubs.gateway import Failure, MessageGateway, Service, always
from firmware_stubs.registry import Stub
from firmware_stubs.sbd import IMEI, Era, SbdModem
from hil_tests.unit.firmware_stubs.fuzzing import START_NS, exchange, survives

SITE = Terminal(51.5074, -0.1278, 20.0)


GOOD = Service()


@dataclass
class Bench:
    """A modem without echo, its gateway, a service that a test may change, and its time."""

    service: Service = GOOD
    gateway: MessageGateway = field(default_factory=MessageGateway)
    now_ns: int = START_NS
    era: Era = Era.OF_2025

    def __post_init__(self) -> None:
        self.modem = SbdModem(SITE.state, self.gateway, lambda utc_ns: self.service, self.era)
        exchange(self.modem, b"ATE0\r", self.now_ns)

    def ask(self, command: bytes, for_s: float = 0.0) -> bytes:
        said = exchange(self.modem, b"AT" + command + b"\r", self.now_ns, for_s)
        self.now_ns += int(for_s * NS_PER_S)
        return said

    def write(self, message: bytes) -> bytes:
        assert self.ask(b"+SBDWB=%d" % len(message)) == b"\r\nREADY\r\n"
        return exchange(self.modem, message + sum(message).to_bytes(4, "big")[2:], self.now_ns)


def final(information: bytes) -> bytes:
    return b"\r\n" + information + b"\r\n\r\nOK\r\n"


def test_echo_then_answer_then_result_as_the_interface_says() -> None:
    modem = SbdModem(SITE.state, MessageGateway(), always(Service(bars=4)))
    assert exchange(modem, b"AT+CSQ\r", START_NS) == b"AT+CSQ\r\r\n+CSQ:4\r\n\r\nOK\r\n"


@given(st.binary(min_size=1, max_size=340))
def test_any_message_goes_out_whole(message: bytes) -> None:
    bench = Bench()
    assert bench.write(message) == final(b"0")
    assert bench.ask(b"+SBDIX", 10) == final(b"+SBDIX: 0, 0, 0, 0, 0, 0")
    assert bench.gateway.delivered() == [(f"{IMEI}_000000.sbd", message)]


@given(st.binary(min_size=1, max_size=270))
def test_any_message_comes_in_whole(message: bytes) -> None:
    bench = Bench()
    bench.gateway.send("1", message)
    answer = bench.ask(b"+SBDIX", 10)
    assert answer.endswith(final(b"+SBDIX: 0, 0, 1, 1, %d, 0" % len(message)))
    framed = len(message).to_bytes(2, "big") + message + sum(message).to_bytes(4, "big")[2:]
    assert bench.ask(b"+SBDRB") == framed + b"\r\nOK\r\n"


def test_a_session_takes_its_time_and_hears_nothing_meanwhile() -> None:
    bench = Bench(Service(latency_ns=8 * NS_PER_S))
    assert bench.ask(b"+SBDIX", 7.9) == b""
    assert bench.ask(b"+CSQ") == b""
    assert bench.ask(b"", 0.1) == final(b"+SBDIX: 0, 0, 0, 0, 0, 0")


@given(st.binary(max_size=340), st.binary(max_size=270), st.booleans())
def test_a_session_takes_longer_for_a_longer_message(mo: bytes, mt: bytes, in_files: bool) -> None:
    """By the byte, of whichever of the two is the longer one."""
    with tempfile.TemporaryDirectory() as directory:
        gateway = MessageGateway(Path(directory) if in_files else None)
        bench = Bench(Service(latency_ns=5 * NS_PER_S, byte_ns=44 * NS_PER_MS), gateway)
        if mo:
            bench.write(mo)
        if mt:
            gateway.send("1", mt)
        lasts_ns = 5 * NS_PER_S + 44 * NS_PER_MS * max(len(mo), len(mt))
        began_ns = bench.now_ns
        assert exchange(bench.modem, b"AT+SBDIX\r", began_ns) == b""
        assert bench.modem.next_event_ns() == began_ns + lasts_ns
        assert bench.modem.poll(began_ns + lasts_ns - 1) == b""
        told = b"+SBDIX: 0, 0, %d, %d, %d, 0" % (bool(mt), bool(mt), len(mt))
        assert bench.modem.poll(began_ns + lasts_ns) == final(told)


@pytest.mark.parametrize(
    ("service", "status"),
    [
        (Service(bars=0), 32),
        (Service(failure=Failure.GATEWAY_TIMEOUT), 10),
        (Service(failure=Failure.QUEUE_FULL), 11),
        (Service(failure=Failure.DENIED), 15),
        (Service(failure=Failure.RF_DROP), 18),
        (Service(failure=Failure.LINK_FAILURE), 19),
        (Service(failure=Failure.BUSY), 35),
    ],
)
def test_a_failed_session_says_why_and_loses_nothing(service: Service, status: int) -> None:
    bench = Bench()
    bench.gateway.send("1", b"waiting")
    bench.write(b"hello")
    bench.service = service
    assert b"+SBDIX: %d, 0, 0, 0, 0, 0" % status in bench.ask(b"+SBDIX", 10)
    assert bench.gateway.delivered() == []
    bench.service = Service()
    assert b"+SBDIX: 0, 0, 1, 1, 7, 0" in bench.ask(b"+SBDIX", 10)
    assert [message for _, message in bench.gateway.delivered()] == [b"hello"]


def test_a_signal_that_goes_away_during_a_session_is_a_radio_drop() -> None:
    bench = Bench()
    bench.ask(b"+SBDIX", 1)
    bench.service = Service(bars=0)
    assert b"+SBDIX: 18, 0," in bench.ask(b"", 10)


def test_a_radio_that_is_off_is_told() -> None:
    bench = Bench()
    bench.ask(b"*R0")
    assert b"+SBDIX: 34," in bench.ask(b"+SBDIX", 10)
    assert bench.ask(b"+CSQ") == final(b"+CSQ:0")


def test_a_gateway_without_its_directory_is_a_gateway_that_does_not_answer(tmp_path: Path) -> None:
    bench = Bench(gateway=MessageGateway(tmp_path / "mail"))
    bench.write(b"hello")
    shutil.rmtree(tmp_path / "mail")
    assert b"+SBDIX: 10, 0," in bench.ask(b"+SBDIX", 10)


def test_a_wrong_sum_a_wrong_size_and_silence_have_their_codes() -> None:
    bench = Bench()
    assert bench.ask(b"+SBDWB=341") == final(b"3")
    assert bench.ask(b"+SBDWB=0") == final(b"3")
    assert bench.ask(b"+SBDWB=5") == b"\r\nREADY\r\n"
    assert exchange(bench.modem, b"hello\x00\x00", bench.now_ns) == final(b"2")
    assert bench.ask(b"+SBDWB=5") == b"\r\nREADY\r\n"
    assert exchange(bench.modem, b"he", bench.now_ns, 60) == final(b"1")
    assert bench.ask(b"+SBDSX") == final(b"+SBDSX: 0, 0, 0, -1, 0, 0")


def test_text_goes_in_both_ways_of_writing_it() -> None:
    bench = Bench()
    assert bench.ask(b"+SBDWT=hello there") == b"\r\nOK\r\n"
    assert bench.ask(b"+SBDTC") == final(b"SBDTC: Outbound SBD Copied to Inbound SBD: size = 11")
    assert bench.ask(b"+SBDRT") == b"\r\n+SBDRT:\r\nhello there\r\n\r\nOK\r\n"
    assert bench.ask(b"+SBDWT") == b"\r\nREADY\r\n"
    assert exchange(bench.modem, b"good day\r", bench.now_ns) == final(b"0")
    bench.ask(b"+SBDIX", 10)
    assert [message for _, message in bench.gateway.delivered()] == [b"good day"]


def test_buffers_are_deleted_one_by_one() -> None:
    bench = Bench()
    bench.write(b"hello")
    bench.ask(b"+SBDTC")
    assert bench.ask(b"+SBDD1") == final(b"0")
    assert bench.ask(b"+SBDSX") == final(b"+SBDSX: 1, 0, 0, -1, 0, 0")
    assert bench.ask(b"+SBDD0") == final(b"0")
    assert bench.ask(b"+SBDSX") == final(b"+SBDSX: 0, 0, 0, -1, 0, 0")


def test_a_message_that_arrives_rings_until_a_session() -> None:
    bench = Bench()
    assert bench.ask(b"", 2) == b"\r\nOK\r\n"
    bench.gateway.send("1", b"x")
    assert bench.ask(b"+CSQ", 2) == final(b"+CSQ:5") + b"\r\nSBDRING\r\n"
    assert bench.ask(b"+CRIS") == final(b"+CRIS:000,001")
    bench.ask(b"+SBDIX", 10)
    assert bench.ask(b"+CRISX") == final(b"+CRISX:000,000,00000000")
    bench.ask(b"+SBDMTA=0")
    bench.gateway.send("2", b"x")
    assert bench.ask(b"+CSQ", 2) == final(b"+CSQ:5")


@pytest.mark.parametrize("era", Era)
@pytest.mark.parametrize(
    ("count", "said"), [(0, "00000000"), (10, "0000000a"), (2**32 - 1, "ffffffff"), (2**32, "00000000")]
)
def test_system_time_counts_ticks_of_90_ms_and_wraps(era: Era, count: int, said: str) -> None:
    bench = Bench(now_ns=era.value + count * 90_000_000, era=era)
    assert bench.ask(b"-MSSTM") == final(f"-MSSTM: {said}".encode())


def test_the_era_of_2014_ends_on_the_day_that_is_known() -> None:
    assert format_utc(Era.OF_2014.value + 2**32 * 90_000_000).startswith("2026-08-10T")


def test_without_a_signal_there_is_no_time_and_no_place() -> None:
    bench = Bench(Service(bars=0))
    assert bench.ask(b"-MSSTM") == final(b"-MSSTM: no network service")
    assert bench.ask(b"-MSGEO") == b"\r\nERROR\r\n"


def test_several_commands_in_a_line_have_one_result() -> None:
    bench = Bench()
    assert bench.ask(b"&K0+CSQ;+SBDMTA?") == b"\r\n+CSQ:5\r\n\r\n+SBDMTA:1\r\n\r\nOK\r\n"
    assert bench.ask(b"&K0+NONE;+CSQ") == b"\r\nERROR\r\n"
    assert bench.ask(b"+CSQ;" * 10).count(b"OK") == 1
    assert bench.ask(b"V0") == b"0\r"
    assert bench.ask(b"+CSQ") == b"+CSQ:5\r\n0\r"


def test_a_line_that_is_too_long_is_an_error_and_one_without_at_is_nothing() -> None:
    bench = Bench()
    assert bench.ask(b"+" * 5000) == b"\r\nERROR\r\n"
    assert exchange(bench.modem, b"hello\r\n\x00\xff\r", bench.now_ns) == b""
    assert exchange(bench.modem, b"\xff\xfeAT+CSQ\r", bench.now_ns) == final(b"+CSQ:5")


@given(st.integers(1, 10**6))
def test_a_clock_that_is_set_back_does_not_prolong_a_session(back_s: int) -> None:
    bench = Bench()
    bench.ask(b"+SBDIX")
    bench.now_ns -= back_s * NS_PER_S
    assert b"+SBDIX: 0," in bench.ask(b"", 5)


def idle(stub: Stub, now_ns: int) -> int:
    """Waits until whatever the modem does or wants is over, and ends the line."""
    for _ in range(3):
        stub.receive(b"\r", now_ns)
        stub.poll(now_ns)
        now_ns += 120 * NS_PER_S
        exchange(stub, b"", now_ns, 10)
        now_ns += 10 * NS_PER_S
    exchange(stub, b"ATZ\rATE0\r", now_ns)
    return now_ns


TestSbdSurvives = survives(
    lambda now_ns: SbdModem(SITE.state, MessageGateway(), always(Service())),
    [
        b"AT+CSQ",
        b"AT+SBDIX",
        b"AT+SBDIX=+5130.000,-00007.000",
        b"AT+SBDWB=5",
        b"hello\x02\x14",
        b"AT+SBDWT",
        b"AT+SBDWT=x",
        b"AT+SBDRB",
        b"AT+SBDRT",
        b"AT+SBDTC",
        b"AT+SBDD2",
        b"AT-MSGEO",
        b"ATE1",
        b"ATV0Q1",
        b"AT*R0",
        b"AT&F0",
    ],
    settled=idle,
    probe=b"AT+SBDSX\r",
    answered=lambda said: said.startswith(b"\r\n+SBDSX: ") and said.endswith(b"\r\n\r\nOK\r\n"),
    most_held=200_000,  # MOST_KEPT messages in memory
)
