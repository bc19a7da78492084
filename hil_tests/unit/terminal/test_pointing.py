"""Laws of pointing: the beam, attitude, what is in the way, the lock, faults of the mount."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ScenarioError
from emulator.scenario.hardware import AntennaFault, Blockage
from emulator.terminal import Mount, separation_deg
from emulator.terminal.faulty import FaultyAntenna
from emulator.terminal.pointing import Attitude, AttitudeTrack, Lock, Sight, beam_loss_db
from emulator.units import NS_PER_S

angles = st.floats(-180, 180)
attitudes = st.builds(Attitude, st.floats(-90, 90), st.floats(-90, 90), st.floats(0, 360))
directions = st.tuples(st.floats(0, 360), st.floats(-90, 90))


@given(st.floats(0, 180), st.floats(0.01, 180), st.floats(0.1, 100))
def test_the_main_lobe_is_a_parabola_with_a_floor(off_deg: float, width_deg: float, floor_db: float) -> None:
    loss_db = beam_loss_db(off_deg, width_deg, floor_db)
    assert 0 <= loss_db <= floor_db
    assert loss_db <= beam_loss_db(off_deg + 0.1, width_deg, floor_db)
    assert beam_loss_db(width_deg / 2, width_deg, 100) == pytest.approx(3)


@given(attitudes, directions)
def test_attitude_there_and_back(attitude: Attitude, direction: tuple[float, float]) -> None:
    assert separation_deg(*attitude.to_ground(*attitude.to_carrier(*direction)), *direction) < 1e-4


@given(attitudes, directions, directions)
def test_attitude_keeps_angles(attitude: Attitude, one: tuple[float, float], other: tuple[float, float]) -> None:
    turned = separation_deg(*attitude.to_carrier(*one), *attitude.to_carrier(*other))
    assert turned == pytest.approx(separation_deg(*one, *other), abs=1e-4)


@pytest.mark.parametrize(
    ("attitude", "direction", "seen"),
    [
        (Attitude(heading_deg=90), (90, 20), (0, 20)),  # ahead of a ship that goes east
        (Attitude(pitch_deg=10), (0, 30), (0, 20)),  # the bow is up: what is ahead stands lower over the deck
        (Attitude(roll_deg=10), (90, 30), (90, 40)),  # the left side is up: what is to the right stands higher
        (Attitude(roll_deg=10), (270, 30), (270, 20)),
    ],
)
def test_attitude_by_hand(attitude: Attitude, direction: tuple[float, float], seen: tuple[float, float]) -> None:
    assert attitude.to_carrier(*direction) == pytest.approx(seen)


def test_a_track_goes_straight_and_the_short_way_round(tmp_path: Path) -> None:
    path = tmp_path / "ship.csv"
    path.write_text("t_s,roll_deg,pitch_deg,heading_deg\n0,0,0,350\n10,20,-10,10\n")
    track = AttitudeTrack.read(path)
    assert track.at(-NS_PER_S) == Attitude(0, 0, 350)
    assert track.at(5 * NS_PER_S) == Attitude(10, -5, 360)
    assert track.at(99 * NS_PER_S) == Attitude(20, -10, 10)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "line 1: expected t_s,roll_deg,pitch_deg,heading_deg"),
        ("t,r,p,h\n", "line 1: expected t_s"),
        ("t_s,roll_deg,pitch_deg,heading_deg\n", "expected at least one line"),
        ("t_s,roll_deg,pitch_deg,heading_deg\n0,0,0,0\n0,0,0,0\n", "line 3: expected four numbers, t_s rising"),
        ("t_s,roll_deg,pitch_deg,heading_deg\n0,0,nan,0\n", "line 2"),
        ("t_s,roll_deg,pitch_deg,heading_deg\n0,0\n", "line 2"),
    ],
)
def test_a_track_that_is_none_is_told_by_file_and_line(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "ship.csv"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=rf"ship\.csv: {fault}"):
        AttitudeTrack.read(path)
    with pytest.raises(ScenarioError, match=r"none\.csv: expected a readable CSV file"):
        AttitudeTrack.read(tmp_path / "none.csv")


def sight(beam: tuple[float, float] | None, satellite: tuple[float, float] | None, *blockages: Blockage) -> Sight:
    return Sight.of(satellite, beam, Attitude(), widths_deg=(2, 1), floor_db=30, blockages=blockages)


def test_a_narrower_beam_transmits() -> None:
    seen = sight((180, 40), (180, 40.5))
    assert (seen.off_deg, seen.receive_loss_db, seen.transmit_loss_db) == pytest.approx((0.5, 0.75, 3))


def test_nobody_knows_where_a_beam_is() -> None:
    assert sight(None, (180, 40)).receive_loss_db == 30
    assert sight((180, 40), None).azimuth_deg is None


@given(st.floats(0, 359), st.floats(-20, 89))
def test_a_mast_hides_what_is_behind_it(azimuth_deg: float, elevation_deg: float) -> None:
    mast = Blockage(azimuth_from_deg=350, azimuth_to_deg=10, elevation_below_deg=30, loss_db=40)
    behind = (azimuth_deg >= 350 or azimuth_deg <= 10) and elevation_deg < 30
    direction = (azimuth_deg, elevation_deg)
    assert sight(direction, direction, mast).blocked_db == (40 if behind else 0) or azimuth_deg in (350, 10)


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=40), st.integers(0, 10))
def test_a_lock_takes_its_time_and_is_lost_at_once(steps: list[tuple[int, bool]], needed: int) -> None:
    lock, now, since = Lock(needed), 0, None
    for later, usable in steps:
        now += later
        since = (now if since is None else since) if usable else None
        assert lock.update(usable, now) == (since is not None and now - since >= needed)


def test_dead_motors_stop_it_where_it_is_and_its_controller_does_not_know() -> None:
    fault = AntennaFault(kind="motor", at_s=2, duration_s=5)
    antenna = FaultyAntenna(Mount(azimuth_rate_deg_s=10), (fault,), 0)
    assert antenna.point(0, 100.0, 90.0)
    assert antenna.pose(9 * NS_PER_S // 10).azimuth_deg == pytest.approx(9)
    assert antenna.pose(4 * NS_PER_S).azimuth_deg == pytest.approx(20)
    assert antenna.point(4 * NS_PER_S, 0.0, 90.0)
    assert antenna.pose(6 * NS_PER_S).azimuth_deg == pytest.approx(20)
    assert antenna.point(7 * NS_PER_S, 100.0, 90.0)
    assert antenna.pose(8 * NS_PER_S).azimuth_deg == pytest.approx(30)


def test_encoders_that_err_say_what_they_said() -> None:
    fault = AntennaFault(kind="encoder", at_s=1, duration_s=1, azimuth_deg=3, elevation_deg=-2)
    antenna = FaultyAntenna(Mount(), (fault,), 0)
    for at_s, off in ((0.5, (0, 90)), (1.5, (3, 88)), (2.5, (0, 90))):
        pose = antenna.pose(round(at_s * NS_PER_S))
        assert (pose.azimuth_deg, pose.elevation_deg) == (0, 90)
        assert (pose.beam_azimuth_deg, pose.beam_elevation_deg) == off
