"""What weather a place has: rain, vapour and clouds, read off a table of the ITU-R's maps.

`tools/rain_tables.py` makes the table, at 2.5°. The maps themselves are finer (P.837: 0.125°): between the points of
the table lines are drawn, which along coasts and mountains strays by some per cent of what a map says. The rain height
has its map's own 1.5°, and is what P.839-4 says to the metre.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

TABLE = Path(__file__).parent / "tables" / "itu.npz"


@dataclass(frozen=True)
class Climate:
    """The weather of a place over the years.

    rain_rate_mm_h: exceeded 0.01 % of the time (P.837-7). rain_percent: how long it rains, by month, (12,) (the same).
    rain_height_km: above the sea (P.839-4). wet_refractivity: median, N-units (P.453-13). vapour_kg_m2: median column
    (P.836-6). cloud_kg_m2: liquid water, reduced to 0 °C, that is exceeded in each of cloud_percent of the time, (5,)
    (P.840-8). temperature_k: mean at the ground (P.1510-1).
    """

    rain_rate_mm_h: float
    rain_percent: Floats
    rain_height_km: float
    wet_refractivity: float
    vapour_kg_m2: float
    cloud_percent: Floats
    cloud_kg_m2: Floats
    temperature_k: float


@cache
def table() -> dict[str, Floats]:
    """All arrays of the table."""
    with np.load(TABLE, allow_pickle=False) as arrays:
        return {name: arrays[name].astype(np.float64) for name in arrays.files}


def climate_of(latitude_deg: float, longitude_deg: float) -> Climate:
    """The climate of a place, degrees."""

    def at(name: str) -> Floats:
        return _between(table()[name], latitude_deg, longitude_deg)

    return Climate(
        rain_rate_mm_h=float(at("rain_rate_mm_h")),
        rain_percent=at("rain_percent"),
        rain_height_km=float(at("freezing_m")) / 1000 + 0.36,  # P.839-4
        wet_refractivity=float(at("wet_refractivity")),
        vapour_kg_m2=float(at("vapour_kg_m2")),
        cloud_percent=table()["cloud_percent"],
        cloud_kg_m2=at("cloud_kg_m2"),
        temperature_k=float(at("temperature_k")),
    )


def _between(grid: Floats, latitude_deg: float, longitude_deg: float) -> Floats:
    """Bilinear in the last two axes, (…, latitudes from −90, longitudes from −180)."""
    step = 180 / (grid.shape[-2] - 1)
    south, north_share = divmod((latitude_deg + 90) / step, 1)
    west, east_share = divmod((longitude_deg + 180) / step % grid.shape[-1], 1)
    row, column = min(int(south), grid.shape[-2] - 1), int(west)
    above, right = min(row + 1, grid.shape[-2] - 1), (column + 1) % grid.shape[-1]
    low = (1 - east_share) * grid[..., row, column] + east_share * grid[..., row, right]
    high = (1 - east_share) * grid[..., above, column] + east_share * grid[..., above, right]
    value: Floats = np.asarray((1 - north_share) * low + north_share * high)
    return value
