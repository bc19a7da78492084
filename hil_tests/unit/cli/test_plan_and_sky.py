"""`bentpipe plan` and `bentpipe sky` as a shell sees them: stdout is data, stderr is words, the status is told."""

from __future__ import annotations

import csv
import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.cli.main import run
from emulator.errors import CoverageError, ElementsError, EndpointError, ScenarioError
from emulator.scenario import load_scenario
from emulator.timeline.fixed import FixedWindows
from emulator.timeline.opportunities import deliveries, with_deliveries
from emulator.timeline.table import COLUMNS
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns
from hil_tests.unit.orbit.samples import EPOCH_UTC_NS, record, tle

START = ("--start", "2025-10-03T10:00:00Z")
REFERENCE_SITE = (
    "--set", "terminal.latitude_deg=48.51368333",
    "--set", "terminal.longitude_deg=-124.29353469",
    "--set", "terminal.altitude_m=201",
)  # fmt: skip


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(arguments)
    out, err = capsys.readouterr()
    return status, out, err


def test_plan_prints_the_columns_and_a_row_at_least_every_second(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys, "plan", "starlink_2025", *START, "--duration", "40s")
    assert status == 0
    assert out.splitlines()[0] == ",".join(COLUMNS)
    times = [parse_utc_ns(row["utc"]) for row in rows(out)]
    assert times[0] == parse_utc_ns(START[1])
    assert np.diff([*times, times[0] + 40 * 10**9]).max() <= 10**9
    assert (np.diff(times) > 0).all()
    assert "terminal to satellite" in err
    assert "round trip" in err
    assert "uplink, median" in err
    assert "medians do not add up" in err


