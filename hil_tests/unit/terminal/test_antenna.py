"""The antenna: how fast it turns, where it ends, what its gears and the zenith do to it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ScenarioError
from emulator.terminal import Antenna, Mount, Towards, separation_deg
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns

START_NS = parse_utc_ns("2026-03-01T12:00:00Z")
azimuths = st.floats(0, 450)
elevations = st.floats(0, 180)
times = st.integers(START_NS, START_NS + 200 * NS_PER_S)
commands = st.lists(st.tuples(azimuths, elevations, st.integers(0, 60_000)), min_size=1, max_size=8)


@given(azimuths, elevations)
def test_it_arrives_when_its_rates_say_and_stays(azimuth_deg: float, elevation_deg: float) -> None:
    antenna = Antenna()
    antenna.point(START_NS, azimuth_deg, elevation_deg)
    expected_s = max(azimuth_deg / 6.2, abs(elevation_deg - 90) / 2.7)
    arrival_ns = antenna.arrival_ns()
    assert (arrival_ns - START_NS) / NS_PER_S == pytest.approx(expected_s, abs=1e-6)
    pose = antenna.pose(arrival_ns)
    assert (pose.azimuth_deg, pose.elevation_deg) == (azimuth_deg, elevation_deg)
    assert not pose.moving
    assert antenna.pose(arrival_ns + 3600 * NS_PER_S) == pose


@given(commands, st.lists(times, min_size=2, max_size=20))
def test_it_never_turns_faster_than_its_mount_or_beyond_a_limit(
    sent: list[tuple[float, float, int]], looks: list[int]
) -> None:
    antenna, now_ns = Antenna(), START_NS
    last = antenna.pose(now_ns)
    for azimuth_deg, elevation_deg, wait_ms in sent:
        antenna.point(now_ns, azimuth_deg, elevation_deg)
        now_ns += wait_ms * NS_PER_MS
        pose = antenna.pose(now_ns)
        assert abs(pose.azimuth_deg - last.azimuth_deg) <= 6.2 * wait_ms / 1000 + 1e-9
        assert abs(pose.elevation_deg - last.elevation_deg) <= 2.7 * wait_ms / 1000 + 1e-9
        assert 0 <= pose.azimuth_deg <= 450
        assert 0 <= pose.elevation_deg <= 180
        last = pose


@given(commands, st.lists(st.integers(0, 200_000), max_size=20))
def test_looking_changes_nothing(sent: list[tuple[float, float, int]], looks_ms: list[int]) -> None:
    watched, alone, now_ns = Antenna(Mount(backlash_deg=1)), Antenna(Mount(backlash_deg=1)), START_NS
    for azimuth_deg, elevation_deg, wait_ms in sent:
        for antenna in (watched, alone):
            antenna.point(now_ns, azimuth_deg, elevation_deg)
        for look_ms in sorted(looks_ms):
            if look_ms <= wait_ms:
                watched.pose(now_ns + look_ms * NS_PER_MS)
        now_ns += wait_ms * NS_PER_MS
    assert watched.pose(now_ns) == alone.pose(now_ns)


@pytest.mark.parametrize(("azimuth_deg", "elevation_deg"), [(450.1, 10), (-0.1, 10), (10, 180.1), (10, -0.1)])
def test_beyond_a_limit_is_refused_and_changes_nothing(azimuth_deg: float, elevation_deg: float) -> None:
    antenna = Antenna()
    antenna.point(START_NS, 30, 40)
    assert not antenna.point(START_NS + NS_PER_S, azimuth_deg, elevation_deg)
    pose = antenna.pose(START_NS + 60 * NS_PER_S)
    assert (pose.azimuth_deg, pose.elevation_deg) == (30, 40)


@pytest.mark.parametrize(
    ("towards", "axis", "limit_deg"),
    [
        (Towards.RIGHT, "azimuth_deg", 450),
        (Towards.LEFT, "azimuth_deg", 0),
        (Towards.UP, "elevation_deg", 180),
        (Towards.DOWN, "elevation_deg", 0),
    ],
)
def test_turning_ends_at_the_limit_or_where_it_is_stopped(towards: Towards, axis: str, limit_deg: float) -> None:
    antenna = Antenna(Mount(park_azimuth_deg=200, park_elevation_deg=90))
    antenna.turn(START_NS, towards, 1.0)
    sign = towards.value[1]
    before = getattr(antenna.pose(START_NS), axis)
    assert getattr(antenna.pose(START_NS + 10 * NS_PER_S), axis) == pytest.approx(before + 10 * sign)
    assert getattr(antenna.pose(START_NS + 3600 * NS_PER_S), axis) == limit_deg
    antenna.stop(START_NS + 20 * NS_PER_S)
    assert getattr(antenna.pose(START_NS + 3600 * NS_PER_S), axis) == pytest.approx(before + 20 * sign)


@given(commands)
def test_the_beam_stays_within_half_the_play_of_its_encoder(sent: list[tuple[float, float, int]]) -> None:
    antenna, now_ns = Antenna(Mount(backlash_deg=1.5)), START_NS
    for azimuth_deg, elevation_deg, wait_ms in sent:
        antenna.point(now_ns, azimuth_deg, elevation_deg)
        now_ns += wait_ms * NS_PER_MS
        pose = antenna.pose(now_ns)
        assert abs(pose.beam_azimuth_deg - pose.azimuth_deg) <= 0.75 + 1e-9
        assert abs(pose.beam_elevation_deg - pose.elevation_deg) <= 0.75 + 1e-9


def test_a_position_reached_from_both_sides_leaves_the_beam_a_whole_play_apart() -> None:
    antenna, beams = Antenna(Mount(backlash_deg=1.0)), []
    for number, first_deg in enumerate((50, 150)):
        antenna.point(START_NS + number * 200 * NS_PER_S, first_deg)
        antenna.point(START_NS + (number * 200 + 100) * NS_PER_S, 100)
        pose = antenna.pose(START_NS + (number * 200 + 199) * NS_PER_S)
        assert pose.azimuth_deg == 100
        beams.append(pose.beam_azimuth_deg)
    assert beams[1] - beams[0] == pytest.approx(1.0)


def test_within_the_keyhole_the_azimuth_rests_and_moves_again_beyond_it() -> None:
    antenna = Antenna(Mount(keyhole_deg=5))
    antenna.point(START_NS, 20, 80)
    later_ns = antenna.arrival_ns()
    antenna.point(later_ns, 120, 88)
    assert antenna.pose(later_ns + 60 * NS_PER_S).azimuth_deg == 20
    assert antenna.pose(later_ns + 60 * NS_PER_S).elevation_deg == 88
    antenna.point(later_ns + 60 * NS_PER_S, 120, 84)
    assert antenna.pose(later_ns + 120 * NS_PER_S).azimuth_deg == 120


@pytest.mark.parametrize("closest_deg", [0.5, 2.0, 10.0])
def test_a_pass_near_the_zenith_outruns_the_azimuth_within_the_cone_that_its_rate_gives(closest_deg: float) -> None:
    """A target at 1°/s whose azimuth turns at 1°/s / sin(distance from the zenith) at its closest."""
    antenna, worst_deg = Antenna(), 0.0
    for tenth in range(-600, 601):
        along_deg = tenth / 10
        now_ns = START_NS + (tenth + 1200) * NS_PER_S // 10
        east, north = math.sin(math.radians(along_deg)), math.tan(math.radians(closest_deg))
        azimuth_deg = math.degrees(math.atan2(east, north)) % 360
        azimuth_deg += 360 if azimuth_deg < 180 else 0
        elevation_deg = 90 - math.degrees(math.atan(math.hypot(east, north)))
        if tenth == -600:
            antenna.point(now_ns - 100 * NS_PER_S, azimuth_deg, elevation_deg)
        worst_deg = max(worst_deg, antenna.pose(now_ns).off_by_deg(azimuth_deg, elevation_deg))
        antenna.point(now_ns, azimuth_deg, elevation_deg)
    needed_deg_s = 1 / math.sin(math.radians(closest_deg))
    assert (worst_deg > 1.0) == (needed_deg_s > antenna.mount.azimuth_rate_deg_s)


@given(azimuths, elevations, st.integers(1, 10**6))
def test_a_clock_that_is_set_back_stops_nobody(azimuth_deg: float, elevation_deg: float, back_s: int) -> None:
    antenna = Antenna()
    antenna.point(START_NS, azimuth_deg, elevation_deg)
    set_back_ns = START_NS - back_s * NS_PER_S
    before, after = antenna.pose(START_NS), antenna.pose(set_back_ns)
    assert after == before
    assert antenna.pose(set_back_ns + 100 * NS_PER_S).azimuth_deg == azimuth_deg
    assert antenna.pose(set_back_ns + 100 * NS_PER_S).elevation_deg == elevation_deg


def test_beyond_the_zenith_the_beam_is_on_the_other_side() -> None:
    antenna = Antenna()
    antenna.point(START_NS, 30, 120)
    pose = antenna.pose(antenna.arrival_ns())
    assert pose.direction() == (210, 60)
    assert pose.off_by_deg(210, 60) == 0
    assert pose.off_by_deg(30, 60) == pytest.approx(60)


@given(st.floats(0, 360), st.floats(-90, 90), st.floats(0, 360), st.floats(-90, 90))
def test_separation_is_the_angle_between_the_unit_vectors(a: float, b: float, c: float, d: float) -> None:
    def vector(azimuth: float, elevation: float) -> tuple[float, float, float]:
        az, el = math.radians(azimuth), math.radians(elevation)
        return math.cos(el) * math.sin(az), math.cos(el) * math.cos(az), math.sin(el)

    first, second = vector(a, b), vector(c, d)
    cosine = sum(x * y for x, y in zip(first, second, strict=True))
    assert math.cos(math.radians(separation_deg(a, b, c, d))) == pytest.approx(cosine, abs=1e-9)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"azimuth_rate_deg_s": 0}, "azimuth_rate_deg_s: expected 0.001 to 1000, got 0"),
        ({"azimuth_min_deg": 10, "azimuth_max_deg": 5}, "azimuth_min_deg: expected"),
        ({"elevation_max_deg": math.nan}, "elevation_max_deg: expected a number, got nan"),
        ({"park_azimuth_deg": 451}, "park_azimuth_deg: expected 0 to 450, got 451"),
    ],
)
def test_a_mount_that_cannot_be_is_refused_by_name(settings: dict[str, float], fault: str) -> None:
    with pytest.raises(ScenarioError, match=fault):
        Mount(**settings)
