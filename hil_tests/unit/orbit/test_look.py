"""Geometry at a site, by laws and against skyfield."""

from __future__ import annotations

from math import cos, radians, sin

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skyfield.api import wgs84

from emulator.orbit.look import Observer, great_circle_m, look, range_rate_m_s

LATITUDE, LONGITUDE = st.floats(-90, 90), st.floats(-180, 180)
COORDINATE_M = st.floats(-4.2e7, 4.2e7)
OBSERVERS = st.builds(Observer.at, LATITUDE, LONGITUDE, st.floats(-400, 9000))
POSITIONS = st.tuples(COORDINATE_M, COORDINATE_M, COORDINATE_M).map(np.array)


@given(OBSERVERS, POSITIONS)
def test_angles_stay_in_their_ranges(observer: Observer, position: np.ndarray) -> None:
    seen = look(observer, position)
    if seen.range_m < 1:
        return
    assert -90 <= seen.elevation_deg <= 90
    assert 0 <= seen.azimuth_deg < 360


@given(OBSERVERS, st.floats(1, 5e7), st.floats(0, 359.99), st.floats(-89, 89))
def test_a_point_put_in_a_direction_is_seen_there(
    observer: Observer, distance: float, azimuth: float, elevation: float
) -> None:
    flat = cos(radians(elevation))
    direction = (
        flat * sin(radians(azimuth)) * np.array(observer.east)
        + flat * cos(radians(azimuth)) * np.array(observer.north)
        + sin(radians(elevation)) * np.array(observer.up)
    )
    seen = look(observer, np.array(observer.position_m) + distance * direction)
    assert float(seen.range_m) == pytest.approx(distance, abs=1e-7 * distance + 1e-8)
    assert float(seen.elevation_deg) == pytest.approx(elevation, abs=1e-4 + 1e-6 / distance * 57)
    turn = (float(seen.azimuth_deg) - azimuth + 180) % 360 - 180
    assert abs(turn) * flat < 1e-4 + 1e-6 / distance * 57


@given(OBSERVERS, OBSERVERS)
def test_a_distance_is_the_same_both_ways(one: Observer, other: Observer) -> None:
    there = float(look(one, np.array(other.position_m)).range_m)
    assert there == float(look(other, np.array(one.position_m)).range_m)
    if there > 1:
        assert great_circle_m(one, other) == great_circle_m(other, one)


@given(LATITUDE, LONGITUDE, st.floats(-400, 9000))
def test_positions_are_those_of_skyfield(latitude: float, longitude: float, altitude: float) -> None:
    ours = Observer.at(latitude, longitude, altitude).position_m
    theirs = wgs84.latlon(latitude, longitude, altitude).itrs_xyz.m
    assert np.abs(np.array(ours) - theirs).max() < 1e-6


def test_the_range_rate_is_the_change_of_the_range() -> None:
    observer = Observer.at(48.5, -124.3, 20)
    start, velocity = np.array([-2.7e6, -4.1e6, 4.9e6]), np.array([5000.0, -4000.0, 3000.0])
    rate = float(range_rate_m_s(observer, start, velocity))
    near = [float(look(observer, start + velocity * step).range_m) for step in (-0.01, 0.01)]
    assert rate == pytest.approx((near[1] - near[0]) / 0.02, abs=0.01)


def test_a_great_circle_is_right_within_its_tolerance() -> None:
    # London Heathrow to New York JFK on the ellipsoid: 5,554.9 km (Karney's GeodSolve)
    distance = great_circle_m(Observer.at(51.47, -0.4543, 0), Observer.at(40.6413, -73.7781, 0))
    assert distance == pytest.approx(5_554.9e3, rel=0.006)
