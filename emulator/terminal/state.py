"""The terminal's state: what stubs show. Time is an argument; nothing here reads a clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from emulator.errors import ScenarioError
from emulator.orbit.site import Motion, Site
from emulator.scenario.model import Scenario
from emulator.terminal.gnss import GnssFix, gnss_fix


@dataclass(frozen=True, slots=True)
class TerminalState:
    """The terminal at one instant of simulated UTC. Position is WGS 84, altitude above its ellipsoid."""

    utc_ns: int
    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    speed_m_s: float
    course_deg: float  # over ground, clockwise from true north, [0, 360)
    gnss: GnssFix


@dataclass(frozen=True, slots=True)
class Terminal:
    """A terminal where the scenario put it; with a `site`, where that is at the time."""

    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    site: Site | None = None

    @classmethod
    def from_scenario(cls, scenario: Scenario) -> Self:
        """The terminal of a scenario. Raises ScenarioError if the scenario gives it no place on Earth."""
        site = scenario.terminal
        if site is None:
            origin = scenario.source or scenario.name or "scenario"
            raise ScenarioError([f"{origin}: terminal: expected a site (latitude_deg, longitude_deg), got none"])
        moving = Site(site) if site.track else None
        return cls(site.latitude_deg, site.longitude_deg, site.altitude_m, moving)

    def motion(self, utc_ns: int) -> Motion:
        """Where it is, and how it moves."""
        if self.site is None:
            return Motion(self.latitude_deg, self.longitude_deg, self.altitude_m, 0.0, 0.0)
        return self.site.motion(utc_ns)

    def state(self, utc_ns: int) -> TerminalState:
        """The state at `utc_ns`. The same instant always gives the same state."""
        here = self.motion(utc_ns)
        return TerminalState(
            utc_ns=utc_ns,
            latitude_deg=here.latitude_deg,
            longitude_deg=here.longitude_deg,
            altitude_m=here.altitude_m,
            speed_m_s=here.speed_m_s,
            course_deg=here.course_deg,
            gnss=gnss_fix(here.latitude_deg, here.longitude_deg, here.altitude_m, utc_ns),
        )
