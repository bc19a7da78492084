"""Many terminals under one sky: each is planned as it would be alone."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.cli.fleet import fleet as fleet_command
from emulator.errors import ScenarioError
from emulator.scenario import load_scenario
from emulator.scenario.model import Scenario
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Cause
from emulator.timeline.fleet import FLEET_COLUMNS, Fleet, Place, parts, read_places
from emulator.timeline.overview import overview
from emulator.timeline.sky import SkyWindows
from emulator.timeline.starlink import StarlinkWindows
from emulator.timeline.table import csv_lines
from emulator.units import NS_PER_S, parse_utc_ns
from hil_tests.bench.living import until

START_NS = parse_utc_ns("2025-07-01T10:00:05Z")
SMALL = load_scenario("starlink_2023_in_motion")
WET = load_scenario("starlink_2023_in_motion", ["link.weather.rain=true", "link.weather.rain_rate_mm_h=100"])
FLEET, WET_FLEET = (Fleet(scenario, elements=None, epoch_utc_ns=START_NS) for scenario in (SMALL, WET))


def place(number: int, latitude: float, longitude: float, scenario: Scenario = SMALL) -> Place:
    assert scenario.terminal is not None
    where = {"latitude_deg": latitude, "longitude_deg": longitude}
    return Place(number, f"site {number}", scenario.terminal.model_copy(update=where))


@given(st.floats(35, 55), st.floats(-100, -70), st.integers(0, 1000), st.integers(0, 86_400), st.booleans())
@settings(max_examples=6)
def test_all_slots_at_once_are_as_the_timeline_has_them(
    latitude: float, longitude: float, number: int, second: int, wet: bool
) -> None:
    start_ns, end_ns = START_NS + second * NS_PER_S, START_NS + (second + 60) * NS_PER_S
    windows = (WET_FLEET if wet else FLEET).windows(place(number, latitude, longitude))
    assert isinstance(windows, StarlinkWindows)
    at_once, read_off = windows.overview(start_ns, end_ns), overview(windows, start_ns, end_ns)
    for name, column in vars(at_once).items():
        np.testing.assert_allclose(column, getattr(read_off, name), rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["starlink_2023_in_motion", "o3b_mpower", "iridium_certus"])
@given(second=st.integers(0, 3600))
@settings(max_examples=3)
def test_gates_at_a_glance_are_the_timelines_where_no_satellite_changes(name: str, second: int) -> None:
    often = ["link.outages.per_hour=900", "link.outages.duration_s={p0=2,p5=3,p50=9,p95=15,p100=20}"]
    scenario = load_scenario(name, often)
    start_ns = START_NS + second * NS_PER_S
    windows = windows_for(scenario, epoch_utc_ns=START_NS)
    assert isinstance(windows, SkyWindows)
    seen = overview(windows, start_ns, start_ns + 600 * NS_PER_S)
    timeline = windows.window(start_ns, int(seen.utc_ns[-1]) + NS_PER_S)
    read = [max((one.at(at) for one in (timeline.uplink, timeline.downlink)), key=lambda now: now.gate)
            for at in seen.utc_ns.tolist()]  # fmt: skip
    steady = [number for number, now in enumerate(read) if now.cause != Cause.HANDOVER]
    assert steady
    assert [(int(read[one].gate), int(read[one].cause)) for one in steady] == [
        (int(seen.gate[one]), int(seen.cause[one])) for one in steady
    ]


def test_where_nobody_serves_a_row_has_no_delay_and_no_rate(tmp_path: Path) -> None:
    shaft = "terminal.horizon=[{azimuth_deg=0,elevation_deg=88},{azimuth_deg=180,elevation_deg=88}]"
    scenario = load_scenario("oneweb", [shaft])
    assert scenario.terminal is not None
    windows = windows_for(scenario, epoch_utc_ns=START_NS)
    assert isinstance(windows, SkyWindows)
    seen = overview(windows, START_NS, START_NS + 1800 * NS_PER_S)
    assert (seen.satellite < 0).any()
    rows = seen.table(windows.satellites, windows.gateways) | {"terminal": np.full(len(seen.utc_ns), "shaft")}
    lines = csv.DictReader(io.StringIO(",".join(FLEET_COLUMNS) + "\n" + "".join(csv_lines(rows, FLEET_COLUMNS))))
    for line in lines:
        known = {name for name, value in line.items() if value}
        if line["satellite"]:
            assert known == set(FLEET_COLUMNS)
        else:
            assert known == {"terminal", "utc", "gate", "cause"}
            assert (line["gate"], line["cause"]) == ("drop", "no_satellite")


@pytest.mark.parametrize("name", ["starlink_2023_in_motion", "o3b_mpower"])
def test_a_terminal_of_a_fleet_is_as_one_alone(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.terminal is not None
    one = place(3, scenario.terminal.latitude_deg, scenario.terminal.longitude_deg, scenario)
    fleet = Fleet(scenario, elements=None, epoch_utc_ns=START_NS)
    alone = scenario.model_copy(update={"terminal": one.terminal, "seed": scenario.seed + 3})
    windows = windows_for(alone, epoch_utc_ns=START_NS)
    assert isinstance(windows, SkyWindows)
    expected = overview(windows, START_NS, START_NS + 180 * NS_PER_S).table(windows.satellites, windows.gateways)
    rows = list(csv.DictReader(io.StringIO(
        ",".join(FLEET_COLUMNS) + "\n" + fleet.part([one], START_NS, START_NS + 180 * NS_PER_S).lines.decode()
    )))  # fmt: skip
    assert [row["satellite"] for row in rows] == expected["satellite"].tolist()
    assert [float(row["uplink_delay_ms"]) for row in rows] == pytest.approx(expected["uplink_delay_ms"], abs=1e-6)
    assert {row["terminal"] for row in rows} == {"site 3"}


def write(folder: Path, text: str) -> Path:
    (folder / "sites.csv").write_text(text)
    return folder / "sites.csv"


@pytest.mark.parametrize("name", ["starlink_2023_in_motion", "o3b_mpower"])
def test_a_time_in_which_no_slot_begins_has_no_rows(name: str, tmp_path: Path) -> None:
    """Nor has the end of a longer one, which is worked out hour by hour."""
    scenario = load_scenario(name)
    fleet = Fleet(scenario, elements=None, epoch_utc_ns=START_NS)
    assert scenario.terminal is not None
    one = place(0, scenario.terminal.latitude_deg, scenario.terminal.longitude_deg, scenario)
    ends = START_NS + 3601 * NS_PER_S
    done = [part for _, part in parts(scenario, [one], START_NS, ends, elements=None, fleet=fleet)]
    assert [part.served[0][1] > 0 for part in done] == [True, False]
    assert done[1].lines == b""
    file = write(tmp_path, "latitude_deg,longitude_deg\n45,-90\n")
    words = [name, str(file), "--start", "2025-07-01T10:00:05Z", "--duration", "1s"]
    told = CliRunner().invoke(fleet_command, words, catch_exceptions=False)
    assert (told.exit_code, told.stdout) == (0, ",".join(FLEET_COLUMNS) + "\n")
    assert "no slot begins in this time" in told.stderr


def test_what_a_line_does_not_say_is_the_scenarios(tmp_path: Path) -> None:
    file = write(tmp_path, 'latitude_deg,longitude_deg,name,min_elevation_deg\n47.5,-122,"Hut, north",\n48,-123,,40\n')
    first, second = read_places(file, load_scenario("starlink_2025", ["terminal.min_elevation_deg=30"]))
    assert (first.name, first.terminal.latitude_deg, first.terminal.min_elevation_deg) == ("Hut, north", 47.5, 30)
    assert (second.name, second.terminal.min_elevation_deg) == ("terminal 2", 40)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,lat\na,1\n", ["line 1: expected columns latitude_deg and longitude_deg"]),
        ("latitude_deg,longitude_deg,colour\n1,2,red\n", ["line 1: expected columns name,", "'colour'"]),
        ("latitude_deg,longitude_deg\n1,2\n91,0\n0\n0,east\n",
            ["3: latitude_deg: expected a number from -90 to 90, got '91'", "4: expected 2", "5: longitude_deg"]),
        ("latitude_deg,longitude_deg\n", ["expected a line for each terminal, got none"]),
        ("latitude_deg,longitude_deg\nnan,0\n", ["line 2: latitude_deg"]),
        ("name,latitude_deg,longitude_deg\na,1,2\nb,1,2\na,3,4\n", ["line 4: name:", "no other line has, got 'a'"]),
    ],
)  # fmt: skip
def test_faults_are_told_with_file_and_line(tmp_path: Path, text: str, told: list[str]) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ScenarioError) as caught:
        read_places(file, SMALL)
    assert all(problem.startswith(f"{file}: ") for problem in caught.value.problems)
    assert all(part in str(caught.value) for part in told)


def test_a_file_that_is_no_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"none\.csv: expected a readable table of terminals: No such file"):
        read_places(tmp_path / "none.csv", SMALL)
    (tmp_path / "bytes").write_bytes(b"latitude_deg,longitude_deg\n0,\xff\n")
    with pytest.raises(ScenarioError, match=r"bytes: line 2: expected UTF-8, got the byte 0xff"):
        read_places(tmp_path / "bytes", SMALL)


def test_a_link_without_a_moving_sky_is_refused() -> None:
    with pytest.raises(ScenarioError, match="expected satellites that come and go"):
        Fleet(load_scenario("geo_dvbs2"), elements=None, epoch_utc_ns=START_NS)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_processes_write_what_one_would_and_leave_none_behind(tmp_path: Path) -> None:
    places = [place(number, 40 + number / 10, -90) for number in range(60)]
    ends = START_NS + 60 * NS_PER_S
    written = [
        b"".join(part.lines for _, part in parts(
            SMALL, places, START_NS, ends, elements=None, fleet=FLEET, jobs=jobs
        ))
        for jobs in (1, 2)
    ]  # fmt: skip
    assert written[0] == written[1]
    lines = [f"{one.terminal.latitude_deg},{one.terminal.longitude_deg}\n" for one in places]
    file = write(tmp_path, "latitude_deg,longitude_deg\n" + "".join(lines))
    command = [sys.executable, "-m", "emulator.cli.main", "fleet", "starlink_2023_in_motion", str(file)]
    child = subprocess.Popen(
        [*command, "--duration", "24h", "--jobs", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline().startswith(b"terminal,utc")
    assert child.stdout.readline().startswith(b"terminal 1,")
    child.send_signal(signal.SIGKILL)
    child.stdout.read()  # ends when the last process that could write there has
    child.communicate()


def test_ctrl_c_is_answered_by_the_command_and_not_by_its_processes(tmp_path: Path) -> None:
    file = write(tmp_path, "latitude_deg,longitude_deg\n" + "".join(f"{40 + n / 10},-90\n" for n in range(60)))
    command = [sys.executable, "-m", "emulator.cli.main", "fleet", "starlink_2023_in_motion", str(file)]
    child = subprocess.Popen(
        [*command, "--duration", "24h", "--jobs", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
    until(lambda: any("numpy" in Path(f"/proc/{pid}/maps").read_text() for pid in children.read_text().split()))
    os.killpg(child.pid, signal.SIGINT)
    _, told = child.communicate()
    assert (child.returncode, told.strip()) == (130, "")
