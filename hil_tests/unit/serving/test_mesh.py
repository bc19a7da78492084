"""Links between satellites: planes, the seam, and the shortest way against a plain search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.orbit.propagate import Propagator
from emulator.orbit.source import satellites_of
from emulator.orbit.walker import generate
from emulator.scenario import load_scenario
from emulator.scenario.model import Shell
from emulator.serving.mesh import Mesh, planes_of
from emulator.units import NS_PER_S, parse_utc_ns

START_NS = parse_utc_ns("2025-10-03T10:00:00Z")
STAR = generate(
    [
        Shell(
            name="s",
            altitude_km=780,
            inclination_deg=86.4,
            planes=6,
            satellites_per_plane=11,
            phasing=3,
            pattern="star",
        )
    ]
)
MESH, PROPAGATOR = Mesh(STAR), Propagator(STAR)


def plain_search_m(links: np.ndarray, position_m: np.ndarray, feeder_m: np.ndarray) -> np.ndarray:
    """Floyd's algorithm over all satellites, at one time."""
    count = len(position_m)
    length = np.full((count, count), np.inf)
    for one, other in links:
        length[one, other] = length[other, one] = np.linalg.norm(position_m[one] - position_m[other])
    np.fill_diagonal(length, 0.0)
    for through in range(count):
        length = np.minimum(length, length[:, through, np.newaxis] + length[through])
    return (length + feeder_m).min(axis=1)


@given(st.integers(0, 86_400), st.lists(st.integers(0, 65), min_size=1, max_size=4, unique=True))
@settings(max_examples=15)
def test_the_way_down_is_the_shortest_that_a_plain_search_finds(second: int, seen: list[int]) -> None:
    position = PROPAGATOR.positions_m(START_NS + second * NS_PER_S + np.arange(3, dtype=np.int64) * NS_PER_S)
    feeder = np.full(position.shape[:2], np.inf)
    feeder[seen] = 1e6 + 1e5 * np.arange(len(seen))[:, np.newaxis]
    between, last = MESH.way_down_m(position, feeder)
    links = MESH.links(position[:, 1])
    for time in range(3):
        expected = plain_search_m(links, position[:, time], feeder[:, time])
        assert (between + last)[:, time] == pytest.approx(expected, rel=1e-12)
    assert np.isin(last, feeder[seen]).all()


def test_without_a_satellite_over_the_station_there_is_no_way() -> None:
    position = PROPAGATOR.positions_m(np.array([START_NS], np.int64))
    between, last = MESH.way_down_m(position, np.full((66, 1), np.inf))
    assert np.isinf(between).all()
    assert np.isinf(last).all()


def test_planes_are_found_and_the_seam_has_no_links() -> None:
    planes = planes_of(STAR)
    assert [len(plane) for plane in planes] == [11] * 6
    assert [set(plane.tolist()) for plane in planes] == [set(range(first, first + 11)) for first in range(0, 66, 11)]
    links = MESH.links(PROPAGATOR.positions_m(np.array([START_NS], np.int64))[:, 0])
    apart = np.abs(links[:, 0] // 11 - links[:, 1] // 11)
    assert set(apart.tolist()) == {0, 1}
    within = links[apart == 0]
    assert np.bincount(within.ravel(), minlength=66).tolist() == [2] * 66


def test_planes_of_the_catalogue(reference_data: Path) -> None:
    catalogue = reference_data / "elements" / "active_2025-10-03.tle"
    real, _ = satellites_of(load_scenario("iridium_certus"), elements=catalogue, epoch_utc_ns=START_NS)
    assert [len(plane) for plane in planes_of(real)] == [11, 11, 11, 11, 12, 11]
    position = Propagator(real).positions_m(np.array([START_NS], np.int64))[:, 0]
    links = Mesh(real).links(position)
    hop_km = np.linalg.norm(position[links[:, 0]] - position[links[:, 1]], axis=1) / 1000
    assert hop_km.max() < 5000  # 4,030 km within a plane of eleven
