"""The real catalogue, and a real dish's log of who served it from how far."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import satkit
from sgp4.api import WGS72, Satrec

from emulator.orbit.elements import Elements, load_elements
from emulator.orbit.look import look
from emulator.orbit.propagate import Propagator
from emulator.orbit.satellites import Satellites
from emulator.orbit.site import Site
from emulator.orbit.view import views
from emulator.scenario.model import Terminal
from emulator.units import NS_PER_S, parse_utc_ns

SITE = Site(Terminal(latitude_deg=48.51368333, longitude_deg=-124.29353469, altitude_m=201))  # reference data, README
START_NS = parse_utc_ns("2025-05-29T23:21:27Z")


@pytest.fixture(scope="module")
def elements(reference_data: Path) -> Elements:
    path = reference_data / "elements" / "starlink_2025-05-29.tle"
    return load_elements(path, epoch_utc_ns=START_NS, max_age_days=14)


def test_every_logged_slant_range_is_met_within_10_m(reference_data: Path, elements: Elements) -> None:
    propagator = Propagator(elements.satellites)
    with (reference_data / "leoviz" / "serving_satellite.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 46
    for row in rows:
        at = np.array([parse_utc_ns(row["Timestamp"])], np.int64)
        who = np.array([elements.satellites.names.index(row["Connected_Satellite"])])
        ours_m = float(look(SITE.start, propagator.positions_m(at, who)).range_m[0, 0])
        assert ours_m == pytest.approx(1000 * float(row["Distance"]), abs=10)


def test_51_satellites_stand_above_25_degrees(elements: Elements) -> None:
    propagator = Propagator(elements.satellites)
    masks = np.full(len(elements.satellites), 25.0)
    (view,) = views(propagator, SITE, masks, START_NS, START_NS + NS_PER_S, NS_PER_S)
    assert len(view.satellite) == 51


def test_every_set_of_the_catalogue_is_read_and_accounted_for(elements: Elements) -> None:
    assert len(elements.satellites) > 7400
    assert sum(int(note.split(": ")[1].split()[0]) for note in elements.notes) == 7500 - len(elements.satellites)


def test_a_whole_catalogue_serves_only_with_the_named_objects(reference_data: Path) -> None:
    path = reference_data / "elements" / "active_2025-10-03.tle"
    start_ns = parse_utc_ns("2025-10-03T12:00:00Z")
    loaded = load_elements(path, epoch_utc_ns=start_ns, max_age_days=14, names="STARLINK*")
    assert 8300 < len(loaded.satellites) <= 8428
    assert all(name.startswith("STARLINK") for name in loaded.satellites.names)
    assert any("4373 of 12801 element sets left out: not named STARLINK*" in note for note in loaded.notes)


def test_positions_are_those_of_satkit(reference_data: Path) -> None:
    """An SGP4 and an earth of their own (Rust), without tables of the earth's orientation: UT1 is UTC there too.

    Left over is what the two take for Greenwich's angle: a millimetre. With tables they would differ by what
    `propagate` states: 50 m of UT1 − UTC in 2025, 20 m of polar motion, along with nutation's small terms.
    """
    satkit.frametransform.disable_eop_time_warning()
    lines = (reference_data / "elements" / "starlink_2025-05-29.tle").read_text().splitlines()
    for first in range(0, 900, 90):
        record = Satrec.twoline2rv(lines[first + 1], lines[first + 2], WGS72)
        theirs = satkit.TLE.from_lines(lines[first : first + 3])
        for hours in (0, 7, 31):
            utc_ns = START_NS + hours * 3600 * NS_PER_S
            at = satkit.time.from_unixtime(utc_ns / NS_PER_S)
            teme_m, _ = satkit.sgp4(theirs, at)
            ours_m = Propagator(Satellites.of(["one"], [record])).positions_m(np.array([utc_ns], np.int64))[0, 0]
            away_m = ours_m - satkit.frametransform.qteme2itrf(at) * np.asarray(teme_m).ravel()
            assert np.sqrt((away_m**2).sum()) < 0.05
