"""Tracks of terminals that move: three formats, one law; and what is wrong with a file is told by its line."""

from __future__ import annotations

from functools import reduce
from operator import xor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ScenarioError
from emulator.orbit.look import Observer, look
from emulator.orbit.site import Site
from emulator.orbit.track import read_track
from emulator.scenario import load_scenario
from emulator.scenario.model import Horizon
from emulator.scenario.model import Terminal as TerminalKeys
from emulator.terminal import Terminal
from emulator.timeline.build import windows_for
from emulator.units import NS_PER_S, format_utc, parse_utc_ns
from hil_tests.unit.timeline.laws import joined_windows_are_the_long_window

START_NS = parse_utc_ns("2025-05-29T23:21:27Z")
Points = list[tuple[float, float, float, float]]  # seconds after the start, degrees north and east, metres

SHIP: Points = [(10.0 * at, 48.0 + 4e-4 * at, -124.0 + 6e-4 * at, 12.5) for at in range(30)]  # 45 m in 10 s and more


def csv_text(points: Points) -> str:
    rows = (f"{format_utc(START_NS + round(at * 1e9))},{lat!r},{lon!r},{alt!r}" for at, lat, lon, alt in points)
    return "\n".join(["utc,latitude_deg,longitude_deg,altitude_m", *rows]) + "\n"


def gpx_text(points: Points) -> str:
    rows = (
        f'<trkpt lat="{lat!r}" lon="{lon!r}"><ele>{alt!r}</ele>'
        f"<time>{format_utc(START_NS + round(at * 1e9))}</time></trkpt>"
        for at, lat, lon, alt in points
    )
    head = '<?xml version="1.0"?>\n<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>\n'
    return head + "\n".join(rows) + "\n</trkseg></trk></gpx>\n"


def sentence(body: str) -> str:
    return f"${body}*{reduce(xor, body.encode()):02X}"


def angle(degrees: float, digits: int, sides: str) -> str:
    whole, part = divmod(abs(degrees), 1)
    return f"{int(whole):0{digits}d}{60 * part:010.7f},{sides[degrees < 0]}"


def nmea_text(points: Points) -> str:
    lines = []
    for at, lat, lon, alt in points:
        utc = format_utc(START_NS + round(at * 1e9))
        date, clock = utc[8:10] + utc[5:7] + utc[2:4], utc[11:23].replace(":", "")
        place = f"{angle(lat, 2, 'NS')},{angle(lon, 3, 'EW')}"
        lines.append(sentence(f"GNGGA,{clock},{place},1,12,0.8,{alt + 20!r},M,-20.0,M,,"))
        lines.append(sentence(f"GNRMC,{clock},A,{place},0.0,0.0,{date},,,A"))
    return "\r\n".join(["$GNTXT,01,01,02,noise without a checksum", *lines]) + "\r\n"


FORMATS = {"csv": csv_text, "gpx": gpx_text, "nmea": nmea_text}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_gives_the_same_track(tmp_path: Path, name: str) -> None:
    file = tmp_path / f"ship.{name}"
    file.write_text(FORMATS[name](SHIP))
    track = read_track(file, 60)
    asked = START_NS + np.array([0, 95, 290], np.int64) * NS_PER_S
    latitude, longitude, altitude, speed, course = track.at(asked)
    assert latitude == pytest.approx([48.0, 48.0038, 48.0116], abs=1e-6)
    assert longitude == pytest.approx([-124.0, -123.9943, -123.9826], abs=1e-6)
    assert altitude == pytest.approx([12.5] * 3)
    assert speed == pytest.approx([6.3, 6.3, 0], abs=0.1)  # hypot(44.5, 44.7) m in 10 s; at the end it stands
    assert course == pytest.approx([45.2, 45.2, 0], abs=0.5)


