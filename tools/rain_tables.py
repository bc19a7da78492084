"""Makes the table of rain, vapour, clouds and spectral lines that `emulator/radio` reads, from the package `itur`.

    pip install 'bentpipe[rain]' && python tools/rain_tables.py

Only for who changes the table: at run time it is read with numpy alone. Grid: 2.5° both ways, of the maps of ITU-R
P.837-7 (rain), P.453-13 (wet refractivity), P.836-6 (water vapour), P.840-8 (cloud water), P.1510-1 (temperature); of
P.839-4 (rain height) its own 1.5°; and the lines of oxygen and water vapour of P.676-12. Takes some minutes.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

STEP_DEG = 2.5
RAIN_HEIGHT_STEP_DEG = 1.5  # of P.839-4's own map, whose values are whole metres
CLOUD_PERCENT = (1, 5, 10, 30, 50)  # of the time, exceeded
TARGET = Path(__file__).parents[1] / "emulator" / "radio" / "tables" / "itu.npz"
DAYS = np.array([31, 28.25, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def main() -> None:
    """Writes the table, and says how large it is."""
    warnings.simplefilter("ignore")
    import itur
    from itur.models import itu453, itu676, itu836, itu837, itu839, itu840, itu1510

    latitude = np.arange(-90, 90 + STEP_DEG, STEP_DEG)
    longitude = np.arange(-180, 180, STEP_DEG)
    lat, lon = np.meshgrid(latitude, longitude, indexing="ij")
    itu676.change_version(12)
    itu840.change_version(8)

    def grid(quantity: object) -> np.ndarray:
        found = np.asarray(getattr(quantity, "value", quantity), np.float64).reshape(lat.shape)
        with_any = np.isfinite(found).any(axis=1)
        mean = np.interp(latitude, latitude[with_any], np.nanmean(found[with_any], axis=1))
        return np.where(np.isfinite(found), found, mean[:, np.newaxis])  # some maps end short of the poles

    def freezing_m() -> np.ndarray:
        rows = np.arange(-90, 90 + RAIN_HEIGHT_STEP_DEG, RAIN_HEIGHT_STEP_DEG)
        columns = np.arange(-180, 180, RAIN_HEIGHT_STEP_DEG)
        found = itu839.isoterm_0(*np.meshgrid(rows, columns, indexing="ij"))
        return np.rint(1000 * np.asarray(found.value))

    rain = itu837._ITU837_7()
    months = range(1, 13)
    total_mm = np.stack([rain.Mt(lat.copy(), lon.copy(), month) for month in months])
    kelvin = itu1510.surface_month_mean_temperature(lat.ravel(), lon.ravel(), np.array(months)).value
    celsius = np.asarray(kelvin).reshape(12, *lat.shape) - 273.15
    rate = np.where(celsius >= 0, 0.5874 * np.exp(0.0883 * celsius), 0.5874)  # P.837-7 eq. 1
    raining = np.minimum(100 * total_mm / (24 * DAYS[:, np.newaxis, np.newaxis] * rate), 70.0)  # eq. 2, per cent
    lines = itu676._ITU676_12_
    tables = {
        "rain_rate_mm_h": grid(itu837.rainfall_rate(lat, lon, 0.01)).astype(np.float32),
        "rain_percent": raining.astype(np.float16),
        "freezing_m": freezing_m().astype(np.int16),
        "wet_refractivity": grid(itu453.map_wet_term_radio_refractivity(lat, lon, 50)).astype(np.float16),
        "vapour_kg_m2": grid(itu836.total_water_vapour_content(lat, lon, 50)).astype(np.float16),
        "cloud_percent": np.array(CLOUD_PERCENT, np.float64),
        "cloud_kg_m2": np.stack(
            [grid(itu840.columnar_content_reduced_liquid(lat, lon, percent)) for percent in CLOUD_PERCENT]
        ).astype(np.float16),
        "temperature_k": grid(itu1510.surface_mean_temperature(lat, lon)).astype(np.float16),
        "oxygen": np.stack([lines.f_ox, lines.a1, lines.a2, lines.a3, lines.a4, lines.a5, lines.a6]),
        "vapour": np.stack([lines.f_wv, lines.b1, lines.b2, lines.b3, lines.b4, lines.b5, lines.b6]),
    }
    TARGET.parent.mkdir(exist_ok=True)
    np.savez_compressed(TARGET, **tables)
    print(f"{TARGET}: {TARGET.stat().st_size} bytes, from itur {itur.__version__}")


if __name__ == "__main__":
    main()
