"""Paths of one bench: chance strikes each on its own, rain strikes all, and the bench's seed decides both."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.bench.paths import scenario_of, seed_of
from emulator.scenario import Scenario, load_scenario
from emulator.scenario.access import SitePath
from emulator.scenario.links import GeoLink
from emulator.timeline.build import windows_for
from emulator.timeline.draws import Way
from emulator.timeline.orbiting import OrbitWindows
from emulator.timeline.weather import weather_of
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns
from hil_tests.unit.timeline.virtual_pings import ping

START_NS = parse_utc_ns("2025-10-03T10:00:00Z")
MONTH_NS = 30 * 86_400 * NS_PER_S
SEEDS = st.integers(0, 2**63 - 1)
NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,15}", fullmatch=True)
RAIN = "link.weather={rain=true, uplink_ghz=14, downlink_ghz=11}"


def path(name: str, scenario: str, *overrides: str, seed: int = 1) -> Scenario:
    main = load_scenario("fixed", [f"seed={seed}"])
    return scenario_of(main, SitePath(name=name, scenario=scenario, set=overrides), 0)


@given(SEEDS, SEEDS, NAMES, NAMES)
def test_a_paths_seed_is_of_the_bench_and_of_its_name(seed: int, other: int, name: str, second: str) -> None:
    assert 0 <= seed_of(seed, name) < 2**63
    assert (seed_of(seed, name) == seed_of(other, name)) == (seed == other)
    assert (seed_of(seed, name) == seed_of(seed, second)) == (name == second)


@given(SEEDS, st.sampled_from(["starlink_2025", "iridium_certus", "fixed"]))
def test_the_seed_of_the_bench_reaches_every_path(seed: int, scenario: str) -> None:
    found = path("a", scenario, seed=seed)
    assert found == path("a", scenario, seed=seed)
    assert (found.seed, found.rain_seed) == (seed_of(seed, "a"), seed)


def test_a_path_may_say_its_own_seeds() -> None:
    found = path("a", "iridium_certus", "seed=7", "weather_seed=8")
    assert (found.seed, found.rain_seed) == (7, 8)


def test_outages_of_two_paths_do_not_begin_together() -> None:
    starts = []
    for name in ("starlink_2025", "iridium_certus"):
        windows = windows_for(path(name, name), epoch_utc_ns=START_NS)
        assert isinstance(windows, OrbitWindows)
        starts.append({phase.start_ns for phase in windows._outages(START_NS, START_NS + MONTH_NS)})
    assert min(map(len, starts)) > 1000
    assert len(starts[0] & starts[1]) <= 1  # of 2,800 each among 2.6 billion milliseconds


@pytest.mark.needs("compiled")
def test_losses_and_jitter_of_two_paths_are_independent() -> None:
    share, hours, jitter = 0.1, 0.2, ("link.jitter_ms=3", "link.uplink.loss=0.1")
    several = [path(name, "fixed", *jitter) for name in ("a", "b")]
    both = [ping(one, windows_for(one, epoch_utc_ns=START_NS), START_NS, hours, 10 * NS_PER_MS) for one in several]
    lost = [one.lost for one in both]
    count = len(lost[0])
    together = share * share * count
    assert abs((lost[0] & lost[1]).sum() - together) < 5 * np.sqrt(together)
    came = ~(lost[0] | lost[1])
    ranks = np.stack([np.argsort(np.argsort(one.rtt_ms[came])) for one in both])
    assert abs(np.atleast_2d(np.corrcoef(ranks))[0, 1]) < 0.05


def test_rain_of_the_site_falls_on_all_paths_and_scintillation_on_each_alone() -> None:
    minutes_ns = START_NS + np.arange(0, MONTH_NS, 60 * NS_PER_S, dtype=np.int64)
    towards = np.full(len(minutes_ns), 30.0)
    found = []
    for name in ("a", "b"):
        scenario = path(name, "geo_dvbs2", RAIN)
        assert isinstance(scenario.link, GeoLink)
        weather = weather_of(scenario.link.weather, scenario)
        assert weather is not None
        found.append((weather._rain.depth(minutes_ns), weather.lost_db(Way.DOWN, minutes_ns, towards)))
    assert (found[0][0] == found[1][0]).all()
    assert (found[0][1] != found[1][1]).any()
