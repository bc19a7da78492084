"""The ITU-R's own validation rows (Study Group 3), within 1e-3 dB, or 1e-3 km."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.radio.atmosphere import cloud_db, gas_db, scintillation_db
from emulator.radio.climate import climate_of
from emulator.radio.rain import coefficients, exceeded_db

Row = dict[str, float]


def rows(path: Path) -> list[Row]:
    """The columns by name; the line below the names holds units."""
    lines = path.read_text("latin-1").splitlines()
    names = [name.strip() for name in lines[0].split(",")]
    found = []
    for values in csv.reader(lines[1:]):
        try:
            found.append(dict(zip(names, map(float, values), strict=False)))
        except ValueError:
            continue
    assert len(found) >= 8
    return found


@pytest.fixture(scope="module")
def itu(reference_data: Path) -> Path:
    return reference_data / "itu"


def test_specific_attenuation_of_rain(itu: Path) -> None:
    for row in rows(itu / "ITURP838-3_rain_specific_attenuation.csv"):
        k, alpha = coefficients(row["f"], row["el"], row["tau"])
        assert k * row["R"] ** alpha == pytest.approx(row["gamma_r"], abs=1e-3)
        assert (k, alpha) == pytest.approx((row["k"], row["alpha"]), abs=1e-6)


def test_attenuation_by_rain(itu: Path) -> None:
    for row in rows(itu / "ITURP618-13_A_rain.csv"):
        exceeded = exceeded_db(
            np.array([row["p"]]),
            rain_rate_mm_h=row["R001"],
            rain_height_km=row["hs"] + row["Ls"] * np.sin(np.radians(row["el"])),
            site_km=row["hs"],
            latitude_deg=row["lat"],
            elevation_deg=row["el"],
            frequency_ghz=row["f"],
            tilt_deg=row["tau"],
        )
        assert float(exceeded[0]) == pytest.approx(row["A_rain"], abs=1e-3)


def test_scintillation(itu: Path) -> None:
    for row in rows(itu / "ITURP618-13_A_rain.csv"):
        fade = scintillation_db(
            np.array([row["P"]]),
            frequency_ghz=row["f"],
            elevation_deg=np.array([row["el"]]),
            antenna_m=row["D"],
            antenna_efficiency=row["eta"],
            wet_refractivity=row["N_wet"],
        )
        assert float(fade[0]) == pytest.approx(row["A_scin"], abs=1e-3)


def test_gas(itu: Path) -> None:
    for row in rows(itu / "ITURP676-12_A_gas.csv"):
        taken = gas_db(
            row["f"],
            np.array([row["el"]]),
            vapour_kg_m2=row["V_t"],
            kelvin=row["T"],
            site_km=row["h"],
            dry_hpa=row["P"],
            vapour_g_m3=row["rho"],
        )
        assert float(taken[0]) == pytest.approx(row["A_gas"], abs=1e-3)


def test_rain_height(itu: Path) -> None:
    for row in rows(itu / "ITURP839-4_rain_height.csv"):
        assert climate_of(row["lat"], row["lon"]).rain_height_km == pytest.approx(row["hr"], abs=1e-3)


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_every_place_has_a_climate(latitude: float, longitude: float) -> None:
    climate = climate_of(latitude, longitude)
    assert 0 <= climate.rain_rate_mm_h < 250
    assert ((climate.rain_percent >= 0) & (climate.rain_percent <= 70.1)).all()
    assert -4 < climate.rain_height_km < 7
    assert 0 < climate.vapour_kg_m2 < 80
    assert ((climate.cloud_kg_m2 >= 0) & (climate.cloud_kg_m2 < 6)).all()
    assert (np.diff(climate.cloud_kg_m2) <= 0).all()
    assert 200 < climate.temperature_k < 320


@given(st.floats(4, 50), st.floats(5, 90), st.floats(5, 90))
def test_lower_paths_lose_more(frequency: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    elevations = np.array([low, high])
    for lost in (cloud_db(frequency, elevations, 1.0), gas_db(frequency, elevations, vapour_kg_m2=20, kelvin=288)):
        assert lost[0] >= lost[1] > 0


@given(st.floats(1, 150), st.floats(5, 90), st.floats(4, 50))
def test_more_is_exceeded_less_often(rain_rate: float, elevation: float, frequency: float) -> None:
    percent = np.array([0.001, 0.01, 0.1, 1.0, 5.0])
    lost = exceeded_db(
        percent,
        rain_rate_mm_h=rain_rate,
        rain_height_km=4.0,
        site_km=0.1,
        latitude_deg=48.0,
        elevation_deg=elevation,
        frequency_ghz=frequency,
    )
    assert (np.diff(lost) < 1e-9).all()
