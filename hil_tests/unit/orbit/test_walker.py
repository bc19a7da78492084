"""Generated shells: as many satellites as said, evenly spaced, at their altitude, the same for ever."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.orbit.propagate import Propagator
from emulator.orbit.walker import EPOCH_UTC_NS, generate
from emulator.scenario.model import Shell
from emulator.units import NS_PER_S, parse_utc_ns

SHELLS = st.builds(
    Shell,
    name=st.just("s"),
    altitude_km=st.floats(330, 1200),
    inclination_deg=st.floats(1, 179),
    planes=st.integers(1, 12),
    satellites_per_plane=st.integers(1, 12),
    phasing=st.integers(0, 11),
    pattern=st.sampled_from(["delta", "star"]),
    raan_offset_deg=st.floats(0, 359),
)


@given(SHELLS)
@settings(max_examples=50)
def test_every_satellite_has_its_name_and_flies_at_its_altitude(shell: Shell) -> None:
    satellites = generate([shell])
    assert len(satellites) == len(set(satellites.names)) == shell.planes * shell.satellites_per_plane
    assert np.allclose(satellites.altitude_km, shell.altitude_km, atol=1e-6)
    times = EPOCH_UTC_NS + np.arange(0, 6000, 300, dtype=np.int64) * NS_PER_S
    position = Propagator(satellites).positions_m(times)
    radius_km = np.sqrt((position**2).sum(axis=2)) / 1000
    assert np.abs(radius_km - 6378.135 - shell.altitude_km).max() < 25  # J2 bends the circle by 10 km
    latitude = np.degrees(np.arcsin(position[..., 2] / 1000 / radius_km))
    assert np.abs(latitude).max() <= min(shell.inclination_deg, 180 - shell.inclination_deg) + 0.1


@given(SHELLS.filter(lambda shell: shell.satellites_per_plane > 1))
@settings(max_examples=30)
def test_satellites_of_a_plane_are_evenly_spaced(shell: Shell) -> None:
    position = Propagator(generate([shell])).positions_m(np.array([EPOCH_UTC_NS], np.int64))[:, 0]
    unit = position / np.linalg.norm(position, axis=1)[:, np.newaxis]
    ring = unit[: shell.satellites_per_plane]
    angle = np.degrees(np.arccos(np.clip((ring * np.roll(ring, -1, axis=0)).sum(axis=1), -1, 1)))
    expected = 360 / shell.satellites_per_plane
    assert np.abs(angle - min(expected, 360 - expected)).max() < 0.3  # J2's short-period terms


def test_the_same_utc_has_the_same_sky() -> None:
    shell = Shell(name="s", altitude_km=550, inclination_deg=53, planes=3, satellites_per_plane=4)
    times = np.array([parse_utc_ns("2031-07-01T00:00:00Z")], np.int64)
    first, second = (Propagator(generate([shell])).positions_m(times) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.isfinite(first).all()


def test_names_tell_shell_plane_and_place() -> None:
    shell = Shell(name="53.2-540", altitude_km=540, inclination_deg=53.2, planes=4, satellites_per_plane=18)
    assert generate([shell]).names[3 * 18 + 17] == "53.2-540 p03 s17"


def test_no_shells_no_satellites() -> None:
    assert len(generate([])) == 0