def test_plan_changes_satellites_at_12_27_42_and_57(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = call(capsys, "plan", "starlink_2025", *START, "--duration", "3m")
    table = rows(out)
    changes = [after["utc"][17:] for before, after in pairwise(table) if before["satellite"] != after["satellite"]]
    assert len(changes) >= 8
    assert set(changes) <= {"12.000Z", "27.000Z", "42.000Z", "57.000Z"}


def test_plan_says_the_same_however_it_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    _, whole, _ = call(capsys, "plan", "starlink_2025", *START, "--duration", "2m", "--seed", "9")
    _, later, _ = call(
        capsys, "plan", "starlink_2025", "--start", "2025-10-03T10:01:30Z", "--duration", "30s", "--seed", "9"
    )
    assert whole.splitlines()[-len(later.splitlines()) + 1 :] == later.splitlines()[1:]
    _, other, _ = call(capsys, "plan", "starlink_2025", *START, "--duration", "2m", "--seed", "10")
    assert other != whole


def test_plan_of_a_fixed_link_has_no_sky(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys, "plan", "fixed", *START, "--duration", "3s", "--set", "link.delay_ms=30")
    assert status == 0
    assert [row["uplink_delay_ms"] for row in rows(out)] == ["30.000000"] * 3
    assert {row["satellite"] + row["elevation_deg"] for row in rows(out)} == {""}
    assert "60.00" in err
    assert "medians do not add up" not in err


def test_a_station_may_have_brackets_in_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    name = "[/north] [bold]"
    status, _, err = call(
        capsys, "plan", "ground_station_contact", *START, "--duration", "12h", "--set", f"gateways[0].name={name}"
    )
    assert status == 0
    assert name in err


def test_plan_writes_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    common = ("plan", "starlink_2025", *START, "--duration", "70s")
    _, out, _ = call(capsys, *common)
    for name in ("plan.csv", "plan.npz"):
        status, silent, _ = call(capsys, *common, "-o", str(tmp_path / name), "--plot", str(tmp_path / "plan.png"))
        assert (status, silent) == (0, "")
    assert (tmp_path / "plan.csv").read_text() == out
    with np.load(tmp_path / "plan.npz") as arrays:
        assert set(COLUMNS) <= set(arrays.files)
        assert arrays["satellite"].tolist() == [row["satellite"] for row in rows(out)]
        assert arrays["slant_range_m"] == pytest.approx([float(row["slant_range_m"]) for row in rows(out)], abs=0.006)
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.csv", "plan.npz", "plan.png"]


def test_sky_lists_who_stands_above_the_mask(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "sky", "starlink_2025", *START, "--duration", "1m", "--step", "20s")
    assert status == 0
    assert out.splitlines()[0] == "utc,satellite,azimuth_deg,elevation_deg,slant_range_m"
    table = rows(out)
    assert sorted({row["utc"] for row in table}) == [f"2025-10-03T10:00:{second}.000Z" for second in ("00", "20", "40")]
    assert len(table) > 100
    for row in table:
        assert float(row["elevation_deg"]) >= 20
        assert 0 <= float(row["azimuth_deg"]) < 360
        assert 460e3 < float(row["slant_range_m"]) < 1300e3
        assert len(row["slant_range_m"].partition(".")[2]) >= 1


def test_who_serves_is_in_the_sky_where_the_plan_says(capsys: pytest.CaptureFixture[str]) -> None:
    _, plan, _ = call(capsys, "plan", "starlink_2025", *START, "--duration", "20s")
    _, sky, _ = call(capsys, "sky", "starlink_2025", *START, "--duration", "20s")
    seen = {(row["utc"], row["satellite"]): row for row in rows(sky)}
    whole_seconds = [row for row in rows(plan) if row["utc"].endswith(".000Z")]
    assert len(whole_seconds) == 20
    for row in whole_seconds:
        other = seen[row["utc"], row["satellite"]]
        for column in ("azimuth_deg", "elevation_deg", "slant_range_m"):
            assert float(row[column]) == pytest.approx(float(other[column]), abs=0.011)


def test_sky_of_the_reference_data_has_the_logged_ranges(
    capsys: pytest.CaptureFixture[str], reference_data: Path
) -> None:
    elements = str(reference_data / "elements" / "starlink_2025-05-29.tle")
    sky = ("sky", "starlink_2025", "--elements", elements, "--start", "2025-05-29T23:21:27Z", *REFERENCE_SITE)
    _, out, err = call(capsys, *sky, "--duration", "46s")
    seen = {(parse_utc_ns(row["utc"]), row["satellite"]): float(row["slant_range_m"]) for row in rows(out)}
    with (reference_data / "leoviz" / "serving_satellite.csv").open() as file:
        logged = list(csv.DictReader(file))
    for row in logged:
        ours = seen[parse_utc_ns(row["Timestamp"]), row["Connected_Satellite"]]
        assert ours == pytest.approx(1000 * float(row["Distance"]), abs=10)
    assert "of 7500 element sets left out: not in service" in err
    _, out, _ = call(capsys, *sky, "--set", "terminal.min_elevation_deg=25")
    assert len(rows(out)) == 51


def test_a_geostationary_sky_is_one_satellite_that_stands_still(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """From the outage of the sun on, whose way then leads through the satellite, until after it."""
    picture = tmp_path / "geo.svg"
    season = ("--start", "2025-10-07T11:10:00Z", "--duration", "20m", "--step", "5m")
    status, out, err = call(capsys, "sky", "geo_dvbs2", *season, "--plot", str(picture))
    assert (status, err) == (0, "")
    assert {tuple(row.values())[1:] for row in rows(out)} == {("GEO 10E", "205.0483", "45.9865", "37337890.58")}
    assert len(rows(out)) == 4
    drawn = picture.read_text()
    assert "<!-- sun, this day: in the dish's beam 11:" in drawn
    assert "<!-- geostationary arc -->" in drawn
    assert call(capsys, "sky", "geo_dvbs2", *season, "--elements", "x.tle")[0] == ScenarioError.exit_status


def test_an_empty_sky_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys, "sky", "starlink_2025", *START, "--set", "terminal.min_elevation_deg=89.99")
    assert status == 0
    assert rows(out) == []
    assert "none of 6" in err


def test_a_plan_says_for_how_long_nobody_serves(capsys: pytest.CaptureFixture[str]) -> None:
    """A terminal in a shaft: OneWeb passes over it once in a while, and not now."""
    shaft = "terminal.horizon=[{azimuth_deg=0,elevation_deg=89},{azimuth_deg=180,elevation_deg=89}]"
    status, out, err = call(capsys, "plan", "oneweb", *START, "--duration", "3s", "--set", shaft)
    assert status == 0
    assert {row["cause"] for row in rows(out)} == {"no_satellite"}
    assert err == "bentpipe: no satellite serves for 3.0 of 3.0 s\n"
    _, out, err = call(capsys, "sky", "oneweb", *START, "--set", shaft)
    assert rows(out) == []
    assert "or all that do are behind terminal.horizon" in err


def test_of_several_paths_the_first_is_planned_and_the_others_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    others = "modular_datacenter_leo, modular_datacenter_meo, geo_dvbs2"
    assert others in call(capsys, "plan", "modular_datacenter", *START, "--duration", "1s")[2]
    status, _, err = call(capsys, "sky", "modular_datacenter", *START)
    assert status == ScenarioError.exit_status
    assert others in err


SICK = {
    "empty": "",
    "cut": tle(("A", record()))[:-9],
    "twice": "".join(line * 2 for line in tle(("A", record())).splitlines(keepends=True)[1:]),
    "changed": tle(("A", record())).replace("53.0000", "35.0000"),
    "html": "<html><body>rate limited</body></html>",
}


@pytest.mark.parametrize("command", ["plan", "sky"])
@pytest.mark.parametrize("sickness", sorted(SICK))
def test_sick_elements_are_one_line_that_names_the_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, sickness: str
) -> None:
    path = tmp_path / "sick.tle"
    path.write_text(SICK[sickness])
    status, out, err = call(capsys, command, "starlink_2025", *START, "--elements", str(path))
    assert (status, out) == (ElementsError.exit_status, "")
    assert len(err.splitlines()) == 1
    assert err.startswith(f"bentpipe: {path}: ")


