"""A fit finds what a trace was made of, and its profile loads as the scenario that it says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import TraceError
from emulator.scenario import load_scenario
from emulator.scenario.links import FixedLink
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Gate
from emulator.timeline.model import LOSS_ONE, Timeline
from emulator.timeline.traces import table
from emulator.timeline.traces.files import read_trace
from emulator.timeline.traces.fit import fit, profile, wandering
from emulator.timeline.traces.rows import channel, timeline
from emulator.timeline.traces.varying import varying, varying_profile
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns

START_NS = parse_utc_ns("2025-10-03T10:00:00Z")
STEP_NS = 20 * NS_PER_MS


def measured(
    delay_ms: float, jitter_ms: float, *, halves: bool, lost: np.ndarray | None = None, probes: int = 4000
) -> Timeline:
    """What probes see of a link with exponential jitter; of a round trip, each direction gets half."""
    random = np.random.default_rng(7)
    starts = START_NS + np.arange(probes, dtype=np.int64) * STEP_NS
    ways = [delay_ms + jitter_ms * random.exponential(1, probes) for _ in range(2)]
    if halves:
        ways = [(ways[0] + ways[1]) / 2] * 2
    loss = np.zeros(probes, np.int64) if lost is None else lost * LOSS_ONE
    made = [channel(starts, np.rint(way * NS_PER_MS).astype(np.int64), loss=loss) for way in ways]
    return timeline(made[0], made[1], int(starts[-1]) + STEP_NS)


@given(delay_ms=st.floats(1, 300), jitter_ms=st.floats(0.1, 30), halves=st.booleans())
@settings(max_examples=25)
def test_it_finds_delay_and_jitter(delay_ms: float, jitter_ms: float, halves: bool) -> None:
    found = fit(measured(delay_ms, jitter_ms, halves=halves))
    for way in (found.uplink, found.downlink):
        assert way.delay_ms == pytest.approx(delay_ms, abs=0.15 * jitter_ms)
        assert way.jitter_ms == pytest.approx(jitter_ms, rel=0.1)
        assert (way.loss, way.burst_every_s, way.rate_mbps) == (0, 0, 0)
    for one in found.quality[:3]:
        assert one.fitted == pytest.approx(one.measured, rel=0.05)
    assert found.slot_phase_s is None


def test_it_tells_bursts_from_single_losses() -> None:
    lost = np.zeros(4000, np.int64)
    lost[50::100] = 1  # 40 single ones
    for first in range(200, 4000, 400):  # 10 bursts of 15 probes
        lost[first : first + 15] = 1
    found = fit(measured(20, 1, halves=True, lost=lost))
    quality = {one.name: one for one in found.quality}
    assert quality["loss, %"].fitted == pytest.approx(quality["loss, %"].measured, rel=0.05)
    assert quality["mean burst of loss, ms"].measured == pytest.approx(300)
    assert found.uplink.burst_length_ms == pytest.approx(300)
    assert found.uplink.burst_every_s == pytest.approx(2 * 8, rel=0.05), "each direction has half of them"


def test_its_profile_is_a_scenario(tmp_path: Path) -> None:
    lost = np.zeros(4000, np.int64)
    lost[100:110] = 1
    found = fit(measured(20, 2, halves=False, lost=lost))
    (tmp_path / "x.toml").write_text(profile(found, 'a "name"', "x.ping\n"))
    scenario = load_scenario(tmp_path / "x.toml")
    assert isinstance(scenario.link, FixedLink)
    assert scenario.name == 'a "name"'
    assert scenario.link.uplink.delay_ms == pytest.approx(found.uplink.delay_ms, abs=1e-3)
    assert scenario.link.downlink.jitter_ms == pytest.approx(found.downlink.jitter_ms, abs=1e-3)
    assert scenario.link.uplink.bursts is not None
    assert scenario.link.uplink.bursts.length_ms == pytest.approx(200)


@pytest.mark.parametrize("phase_s", [3, 12])
def test_it_finds_the_phase_of_slots_in_a_plan(phase_s: int) -> None:
    scenario = load_scenario("starlink_2025", [f"link.slot_phase_s={phase_s}"])
    line = windows_for(scenario, epoch_utc_ns=START_NS).window(START_NS, START_NS + 240 * NS_PER_S)
    found = fit(line)
    assert found.slot_phase_s == phase_s
    assert found.downlink.rate_mbps == found.downlink.rate_quantiles_mbps[1] > found.uplink.rate_mbps > 0


def test_it_finds_the_phase_of_slots_in_a_measurement(reference_data: Path) -> None:
    found = fit(read_trace(reference_data / "leoviz" / "ping_100ms.txt"))
    assert found.slot_phase_s == 12  # of all Starlink slots, by published measurements: 12, 27, 42, 57
    lengths = {one.name: one.measured for one in found.quality}
    assert lengths["mean step, ms"] == pytest.approx(12.8, abs=0.05)
    assert lengths["loss, %"] == pytest.approx(15.2, abs=0.5)


def test_too_little_is_refused() -> None:
    with pytest.raises(TraceError, match=r"^path\.ping: expected at least 20 samples"):
        fit(measured(20, 1, halves=True, probes=19), "path.ping")


def test_a_path_without_jitter_is_the_usual_shape_with_none_of_it() -> None:
    found = fit(measured(20, 0, halves=True))
    for way in (found.uplink, found.downlink):
        assert way.jitter.shape == "exponential"
        assert way.jitter_ms == pytest.approx(0, abs=1e-6)


LOGNORMAL_SIGMA = np.sqrt(np.log1p(0.5**2))
DRAWN: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {  # each of mean 1
    "exponential": lambda random, count: random.exponential(1, count),
    "uniform": lambda random, count: random.uniform(0, 2, count),
    "normal": lambda random, count: np.maximum(0, random.normal(1, 1 / 3, count)),
    "lognormal": lambda random, count: random.lognormal(-(LOGNORMAL_SIGMA**2) / 2, LOGNORMAL_SIGMA, count),
}


@pytest.mark.parametrize("halves", [True, False])
@pytest.mark.parametrize("shape", sorted(DRAWN))
def test_it_finds_the_shape_of_the_jitter(tmp_path: Path, shape: str, halves: bool) -> None:
    random, probes = np.random.default_rng(3), 20_000
    starts = START_NS + np.arange(probes, dtype=np.int64) * STEP_NS
    ways = [40 + 6 * DRAWN[shape](random, probes) for _ in range(2)]
    ways = [(ways[0] + ways[1]) / 2] * 2 if halves else ways
    up, down = (channel(starts, np.rint(way * NS_PER_MS).astype(np.int64)) for way in ways)
    found = fit(timeline(up, down, int(starts[-1]) + STEP_NS))
    jitter = found.uplink.jitter
    if halves and shape in ("normal", "lognormal"):  # a sum of two is hard to tell from another sum
        assert jitter.error_ms < 0.1
    else:
        assert jitter.shape == shape
    assert jitter.error_ms <= min(other.error_ms for other in found.shapes["uplink"]) / 0.8
    assert found.uplink.correlation == 0
    for one in found.quality[:3]:
        assert one.fitted == pytest.approx(one.measured, rel=0.03)
    (tmp_path / "x.toml").write_text(profile(found, "x", "x.ping"))
    link = load_scenario(tmp_path / "x.toml").link
    assert isinstance(link, FixedLink)
    told = link.uplink.jitter
    assert (told.distribution if told else "exponential") == jitter.shape


def wanders(minutes: int = 4) -> Timeline:
    """Probes each 100 ms whose floor moves by 5 ms each 15 s, whose jitter remembers, and that are out for 2 s."""
    random, probes = np.random.default_rng(5), minutes * 600
    starts = START_NS + np.arange(probes, dtype=np.int64) * 100 * NS_PER_MS
    scores = wandering(random, 0.8, probes)
    floor_ms = 20 + 5 * ((starts // (15 * NS_PER_S)) % 4)
    jitter_ms = 3 * np.interp(scores, np.linspace(-3, 3, 61), -np.log1p(-NORMAL_SHARES))
    lost = np.zeros(probes, np.int64)
    lost[700:720] = LOSS_ONE
    ways = [channel(starts, np.rint((floor_ms + jitter_ms) * NS_PER_MS).astype(np.int64), loss=lost) for _ in range(2)]
    return timeline(ways[0], ways[1], int(starts[-1]) + 100 * NS_PER_MS)


NORMAL_SHARES = np.array([NormalDist().cdf(score) for score in np.linspace(-3, 3, 61)])


def test_a_varying_profile_keeps_stretches_and_outages_where_they_were(tmp_path: Path) -> None:
    line = wanders()
    found = fit(line)
    made = varying(line, found, 15 * NS_PER_S)
    figures = {one.name: one for one in made.quality}
    spread = figures["spread of 15 s medians, ms"]
    assert spread.fitted == pytest.approx(spread.measured, rel=0.15)
    assert figures["mean step, ms"].fitted == pytest.approx(figures["mean step, ms"].measured, rel=0.3)
    assert figures["loss, %"].fitted == pytest.approx(figures["loss, %"].measured, rel=0.05)
    assert made.ways["uplink"].correlation > 0.5
    (tmp_path / "x.csv").write_text(table.write(made.line))
    (tmp_path / "x.toml").write_text(varying_profile(found, made, "x", "x.ping", "x.csv"))
    scenario = load_scenario(tmp_path / "x.toml")
    window = windows_for(scenario, epoch_utc_ns=START_NS).window(START_NS, START_NS + 240 * NS_PER_S)
    for at_s in (5, 20, 35, 50, 66, 110):
        floor_ms = 20 + 5 * (((START_NS + at_s * NS_PER_S) // (15 * NS_PER_S)) % 4)
        assert window.uplink.at(START_NS + at_s * NS_PER_S).delay_ns / NS_PER_MS == pytest.approx(floor_ms, abs=2.5)
    assert window.uplink.at(START_NS + 71 * NS_PER_S).gate is Gate.DROP
    assert window.uplink.at(START_NS + 73 * NS_PER_S).gate is Gate.PASS


def test_the_command_writes_a_varying_profile_that_loads(tmp_path: Path) -> None:
    (tmp_path / "seen.csv").write_text(table.write(wanders()))
    command = [sys.executable, "-m", "emulator.cli.main", "fit", str(tmp_path / "seen.csv"), "--varying", "15s"]
    done = subprocess.run([*command, "-o", str(tmp_path / "x.toml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "jitter, uplink" in done.stderr
    windows_for(load_scenario(tmp_path / "x.toml"), epoch_utc_ns=START_NS)
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (refused.returncode, "--output NAME.toml" in refused.stderr) == (2, True)
