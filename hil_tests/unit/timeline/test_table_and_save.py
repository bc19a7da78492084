"""The table that people read says what the Timeline says; files give back what was saved."""

from __future__ import annotations

import csv
import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.orbit.look import look
from emulator.scenario import load_scenario
from emulator.scenario.links import FixedLink
from emulator.scenario.model import Scenario
from emulator.timeline.build import windows_for
from emulator.timeline.model import Windows
from emulator.timeline.save import joined, load_npz, save_npz
from emulator.timeline.starlink import StarlinkWindows
from emulator.timeline.table import COLUMNS, csv_lines, sky_at, stacked, table
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns

START_NS = parse_utc_ns("2025-10-03T10:00:00Z")
SKY = StarlinkWindows(load_scenario("starlink_2025"), epoch_utc_ns=START_NS)
FLAT = windows_for(Scenario(link=FixedLink(delay_ms=20, rate_mbps=100)), epoch_utc_ns=START_NS)


@given(st.integers(0, 10**14), st.integers(1, 40 * NS_PER_S), st.sampled_from([SKY, FLAT]))
@settings(max_examples=40)
def test_every_row_is_the_timeline_at_its_instant(offset_ns: int, length_ns: int, windows: Windows) -> None:
    start_ns = START_NS + offset_ns
    timeline = windows.window(start_ns, start_ns + length_ns)
    rows = table(timeline)
    times = rows["utc"].astype(np.int64)
    assert times[0] == start_ns
    assert np.diff(times, append=start_ns + length_ns).max() <= NS_PER_S
    for number, at_ns in enumerate(times.tolist()):
        up, down = timeline.uplink.at(at_ns), timeline.downlink.at(at_ns)
        assert rows["uplink_delay_ms"][number] == up.delay_ns / NS_PER_MS
        assert rows["downlink_delay_ms"][number] == down.delay_ns / NS_PER_MS
        assert rows["uplink_rate_mbps"][number] == up.rate_bps / 1e6
        assert rows["downlink_loss"][number] == down.loss
        assert rows["gate"][number] == up.gate.name.lower()
        assert rows["cause"][number] == up.cause.name.lower()
        serving = timeline.path.satellite[timeline.path.row_at(at_ns)]
        assert rows["satellite"][number] == (timeline.satellites[serving] if serving >= 0 else "")


def test_tables_of_consecutive_windows_are_the_table_of_the_whole() -> None:
    edges = [START_NS + ms * NS_PER_MS for ms in (0, 500, 12_010, 60_000, 61_001)]
    parts = [table(SKY.window(begin, end), goes_on=begin > START_NS) for begin, end in pairwise(edges)]
    whole = table(SKY.window(edges[0], edges[-1]))
    for name, column in stacked(parts).items():
        assert np.array_equal(column, whole[name], equal_nan=column.dtype.kind == "f"), name


@given(st.integers(0, 3_600_000))
@settings(max_examples=60)
def test_between_its_rows_the_sky_goes_on_in_lines(offset_ms: int) -> None:
    at_ns = START_NS + offset_ms * NS_PER_MS
    timeline = SKY.window(at_ns - NS_PER_S, at_ns + 2 * NS_PER_S)
    azimuth, elevation, slant_range = (values[0] for values in sky_at(timeline.path, np.array([at_ns])))
    serving = SKY.policy.serving(SKY.policy.slot_at(at_ns))
    position = SKY.policy.propagator.positions_m(np.array([at_ns]), np.array([serving.satellite]))
    seen = look(SKY.policy.site.start, position)
    last_second = (at_ns - 12 * NS_PER_S) % (15 * NS_PER_S) > 14 * NS_PER_S
    assert slant_range == pytest.approx(float(seen.range_m[0, 0]), abs=170 if last_second else 15)
    assert elevation == pytest.approx(float(seen.elevation_deg[0, 0]), abs=0.05)
    turn = (azimuth - float(seen.azimuth_deg[0, 0]) + 180) % 360 - 180
    assert abs(turn) * np.cos(np.radians(elevation)) < 0.1


def test_csv_has_the_columns_and_reads_back() -> None:
    rows = table(SKY.window(START_NS, START_NS + 20 * NS_PER_S))
    read = list(csv.DictReader(io.StringIO(",".join(COLUMNS) + "\n" + "".join(csv_lines(rows)))))
    assert list(read[0]) == list(COLUMNS)
    assert len(read) == len(rows["utc"])
    assert [parse_utc_ns(row["utc"]) for row in read] == rows["utc"].astype(np.int64).tolist()
    for name in ("slant_range_m", "uplink_delay_ms", "downlink_rate_mbps", "uplink_loss"):
        assert [float(row[name]) for row in read] == pytest.approx(rows[name].tolist(), rel=1e-5, abs=0.006)


def test_a_table_without_a_sky_has_empty_fields() -> None:
    line = next(iter(csv_lines(table(FLAT.window(START_NS, START_NS + NS_PER_S)))))
    assert line == "2025-10-03T10:00:00.000Z,,,,,,20.000000,20.000000,100.000000,100.000000,0,0,pass,none\n"


def test_times_beyond_the_millisecond_are_written_out() -> None:
    line = next(iter(csv_lines(table(FLAT.window(START_NS + 1, START_NS + 2)))))
    assert line.startswith("2025-10-03T10:00:00.000000001Z,")


def test_npz_gives_the_timeline_back(tmp_path: Path) -> None:
    timeline = joined([SKY.window(START_NS + step, START_NS + step + NS_PER_S * 20) for step in (0, 20 * NS_PER_S)])
    with (tmp_path / "plan.npz").open("wb") as file:
        save_npz(file, timeline, table(timeline))
    loaded = load_npz(tmp_path / "plan.npz")
    for part in ("uplink", "downlink", "path"):
        saved, read = getattr(timeline, part), getattr(loaded, part)
        for name in saved.__dataclass_fields__:
            assert np.array_equal(getattr(saved, name), getattr(read, name)), name
    assert (loaded.start_ns, loaded.end_ns) == (timeline.start_ns, timeline.end_ns)
    assert (loaded.satellites, loaded.gateways) == (timeline.satellites, timeline.gateways)
    with np.load(tmp_path / "plan.npz") as arrays:
        assert set(COLUMNS) <= set(arrays.files)


def test_windows_with_a_gap_between_them_do_not_join() -> None:
    with pytest.raises(ValueError, match="expected the next to start at"):
        joined([SKY.window(START_NS, START_NS + 1), SKY.window(START_NS + 2, START_NS + 3)])
