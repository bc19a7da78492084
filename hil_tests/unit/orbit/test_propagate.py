"""Positions against skyfield, SGP4's own vectors, and laws of the bulk calculation."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sgp4.api import WGS72, Satrec
from skyfield.api import EarthSatellite, load, wgs84
from skyfield.sgp4lib import theta_GMST1982

from emulator.orbit.look import Observer, look, range_rate_m_s
from emulator.orbit.propagate import Propagator, sidereal_angle_rad
from emulator.orbit.satellites import JD_UNIX, NS_PER_DAY, Satellites
from emulator.orbit.walker import generate
from emulator.scenario.model import Shell
from emulator.units import NS_PER_S, parse_utc_ns
from hil_tests.unit.orbit.samples import EPOCH_UTC_NS, record

SHELLS = (
    Shell(name="a", altitude_km=550, inclination_deg=53, planes=20, satellites_per_plane=15, phasing=7),
    Shell(name="b", altitude_km=360, inclination_deg=97.6, planes=6, satellites_per_plane=20, pattern="star"),
)
MINUTE_NS = 60 * NS_PER_S
UT1_IS_UTC = load.timescale(delta_t=32.184 + 37.0, builtin=True)  # TT − UT1 with 37 leap seconds and UT1 = UTC


@pytest.fixture(scope="module")
def shells() -> Propagator:
    return Propagator(generate(SHELLS))


def test_azimuth_elevation_and_range_are_those_of_skyfield() -> None:
    one = record()
    times = EPOCH_UTC_NS + np.arange(0, 86_400, 601, dtype=np.int64) * NS_PER_S
    observer = Observer.at(48.51368333, -124.29353469, 201)
    position, velocity = Propagator(Satellites.of(["one"], [one])).states(times)
    seen = look(observer, position[0])
    site = wgs84.latlon(48.51368333, -124.29353469, 201)
    seconds = (times - EPOCH_UTC_NS) // NS_PER_S
    at = UT1_IS_UTC.utc(2025, 5, 29, 8, 0, seconds)
    relative = (EarthSatellite.from_satrec(one, UT1_IS_UTC) - site).at(at)
    altitude, azimuth, distance = relative.altaz()
    *_, rate = relative.frame_latlon_and_rates(site)
    # Left over: the equation of the equinoxes' small terms and rounding of times, under a metre of 7,000 km.
    assert np.abs(seen.range_m - distance.m).max() < 1.0
    assert np.abs(seen.elevation_deg - altitude.degrees).max() < 1e-4
    turn = (seen.azimuth_deg - azimuth.degrees + 180) % 360 - 180
    assert np.abs(turn * np.cos(altitude.radians)).max() < 1e-4
    assert np.abs(range_rate_m_s(observer, position[0], velocity[0]) - rate.m_per_s).max() < 0.01


def test_leaving_out_ut1_costs_less_than_stated() -> None:
    at = load.timescale(builtin=True).utc(2025, 5, 29, 8, 0, 0)
    assert abs(at.dut1) * 465 < 50  # m at the equator, 0.1 s


@given(st.integers(0, 4_000_000_000 * NS_PER_S))
def test_sidereal_angle_is_that_of_skyfield(utc_ns: int) -> None:
    days, rest = divmod(utc_ns, NS_PER_DAY)
    theirs, _ = theta_GMST1982(JD_UNIX + days, rest / NS_PER_DAY)
    ours = float(sidereal_angle_rad(np.array([utc_ns], np.int64))[0])
    # 3e-8 rad are 0.2 m of 6,900 km: skyfield takes the whole turns out of a larger number.
    assert (ours - theirs + np.pi) % (2 * np.pi) - np.pi == pytest.approx(0, abs=3e-8)


def test_sgp4_gives_its_reference_vectors() -> None:
    """SGP4-VER.TLE and tcppver.out of Vallado et al., AIAA 2006-6753, as the library ships them."""
    lines = files("sgp4").joinpath("SGP4-VER.TLE").read_text().splitlines()
    sets = {
        int(first[2:7]): (first[:69], second[:69])
        for first, second in pairwise(lines)
        if first.startswith("1 ") and second.startswith("2 ")
    }
    compared, one = 0, None
    for line in files("sgp4").joinpath("tcppver.out").read_text().splitlines():
        if heading := re.fullmatch(r"(\d+) xx", line.strip()):
            one = Satrec.twoline2rv(*sets[int(heading[1])], WGS72)
            continue
        minutes, *state = (float(field) for field in line.split()[:7])
        assert one is not None
        error, position, _ = one.sgp4_tsince(minutes)
        if error == 0:
            assert np.abs(np.array(position) - state[:3]).max() < 1e-6  # km
            compared += 1
    assert compared > 500


@given(first=st.integers(0, 419), count=st.integers(1, 50), minute=st.integers(0, 10_000), times=st.integers(1, 20))
@settings(max_examples=40)
def test_a_position_does_not_depend_on_what_else_is_asked(
    shells: Propagator, first: int, count: int, minute: int, times: int
) -> None:
    start_ns = parse_utc_ns("2025-10-01T00:00:00Z") + minute * MINUTE_NS
    utc_ns = start_ns + np.arange(times, dtype=np.int64) * NS_PER_S
    some = np.arange(first, min(first + count, 420))
    together = shells.positions_m(utc_ns, some)
    alone = shells.positions_m(utc_ns[-1:], some[-1:])
    # One picometre: vector units may round a sine otherwise than the scalar one does.
    assert np.abs(together[-1, -1] - alone[0, 0]).max() < 1e-6


@given(
    latitude=st.floats(-90, 90),
    longitude=st.floats(-180, 180),
    mask=st.floats(0, 60),
    minute=st.integers(0, 500_000),
    half_s=st.integers(0, 300),
)
@settings(max_examples=60)
def test_whoever_stands_above_the_mask_is_near(
    shells: Propagator, latitude: float, longitude: float, mask: float, minute: int, half_s: int
) -> None:
    observer = Observer.at(latitude, longitude, 0)
    middle_ns = parse_utc_ns("2025-10-01T00:00:00Z") + minute * MINUTE_NS
    start_ns, end_ns = middle_ns - half_s * NS_PER_S, middle_ns + half_s * NS_PER_S
    masks = np.full(420, mask)
    near = set(shells.near(observer, masks, start_ns, end_ns).tolist())
    for at_ns in (start_ns, middle_ns, end_ns):
        elevation = look(observer, shells.positions_m(np.array([at_ns], np.int64))[:, 0]).elevation_deg
        assert set(np.flatnonzero(elevation >= mask).tolist()) <= near


def test_chunks_do_not_show(shells: Propagator, monkeypatch: pytest.MonkeyPatch) -> None:
    utc_ns = EPOCH_UTC_NS + np.arange(7, dtype=np.int64) * MINUTE_NS
    whole = shells.positions_m(utc_ns)
    monkeypatch.setattr("emulator.orbit.propagate.CHUNK", 100)
    assert np.array_equal(shells.positions_m(utc_ns), whole)


def test_a_satellite_that_sgp4_throws_out_of_its_orbit_is_nan() -> None:
    """Elements of one that fell long ago: of some days SGP4 makes distances tenfold, and no error."""
    fallen = record(altitude_km=330, drag=0.01)
    error, position_km, _ = fallen.sgp4(fallen.jdsatepoch, fallen.jdsatepochF + 40)
    assert error == 0
    assert np.hypot(*position_km[:2]) > 40_000
    propagator = Propagator(Satellites.of(["good", "fallen"], [record(), fallen]))
    times = EPOCH_UTC_NS + np.array([0, 40], np.int64) * 86_400 * NS_PER_S
    for found in (propagator.positions_m(times), propagator.positions_m(times, np.array([0, 1]))):
        assert np.isfinite(found[0]).all()
        assert np.isfinite(found[1, 0]).all()
        assert np.isnan(found[1, 1]).all()


def test_an_orbit_that_sgp4_refuses_is_nan_and_above_no_mask() -> None:
    falling = record(eccentricity=0.2, altitude_km=300)  # perigee inside the earth
    propagator = Propagator(Satellites.of(["falling", "good"], [falling, record()]))
    times = np.array([EPOCH_UTC_NS + 40 * NS_PER_DAY], np.int64)
    assert np.isnan(propagator.positions_m(times)[0]).all()
    assert np.isfinite(propagator.positions_m(times)[1]).all()
    everywhere = propagator.near(Observer.at(0, 0, 0), np.full(2, -90.0), int(times[0]), int(times[0]))
    assert 1 in everywhere.tolist()
    seen = look(Observer.at(0, 0, 0), propagator.positions_m(times, everywhere))
    assert everywhere[(seen.elevation_deg >= -90)[:, 0]].tolist() == [1]
