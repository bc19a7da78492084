"""The Timeline of a Starlink link: a stretch is a slot, and has one satellite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath

import numpy as np

from emulator.orbit.look import look
from emulator.orbit.source import satellites_of
from emulator.scenario.links import StarlinkLink
from emulator.scenario.model import Scenario
from emulator.serving.isl import Grid, IslPolicy
from emulator.serving.starlink import SLOT_NS, StarlinkPolicy
from emulator.serving.stations import GroundStation, masks_deg
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.draws import Purpose, Way, draw32
from emulator.timeline.model import LOSS_ONE, Ints
from emulator.timeline.orbiting import OrbitWindows, bent_pipe
from emulator.timeline.sky import Phase, Seen, Stint
from emulator.units import NS_PER_MS, NS_PER_S

ISL_LEGS = ("terminal to satellite", "between satellites", "satellite to gateway")


class StarlinkWindows(OrbitWindows):
    """Plans the link of a scenario of profile `starlink`. `notes`: what was left out of the elements, a line each.

    Raises ElementsError for elements that cannot be used, CoverageError if no satellite serves the terminal.
    """

    slotted = True
    policy: StarlinkPolicy

    def __init__(self, scenario: Scenario, *, elements: FilePath | None = None, epoch_utc_ns: int) -> None:
        link = scenario.link
        if not isinstance(link, StarlinkLink) or not (scenario.terminal and scenario.constellation and scenario.pop):
            raise ValueError(f"expected a scenario of link.profile 'starlink', got {link.profile!r}")
        self._link = link
        self._lead_ns = round(link.boundary_lead_ms * NS_PER_MS)
        satellites, self.notes = satellites_of(scenario, elements=elements, epoch_utc_ns=epoch_utc_ns)
        stations = [GroundStation.of(gateway, scenario.pop, link.fibre_detour) for gateway in scenario.gateways]
        phase_ns = round(link.slot_phase_s * NS_PER_S)
        super().__init__(scenario, link, satellites.names, stations, stretch_ns=SLOT_NS, phase_ns=phase_ns)
        make_policy = IslPolicy if link.isl else StarlinkPolicy
        self.policy = make_policy(
            satellites,
            masks_deg(satellites, scenario.constellation, scenario.terminal),
            scenario.terminal,
            stations,
            phase_ns,
            lambda slot: int(draw32(self._seed, Way.BOTH, Purpose.SERVING, np.array([slot]))[0]),
            gso_exclusion_deg=link.gso_exclusion_deg,
        )
        if isinstance(self.policy, IslPolicy):
            self.legs = ISL_LEGS
            self.policy.grid = Grid(satellites, scenario.constellation.shells)
        self.policy.require_coverage(epoch_utc_ns)

    def _stints(self, number: int) -> list[Stint]:
        start_ns, serving = self.policy.slot_start_ns(number), self.policy.serving(number)
        return [Stint(start_ns, start_ns + SLOT_NS, serving.satellite, serving.gateway)]

    def _seen(self, stint: Stint, times_ns: Ints) -> Seen:
        direct = bent_pipe(self.policy, stint, times_ns)
        if self.legs is not ISL_LEGS:
            return direct
        hops = self.policy.serving(self.stretch_at(stint.start_ns)).hops
        position = self.policy.propagator.positions_m(times_ns, np.array([stint.satellite, *hops]))
        between = np.sqrt((np.diff(position, axis=0) ** 2).sum(axis=-1)).sum(axis=0)
        feeder = look(self.policy.gateways[stint.gateway].observer, position[-1]).range_m
        return replace(direct, legs_m=np.stack([direct.slant_range_m, between, feeder]))

    def _phases(self, number: int) -> list[Phase]:
        """What the boundaries at the slot's beginning and end do, to this slot at most; outages."""
        following = self._boundary(number + 1) if self._lead_ns else []
        return [*self._boundary(number), *following, *super()._phases(number)]

    def _boundary(self, number: int) -> list[Phase]:
        """What the boundary at which a slot begins does."""
        start_ns = self.policy.slot_start_ns(number) - self._lead_ns
        if self.policy.serving(number).satellite == self.policy.serving(number - 1).satellite:
            end_ns = start_ns + round(self._link.handover.reconfigure_hold_ms * NS_PER_MS)
            return [Phase(start_ns, end_ns, Gate.HOLD, Cause.HANDOVER)]
        return self._handover(start_ns)

    def _loss(self, way: Way, seconds_ns: Ints) -> Ints:
        """By the second of the slot."""
        unsettled = self._link.unsettled
        second = (seconds_ns - self._phase_ns) % SLOT_NS // NS_PER_S
        among = (second >= unsettled.from_s) & (second < unsettled.to_s)
        loss = super()._loss(way, seconds_ns)
        more = np.minimum(np.rint(loss * unsettled.loss_factor), LOSS_ONE).astype(np.int64)
        return np.where(among, more, loss)
