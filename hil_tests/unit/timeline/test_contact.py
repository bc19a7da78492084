"""A spacecraft and its stations: contacts as another program finds them, and the laws of all Timelines."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import CoverageError, ScenarioError
from emulator.orbit.elements import read_elements
from emulator.scenario import load_scenario
from emulator.scenario.links import ContactLink
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.contact import ContactWindows
from emulator.timeline.model import LOSS_ONE, Contact
from emulator.units import NS_PER_MS, NS_PER_S, SPEED_OF_LIGHT_M_S, parse_utc_ns
from hil_tests.unit.timeline import laws

START_NS = parse_utc_ns("2025-10-03T10:00:00Z")
DAY_NS = 86_400 * NS_PER_S


def planner(*overrides: str, elements: Path | None = None) -> ContactWindows:
    scenario = load_scenario("ground_station_contact", overrides)
    windows = windows_for(scenario, elements=elements, epoch_utc_ns=START_NS)
    assert isinstance(windows, ContactWindows)
    return windows


PLANNER, OTHER = planner(), planner()
CONTACTS = PLANNER.contacts(START_NS, START_NS + DAY_NS)


@given(
    st.sampled_from(CONTACTS), st.integers(-120, 600), st.lists(st.integers(1, 90 * NS_PER_S), min_size=1, max_size=4)
)
@settings(max_examples=30)
def test_laws_of_all_timelines(contact: Contact, offset_s: int, lengths_ns: list[int]) -> None:
    start_ns = contact.start_ns + offset_s * NS_PER_S
    edges_ns = np.cumsum([start_ns, *lengths_ns]).tolist()
    laws.joined_windows_are_the_long_window(PLANNER, OTHER, edges_ns)
    timeline = PLANNER.window(edges_ns[0], edges_ns[-1])
    laws.a_window_holds_a_row_for_each_of_its_instants(timeline)
    laws.delay_is_continuous_while_the_path_stays(timeline, 25_000)  # 7.5 km/s of range rate
    laws.nobody_serves_where_the_gate_says_so(timeline)
    laws.delays_are_the_sum_of_their_parts(PLANNER, timeline)


def test_an_orbit_over_the_poles_meets_the_polar_station_in_most_of_its_turns() -> None:
    minutes = [(contact.end_ns - contact.start_ns) / 60e9 for contact in CONTACTS]
    by_station = {name: sum(contact.station == name for contact in CONTACTS) for name in PLANNER.gateways}
    assert 8 <= by_station["Svalbard"] <= 15  # of 15 turns a day
    assert 2 <= by_station["Dubbo"] <= 6
    assert max(minutes) < 12
    assert all(before.end_ns <= after.start_ns for before, after in pairwise(CONTACTS))


@pytest.mark.parametrize("contact", CONTACTS[:6], ids=str)
def test_the_link_is_up_from_acquisition_to_loss_of_signal(contact: Contact) -> None:
    start_ns, end_ns, station = contact.start_ns, contact.end_ns, contact.station
    timeline = PLANNER.window(start_ns - 60 * NS_PER_S, end_ns + 60 * NS_PER_S)
    for channel in (timeline.uplink, timeline.downlink):
        for at_ns, gate, cause in (
            (start_ns - 1, Gate.DROP, Cause.NO_SATELLITE),
            (start_ns, Gate.DROP, Cause.HANDOVER),
            (start_ns + 5 * NS_PER_S, Gate.PASS, Cause.NONE),
            (end_ns - 1, Gate.PASS, Cause.NONE),
            (end_ns, Gate.DROP, Cause.NO_SATELLITE),
        ):
            assert (channel.at(at_ns).gate, channel.at(at_ns).cause) == (gate, cause)
    path = timeline.path
    inside = (path.start_ns >= start_ns) & (path.start_ns < end_ns)
    assert {timeline.gateways[index] for index in path.gateway[inside]} == {station}
    assert path.elevation_deg[inside].min() >= 5.0
    assert path.elevation_deg[inside].max() == pytest.approx(contact.highest_deg, abs=0.1)


def test_loss_jitter_and_queues_are_as_stated() -> None:
    """One packet in 100,000; the queues are 80 ms of the highest rate from space, and 5 s of commands."""
    start_ns = CONTACTS[0].start_ns + 10 * NS_PER_S
    timeline, link = PLANNER.window(start_ns, start_ns + 60 * NS_PER_S), load_scenario("ground_station_contact").link
    assert isinstance(link, ContactLink)
    for channel, way, queue_s in ((timeline.uplink, link.uplink, 0.08), (timeline.downlink, link.downlink, 4.7)):
        assert set(channel.loss.tolist()) == {round(1e-5 * LOSS_ONE)}
        assert set(channel.jitter_ns.tolist()) == {0}
        assert way.queue_packets * 12_000 / (way.rate_mbps.p100 * 1e6) == pytest.approx(queue_s, rel=0.05)


def test_the_rate_follows_the_elevation() -> None:
    best = max(CONTACTS, key=lambda contact: contact.highest_deg)
    assert best.highest_deg > 30
    timeline = PLANNER.window(best.start_ns, best.end_ns)
    elevation = timeline.path.elevation_deg
    for low, high, rate in ((5, 14.5, 50e6), (15.5, 29, 150e6), (31, 90, 300e6)):
        there = (elevation > low) & (elevation < high)
        assert there.any()
        assert set(timeline.uplink.rate_bps[there].tolist()) == {rate}
    assert set(timeline.downlink.rate_bps.tolist()) == {256_000}


def test_the_delay_is_light_and_fibre() -> None:
    contact = CONTACTS[0]
    timeline = PLANNER.window(contact.start_ns, contact.end_ns)
    flight_ms = timeline.path.slant_range_m / SPEED_OF_LIGHT_M_S * 1e3
    rest_ms = timeline.uplink.delay_ns / NS_PER_MS - flight_ms
    assert np.ptp(rest_ms) < 1e-4
    assert 1.7 < flight_ms.min() < flight_ms.max() < 8


def test_contacts_of_a_real_spacecraft_are_those_of_skyfield(reference_data: Path) -> None:
    """Sentinel-2A of the catalogue over Svalbard, a day: beginnings and ends within 2 s."""
    api = pytest.importorskip("skyfield.api")
    catalogue = reference_data / "elements" / "active_2025-10-03.tle"
    names = [one.name for one in read_elements(catalogue) if one.name.startswith("SENTINEL-2A")]
    assert len(names) == 1
    windows = planner(f"constellation.names={names[0]}", elements=catalogue)
    ours = [one for one in windows.contacts(START_NS, START_NS + DAY_NS) if one.station == "Svalbard"]
    scale = api.load.timescale(builtin=True)
    lines = catalogue.read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.strip() == names[0])
    satellite = api.EarthSatellite(lines[at + 1], lines[at + 2], names[0], scale)
    site = api.wgs84.latlon(78.23, 15.40)
    times, events = satellite.find_events(site, scale.utc(2025, 10, 3, 10), scale.utc(2025, 10, 4, 10), 5.0)
    theirs_s = {
        kind: [
            (time.utc_datetime().timestamp() - START_NS / 1e9)
            for time, event in zip(times, events, strict=True)
            if event == kind
        ]
        for kind in (0, 2)
    }
    assert len(ours) >= 8
    for kind, ours_ns in ((0, [one.start_ns for one in ours]), (2, [one.end_ns for one in ours])):
        found_s = [(at_ns - START_NS) / 1e9 for at_ns in ours_ns]
        assert found_s == pytest.approx(theirs_s[kind], abs=2.0)


def test_more_than_one_spacecraft_is_refused_and_so_is_none_in_view(reference_data: Path) -> None:
    catalogue = reference_data / "elements" / "active_2025-10-03.tle"
    with pytest.raises(ScenarioError, match=r"expected one spacecraft \(constellation\.names\), got \d+"):
        planner("constellation.names=SENTINEL-2*", elements=catalogue)
    with pytest.raises(CoverageError, match=r"observer p00 s00: no contact from 2025-10-03T10:00:00Z .* at Svalbard"):
        planner(
            "constellation.shells[0].inclination_deg=0.0",
            "gateways=[{name='Svalbard',latitude_deg=78.2,longitude_deg=15.4}]",
        )
