"""OpenAMIP, the antenna's role: it finds the satellite that the modem names, and says when the modem may transmit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.scenario import load_scenario
from emulator.scenario.links import GeoLink
from emulator.serving.geo import GeoPolicy
from emulator.serving.stations import GroundStation
from emulator.terminal import Antenna, Mount, Terminal
from emulator.terminal.pointing import geostationary_direction
from emulator.units import NS_PER_S
from firmware_stubs.openamip import OpenAmipAntenna

CRETE = Terminal(35.3, 25.1, 100.0)
START_NS = 1_800_000_000 * NS_PER_S


def antenna_with(rate_deg_s: float = 1000.0) -> tuple[OpenAmipAntenna, Antenna]:
    mount = Antenna(Mount(azimuth_rate_deg_s=rate_deg_s, elevation_rate_deg_s=rate_deg_s))
    return OpenAmipAntenna(CRETE.state, mount), mount


def said(stub: OpenAmipAntenna, at_s: float) -> list[str]:
    return stub.poll(START_NS + round(at_s * NS_PER_S)).decode().splitlines()


def test_it_finds_the_satellite_and_says_when_it_has() -> None:
    stub, mount = antenna_with(10.0)
    stub.receive(b"S 10.0 90.0 0.0\nA 5\n", START_NS)
    assert said(stub, 0) == ["s 1 0"]
    assert said(stub, 4.9) == []
    assert said(stub, 5) == ["s 1 0"]
    assert said(stub, 20.6) == ["s 1 1", "s 1 1"]  # 205° at 10°/s: at once when it has arrived, and by the clock
    assert said(stub, 25.6) == ["s 1 1"]
    assert mount.pose(START_NS + 21 * NS_PER_S).direction() == pytest.approx((205.05, 45.99), abs=0.01)
    stub.receive(b"S 60.0\n", START_NS + 26 * NS_PER_S)
    assert said(stub, 26.2) == ["s 1 0"]


def test_its_direction_is_that_of_the_link() -> None:
    scenario = load_scenario("geo_dvbs2")
    assert isinstance(scenario.link, GeoLink)
    assert scenario.terminal
    assert scenario.pop
    stations = [GroundStation.of(gateway, scenario.pop, 1.3) for gateway in scenario.gateways]
    seen = GeoPolicy(scenario.link, scenario.terminal, stations).seen(np.array([START_NS]))
    found = geostationary_direction(35.3, 25.1, 100.0, scenario.link.longitude_deg)
    assert found == pytest.approx((float(seen.azimuth_deg.flat[0]), float(seen.elevation_deg.flat[0])))


def test_a_satellite_below_the_horizon_is_not_found() -> None:
    stub, mount = antenna_with()
    stub.receive(b"S -150\nA\n", START_NS)
    assert said(stub, 60)[-1] == "s 1 0"
    assert mount.pose(START_NS + 60 * NS_PER_S).elevation_deg == 90


def test_it_tells_its_position_as_often_as_it_is_asked_to() -> None:
    stub, _ = antenna_with()
    stub.receive(b"W 10\n", START_NS)
    assert said(stub, 0) == ["w 1 35.30000 25.10000 1800000000"]
    assert said(stub, 9) == []
    assert said(stub, 10) == ["w 1 35.30000 25.10000 1800000010"]
    stub.receive(b"W 0\n", START_NS + 11 * NS_PER_S)
    said(stub, 11)
    assert said(stub, 1000) == []


@given(st.lists(st.sampled_from([b"S 10\n", b"S x\n", b"A\n", b"A 0\n", b"W 1\n", b"L 1 1\n", b"\xff\n", b"S"])))
def test_out_of_order_commands_are_taken_as_they_come(commands: list[bytes]) -> None:
    stub, _ = antenna_with()
    for number, command in enumerate(commands):
        stub.receive(command, START_NS + number)
        stub.poll(START_NS + number)
    stub.receive(b"\nS 10\nA 1\n", START_NS)
    assert said(stub, 2)[-1].startswith(("s 1 ", "w 1 "))
