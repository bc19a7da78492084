"""A picture for every kind of plan."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from emulator.errors import EndpointError
from emulator.scenario import load_scenario
from emulator.scenario.links import FixedLink
from emulator.scenario.model import Scenario
from emulator.timeline.build import windows_for
from emulator.timeline.plot import BINS, _draw_binned, _draw_serving, _named, _stints, draw, require_format
from emulator.timeline.table import table
from emulator.units import NS_PER_S, parse_utc_ns

START_NS = parse_utc_ns("2025-10-03T10:00:00Z")
SPARSE = "constellation.shells=[{name='s',altitude_km=550.0,inclination_deg=53.0,planes=8,satellites_per_plane=4}]"


@pytest.mark.parametrize("seconds", [1, 60, 1200, 4000])  # slots: one, few, many, more than can be seen
@pytest.mark.parametrize("overrides", [None, ("link.outages.per_hour=200",), (SPARSE,)])
def test_a_plan_can_be_drawn(seconds: int, overrides: tuple[str, ...] | None) -> None:
    scenario = Scenario(link=FixedLink()) if overrides is None else load_scenario("starlink_2025", overrides)
    rows = table(windows_for(scenario, epoch_utc_ns=START_NS).window(START_NS, START_NS + seconds * NS_PER_S))
    file = io.BytesIO()
    draw([rows], file, file_format="png", title="a plan")
    assert file.getvalue().startswith(b"\x89PNG")
    assert len(file.getvalue()) > 10_000


def test_more_than_can_be_seen_is_drawn_by_its_median_and_range() -> None:
    rows_each = 10
    values = np.tile(np.arange(float(rows_each)), BINS)
    values[5 * rows_each : 7 * rows_each] = np.nan
    panel = Figure().subplots()
    _draw_binned(panel, np.arange(BINS * rows_each + 1.0), values, "red")
    median = panel.lines[0].get_ydata()
    assert np.isnan(median[5:7]).all()
    assert np.delete(median, [5, 6]).tolist() == [4.5] * (BINS - 2)
    low, high = panel.collections[0].get_datalim(panel.transData).intervaly
    assert (low, high) == pytest.approx(np.percentile(np.arange(rows_each), (10, 90)))


def test_a_name_that_is_no_picture_is_refused() -> None:
    require_format(Path("plan.PNG"))
    with pytest.raises(EndpointError, match=r"plan\.txt: expected a picture's name"):
        require_format(Path("plan.txt"))


@pytest.mark.parametrize("hours", [1, 6])
def test_a_pass_is_called_by_its_station_where_the_satellite_is_always_the_same(hours: int) -> None:
    scenario = load_scenario("ground_station_contact")
    start_ns = parse_utc_ns("2026-01-01T02:30:00Z")
    rows = table(windows_for(scenario, epoch_utc_ns=start_ns).window(start_ns, start_ns + hours * 3600 * NS_PER_S))
    stints = _stints(_named(rows))
    stations = {gateway.name for gateway in scenario.gateways}
    assert {stint.name for stint in stints} <= {*stations, ""}
    for stint in stints:
        assert set(rows["gateway"][stint.first : stint.last].tolist()) == {stint.name}
    panel = Figure().subplots()
    utc_ns = rows["utc"].astype(np.int64)
    _draw_serving(panel, np.append(utc_ns, utc_ns[-1] + NS_PER_S) / 86_400e9, rows, stints)
    shown = [text.get_text() for text in panel.texts]
    assert shown
    assert all(any(station in words for station in stations) for words in shown)


def test_stretches_of_several_satellites_are_called_by_these() -> None:
    windows = windows_for(load_scenario("starlink_2025"), epoch_utc_ns=START_NS)
    rows = table(windows.window(START_NS, START_NS + 120 * NS_PER_S))
    assert {stint.name for stint in _stints(_named(rows))} == set(rows["satellite"].tolist())
