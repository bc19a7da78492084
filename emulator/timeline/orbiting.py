"""What links with satellites that come and go have in common: drawn rates, handovers, C/N by distance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from emulator.orbit.look import look
from emulator.orbit.propagate import Propagator
from emulator.orbit.site import Site
from emulator.radio.clear_sky import clear_sky_cn_centidb
from emulator.radio.link_budget import carrier_to_noise_db
from emulator.scenario.links import OrbitLink
from emulator.scenario.model import Scenario
from emulator.serving.stations import GroundStation
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.draws import Purpose, Way, quantile, uniform
from emulator.timeline.model import LOSS_ONE, Floats, Ints
from emulator.timeline.sky import WAYS, Phase, Seen, SkyWindows, Stint
from emulator.timeline.weather import slowed, weather_of
from emulator.units import NS_PER_MS, NS_PER_S

LEAST_RATE_BPS = 1_000  # a drawn rate of 0 would mean no limit


class Serving(Protocol):
    """What every policy with satellites knows: where they are, where the terminal is, and the gateways."""

    propagator: Propagator
    site: Site
    gateways: tuple[GroundStation, ...]


def bent_pipe(policy: Serving, stint: Stint, times_ns: Ints) -> Seen:
    """A stint's satellite from the terminal, and the way over it to the gateway."""
    position = policy.propagator.positions_m(times_ns, np.array([stint.satellite]))[0]
    seen = look(policy.site.observer(times_ns), position)
    from_gateway = look(policy.gateways[stint.gateway].observer, position)
    return Seen(seen.azimuth_deg, seen.elevation_deg, seen.range_m, np.stack([seen.range_m, from_gateway.range_m]))


class OrbitWindows(SkyWindows):
    """A link of kind OrbitLink: each direction's rate and schedule are drawn per stretch. Subclasses have a policy."""

    policy: Serving

    def __init__(
        self,
        scenario: Scenario,
        link: OrbitLink,
        satellites: tuple[str, ...],
        stations: Sequence[GroundStation],
        *,
        stretch_ns: int,
        phase_ns: int = 0,
    ) -> None:
        ways = link.uplink, link.downlink
        super().__init__(scenario, link, ways, satellites, stations, stretch_ns=stretch_ns, phase_ns=phase_ns)
        self._orbit_ways = {Way.UP: link.uplink, Way.DOWN: link.downlink}
        self._handover_law = link.handover
        self._cn_range_m = link.cn_range_km * 1000
        self._cell_share = link.cell_share
        self._solar_offset_h = scenario.terminal.longitude_deg / 15 if scenario.terminal else 0.0
        self._weather = weather_of(link.weather, scenario)
        self._wet_loss = round(link.weather.wet_loss * LOSS_ONE)
        self._wet_rate = {Way.UP: link.weather.wet_uplink_rate, Way.DOWN: link.weather.wet_downlink_rate}

    def _seen(self, stint: Stint, times_ns: Ints) -> Seen:
        return bent_pipe(self.policy, stint, times_ns)

    def _spread_ns(self, number: int, way: Way) -> int:
        return int(self._spreads_ns(np.array([number]), way)[0])

    def _spreads_ns(self, numbers: Ints, way: Way) -> Ints:
        share = uniform(self._seed, way, Purpose.SPREAD, numbers)
        return (share * self._orbit_ways[way].slot_spread_ms * NS_PER_MS).astype(np.int64)

    def _rates(self, number: int | Ints, way: Way, seen: Seen, seconds_ns: Ints) -> Ints:
        """Drawn for the stretch, or each second's own stretch, with a wobble by the second."""
        link = self._orbit_ways[way]
        if link.rate_mbps.p100 == 0:
            return np.zeros(len(seconds_ns), np.int64)
        stretch_bps = quantile(link.rate_mbps, uniform(self._seed, way, Purpose.RATE, np.atleast_1d(number))) * 1e6
        seconds = (seconds_ns - self._phase_ns) // NS_PER_S
        wobble = 1 + link.rate_wobble * (2 * uniform(self._seed, way, Purpose.WOBBLE, seconds) - 1)
        rates_bps = np.rint(stretch_bps * wobble * self._share(seconds_ns)).astype(np.int64)
        if self._weather is not None and np.isfinite(seen.slant_range_m).all():
            clear, now = self._clear_cn(way, seen), self._cn(way, seen, seconds_ns)
            wet_bps = np.rint(rates_bps * np.where(self._weather.raining(seconds_ns), self._wet_rate[way], 1.0))
            rates_bps = np.minimum(slowed(rates_bps, clear / 100, now / 100), wet_bps.astype(np.int64))
        return np.maximum(rates_bps, LEAST_RATE_BPS)

    def _loss(self, way: Way, seconds_ns: Ints) -> Ints:
        loss = super()._loss(way, seconds_ns)
        if self._weather is None or self._wet_loss == 0:
            return loss
        return np.minimum(loss + np.where(self._weather.raining(seconds_ns), self._wet_loss, 0), LOSS_ONE)

    def _share(self, seconds_ns: Ints) -> Floats:
        """What sharing a cell leaves of the rate: a cosine over the local solar day."""
        law, day_ns = self._cell_share, 86_400 * NS_PER_S
        hour = (seconds_ns % day_ns) / day_ns * 24 + self._solar_offset_h
        busy = (1 + np.cos(2 * np.pi * (hour - law.busy_hour) / 24)) / 2
        share: Floats = 1 - (1 - law.least) * busy
        return share

    def _clear_cn(self, way: Way, seen: Seen) -> Ints:
        radio = self._orbit_ways[way].radio
        if radio is not None:
            off_normal_deg = 90 - seen.elevation_deg[:-1]
            cn_db = carrier_to_noise_db(seen.slant_range_m[:-1], off_normal_deg, **radio.model_dump())
            return np.floor(100 * cn_db).astype(np.int64)
        return clear_sky_cn_centidb(seen.slant_range_m[:-1], self._orbit_ways[way].clear_sky_cn_db, self._cn_range_m)

    def _cn(self, way: Way, seen: Seen, seconds_ns: Ints) -> Ints:
        clear = self._clear_cn(way, seen)
        if self._weather is None:
            return clear
        return clear - np.ceil(100 * self._weather.lost_db(way, seconds_ns, seen.elevation_deg[:-1])).astype(np.int64)

    def handover_phases(self, at_ns: int) -> list[Phase]:
        return self._handover(at_ns)

    def _handover(self, start_ns: int) -> list[Phase]:
        """What a change of satellite at start_ns does: first drop, then hold."""
        law = self._handover_law
        drop_ns = start_ns + round(law.drop_ms * NS_PER_MS)
        hold_ns = drop_ns + round(law.hold_ms * NS_PER_MS)
        return [
            Phase(start_ns, hold_ns, Gate.HOLD, Cause.HANDOVER),
            Phase(start_ns, drop_ns, Gate.DROP, Cause.HANDOVER, WAYS[law.drop_direction]),
        ]
