"""The program's side of the antenna controllers: against our own controllers, and against what hardware gets wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.terminal import Antenna, Mount, Terminal
from emulator.terminal.pointing import Report
from emulator.units import NS_PER_S
from firmware_stubs.drivers import DRIVERS, Heard, Oddity
from firmware_stubs.registry import Hardware, Stub, find

SITE = Terminal(0, 0, 0)
FAST = Mount(azimuth_rate_deg_s=1000, elevation_rate_deg_s=1000)
RESOLUTION_DEG = {"easycomm2": 0.05, "easycomm3": 0.05, "gs232b": 0.5, "rotctld": 0.005}
START_NS = 1_800_000_000 * NS_PER_S


def controller(protocol: str) -> Stub:
    return find(protocol).make(SITE.state, START_NS, Hardware(antenna=Antenna(FAST)))


@pytest.mark.parametrize("protocol", RESOLUTION_DEG)
@given(azimuth=st.floats(0, 450), elevation=st.floats(0, 180), pieces=st.integers(1, 5))
def test_it_reads_where_it_sent_it(protocol: str, azimuth: float, elevation: float, pieces: int) -> None:
    driver, stub = DRIVERS[protocol](), controller(protocol)
    stub.receive(driver.point(azimuth, elevation), START_NS)
    stub.receive(driver.ask(), START_NS + NS_PER_S)
    said = stub.poll(START_NS + NS_PER_S)
    heard = [one for at in range(0, len(said), pieces) for one in driver.receive(said[at : at + pieces])]
    assert len(heard) == 1
    assert isinstance(heard[0], Report)
    assert heard[0].azimuth_deg == pytest.approx(azimuth, abs=RESOLUTION_DEG[protocol] + 1e-6)
    assert heard[0].elevation_deg == pytest.approx(elevation, abs=RESOLUTION_DEG[protocol] + 1e-6)


@pytest.mark.parametrize("protocol", ["easycomm2", "easycomm3", "rotctld"])
def test_it_parks_and_stops(protocol: str) -> None:
    driver, stub = DRIVERS[protocol](), controller(protocol)
    antenna = Antenna(Mount())
    stub = find(protocol).make(SITE.state, START_NS, Hardware(antenna=antenna))
    stub.receive(driver.point(90, 20), START_NS)
    stub.receive(driver.stop(), START_NS + NS_PER_S)
    assert antenna.pose(START_NS + 60 * NS_PER_S).azimuth_deg == pytest.approx(6.2)
    stub.receive(driver.park(), START_NS + 60 * NS_PER_S)
    assert antenna.pose(START_NS + 120 * NS_PER_S).azimuth_deg == 0


@pytest.mark.parametrize(
    ("protocol", "said", "kinds"),
    [
        ("easycomm2", b"AZ EL \nAZ1.0 EL2.0\n", ["echo", "report"]),
        ("easycomm2", b"AZ10.0 EL20.0 UP000 XXX DN000 XXX\n", ["echo"]),
        ("easycomm2", b"AZ1.0 E\nAZ1.0 EL2.0\n", ["half a line", "report"]),
        ("easycomm2", b"AZ1234.0 EL456.0\n", ["other units"]),
        ("easycomm2", b"\x00\xff\xf3zz\n", ["garbage"]),
        ("easycomm2", b"A" * 1000 + b"\nAZ1 EL2\r\n", ["garbage", "report"]),
        ("gs232b", b"C2\rAZ=123  EL=046\r\n", ["echo", "report"]),
        ("gs232b", b"+0123+0046\r\n", ["report"]),
        ("gs232b", b"?>\r\nAZ=123  E\r\n", ["refusal", "half a line"]),
        ("rotctld", b"12.0\nRPRT 0\n12.0\n30.0\n", ["half a line", "report"]),
        ("rotctld", b"RPRT -1\n", ["refusal"]),
        ("rotctld", b"12.0\n-3000\n", ["other units"]),
    ],
)
def test_what_hardware_gets_wrong_is_told_with_its_bytes(protocol: str, said: bytes, kinds: list[str]) -> None:
    driver = DRIVERS[protocol]()
    driver.ask()
    driver.point(10, 20)
    assert [kind_of(heard) for heard in driver.receive(said)] == kinds


@pytest.mark.parametrize("protocol", RESOLUTION_DEG)
@given(noise=st.binary(max_size=400))
def test_it_hears_a_report_after_any_noise(protocol: str, noise: bytes) -> None:
    driver, stub = DRIVERS[protocol](), controller(protocol)
    list(driver.receive(noise + b"\r\n"))
    for _ in range(2):
        stub.receive(driver.ask(), START_NS)
    heard = list(driver.receive(stub.poll(START_NS)))
    assert [kind_of(one) for one in heard] == ["report"] * 2


def kind_of(heard: Heard) -> str:
    return heard.kind if isinstance(heard, Oddity) else "report"
