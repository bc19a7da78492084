"""Rain as a series in time: how much it takes at any instant, at a place and in its seasons.

A Gaussian process with the memory of real rain (T. Maseng and P. Bakken, IEEE Trans. Commun. 29, 1981; ITU-R P.1853-2,
2.2) is turned into attenuation by the shares of time of P.618-13 themselves, where P.1853 fits a lognormal law to them.
It is built as a moving average over draws by the minute: any instant can be looked up, and none depends on who asks.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from math import erfc, sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from emulator.radio.climate import Climate
from emulator.radio.rain import exceeded_db
from emulator.units import NS_PER_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MEMORY_PER_S = 2e-4  # β of P.1853-2: half an hour later rain is still 70 % as it was
MINUTE_NS = 60 * NS_PER_S
MINUTES = 417  # 5/β: what is older weighs less than 1 %
PERCENTS = np.array([5.0, 3.0, 2.0, 1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.003, 0.001])  # of P.618-13
ELEVATIONS_DEG = np.array([5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0])
DAYS = np.array([31, 28.25, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])

_RHO = float(np.exp(-MEMORY_PER_S * 60))
_WEIGHTS = sqrt(1 - _RHO**2) * _RHO ** np.arange(MINUTES)[::-1]
_NORMAL = NormalDist()


class RainSeries:
    """The rain over one site. `normal(minutes)`: independent standard normal draws by UTC minute since 1970."""

    def __init__(
        self, climate: Climate, latitude_deg: float, altitude_m: float, normal: Callable[[Ints], Floats]
    ) -> None:
        self._climate = climate
        self._latitude_deg = latitude_deg
        self._site_km = max(altitude_m, 0.0) / 1000
        self._normal = normal
        self._year_percent = float((DAYS * climate.rain_percent).sum() / DAYS.sum())
        self._tables: dict[tuple[float, float], tuple[Floats, Floats]] = {}

    def attenuation_db(self, depth: Floats, elevation_deg: Floats, frequency_ghz: float, tilt_deg: float) -> Floats:
        """What rain takes at the times of `depth`, towards these elevations; the rain is one and the same for all."""
        if self._year_percent <= 0 or len(depth) == 0:
            return np.zeros(len(depth))
        depths, logarithms = self._exceeded(frequency_ghz, tilt_deg)
        begins = _NORMAL.inv_cdf(1 - self._year_percent / 100)
        # between the last share of P.618-13 and dry: straight down to nothing
        lightly = np.clip((depth - begins) / max(depths[0] - begins, 1e-9), 0.0, 1.0)
        lost = np.stack([lightly * np.exp(np.interp(depth, depths, row)) for row in logarithms])
        place = np.interp(elevation_deg, ELEVATIONS_DEG, np.arange(len(ELEVATIONS_DEG)))
        lower = np.minimum(place.astype(np.int64), len(ELEVATIONS_DEG) - 2)
        at = np.arange(len(depth))
        low, high = lost[lower, at], lost[lower + 1, at]
        between: Floats = low + (place - lower) * (high - low)
        return between

    def cloud_kg_m2(self, depth: Floats) -> Floats:
        """The liquid water in clouds at the times of `depth`.

        Clouds and rain are deep together: so that what both take is exceeded as often as P.618-13, 2.5, adds up, where
        clouds count no more than what is exceeded in 1 % of the time.
        """
        percent = self._climate.cloud_percent[::-1]
        scores = [_NORMAL.inv_cdf(1 - one / 100) for one in percent.tolist()]
        none = _NORMAL.inv_cdf(0.01)  # a sky without any: straight down from the last share of the map
        water: Floats = np.interp(depth, [none, *scores], [0.0, *self._climate.cloud_kg_m2[::-1]])
        return water

    def depth(self, utc_ns: Ints) -> Floats:
        """The process at times, in deviations of an average year, whatever the season."""
        if len(utc_ns) == 0:
            return np.zeros(0)
        first, last = int(utc_ns[0]) // MINUTE_NS, int(utc_ns[-1]) // MINUTE_NS + 1
        minutes = np.arange(first, last + 1, dtype=np.int64)
        noise = self._normal(np.arange(first - MINUTES + 1, last + 1, dtype=np.int64))
        at_minutes = np.convolve(noise, _WEIGHTS[::-1], mode="valid")
        scaled = [
            self._of_year(value, minute) for value, minute in zip(at_minutes.tolist(), minutes.tolist(), strict=True)
        ]
        return np.interp((utc_ns - first * MINUTE_NS) / MINUTE_NS, minutes - first, scaled)

    def _of_year(self, value: float, minute: int) -> float:
        """As rare in its month → as rare in the year; where it never rains, as it is."""
        if self._year_percent <= 0:
            return value
        month = datetime.fromtimestamp(minute * 60, UTC).month
        share = (
            0.5 * erfc(value / sqrt(2)) * self._year_percent / max(float(self._climate.rain_percent[month - 1]), 1e-6)
        )
        return _NORMAL.inv_cdf(1 - min(max(share, 1e-12), 1 - 1e-12))

    def _exceeded(self, frequency_ghz: float, tilt_deg: float) -> tuple[Floats, Floats]:
        """Depths of the process, rising, (shares,), and the logarithm of what is lost there, (elevations, shares)."""
        found = self._tables.get((frequency_ghz, tilt_deg))
        if found is None:
            percent = PERCENTS[max(0.7 * self._year_percent, PERCENTS[-3]) >= PERCENTS]
            depths = np.array([_NORMAL.inv_cdf(1 - one / 100) for one in percent.tolist()])
            rows = [
                exceeded_db(
                    percent,
                    rain_rate_mm_h=self._climate.rain_rate_mm_h,
                    rain_height_km=self._climate.rain_height_km,
                    site_km=self._site_km,
                    latitude_deg=self._latitude_deg,
                    elevation_deg=elevation,
                    frequency_ghz=frequency_ghz,
                    tilt_deg=tilt_deg,
                )
                for elevation in ELEVATIONS_DEG.tolist()
            ]
            found = self._tables[frequency_ghz, tilt_deg] = (depths, np.log(np.maximum(np.array(rows), 1e-9)))
        return found
