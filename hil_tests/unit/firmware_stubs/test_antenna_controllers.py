"""EasyComm, GS-232B and rotctld: what they answer, and that nothing confuses them for long."""

from __future__ import annotations

import pytest

from emulator.terminal import Antenna, Mount
from emulator.units import NS_PER_S
from firmware_stubs.easycomm import EasycommController
from firmware_stubs.gs232b import Gs232bController
from firmware_stubs.registry import Stub
from firmware_stubs.rotctld import RotctldSession
from hil_tests.unit.firmware_stubs.fuzzing import START_NS, exchange, survives

LATER_NS = START_NS + 300 * NS_PER_S
MOUNT = Mount(park_azimuth_deg=10, park_elevation_deg=80)


def easycomm(version: int = 3) -> EasycommController:
    return EasycommController(Antenna(MOUNT), version)


def test_easycomm_turns_and_tells_where_it_is() -> None:
    stub = easycomm(2)
    assert exchange(stub, b"AZ EL \n", START_NS) == b"AZ10.0 EL80.0\n"
    assert exchange(stub, b"AZ123.4 EL45.6\n", START_NS) == b""
    assert exchange(stub, b"AZ EL \n", START_NS + NS_PER_S) == b"AZ16.2 EL77.3\n"
    assert exchange(stub, b"AZ EL \n", LATER_NS) == b"AZ123.4 EL45.6\n"
    assert exchange(stub, b"EL\r\nAZ\r\n", LATER_NS) == b"EL45.6\nAZ123.4\n"


def test_easycomm_stops_one_axis_and_parks() -> None:
    stub = easycomm(2)
    exchange(stub, b"AZ200.0 EL20.0\n", START_NS)
    exchange(stub, b"SA \n", START_NS + 10 * NS_PER_S)
    assert exchange(stub, b"AZ EL \n", LATER_NS) == b"AZ72.0 EL20.0\n"
    exchange(stub, b"PARK\n", LATER_NS)
    assert exchange(stub, b"AZ EL \n", LATER_NS + 300 * NS_PER_S) == b"AZ10.0 EL80.0\n"


def test_easycomm_tells_a_refused_position_in_its_error_register() -> None:
    stub = easycomm()
    assert exchange(stub, b"GS\nGE\n", START_NS) == b"GS1\nGE1\n"
    assert exchange(stub, b"AZ999.0\nGE\n", START_NS) == b"GE8\n"
    assert exchange(stub, b"AZ90.0\nGE\nGS\n", START_NS) == b"GE1\nGS2\n"
    assert exchange(stub, b"GS\n", LATER_NS) == b"GS4\n"
    assert exchange(stub, b"AZ\n", LATER_NS) == b"AZ90.0\n"


def test_easycomm_two_has_no_velocities_and_three_has() -> None:
    for version, azimuth in ((2, b"AZ10.0\n"), (3, b"AZ20.0\n")):
        stub = easycomm(version)
        exchange(stub, b"VR1000\n", START_NS)
        assert exchange(stub, b"AZ\n", START_NS + 10 * NS_PER_S) == azimuth


def test_easycomm_keeps_its_configuration() -> None:
    stub = easycomm()
    assert exchange(stub, b"CWa,12.5\nCR a\nCR b\n", START_NS) == b"CRa,12.5\nCRb,0\n"


def gs232b() -> Gs232bController:
    return Gs232bController(Antenna(MOUNT))


def test_gs232b_turns_and_tells_whole_degrees() -> None:
    stub = gs232b()
    assert exchange(stub, b"W123 046\r", START_NS) == b""
    assert exchange(stub, b"C2\r", START_NS + NS_PER_S) == b"AZ=016  EL=077\r\n"
    assert exchange(stub, b"c2\r\n", LATER_NS) == b"AZ=123  EL=046\r\n"
    assert exchange(stub, b"C\rB\r", LATER_NS) == b"AZ=123\r\nEL=046\r\n"


@pytest.mark.parametrize(
    "command", [b"W12 46", b"W451 000", b"W100 181", b"M999", b"Q", b"\xff\x00", b"W123,046", b"X5", b"W" * 100, b"O2"]
)
def test_gs232b_refuses_what_it_does_not_know_or_cannot_reach(command: bytes) -> None:
    assert exchange(gs232b(), command + b"\r", START_NS) == b"?>\r\n"


def test_gs232b_turns_at_its_speed_and_stops() -> None:
    stub = gs232b()
    exchange(stub, b"X1\rR\r", START_NS)
    assert exchange(stub, b"C\r", START_NS + 40 * NS_PER_S) == b"AZ=072\r\n"  # 10° and 40 s at a quarter of 6.2°/s
    exchange(stub, b"S\r", START_NS + 40 * NS_PER_S)
    assert exchange(stub, b"C\r", LATER_NS) == b"AZ=072\r\n"
    assert exchange(stub, b"P36\rM400\r", LATER_NS) == b"?>\r\n"


