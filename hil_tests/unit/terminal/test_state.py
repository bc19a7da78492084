"""The terminal's state comes from its scenario and the instant alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ScenarioError
from emulator.scenario.links import FixedLink
from emulator.scenario.model import Scenario, Site
from emulator.scenario.model import Terminal as TerminalSite
from emulator.terminal import Terminal


@given(st.integers(0, 2**62))
def test_the_same_instant_gives_the_same_state(utc_ns: int) -> None:
    terminal = Terminal(48.4634, -123.3117, 20.0)
    assert terminal.state(utc_ns) == terminal.state(utc_ns)
    assert terminal.state(utc_ns).utc_ns == utc_ns


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-500, 100_000))
def test_the_site_is_the_scenarios(latitude_deg: float, longitude_deg: float, altitude_m: float) -> None:
    site = TerminalSite(latitude_deg=latitude_deg, longitude_deg=longitude_deg, altitude_m=altitude_m)
    state = Terminal.from_scenario(Scenario(link=FixedLink(), terminal=site)).state(0)
    assert (state.latitude_deg, state.longitude_deg, state.altitude_m) == (latitude_deg, longitude_deg, altitude_m)
    assert state.speed_m_s == 0.0
    assert isinstance(site, Site)


def test_a_scenario_without_a_site_is_refused_by_the_name_of_the_key() -> None:
    with pytest.raises(ScenarioError, match=r"bare: terminal: expected a site .*, got none"):
        Terminal.from_scenario(Scenario(name="bare", link=FixedLink()))