def test_elements_far_from_their_epoch_name_the_remedy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "old.tle"
    path.write_text(tle(("STARLINK-1", record())))
    status, _, err = call(capsys, "plan", "starlink_2025", *START, "--elements", str(path))
    assert status == ElementsError.exit_status
    assert "--start 2025-05-29T08:00:00Z" in err
    assert parse_utc_ns("2025-05-29T08:00:00Z") == EPOCH_UTC_NS


@pytest.mark.parametrize(
    ("arguments", "error", "expected"),
    [
        (
            ("plan", "starlink_2025", "--set", "terminal.min_elevation_deg=89.9"),
            CoverageError,
            "highest elevation seen",
        ),
        (("plan", "starlink_2025", "--set", "terminal.latitude_deg=-89.0"), CoverageError, "latitude -89"),
        (("sky", "fixed"), ScenarioError, "link.profile: expected one with a sky"),
        (("plan", "fixed", "--plot", "plan.doc"), EndpointError, "plan.doc"),
        (("plan", "fixed", "--duration", "3s", "-o", "/nowhere/plan.csv"), EndpointError, "/nowhere/plan.csv"),
        (("plan", "starlink_2025", "--elements", "/nowhere/sky.tle"), ElementsError, "/nowhere/sky.tle"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], error: type[Exception], expected: str
) -> None:
    status, out, err = call(capsys, *arguments, *START)
    assert (status, out) == (error.exit_status, "")  # type: ignore[attr-defined]
    assert len(err.splitlines()) == 1
    assert expected in err


def test_wrong_durations_are_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("plan", "fixed", "--duration", "0"), ("sky", "starlink_2025", "--step", "soon")):
        assert call(capsys, *arguments)[0] == 2