def rotctld() -> RotctldSession:
    return RotctldSession(Antenna(MOUNT))


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"p", b"10.00\n80.00\n"),
        (b"\\get_pos", b"10.00\n80.00\n"),
        (b"+p", b"get_pos:\nAzimuth: 10.00\nElevation: 80.00\nRPRT 0\n"),
        (b";\\get_pos", b"get_pos:;Azimuth: 10.00;Elevation: 80.00;RPRT 0\n"),
        (b"P 10.0 20.0", b"RPRT 0\n"),
        (b"+P 1 2", b"set_pos: 1 2\nRPRT 0\n"),
        (b"P 500 20", b"RPRT -1\n"),
        (b"P nan 20", b"RPRT -1\n"),
        (b"P 10", b"RPRT -1\n"),
        (b"SSp", b"RPRT 0\nRPRT 0\n10.00\n80.00\n"),
        (b"P 10 80 p", b"RPRT 0\n10.00\n80.00\n"),
        (b"v SPEED", b"100\n"),
        (b"M 2 1000", b"RPRT -1\n"),
        (b"M 3 10", b"RPRT -1\n"),
        (b"u MGEF", b"RPRT -11\n"),
        (b"L 10 20 6", b"RPRT -4\n"),
        (b"# p", b""),
        (b"Z", b""),
        (b"\\quit", b""),
        (b"x" * 2000, b"RPRT -1\n"),
    ],
)
def test_rotctld_answers(line: bytes, answer: bytes) -> None:
    assert exchange(rotctld(), line + b"\n", START_NS) == answer


def test_rotctld_tells_its_limits() -> None:
    assert exchange(rotctld(), b"\\dump_state\n", START_NS) == (
        b"1\n2\nmin_az=0.000000\nmax_az=450.000000\nmin_el=0.000000\nmax_el=180.000000\n"
        b"south_zero=0\nrot_type=AzEl\ndone\n"
    )


def test_rotctld_is_told_good_bye() -> None:
    stub = rotctld()
    assert exchange(stub, b"p q p\np\n", START_NS) == b"10.00\n80.00\n"
    assert stub.closed


def test_sessions_share_one_antenna() -> None:
    antenna = Antenna(MOUNT)
    first, second = RotctldSession(antenna), RotctldSession(antenna)
    exchange(first, b"P 100 30\nq\n", START_NS)
    assert exchange(second, b"s\n", START_NS + NS_PER_S) == b"MOVING MOVING_AZ MOVING_RIGHT MOVING_EL MOVING_DOWN\n"
    assert exchange(second, b"p\n", LATER_NS) == b"100.00\n30.00\n"


def line_ended(stub: Stub, now_ns: int) -> int:
    stub.receive(b"\r\n", now_ns)
    stub.poll(now_ns)
    return now_ns


EASYCOMM = [
    b"AZ EL ",
    b"AZ123.4 EL45.6",
    b"SA SE ",
    b"PARK",
    b"RESET",
    b"VR0500",
    b"GS",
    b"CW1,5",
    b"CR 1",
    b"VE;IP;AN",
]
TestEasycommSurvives = survives(
    lambda now_ns: easycomm(),
    EASYCOMM,
    settled=line_ended,
    probe=b"AZ EL \n",
    answered=lambda said: said.startswith(b"AZ") and b" EL" in said and said.endswith(b"\n"),
)
TestGs232bSurvives = survives(
    lambda now_ns: gs232b(),
    [b"W123 046", b"C2", b"C", b"B", b"S", b"A", b"E", b"R", b"L", b"U", b"D", b"X1", b"P36", b"M100", b"H", b"Z"],
    settled=line_ended,
    probe=b"C2\r",
    answered=lambda said: said.startswith(b"AZ=") and len(said) == 16,
)
TestRotctldSurvives = survives(
    lambda now_ns: rotctld(),
    [
        b"p",
        b"P 10 20",
        b"\\dump_state",
        b"S",
        b"K",
        b"M 8 50",
        b"_",
        b"s",
        b"+p",
        b";S",
        b"v SPEED",
        b"R 1",
        b"#",
        b"A 1",
    ],
    settled=lambda stub, now_ns: line_ended(stub, now_ns) if not getattr(stub, "closed", False) else now_ns,
    probe=b"p\nq\n",
    answered=lambda said: said.count(b"\n") == 2 or said == b"",  # a client that said good-bye gets nothing more
    ends=b"\n",
)
