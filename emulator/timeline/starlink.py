"""The Timeline of a Starlink link: a stretch is a slot, and has one satellite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath

import numpy as np

from emulator.orbit.look import look
from emulator.orbit.source import Swarm, swarm_of
from emulator.radio.modcod import LOWEST_CN_CENTIDB
from emulator.scenario.links import StarlinkLink
from emulator.scenario.model import Scenario
from emulator.serving.isl import Grid, IslPolicy
from emulator.serving.starlink import SLOT_NS, StarlinkPolicy
from emulator.serving.stations import GroundStation, masks_deg
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.draws import Purpose, Way, draw32
from emulator.timeline.model import LOSS_ONE, Floats, Ints
from emulator.timeline.orbiting import OrbitWindows, bent_pipe
from emulator.timeline.overview import Overview, overview
from emulator.timeline.sky import Phase, Seen, Stint
from emulator.units import NS_PER_MS, NS_PER_S, SPEED_OF_LIGHT_M_S

ISL_LEGS = ("terminal to satellite", "between satellites", "satellite to gateway")


class StarlinkWindows(OrbitWindows):
    """Plans the link of a scenario of profile `starlink`. `notes`: what was left out of the elements, a line each.

    swarm: shared with other terminals; whether it serves this one is then not looked into. Raises ElementsError for
    elements that cannot be used, CoverageError if no satellite serves the terminal.
    """

    slotted = True
    policy: StarlinkPolicy

    def __init__(
        self,
        scenario: Scenario,
        *,
        elements: FilePath | None = None,
        epoch_utc_ns: int,
        swarm: Swarm | None = None,
    ) -> None:
        link = scenario.link
        if not isinstance(link, StarlinkLink) or not (scenario.terminal and scenario.constellation and scenario.pop):
            raise ValueError(f"expected a scenario of link.profile 'starlink', got {link.profile!r}")
        self._link = link
        self._lead_ns = round(link.boundary_lead_ms * NS_PER_MS)
        satellites, self.notes, propagator = swarm or swarm_of(scenario, elements=elements, epoch_utc_ns=epoch_utc_ns)
        stations = [GroundStation.of(gateway, scenario.pop, link.fibre_detour) for gateway in scenario.gateways]
        phase_ns = round(link.slot_phase_s * NS_PER_S)
        super().__init__(scenario, link, satellites.names, stations, stretch_ns=SLOT_NS, phase_ns=phase_ns)
        make_policy = IslPolicy if link.isl else StarlinkPolicy
        self.policy = make_policy(
            propagator,
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
        if swarm is None:
            self.policy.require_coverage(epoch_utc_ns)

    def over_m(self, utc_ns: int) -> Floats:
        hops = self.policy.serving(self.stretch_at(utc_ns)).hops
        return self.policy.propagator.positions_m(np.array([utc_ns]), np.array(hops, np.int64))[:, 0]

    def overview(self, start_ns: int, end_ns: int) -> Overview:
        """What holds as each slot begins that begins in [start_ns, end_ns), at least one; a bent pipe's all at once."""
        if self.legs is ISL_LEGS:
            return overview(self, start_ns, end_ns)
        first, last = self.stretch_at(start_ns - 1) + 1, self.stretch_at(end_ns - 1)
        numbers = np.arange(first, last + 1, dtype=np.int64)
        utc_ns = self.stretch_start_ns(numbers)
        served = [self.policy.serving(number) for number in numbers.tolist()]
        satellite = np.array([one.satellite for one in served])
        gateway = np.array([one.gateway for one in served])
        up = np.flatnonzero(satellite >= 0)
        unknown = np.full(len(numbers), np.nan)
        azimuth_deg, elevation_deg, slant_range_m = unknown.copy(), unknown.copy(), unknown.copy()
        legs_m = np.zeros((2, len(numbers)))
        if len(up):
            position_m = self.policy.begin_m(numbers[up], satellite[up])
            seen = look(self.policy.site.observer(utc_ns[up]), position_m)
            from_gateway = look(self.policy.gateway_observers(gateway[up]), position_m)
            azimuth_deg[up], elevation_deg[up] = seen.azimuth_deg, seen.elevation_deg
            slant_range_m[up], legs_m[:, up] = seen.range_m, (seen.range_m, from_gateway.range_m)
        legs_ns = np.rint(legs_m / SPEED_OF_LIGHT_M_S * NS_PER_S).astype(np.int64).sum(axis=0)
        fibre_ns = np.where(satellite >= 0, np.array(self._fibre_ns)[gateway], 0) + self._datacenter_ns
        delays_ns, rates_bps, cn_centidb = [], [], []
        for way, link in self._ways.items():
            constant_ns = fibre_ns + round(link.fixed_ms * NS_PER_MS)
            delays_ns.append(legs_ns + constant_ns + self._spreads_ns(numbers, way))
            rate_bps = np.empty(len(numbers), np.int64)
            cn = np.full(len(numbers), LOWEST_CN_CENTIDB)
            for part in (up, np.flatnonzero(satellite < 0)):
                seconds = np.append(part, part[-1:])  # `_rates` wants the end of the last second, too
                seen_then = Seen(
                    azimuth_deg[seconds], elevation_deg[seconds], slant_range_m[seconds], legs_m[:, seconds]
                )
                rate_bps[part] = self._rates(numbers[part], way, seen_then, utc_ns[part])
                if part is up:
                    cn[part] = self._cn(way, seen_then, utc_ns[part])
            rates_bps.append(rate_bps)
            cn_centidb.append(cn)
        gate, cause = self.steady_gates(utc_ns, satellite >= 0, cn_centidb)
        return Overview(
            utc_ns,
            satellite,
            gateway,
            azimuth_deg,
            elevation_deg,
            slant_range_m,
            uplink_delay_ns=delays_ns[0],
            downlink_delay_ns=delays_ns[1],
            uplink_bps=rates_bps[0],
            downlink_bps=rates_bps[1],
            gate=gate,
            cause=cause,
        )

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
