"""Where the sun stands: against another ephemeris, and against a published season of sun outages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.orbit.geostationary import RADIUS_M, slot_position_m
from emulator.orbit.look import Observer
from emulator.orbit.sun import ASTRONOMICAL_UNIT_M, sun_position_m
from emulator.units import NS_PER_S, parse_utc_ns

DAY_NS = 86_400 * NS_PER_S


def declination_deg(text: str) -> float:
    position = sun_position_m(np.array([parse_utc_ns(text)], np.int64))[0]
    return float(np.degrees(np.arcsin(position[2] / np.sqrt((position**2).sum()))))


@pytest.mark.parametrize(
    ("utc", "expected_deg"),
    [  # equinoxes and solstices of 2025 as published (US Naval Observatory), to the minute
        ("2025-03-20T09:01:00Z", 0.0),
        ("2025-06-21T02:42:00Z", 23.436),
        ("2025-09-22T18:19:00Z", 0.0),
        ("2025-12-21T15:03:00Z", -23.436),
    ],
)
def test_equinoxes_and_solstices_are_when_they_are(utc: str, expected_deg: float) -> None:
    assert declination_deg(utc) == pytest.approx(expected_deg, abs=0.01)


@pytest.mark.parametrize(("day", "minutes"), [("2025-02-11", 14.22), ("2025-05-14", -3.66), ("2025-11-03", -16.45)])
def test_noon_follows_the_equation_of_time(day: str, minutes: float) -> None:
    """Its extremes (Meeus, Astronomical Algorithms, chapter 28): true noon at Greenwich is that much after 12:00."""
    noon = parse_utc_ns(f"{day}T12:00:00Z") + round(minutes * 60 * NS_PER_S)
    position = sun_position_m(np.array([noon], np.int64))[0]
    assert np.degrees(np.arctan2(position[1], position[0])) == pytest.approx(0.0, abs=0.05)


@given(st.integers(0, 50 * 365))
def test_the_distance_is_that_of_the_earth_s_orbit(days: int) -> None:
    position = sun_position_m(np.array([parse_utc_ns("2000-01-01T00:00:00Z") + days * DAY_NS], np.int64))
    assert 0.983 < np.sqrt((position**2).sum()) / ASTRONOMICAL_UNIT_M < 1.0168


def test_a_published_season_of_sun_outages() -> None:
    """Braintree, Massachusetts, spring of 2018, as its cable operator announced it (beld.net): from 1 to 6 March, on
    four days at about 13:20 EST, for 6, 8, 9, 9, 8 and 4 minutes.

    Two numbers are not in the announcement: the satellite, which that hour puts at about 91° west, and the width of the
    beam, for which the longest outage stands. The days and all other durations are then no longer free.
    """
    site = np.array(Observer.at(42.21, -71.0, 30.0).position_m)
    to_satellite = slot_position_m(-91.0) - site
    minutes = []
    for day in range(10):  # from 26 February on
        start_ns = parse_utc_ns("2018-02-26T18:00:00Z") + day * DAY_NS
        to_sun = sun_position_m(start_ns + np.arange(3600, dtype=np.int64) * NS_PER_S) - site
        cosine = (to_sun @ to_satellite) / np.sqrt((to_sun**2).sum(axis=1) * (to_satellite**2).sum())
        inside = np.degrees(np.arccos(cosine)) < 1.1
        minutes.append(inside.sum() / 60)
        if inside.any():
            assert 20.5 < inside.argmax() / 60 < 25
    assert minutes == pytest.approx([0, 0, 0, 6, 8, 9, 9, 8, 4, 0], abs=1.7)
    assert [one > 0 for one in minutes] == [False] * 3 + [True] * 6 + [False]


def test_slots_turn_with_the_earth() -> None:
    assert np.sqrt((slot_position_m(-123.4) ** 2).sum()) == pytest.approx(RADIUS_M)
    assert slot_position_m(90.0)[1] == pytest.approx(RADIUS_M)