def test_a_failed_plan_leaves_no_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = tmp_path / "plan.csv"
    call(capsys, "plan", "starlink_2025", "--set", "terminal.min_elevation_deg=89.9", *START, "-o", str(output))
    assert list(tmp_path.iterdir()) == []


@given(
    gaps_ms=st.lists(st.integers(0, 300), min_size=1, max_size=20).filter(any),
    packet_bytes=st.integers(1, 3000),
    direction=st.sampled_from(["uplink", "downlink"]),
)
@settings(max_examples=20)
def test_a_trace_of_opportunities_stands_in_the_place_of_the_rate(
    tmp_path_factory: pytest.TempPathFactory, gaps_ms: list[int], packet_bytes: int, direction: str
) -> None:
    instants_ms = np.cumsum(gaps_ms).tolist()
    file = tmp_path_factory.mktemp("trace") / "up.trace"
    file.write_text("".join(f"{instant}\n" for instant in instants_ms))
    table = f"link.{direction}.opportunities={{file='{file}',packet_bytes={packet_bytes}}}"
    scenario = load_scenario("fixed", ["link.rate_mbps=10", table])
    found = deliveries(scenario)
    assert list(found) == [direction]
    one = found["uplink" if direction == "uplink" else "downlink"]
    assert one.longest_pause_ns == max(gaps_ms) * NS_PER_MS
    carried = len(instants_ms) * packet_bytes * 8 / (instants_ms[-1] / 1000)
    assert one.rate_bps == pytest.approx(carried, abs=1)
    timeline = with_deliveries(FixedWindows(scenario.link).window(0, NS_PER_S), found)  # type: ignore[arg-type]
    other = timeline.downlink if direction == "uplink" else timeline.uplink
    assert getattr(timeline, direction).at(0).rate_bps == one.rate_bps
    assert other.at(0).rate_bps == 10_000_000


def test_a_plan_tells_of_opportunities_and_refuses_a_trace_that_is_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "slow.up").write_text("100\n")
    common = ("plan", "fixed", *START, "--duration", "2s", "--set", "link.rate_mbps=10")
    status, out, err = call(capsys, *common, "--set", f"link.uplink.opportunities.file={tmp_path}/slow.up")
    assert status == 0
    assert {(row["uplink_rate_mbps"], row["downlink_rate_mbps"]) for row in rows(out)} == {("0.120320", "10.000000")}
    assert "uplink: delivery opportunities of slow.up" in err
    assert "0.12032 Mbit/s on average, up to 100 ms apart" in err
    status, out, err = call(capsys, *common, "--set", "link.opportunities.file=nope.up")
    assert (status, out) == (ScenarioError.exit_status, "")
    assert "nope.up: expected a readable trace" in err


def test_the_overlay_is_in_the_plan_where_that_is_wished(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "o.toml"
    file.write_text(
        "[link]\nprofile='fixed'\nrate_mbps=8\ndelay_ms=5\n"
        "[[overlay]]\nkind='outage'\nat_s=1.5\nduration_s=1\n"
        "[[overlay]]\nkind='extra_delay'\nat_s=60\nduration_s=60\nextra_delay_ms=7\ndirection='uplink'\n"
    )
    plan = ("plan", str(file), *START, "--duration", "62s")
    _, out, err = call(capsys, *plan)
    assert {row["gate"] for row in rows(out)} == {"pass"}
    assert "--overlay" in err
    _, out, err = call(capsys, *plan, "--overlay", "--plot", str(tmp_path / "o.svg"))
    assert "overlay" not in err
    down = [row["utc"][17:-1] for row in rows(out) if row["gate"] == "drop"]
    assert down == ["01.500", "02.000"]
    assert [row["uplink_delay_ms"] for row in rows(out)][-2:] == ["12.000000"] * 2
    assert {row["downlink_delay_ms"] for row in rows(out)} == {"5.000000"}