def test_the_log_of_a_real_dish_is_a_track(reference_data: Path) -> None:
    site = Site(TerminalKeys(latitude_deg=0, longitude_deg=0, track=str(reference_data / "leoviz" / "obstruction.csv")))
    here = site.motion(parse_utc_ns("2025-05-29T23:21:50Z"))
    assert (here.latitude_deg, here.longitude_deg) == pytest.approx((48.5137, -124.2935), abs=5e-4)
    assert here.altitude_m == pytest.approx(201, abs=1)


SECOND = "2025-05-29T23:21:37.000Z"
BAD: dict[str, tuple[str, str]] = {
    "gap": (csv_text([*SHIP[:3], *SHIP[12:]]), r"line 5: expected no gap over 60 s .*got 100 s: .* in line 4"),
    "back": (csv_text([*SHIP[:3], SHIP[1]]), "line 5: expected a later time .*got .*in line 4"),
    "twice": (csv_text([*SHIP[:3], SHIP[2]]), "line 5: expected a later time"),
    "jump": (csv_text([*SHIP[:3], (30, 52.0, 0.0, 0.0)]), "line 5: expected at most 350 m/s from line 4 on"),
    "nowhere": (csv_text([(0, 91.0, 0.0, 0.0)]), "line 2: expected a latitude from -90 to 90, got 91"),
    "nan": (csv_text([(0, float("nan"), 0.0, 0.0)]), "line 2: expected a latitude"),
    "text": (csv_text(SHIP).replace("-123.9994", "west"), "line 3: expected a longitude, got 'west'"),
    "time": (csv_text(SHIP).replace(SECOND, "later"), "line 3: expected a UTC time"),
    "feet": (
        csv_text(SHIP).replace("altitude_m", "altitude_ft"),
        "line 1: expected the altitude in a column altitude_m",
    ),
    "a field more": (csv_text(SHIP).replace("-123.9994", "-123.9994,9"), "line 3: expected 4 fields as in the header"),
    "header": ("a,b\n1,2\n", "line 1: expected CSV with a column utc, latitude_deg, longitude_deg, GPX or NMEA"),
    "short": (csv_text(SHIP[:1]), "expected two points or more, got 1"),
    "empty": ("", "line 1: expected CSV"),
    "gpx, untimed": (gpx_text(SHIP).replace(f"<time>{SECOND}</time>", ""), "line 4: expected a UTC"),
    "gpx, cut": (gpx_text(SHIP)[:400], r"line \d: expected GPX: "),
    "nmea, changed": (nmea_text(SHIP).replace("GNRMC,232137", "GNRMC,232138"), "line 5: expected the checksum"),
    "nmea, no date": (sentence("GPRMC,1,A,4800.0,N,00000.0,E,0,0,no,,,A"), "line 1: expected a date and time"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_told_by_file_and_line(tmp_path: Path, what: str) -> None:
    text, expected = BAD[what]
    file = tmp_path / "track"
    file.write_text(text)
    with pytest.raises(ScenarioError, match=expected) as caught:
        read_track(file, 60)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"none\.csv: terminal\.track: expected a readable track"):
        read_track(tmp_path / "none.csv", 60)


@given(st.binary(max_size=300) | st.text("$GPRMC,A*0123456789.NSEW\n<trkp>", max_size=300).map(str.encode))
def test_whatever_a_file_holds_the_error_is_typed(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes(content)
    with pytest.raises(ScenarioError):
        read_track(file, 60)


@pytest.fixture
def track(tmp_path: Path) -> Path:
    file = tmp_path / "ship.csv"
    file.write_text(csv_text(SHIP))
    return file


def test_a_site_is_where_the_track_is_and_so_is_the_stubs_fix(track: Path) -> None:
    scenario = load_scenario("starlink_2025", [f"terminal.track={track}"])
    assert scenario.terminal is not None
    site, at_ns = Site(scenario.terminal), START_NS + 100 * NS_PER_S
    one = Observer.at(48.004, -123.994, 12.5)
    moving = site.observer(np.array([at_ns, at_ns + NS_PER_S], np.int64))
    assert [np.asarray(part)[0] for part in moving.position_m] == pytest.approx(list(one.position_m), abs=0.01)
    overhead = np.array(one.position_m) + 550e3 * np.array(one.up)
    assert look(moving, np.stack([overhead] * 2)).elevation_deg[0] == pytest.approx(90, abs=1e-3)
    state = Terminal.from_scenario(scenario).state(at_ns)
    assert (state.latitude_deg, state.longitude_deg) == pytest.approx((48.004, -123.994))
    assert (state.speed_m_s, state.course_deg) == pytest.approx((6.3, 45.2), abs=0.5)


@pytest.mark.parametrize("name", ["starlink_2025", "o3b_mpower", "oneweb", "geo_dvbs2", "kuiper_geometry"])
def test_every_system_serves_the_place_of_the_moment(tmp_path: Path, name: str) -> None:
    """An aircraft: its delays are those of a terminal that stands where it is at that second."""
    site = load_scenario(name).terminal
    assert site is not None
    file = tmp_path / "aircraft.csv"
    rows: Points = [(10.0 * at, site.latitude_deg, site.longitude_deg + 0.02 * at, 11_000.0) for at in range(31)]
    file.write_text(csv_text(rows))
    moving = load_scenario(name, [f"terminal.track={file}"])
    windows = windows_for(moving, epoch_utc_ns=START_NS)
    at_ns = START_NS + 200 * NS_PER_S
    timeline = windows.window(at_ns, at_ns + NS_PER_S)
    there = [f"terminal.longitude_deg={site.longitude_deg + 0.4}", "terminal.altitude_m=11000"]
    still = windows_for(load_scenario(name, there), epoch_utc_ns=START_NS).window(at_ns, at_ns + NS_PER_S)
    assert timeline.satellites == still.satellites
    assert timeline.path.slant_range_m[0] == pytest.approx(still.path.slant_range_m[0], abs=1)
    assert abs(int(timeline.uplink.delay_ns[0]) - int(still.uplink.delay_ns[0])) < 10
    edges_ns = [START_NS, START_NS + 47 * NS_PER_S, START_NS + 100 * NS_PER_S]
    joined_windows_are_the_long_window(windows, windows_for(moving, epoch_utc_ns=START_NS), edges_ns)


def test_a_run_that_the_track_does_not_lead_through_is_refused(track: Path) -> None:
    for name in ("starlink_2025", "oneweb"):
        scenario = load_scenario(name, [f"terminal.track={track}"])
        with pytest.raises(ScenarioError, match=r"ship\.csv: terminal\.track: expected a track through the start"):
            windows_for(scenario, epoch_utc_ns=parse_utc_ns("2025-06-01T00:00:00Z"))
    shift = 'terminal.track_starts_utc="2025-06-01T00:00:00Z"'
    moved = load_scenario("starlink_2025", [f"terminal.track={track}", shift])
    windows_for(moved, epoch_utc_ns=parse_utc_ns("2025-06-01T00:00:00Z"))


def test_what_stands_behind_the_horizon_does_not_serve() -> None:
    start_ns = parse_utc_ns("2025-10-03T10:00:00Z")
    wall = [{"azimuth_deg": azimuth, "elevation_deg": 90 * (90 < azimuth < 270)} for azimuth in (0, 89, 91, 269, 271)]
    scenario = load_scenario("starlink_2025")
    assert scenario.terminal is not None
    walled = scenario.terminal.model_copy(update={"horizon": tuple(Horizon(**point) for point in wall)})
    windows = windows_for(scenario.model_copy(update={"terminal": walled}), epoch_utc_ns=start_ns)
    path = windows.window(start_ns, start_ns + 600 * NS_PER_S).path
    served = path.satellite >= 0
    assert served.mean() > 0.9
    assert np.cos(np.radians(path.azimuth_deg[served])).min() > -0.05  # all of them north
