"""Laws of the receiver's own sky."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.terminal.gnss import CHANNELS, MASK_DEG, FixMode, gnss_fix
from emulator.units import NS_PER_S

latitudes = st.floats(-90, 90)
longitudes = st.floats(-180, 180)
altitudes = st.floats(-500, 100_000)
utc = st.integers(946_684_800 * NS_PER_S, 4_102_444_800 * NS_PER_S)  # the years 2000 to 2100
SIDEREAL_DAY_NS = 86_164_090_530_800  # 2π over the rotation rate of IS-GPS-200


@given(latitudes, longitudes, altitudes, utc)
def test_an_open_sky_gives_a_good_fix_everywhere_and_always(
    latitude_deg: float, longitude_deg: float, altitude_m: float, utc_ns: int
) -> None:
    fix = gnss_fix(latitude_deg, longitude_deg, altitude_m, utc_ns)
    assert fix.mode is FixMode.THREE_D
    assert 4 <= fix.satellites_used <= CHANNELS
    assert 0.9 < fix.pdop <= 6.0  # GPS SPS Performance Standard, 3.4: PDOP ≤ 6 is what the slots are laid out for


@given(latitudes, longitudes, altitudes, utc)
def test_dilutions_fit_together(latitude_deg: float, longitude_deg: float, altitude_m: float, utc_ns: int) -> None:
    fix = gnss_fix(latitude_deg, longitude_deg, altitude_m, utc_ns)
    assert fix.pdop == pytest.approx(math.hypot(fix.hdop, fix.vdop))


@given(latitudes, longitudes, altitudes, utc)
def test_the_fix_uses_the_highest_satellites_above_its_mask(
    latitude_deg: float, longitude_deg: float, altitude_m: float, utc_ns: int
) -> None:
    satellites = gnss_fix(latitude_deg, longitude_deg, altitude_m, utc_ns).satellites
    elevations = [satellite.elevation_deg for satellite in satellites]
    assert elevations == sorted(elevations, reverse=True)
    assert len({satellite.prn for satellite in satellites}) == len(satellites)
    assert all(satellite.elevation_deg > 0 and 0 <= satellite.azimuth_deg < 360 for satellite in satellites)
    above = sum(elevation >= MASK_DEG for elevation in elevations)
    used = [satellite.used for satellite in satellites]
    assert used == [row < min(above, CHANNELS) for row in range(len(satellites))]


@given(latitudes, longitudes, utc)
def test_the_sky_returns_after_a_sidereal_day(latitude_deg: float, longitude_deg: float, utc_ns: int) -> None:
    """A GPS orbit takes half a sidereal day; the nominal one, on a sphere, meets that within a quarter degree a day."""
    today = gnss_fix(latitude_deg, longitude_deg, 0.0, utc_ns).satellites
    tomorrow = {s.prn: s for s in gnss_fix(latitude_deg, longitude_deg, 0.0, utc_ns + SIDEREAL_DAY_NS).satellites}
    for satellite in today:
        if satellite.elevation_deg > 1.0:
            assert tomorrow[satellite.prn].elevation_deg == pytest.approx(satellite.elevation_deg, abs=0.25)


def test_a_satellite_stands_where_the_reference_orbit_puts_it_at_its_epoch() -> None:
    """Slot A3 (PRN 3 here), by spherical trigonometry from the table: over its ground point it stands at the zenith."""
    argument, inclination = math.radians(11.676), math.radians(55.0)
    latitude = math.asin(math.sin(argument) * math.sin(inclination))
    east_of_node = math.atan2(math.sin(argument) * math.cos(inclination), math.cos(argument))
    geodetic = math.atan(math.tan(latitude) / (1 - 6.69437999014e-3))  # nearly so: the satellite is far away
    fix = gnss_fix(math.degrees(geodetic), 272.847 - 279.06 + math.degrees(east_of_node), 0.0, 741_484_800 * NS_PER_S)
    assert fix.satellites[0].prn == 3
    assert fix.satellites[0].elevation_deg > 89.7
