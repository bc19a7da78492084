"""The u-blox receiver: UBX beside NMEA, settings acknowledged or refused, and what noise on the line does to it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyubx2 import SET, UBXMessage, UBXReader

from emulator.terminal import FixMode, GnssFix, GnssSatellite, Terminal, TerminalState
from emulator.units import NS_PER_S, parse_utc_ns
from firmware_stubs.nmea import sentence
from firmware_stubs.registry import Stub
from firmware_stubs.ubx import CFG_MSG, MAX_PAYLOAD, MON_VER, NAV_PVT, UbloxReceiver, checksum, frame, nav_pvt
from hil_tests.unit.firmware_stubs.fuzzing import START_NS, exchange, survives

SITE = Terminal(-33.8568, 151.2153, 42.0)
POLL = frame(NAV_PVT)

states = st.builds(
    TerminalState,
    utc_ns=st.integers(parse_utc_ns("2017-01-01T00:00:00Z"), parse_utc_ns("2099-01-01T00:00:00Z")),
    latitude_deg=st.floats(-90, 90),
    longitude_deg=st.floats(-180, 180),
    altitude_m=st.floats(-500, 20_000),
    speed_m_s=st.floats(0, 300),
    course_deg=st.floats(0, 359.999),
    gnss=st.builds(
        GnssFix,
        mode=st.sampled_from([FixMode.TWO_D, FixMode.THREE_D]),
        satellites=st.just((GnssSatellite(1, 0.0, 45.0, 40.0, used=True),)),
        pdop=st.floats(0.5, 99.99),
        hdop=st.floats(0.5, 99.99),
        vdop=st.floats(0.5, 99.99),
    ),
)


def parsed(data: bytes) -> UBXMessage:
    return UBXReader.parse(data)


@given(states)
def test_every_state_comes_back_from_an_independent_parser(state: TerminalState) -> None:
    message = parsed(nav_pvt(state))
    assert message.identity == "NAV-PVT"
    assert message.lat == pytest.approx(state.latitude_deg, abs=1e-7)
    assert message.lon == pytest.approx(state.longitude_deg, abs=1e-7)
    assert message.height == pytest.approx(state.altitude_m * 1000, abs=1)
    assert message.gSpeed == pytest.approx(state.speed_m_s * 1000, abs=1)
    assert message.headMot == pytest.approx(state.course_deg, abs=2e-5)
    utc = datetime.fromtimestamp(state.utc_ns // NS_PER_S, tz=UTC)
    assert (message.year, message.month, message.day) == (utc.year, utc.month, utc.day)
    assert (message.hour, message.min, message.second) == (utc.hour, utc.minute, utc.second)
    assert message.numSV == 1
    assert message.gnssFixOk == 1


def test_without_a_fix_there_is_the_time_and_no_position() -> None:
    state = SITE.state(START_NS)
    lost = dataclasses.replace(state, gnss=GnssFix(FixMode.NONE, (), 99.99, 99.99, 99.99))
    message = parsed(nav_pvt(lost))
    assert (message.fixType, message.gnssFixOk, message.numSV, message.lat, message.lon) == (0, 0, 0, 0, 0)
    assert (message.year, message.validTime) == (2026, 1)


def test_the_week_begins_on_sunday_18_seconds_before_utc() -> None:
    midnight_ns = parse_utc_ns("2026-03-01T00:00:00Z")  # a Sunday
    assert nav_pvt(SITE.state(midnight_ns))[6:10] == (18_000).to_bytes(4, "little")


def receiver() -> UbloxReceiver:
    return UbloxReceiver(SITE.state, START_NS + 1)


def test_a_position_is_polled_for() -> None:
    assert parsed(exchange(receiver(), POLL, START_NS + 2)).lat == -33.8568


def test_as_delivered_it_speaks_nmea_and_answers_nmea() -> None:
    stub = receiver()
    assert exchange(stub, sentence("EIGPQ,GGA"), START_NS + 2).startswith(b"$GPGGA,")
    assert stub.poll(stub.next_event_ns()).startswith(b"$GPRMC,")


def test_messages_are_switched_on_and_off_and_acknowledged() -> None:
    stub = receiver()
    for kind, rate in (((0xF0, 0), 0), ((0xF0, 2), 0), ((0xF0, 3), 0), ((0xF0, 4), 0), (NAV_PVT, 2)):
        setting = UBXMessage("CFG", "CFG-MSG", SET, msgClass=kind[0], msgID=kind[1], rateUART1=rate)
        assert parsed(exchange(stub, setting.serialize(), START_NS + 2)).identity == "ACK-ACK"
    said = [stub.poll(stub.next_event_ns()) for _ in range(4)]
    assert [bool(one) for one in said] == [False, True, False, True]
    assert parsed(said[1]).identity == "NAV-PVT"


@pytest.mark.parametrize(
    "setting",
    [frame(CFG_MSG, b"\x01\x22\x01"), frame(CFG_MSG, b"\x01"), frame((0x06, 0x08), b"\xe8\x03\x01\x00\x01\x00")],
)
def test_what_it_cannot_set_is_refused(setting: bytes) -> None:
    assert parsed(exchange(receiver(), setting, START_NS + 2)).identity == "ACK-NAK"


def test_what_it_does_not_have_is_off_already() -> None:
    assert parsed(exchange(receiver(), frame(CFG_MSG, b"\x01\x22\x00"), START_NS + 2)).identity == "ACK-ACK"


def test_another_makers_commands_are_not_answered() -> None:
    assert exchange(receiver(), sentence("PMTK605"), START_NS + 2) == b""


def test_a_message_after_a_false_beginning_is_not_swallowed_by_it() -> None:
    data = b"\xb5\x62\x01\x07\x10\x00" + POLL + bytes(20)
    assert exchange(receiver(), data, START_NS + 2) == nav_pvt(SITE.state(START_NS))


def test_its_version_is_told() -> None:
    message = parsed(exchange(receiver(), frame(MON_VER), START_NS + 2))
    assert message.swVersion.startswith(b"BENTPIPE ")


@given(st.binary(max_size=300), st.lists(st.integers(0, 700), max_size=8))
def test_the_size_of_the_pieces_changes_nothing(garbage: bytes, cuts: list[int]) -> None:
    data = garbage + POLL + garbage + bytes(MAX_PAYLOAD + 8) + POLL
    whole, pieces = receiver(), receiver()
    whole.receive(data, START_NS + 2)
    places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    for start, end in pairwise(places):
        pieces.receive(data[start:end], START_NS + 2)
    said = whole.poll(START_NS + 2)
    assert pieces.poll(START_NS + 2) == said
    assert said.endswith(nav_pvt(SITE.state(START_NS)))


@given(st.binary(max_size=100))
def test_the_checksum_is_that_of_an_independent_implementation(body: bytes) -> None:
    from pyubx2 import calc_checksum

    assert checksum(body) == calc_checksum(body)


def flushed(stub: Stub, now_ns: int) -> int:
    stub.receive(bytes(MAX_PAYLOAD + 8) + b"\r\n", now_ns)
    stub.poll(now_ns)
    return now_ns


TestUbloxSurvives = survives(
    lambda now_ns: UbloxReceiver(SITE.state, now_ns),
    [
        POLL,
        frame(MON_VER),
        frame(CFG_MSG, b"\x01\x07\x01"),
        frame(CFG_MSG, b"\xf0\x00\x00"),
        b"\xb5\x62\x01\x07\xff\xff",
        b"\xb5\x62\x01\x07\x00\x02",
        b"\xb5",
        sentence("EIGPQ,RMC"),
    ],
    settled=flushed,
    probe=POLL,
    answered=lambda said: b"\xb5\x62\x01\x07\x5c\x00" in said,
    ends=b"",
)
