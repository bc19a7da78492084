"""The terminal's state comes from its scenario and the instant alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ScenarioError
from emulator.scenario.hardware import GnssLoss
from emulator.scenario.links import FixedLink
from emulator.scenario.model import Scenario, Site
from emulator.scenario.model import Terminal as TerminalSite
from emulator.terminal import Terminal
from emulator.terminal.gnss import FixMode
from emulator.units import NS_PER_S


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


@given(st.integers(0, 2 * 10**9), st.integers(0, 10**5), st.integers(1, 10**5), st.integers(-10, 2 * 10**5))
def test_a_receiver_without_a_sky_has_no_fix_for_as_long_as_the_scenario_says(
    start_s: int, at_s: int, lasts_s: int, seconds: int
) -> None:
    losses = (GnssLoss(at_s=at_s, duration_s=lasts_s),)
    site = TerminalSite(latitude_deg=48.5, longitude_deg=-123.3, gnss_losses=losses)
    terminal = Terminal.from_scenario(Scenario(link=FixedLink(), terminal=site), start_s * NS_PER_S)
    fix = terminal.state((start_s + seconds) * NS_PER_S).gnss
    lost = at_s <= seconds < at_s + lasts_s
    assert (fix.mode is FixMode.NONE, fix.satellites == ()) == (lost, lost)
