"""Rain: as often as P.618 says, as long as rain lasts, in its seasons; and it moves rate, never delay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.radio.climate import climate_of
from emulator.radio.rain import exceeded_db
from emulator.scenario import load_scenario
from emulator.scenario.laws import Weather
from emulator.scenario.links import SkyLink
from emulator.scenario.model import Terminal
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.draws import Way
from emulator.timeline.model import Floats, Timeline
from emulator.timeline.weather import LinkWeather
from emulator.units import NS_PER_S, parse_utc_ns
from hil_tests.unit.timeline.laws import joined_windows_are_the_long_window

START_NS = parse_utc_ns("2025-01-01T00:00:00Z")
DAY_NS = 86_400 * NS_PER_S
SINGAPORE = Terminal(latitude_deg=1.35, longitude_deg=103.8)
LAW = Weather(rain=True, uplink_ghz=29.5, downlink_ghz=19.7)
ELEVATION_DEG = 45.0


def year_db(terminal: Terminal, years: int = 3) -> Floats:
    """What the downlink loses to rain minute by minute."""
    weather = LinkWeather(LAW, terminal, rain_seed=1, seed=1)
    minutes_ns = START_NS + np.arange(years * 365 * 1440, dtype=np.int64) * 60 * NS_PER_S
    days = np.split(minutes_ns, years * 365)
    towards = np.full(1440, ELEVATION_DEG)
    return np.concatenate([weather._rain.attenuation_db(weather._rain.depth(day), towards, 19.7, 45.0) for day in days])


@pytest.fixture(scope="module")
def singapore() -> Floats:
    return year_db(SINGAPORE)


def test_attenuation_is_exceeded_as_often_as_p618_says(singapore: Floats) -> None:
    climate = climate_of(1.35, 103.8)
    for percent in (0.1, 0.3, 1.0):
        said = exceeded_db(
            np.array([percent]),
            rain_rate_mm_h=climate.rain_rate_mm_h,
            rain_height_km=climate.rain_height_km,
            site_km=0.0,
            latitude_deg=1.35,
            elevation_deg=ELEVATION_DEG,
            frequency_ghz=19.7,
        )
        # three years hold some 50 showers a year of that depth: a quarter of the value is what chance leaves open
        assert np.percentile(singapore, 100 - percent) == pytest.approx(float(said[0]), rel=0.25)


def test_it_rains_as_long_as_the_climate_says(singapore: Floats) -> None:
    assert 100 * (singapore > 0).mean() == pytest.approx(float(climate_of(1.35, 103.8).rain_percent.mean()), rel=0.15)


def test_rain_lasts_for_minutes(singapore: Floats) -> None:
    edges = np.flatnonzero(np.diff((singapore > 3).astype(np.int64), prepend=0, append=0))
    lasting = edges[1::2] - edges[::2]
    assert 3 < lasting.mean() < 60  # minutes over 3 dB


def test_clouds_hold_as_much_water_as_often_as_p840_says() -> None:
    climate = climate_of(1.35, 103.8)
    weather = LinkWeather(LAW, SINGAPORE, rain_seed=1, seed=1)
    hours_ns = START_NS + np.arange(2 * 365 * 24, dtype=np.int64) * 3600 * NS_PER_S
    water = np.concatenate([weather._rain.cloud_kg_m2(weather._rain.depth(part)) for part in np.split(hours_ns, 730)])
    assert water.max() <= climate.cloud_kg_m2[0]  # P.618-13, 2.5: no more than that of 1 %
    for percent, said in zip(climate.cloud_percent[1:], climate.cloud_kg_m2[1:], strict=True):
        assert 100 * (water > said).mean() == pytest.approx(percent, rel=0.25)  # months bend the shares, the year less


def test_a_sky_without_rain_has_clouds_still() -> None:
    atacama = Terminal(latitude_deg=-23.5, longitude_deg=-69.0)
    depth = LinkWeather(LAW, atacama, rain_seed=1, seed=1)._rain.depth(START_NS + np.arange(0, DAY_NS, 600 * NS_PER_S))
    assert (depth < 4).any()


@given(st.integers(0, 365 * 86_400), st.floats(5, 90), st.floats(5, 90), st.sampled_from([Way.UP, Way.DOWN]))
@settings(max_examples=30)
def test_scintillation_only_takes_and_takes_more_from_lower_paths_and_smaller_dishes(
    second: int, one_deg: float, other_deg: float, way: Way
) -> None:
    times = START_NS + (second + np.arange(60, dtype=np.int64)) * NS_PER_S
    clear = LAW.model_copy(update={"rain_rate_mm_h": 0.0})
    large = LinkWeather(clear.model_copy(update={"antenna_m": 40.0}), SINGAPORE, rain_seed=4, seed=4)
    small = LinkWeather(clear, SINGAPORE, rain_seed=4, seed=4)
    low, high = (np.full(60, angle) for angle in sorted((one_deg, other_deg)))
    taken = [small.lost_db(way, times, towards) - large.lost_db(way, times, towards) for towards in (low, high)]
    assert (taken[0] >= taken[1] - 1e-9).all()
    assert (taken[1] >= -1e-9).all()
    assert 0 < taken[0].max() < 12
    assert (np.diff(taken[0]) != 0).any(), "from second to second"


def test_seasons_differ() -> None:
    """Mumbai: the monsoon of July against a dry February."""
    lost = year_db(Terminal(latitude_deg=19.1, longitude_deg=72.9), years=1).reshape(1, 365, 1440)
    july, february = lost[:, 181:212], lost[:, 31:59]
    assert (july > 0).mean() > 10 * (february > 0).mean()


def window(*overrides: str, hours: float, name: str = "starlink_2025") -> Timeline:
    scenario = load_scenario(name, overrides)
    start_ns = parse_utc_ns("2025-11-05T00:00:00Z")
    return windows_for(scenario, epoch_utc_ns=start_ns).window(start_ns, start_ns + round(hours * 3600 * NS_PER_S))


@pytest.mark.parametrize("name", ["starlink_2025", "geo_dvbs2"])
def test_rain_moves_rate_and_never_delay(name: str) -> None:
    wet = ["link.weather.rain=true", "link.weather.rain_rate_mm_h=100"]
    where = {"starlink_2025": [], "geo_dvbs2": ["terminal.latitude_deg=4.05", "terminal.longitude_deg=9.7"]}[name]
    hours = {"starlink_2025": 2.0, "geo_dvbs2": 48.0}[name]
    dry, rainy = window(*where, hours=hours, name=name), window(*where, *wet, hours=hours, name=name)
    for way in ("uplink", "downlink"):
        before, after = getattr(dry, way), getattr(rainy, way)
        at = np.searchsorted(before.start_ns, after.start_ns)
        same = (at < len(before)) & (before.start_ns[np.minimum(at, len(before) - 1)] == after.start_ns)
        assert same.mean() > 0.99
        assert np.array_equal(before.delay_ns[at[same]], after.delay_ns[same])
        assert np.array_equal(before.jitter_ns[at[same]], after.jitter_ns[same])
        assert (after.rate_bps[same] <= before.rate_bps[at[same]]).all()
        assert (after.rate_bps[same] < before.rate_bps[at[same]]).any()
        shut = (after.gate == Gate.DROP) & (after.cause == Cause.FADE)
        if name == "starlink_2025":
            assert np.array_equal(shut & (after.cn_centidb >= -235), np.zeros(len(after), bool))


@pytest.mark.parametrize("name", ["starlink_2025", "modular_datacenter_leo", "starlink_2023_in_motion"])
def test_rain_takes_as_much_as_measured_and_loses_more(name: str) -> None:
    """−38 % down, −52 % up in rain at Oulu, arXiv 2505.04772."""
    as_oulu = "link.weather.rain_rate_mm_h=20"
    scenario = load_scenario(name, ["link.weather.rain=true", as_oulu])
    assert isinstance(scenario.link, SkyLink)
    law = scenario.link.weather
    wet = next(hour for hour in range(2000) if _rains(law, scenario.terminal, hour))
    start_ns = START_NS + wet * 3600 * NS_PER_S
    found = {}
    for rain in ("true", "false"):
        windows = windows_for(load_scenario(name, [f"link.weather.rain={rain}", as_oulu]), epoch_utc_ns=start_ns)
        found[rain] = windows.window(start_ns, start_ns + 3600 * NS_PER_S)
    for way, measured in (("uplink", 0.48), ("downlink", 0.62)):
        rainy, dry = (getattr(found[rain], way) for rain in ("true", "false"))
        open_ = np.isin(dry.start_ns, rainy.start_ns[rainy.cause != Cause.FADE])
        same = np.searchsorted(rainy.start_ns, dry.start_ns[open_])
        left = rainy.rate_bps[same] / dry.rate_bps[open_]
        assert np.median(left) == pytest.approx(measured, abs=0.05)
        assert left.max() <= measured + 1e-3
        assert (rainy.loss[same] > dry.loss[open_]).all()


def _rains(law: Weather, terminal: Terminal | None, hour: int) -> bool:
    """Whether it rains all through an hour."""
    assert terminal is not None
    seconds_ns = START_NS + (hour * 3600 + np.arange(0, 3601, 60, dtype=np.int64)) * NS_PER_S
    return bool(LinkWeather(law, terminal, rain_seed=1, seed=1).raining(seconds_ns).all())


def test_joined_windows_have_the_same_rain() -> None:
    scenario = load_scenario("starlink_2025", ["link.weather.rain=true", "link.weather.rain_rate_mm_h=100"])
    planners = [windows_for(scenario, epoch_utc_ns=START_NS) for _ in range(2)]
    joined_windows_are_the_long_window(
        planners[0], planners[1], [START_NS, START_NS + 77 * NS_PER_S, START_NS + 200 * NS_PER_S]
    )


WEATHER = LinkWeather(LAW, SINGAPORE, rain_seed=3, seed=3)


@given(st.integers(0, 365 * 1440), st.integers(1, 600))
@settings(max_examples=30)
def test_no_instant_depends_on_who_asks(minute: int, seconds: int) -> None:
    times = START_NS + (minute * 60 + np.arange(seconds, dtype=np.int64)) * NS_PER_S
    towards = np.full(seconds, ELEVATION_DEG)
    together = WEATHER.lost_db(Way.UP, times, towards)
    alone = WEATHER.lost_db(Way.UP, times[-1:], towards[-1:])
    assert together[-1] == pytest.approx(float(alone[0]), abs=1e-9)
