"""Laws of the NMEA receiver, in virtual time. pynmeagps is the independent reader of what it says."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pynmeagps import NMEAMessage, NMEAReader

from emulator.terminal import FixMode, GnssFix, GnssSatellite, Terminal, TerminalState
from emulator.units import NS_PER_S
from firmware_stubs.nmea import MAX_LINE, MAX_REPLIES, NmeaReceiver, checksum, gga, gsa, gsv, rmc, sentence

START_NS = 1_748_560_887 * NS_PER_S  # 2025-05-29T23:21:27Z
HALF_STEP_DEG = 0.5e-5 / 60 + 1e-12  # half of the last digit of ddmm.mmmmm
QUERY = b"$CCGPQ,GGA*2B\r\n"
GOOD_FIX = GnssFix(FixMode.THREE_D, (), 1.0, 1.0, 1.0)

utc = st.integers(946_684_800 * NS_PER_S, 3_124_223_999 * NS_PER_S)  # 2000 to 2068: a year has two digits
satellite = st.builds(
    GnssSatellite,
    st.integers(1, 32),
    st.floats(0, 360, exclude_max=True),
    st.floats(0, 90),
    st.floats(0, 60),
    st.booleans(),
)
satellites = st.lists(satellite, max_size=12, unique_by=lambda satellite: satellite.prn).map(tuple)
dilutions = st.floats(0.5, 99.99)
fixes = st.builds(GnssFix, st.sampled_from(FixMode), satellites, dilutions, dilutions, dilutions)
states = st.builds(
    TerminalState,
    utc,
    st.floats(-90, 90),
    st.floats(-180, 180),
    st.floats(-500, 99_999),
    st.floats(0, 340),
    st.floats(0, 360, exclude_max=True),
    fixes,
)


def receiver(now_ns: int = START_NS) -> NmeaReceiver:
    return NmeaReceiver(Terminal(48.4634, -123.3117, 20.0).state, now_ns)


def read(line: bytes) -> NMEAMessage:
    message = NMEAReader.parse(line, validate=1)  # 1: the checksum must be right
    assert isinstance(message, NMEAMessage)
    return message


def kinds(said: bytes) -> list[str]:
    return [read(line + b"\n").msgID for line in said.split(b"\n")[:-1]]


@given(states)
@example(TerminalState(START_NS, -90.0, -180.0, -500.0, 340.0, 359.99, GOOD_FIX))
def test_every_sentence_checks_and_has_the_standards_length(state: TerminalState) -> None:
    for said in (gga(state), rmc(state), gsa(state), gsv(state)):
        assert said.endswith(b"\r\n")
        for line in said.split(b"\r\n")[:-1]:
            assert len(line) + 2 <= 82  # NMEA 0183, 5.3: `$` and line end included
            assert all(0x20 <= byte < 0x7F for byte in line)
            read(line + b"\r\n")


@given(states.filter(lambda state: state.gnss.mode is not FixMode.NONE))
@example(TerminalState(START_NS, 59.99999999, -179.999999999, -0.04, 0.0, 0.0, GOOD_FIX))
@example(TerminalState(START_NS, -0.0, 180.0, 0.05, 0.0, 0.0, GOOD_FIX))
def test_a_position_comes_back_within_the_resolution(state: TerminalState) -> None:
    for line in (gga(state), rmc(state)):
        message = read(line)
        assert message.lat == pytest.approx(state.latitude_deg, abs=HALF_STEP_DEG + 1e-10)
        assert message.lon == pytest.approx(state.longitude_deg, abs=HALF_STEP_DEG + 1e-10)
        latitude, longitude = line.split(b",")[2 if b"GGA" in line else 3 :: 2][:2]
        assert float(latitude[2:]) < 60
        assert float(longitude[3:]) < 60
    assert read(gga(state)).alt == pytest.approx(state.altitude_m, abs=0.0501)
    assert read(gga(state)).quality == 1
    assert read(gga(state)).numSV == state.gnss.satellites_used
    assert read(rmc(state)).status == "A"
    assert read(rmc(state)).spd * 1852 / 3600 == pytest.approx(state.speed_m_s, abs=0.0003)
    assert 0 <= read(rmc(state)).cog < 360


@given(states)
def test_the_time_is_that_of_the_state(state: TerminalState) -> None:
    expected = datetime.fromtimestamp(state.utc_ns // NS_PER_S, tz=UTC)
    message = read(rmc(state))
    assert (message.date, message.time) == (expected.date(), expected.time())
    assert read(gga(state)).time == expected.time()


@given(states)
def test_without_a_fix_no_position_is_told(state: TerminalState) -> None:
    lost = TerminalState(
        state.utc_ns,
        state.latitude_deg,
        state.longitude_deg,
        state.altitude_m,
        state.speed_m_s,
        state.course_deg,
        GnssFix(FixMode.NONE, state.gnss.satellites, 99.99, 99.99, 99.99),
    )
    assert read(gga(lost)).quality == 0
    assert read(rmc(lost)).status == "V"
    assert read(gga(lost)).lat == read(rmc(lost)).lat == ""
    assert read(gsa(lost)).navMode == 1


@given(states)
def test_all_satellites_in_view_are_told_once(state: TerminalState) -> None:
    lines = gsv(state).split(b"\r\n")[:-1]
    told = []
    for number, line in enumerate(lines):
        fields = line.decode().partition("*")[0].split(",")
        assert fields[1:4] == [str(len(lines)), str(number + 1), f"{len(state.gnss.satellites):02d}"]
        told += [int(prn) for prn in fields[4::4]]
    assert told == [satellite.prn for satellite in state.gnss.satellites]


@given(st.lists(st.integers(1, 3 * NS_PER_S), min_size=1, max_size=60), st.integers(0, NS_PER_S - 1))
def test_each_second_is_told_at_most_once_and_in_order(steps_ns: list[int], phase_ns: int) -> None:
    now_ns, stub, told = START_NS + phase_ns, receiver(START_NS + phase_ns), []
    for step_ns in steps_ns:
        if said := stub.poll(now_ns):
            assert said[7:13].decode() == datetime.fromtimestamp(now_ns // NS_PER_S, tz=UTC).strftime("%H%M%S")
            told.append(now_ns // NS_PER_S)
        assert now_ns < stub.next_event_ns() <= now_ns + NS_PER_S
        now_ns += step_ns
    assert told == sorted(set(told))


def test_a_receiver_polled_when_it_asks_to_be_speaks_once_a_second() -> None:
    stub, now_ns = receiver(START_NS + 1), START_NS + 1
    for second in range(1, 600):
        now_ns = stub.next_event_ns()
        assert now_ns == START_NS + second * NS_PER_S
        assert kinds(stub.poll(now_ns))[:3] == ["RMC", "GGA", "GSA"]
        assert stub.poll(now_ns) == b""
    assert stub.statistics().seconds == 599
    assert stub.statistics().seconds_missed == 0


@given(st.integers(0, 400 * 86_400 * NS_PER_S))
def test_a_clock_that_is_set_back_is_followed(back_ns: int) -> None:
    stub = receiver()
    stub.poll(START_NS)
    assert stub.poll(START_NS - back_ns) == b""
    assert stub.next_event_ns() <= START_NS - back_ns + NS_PER_S
    assert stub.poll(stub.next_event_ns()) != b""


@given(st.integers(1, 400 * 86_400))
def test_seconds_that_nobody_polled_for_are_left_out_and_counted(seconds: int) -> None:
    stub = receiver()
    said = stub.poll(START_NS + seconds * NS_PER_S + 5)
    assert said.count(b"GGA") == 1
    assert stub.statistics().seconds_missed == seconds


@pytest.mark.parametrize("kind", ["GGA", "RMC", "GSA", "GSV"])
def test_a_query_is_answered_at_once_with_the_last_whole_second(kind: str) -> None:
    stub = receiver(START_NS + 1)
    now_ns = START_NS + 600_000_000
    stub.receive(sentence(f"EIGPQ,{kind}"), now_ns)
    assert stub.next_event_ns() <= now_ns
    said = stub.poll(now_ns)
    assert set(kinds(said)) == {kind}
    if kind == "GGA":
        assert said[7:16] == b"232127.00"
    assert stub.poll(now_ns) == b""


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("PMTK605", "PMTK705,BENTPIPE_"),
        ("PMTK000", "PMTK001,0,3"),
        ("PMTK220,100", "PMTK001,220,1"),
        ("PMTK314,0,1,0,1", "PMTK001,314,1"),
    ],
)
def test_vendor_commands_are_answered_or_refused(command: str, answer: str) -> None:
    stub = receiver(START_NS + 1)
    stub.receive(sentence(command), START_NS + 2)
    assert stub.poll(START_NS + 2).startswith(f"${answer}".encode())


@pytest.mark.parametrize(
    "line",
    [
        b"$CCGPQ,GGA*00",
        b"$CCGPQ,XYZ",
        b"$CCGPQ",
        b"$CCGPQ,GGA,GGA",
        b"$PMTK",
        b"$PMTKx05",
        b"$PASHQ,RID*28",
        b"$",
        b"$*00",
        b"CCGPQ,GGA*2B",
    ],
)
def test_what_is_no_query_is_ignored(line: bytes) -> None:
    stub = receiver(START_NS + 1)
    stub.receive(line + b"\r\n", START_NS + 2)
    assert stub.poll(START_NS + 2) == b""


def test_a_query_needs_no_checksum() -> None:
    stub = receiver(START_NS + 1)
    stub.receive(b"$CCGPQ,GGA\n", START_NS + 2)
    assert kinds(stub.poll(START_NS + 2)) == ["GGA"]


@given(st.lists(st.one_of(st.binary(max_size=300), st.just(QUERY), st.just(b"$"))))
def test_arbitrary_bytes_never_raise_and_leave_the_receiver_answering(pieces: list[bytes]) -> None:
    stub = receiver(START_NS + 1)
    for piece in pieces:
        stub.receive(piece, START_NS + 2)
    stub.poll(START_NS + 2)
    stub.receive(QUERY, START_NS + 3)
    assert kinds(stub.poll(START_NS + 3)) == ["GGA"]


@given(st.binary(max_size=600), st.lists(st.integers(0, 650), max_size=8))
def test_the_size_of_the_pieces_changes_nothing(garbage: bytes, cuts: list[int]) -> None:
    data = garbage + QUERY + garbage + QUERY
    whole, pieces = receiver(START_NS + 1), receiver(START_NS + 1)
    whole.receive(data, START_NS + 2)
    places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    for start, end in pairwise(places):
        pieces.receive(data[start:end], START_NS + 2)
    assert whole.poll(START_NS + 2) == pieces.poll(START_NS + 2)
    assert whole.statistics() == pieces.statistics()


@given(st.integers(MAX_LINE, 5 * MAX_LINE))
def test_a_line_without_an_end_is_dropped_and_the_next_query_answered(length: int) -> None:
    stub = receiver(START_NS + 1)
    stub.receive(b"$" + b"A" * length + b"," + QUERY, START_NS + 2)
    assert kinds(stub.poll(START_NS + 2)) == ["GGA"]


def test_answers_that_nobody_polls_for_are_bounded_and_counted() -> None:
    stub = receiver(START_NS + 1)
    stub.receive(QUERY * 1000, START_NS + 2)
    said = stub.poll(START_NS + 2)
    assert len(said) <= MAX_REPLIES
    counts = stub.statistics()
    assert counts.answered + counts.unanswered == 1000
    assert said.count(b"\n") == counts.answered


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="$*"), max_size=70))
def test_checksums_agree_with_an_independent_implementation(body: str) -> None:
    from pynmeagps.nmeahelpers import calc_checksum

    assert f"{checksum(body):02X}" == calc_checksum(body)
