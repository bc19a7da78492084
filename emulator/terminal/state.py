"""The terminal's state: what stubs show. Time is an argument; nothing here reads a clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from emulator.errors import ScenarioError
from emulator.orbit.site import Motion, Site
from emulator.scenario.model import Scenario
from emulator.terminal.gnss import NO_SKY, GnssFix, gnss_fix
from emulator.units import NS_PER_S


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
    """A terminal where the scenario put it; with a `site`, where that is at the time.

    without_fix: (begin, end) in ns of simulated UTC of the times in which its GNSS receiver hears nothing.
    """

    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    site: Site | None = None
    without_fix: tuple[tuple[int, int], ...] = ()

    @classmethod
    def from_scenario(cls, scenario: Scenario, start_utc_ns: int = 0) -> Self:
        """The terminal of a scenario that begins at `start_utc_ns`.

        Raises ScenarioError if the scenario gives it no place on Earth.
        """
        site = scenario.terminal
        if site is None:
            origin = scenario.source or scenario.name or "scenario"
            raise ScenarioError([f"{origin}: terminal: expected a site (latitude_deg, longitude_deg), got none"])
        moving = Site(site) if site.track else None
        without_fix = tuple(
            (start_utc_ns + round(one.at_s * NS_PER_S), start_utc_ns + round((one.at_s + one.duration_s) * NS_PER_S))
            for one in site.gnss_losses
        )
        return cls(site.latitude_deg, site.longitude_deg, site.altitude_m, moving, without_fix)

    def motion(self, utc_ns: int) -> Motion:
        """Where it is, and how it moves."""
        if self.site is None:
            return Motion(self.latitude_deg, self.longitude_deg, self.altitude_m, 0.0, 0.0)
        return self.site.motion(utc_ns)

    def hears_sky(self, utc_ns: int) -> bool:
        """Whether its GNSS receiver hears anything."""
        return not any(begin_ns <= utc_ns < end_ns for begin_ns, end_ns in self.without_fix)

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
            gnss=gnss_fix(here.latitude_deg, here.longitude_deg, here.altitude_m, utc_ns)
            if self.hears_sky(utc_ns)
            else NO_SKY,
        )
