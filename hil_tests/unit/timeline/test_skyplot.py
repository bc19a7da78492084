"""The sky and the map can be drawn, and what is drawn is where the satellites are."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from emulator.cli.main import run
from emulator.errors import EndpointError
from emulator.orbit.propagate import Propagator
from emulator.orbit.site import Site
from emulator.orbit.source import satellites_of
from emulator.orbit.view import views
from emulator.scenario import load_scenario
from emulator.serving.stations import masks_deg
from emulator.timeline.build import windows_for
from emulator.timeline.skymap import coloured, ground_seen
from emulator.timeline.skyplot import _horizon_deg, _sampled, draw
from emulator.timeline.starlink import StarlinkWindows
from emulator.units import NS_PER_S, parse_utc_ns

START = "2025-10-03T10:00:00Z"
START_NS = parse_utc_ns(START)
HOUR_NS = 3600 * NS_PER_S
EDGE = ((30, 10), (150, 45), (300, 0))
HORIZON = f"terminal.horizon=[{','.join(f'{{azimuth_deg={az},elevation_deg={el}}}' for az, el in EDGE)}]"


@pytest.mark.parametrize("name", ["starlink_2025", "o3b_mpower", "iridium_certus"])
@pytest.mark.parametrize("seconds", [1, 40])
def test_a_sky_can_be_drawn(name: str, seconds: int) -> None:
    scenario = load_scenario(name, [HORIZON] if name == "starlink_2025" else [])
    assert scenario.terminal is not None
    assert scenario.constellation is not None
    satellites, _ = satellites_of(scenario, elements=None, epoch_utc_ns=START_NS)
    masks = masks_deg(satellites, scenario.constellation, scenario.terminal)
    end_ns = START_NS + seconds * NS_PER_S
    seen = list(views(Propagator(satellites), Site(scenario.terminal), masks, START_NS, end_ns, 10 * NS_PER_S))
    timeline = windows_for(scenario, epoch_utc_ns=START_NS).window(START_NS, end_ns)
    file = io.BytesIO()
    draw(file, file_format="png", scenario=scenario, views=seen, timeline=timeline)
    assert file.getvalue().startswith(b"\x89PNG")
    for view in seen:
        edge = _horizon_deg(scenario, view.azimuth_deg) if scenario.terminal.horizon else 0
        assert (view.elevation_deg >= edge - 1e-9).all(), "who is in view does not stand in what is drawn as obstructed"


def test_each_time_of_a_satellite_is_a_line_of_its_own() -> None:
    """However long the plan: both ends of it, in its colour, and a gap before the next; nobody is left out."""
    timeline = windows_for(load_scenario("starlink_2025"), epoch_utc_ns=START_NS).window(START_NS, START_NS + HOUR_NS)
    times_ns, _, serving = _sampled(timeline)
    assert set(serving.tolist()) == {-1, *timeline.path.satellite.tolist()}
    assert (np.diff(times_ns) >= 0).all()
    changes = np.flatnonzero(np.diff(timeline.path.satellite)) + 1
    edges_ns = [START_NS, *timeline.path.start_ns[changes].tolist(), timeline.end_ns]
    lines = np.split(np.arange(len(serving)), np.flatnonzero(serving == -1) + 1)[:-1]
    assert [(int(times_ns[one[0]]), int(times_ns[one[-2]]) + 1) for one in lines] == list(pairwise(edges_ns))
    assert all(len(set(serving[one[:-1]].tolist())) == 1 for one in lines)
    drawn = list(coloured(serving))
    assert np.array_equal(sum(whose.astype(int) for _, whose in drawn), (serving >= 0).astype(int))
    assert len({line["color"] for line, _ in drawn}) == len(drawn)


def test_ground_points_are_under_the_satellites() -> None:
    scenario = load_scenario("starlink_2025")
    assert scenario.terminal is not None
    assert scenario.constellation is not None
    satellites, _ = satellites_of(scenario, elements=None, epoch_utc_ns=START_NS)
    propagator, site = Propagator(satellites), Site(scenario.terminal)
    masks = masks_deg(satellites, scenario.constellation, scenario.terminal)
    view = next(iter(views(propagator, site, masks, START_NS, START_NS + 1, NS_PER_S)))
    latitude, longitude = ground_seen(site.start, view.azimuth_deg, view.elevation_deg, view.slant_range_m)
    x, y, z = propagator.positions_m(np.array([START_NS]), view.satellite)[:, 0].T
    assert len(view.satellite) > 10
    assert latitude == pytest.approx(np.degrees(np.arcsin(z / np.sqrt(x**2 + y**2 + z**2))), abs=1e-6)
    assert longitude == pytest.approx(np.degrees(np.arctan2(y, x)), abs=1e-6)


def test_the_map_shows_each_satellite_on_the_way() -> None:
    scenario = load_scenario("starlink_polar_isl")
    windows = windows_for(scenario, epoch_utc_ns=START_NS)
    assert isinstance(windows, StarlinkWindows)
    slot = windows.stretch_at(START_NS)
    over_m = windows.over_m(START_NS)
    assert len(over_m) == len(windows.policy.serving(slot).hops) > 0
    drawn = []
    for over in ({}, {"over_m": windows.over_m}):
        file = io.BytesIO()
        timeline = windows.window(START_NS, START_NS + NS_PER_S)
        draw(file, file_format="svg", scenario=scenario, views=[], timeline=timeline, **over)
        drawn.append(file.getvalue())
    assert len(drawn[1]) > len(drawn[0])


def test_the_command_draws(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sky = ("sky", "starlink_2025", "--start", START, "--duration", "20s", "--step", "5s")
    assert run([*sky, "--plot", str(tmp_path / "sky.svg")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("utc,satellite,")
    assert b"<svg" in (tmp_path / "sky.svg").read_bytes()[:600]
    assert run([*sky, "--plot", str(tmp_path / "sky.txt")]) == EndpointError.exit_status
    assert run([*sky, "--duration", "7h", "--plot", str(tmp_path / "x.png")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["sky.svg"]


def test_the_way_of_a_terminal_that_moves_is_on_the_map(tmp_path: Path) -> None:
    track = tmp_path / "track.csv"
    track.write_text("utc,latitude_deg,longitude_deg\n2025-10-03T10:00:00Z,48,-124\n2025-10-03T10:00:30Z,48.05,-124\n")
    sky = ("sky", "starlink_2025", "--start", START, "--duration", "10s", "--step", "10s")
    assert run([*sky, "--set", f'terminal.track="{track}"', "--plot", str(tmp_path / "sky.svg")]) == 0
    assert "the terminal's way -->" in (tmp_path / "sky.svg").read_text()
