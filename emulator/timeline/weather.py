"""The weather of a link: what rain, clouds and air take from its C/N, by direction and time.

It moves rate, never delay.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from emulator.radio.adaptive import best_efficiency
from emulator.radio.atmosphere import cloud_db, gas_db, scintillation_db
from emulator.radio.climate import climate_of
from emulator.radio.rain_series import RainSeries
from emulator.scenario.laws import Weather
from emulator.scenario.model import Scenario, Terminal
from emulator.timeline.draws import Purpose, Way, uniform
from emulator.timeline.model import Floats, Ints
from emulator.units import NS_PER_S

ZENITH_DEG = np.array([90.0])


class LinkWeather:
    """Rain, clouds, gas and scintillation over the terminal (of a track: over where it begins), by direction.

    rain_seed: of rain and clouds, the site's. seed: of scintillation, the path's own.
    """

    def __init__(self, law: Weather, terminal: Terminal, rain_seed: int, seed: int) -> None:
        climate = climate_of(terminal.latitude_deg, terminal.longitude_deg)
        if law.rain_rate_mm_h is not None:
            climate = replace(climate, rain_rate_mm_h=law.rain_rate_mm_h)
        self._climate = climate
        self._law = law
        self._site_km = max(terminal.altitude_m, 0.0) / 1000
        self._frequencies_ghz = {Way.UP: law.uplink_ghz, Way.DOWN: law.downlink_ghz}

        def normal(minutes: Ints) -> Floats:
            """Box and Muller's transform of two draws."""
            radius = np.sqrt(-2 * np.log(uniform(rain_seed, Way.BOTH, Purpose.RAIN_RADIUS, minutes)))
            deviates: Floats = radius * np.cos(2 * np.pi * uniform(rain_seed, Way.BOTH, Purpose.RAIN_ANGLE, minutes))
            return deviates

        def twinkle_percent(way: Way, seconds: Ints) -> Floats:
            return 100 * uniform(seed, way, Purpose.SCINTILLATION, seconds)

        self._twinkle_percent = twinkle_percent
        self._rain = RainSeries(climate, terminal.latitude_deg, terminal.altitude_m, normal)

    def raining(self, utc_ns: Ints) -> npt.NDArray[np.bool_]:
        """Whether rain falls on the way at times (times,)."""
        towards = np.full(len(utc_ns), 90.0)
        depth = self._rain.depth(utc_ns)
        return self._rain.attenuation_db(depth, towards, self._law.downlink_ghz, self._law.tilt_deg) > 0

    def lost_db(self, way: Way, utc_ns: Ints, elevation_deg: Floats) -> Floats:
        """What a direction loses at times (times,) against a clear sky at the zenith."""
        frequency_ghz = self._frequencies_ghz[way]
        towards = np.nan_to_num(elevation_deg, nan=90.0)
        depth = self._rain.depth(utc_ns)
        rain = self._rain.attenuation_db(depth, towards, frequency_ghz, self._law.tilt_deg)
        clouds = cloud_db(frequency_ghz, towards, self._rain.cloud_kg_m2(depth))
        scintillation = scintillation_db(  # by the second: its spectrum falls from some tenths of a hertz on (P.618)
            self._twinkle_percent(way, utc_ns // NS_PER_S),
            frequency_ghz=frequency_ghz,
            elevation_deg=towards,
            antenna_m=self._law.antenna_m,
            wet_refractivity=self._climate.wet_refractivity,
        )
        gas = gas_db(
            frequency_ghz,
            np.concatenate([towards, ZENITH_DEG]),
            vapour_kg_m2=self._climate.vapour_kg_m2,
            kelvin=self._climate.temperature_k,
            site_km=self._site_km,
        )
        lost: Floats = rain + clouds + scintillation + gas[:-1] - gas[-1]
        return lost


def weather_of(law: Weather, scenario: Scenario) -> LinkWeather | None:
    """The weather of a scenario's link, None where it has none."""
    if not law.rain or scenario.terminal is None:
        return None
    return LinkWeather(law, scenario.terminal, scenario.rain_seed, scenario.seed)


def slowed(rates_bps: Ints, clear_db: Floats, now_db: Floats) -> Ints:
    """Rates under a clear sky → what is left of them where the C/N is another, in the steps of the MODCODs."""
    clear, now = best_efficiency(clear_db), best_efficiency(now_db)
    return np.where(clear > 0, rates_bps * now // np.maximum(clear, 1), rates_bps)
