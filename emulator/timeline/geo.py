"""The Timeline of a link over a geostationary satellite: constant delay, a MODCOD that follows the C/N."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from emulator.radio.adaptive import EFFICIENCY_ONE, followed_efficiency
from emulator.radio.modcod import WAVEFORMS
from emulator.radio.sun_noise import beam_width_deg, noise_rise_db, sun_noise_k
from emulator.scenario.links import GeoDirection, GeoLink
from emulator.scenario.model import Scenario
from emulator.serving.geo import GeoPolicy
from emulator.serving.stations import GroundStation
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.draws import Way
from emulator.timeline.model import Ints
from emulator.timeline.sky import Phase, Seen, SkyWindows, Stint
from emulator.timeline.weather import weather_of
from emulator.units import NS_PER_S

MINUTE_NS = 60 * NS_PER_S
HOUR_S = 3600
HOURS_KEPT = 8
LEAST_RATE_BPS = 1_000  # while no MODCOD closes: a rate of 0 would mean no limit


class Radio(NamedTuple):
    """A direction second by second of a UTC hour, (3600,): C/N less margin in dB × 100, efficiency × 10⁶."""

    cn_centidb: Ints
    efficiency: Ints


def policy_of(link: GeoLink, scenario: Scenario) -> GeoPolicy:
    """Who serves in a scenario with that link, a terminal and a point of presence. Raises CoverageError as it does."""
    assert scenario.terminal is not None
    assert scenario.pop is not None
    stations = [GroundStation.of(gateway, scenario.pop, link.fibre_detour) for gateway in scenario.gateways]
    return GeoPolicy(link, scenario.terminal, stations)


class GeoWindows(SkyWindows):
    """Plans the link of a scenario of profile `geo`. Raises CoverageError if the satellite is below a mask.

    The modem's state is worked out from the start of each UTC hour on, so that it depends on time alone, and not on
    when a run began; at the full hour it takes the best MODCOD, without hysteresis.
    """

    def __init__(self, scenario: Scenario) -> None:
        link = scenario.link
        if not isinstance(link, GeoLink) or not (scenario.terminal and scenario.pop):
            raise ValueError(f"expected a scenario of link.profile 'geo', got {link.profile!r}")
        self._link = link
        self.policy = policy_of(link, scenario)
        ways = link.uplink, link.downlink
        super().__init__(scenario, link, ways, (link.satellite,), self.policy.stations, stretch_ns=MINUTE_NS)
        self._weather = weather_of(link.weather, scenario)
        self._geo_ways = {Way.UP: ("uplink", link.uplink), Way.DOWN: ("downlink", link.downlink)}
        self._hours: OrderedDict[tuple[int, Way], Radio] = OrderedDict()

    def _stints(self, number: int) -> list[Stint]:
        edges_ns = np.array([number, number + 1], np.int64) * MINUTE_NS
        serves = self.policy.serves(self.policy.seen(edges_ns)).all()
        satellite, gateway = (0, self.policy.gateway) if serves else (-1, -1)
        return [Stint(int(edges_ns[0]), int(edges_ns[1]), satellite, gateway)]

    def _seen(self, stint: Stint, times_ns: Ints) -> Seen:
        seen = self.policy.seen(times_ns)
        feeder = np.full(len(times_ns), float(self.policy.from_gateway.range_m))
        return Seen(seen.azimuth_deg, seen.elevation_deg, seen.range_m, np.stack([seen.range_m, feeder]))

    def _phases(self, number: int) -> list[Phase]:
        """Outages, and the seconds in which no MODCOD closes."""
        phases = super()._phases(number)
        seconds_ns = number * MINUTE_NS + np.arange(0, MINUTE_NS, NS_PER_S, dtype=np.int64)
        for way in self._geo_ways:
            shut = np.concatenate([[False], self._radio(way, seconds_ns).efficiency == 0, [False]])
            edges_ns = number * MINUTE_NS + np.flatnonzero(shut[1:] != shut[:-1]) * NS_PER_S
            for first, last in edges_ns.reshape(-1, 2).tolist():
                phases.append(Phase(first, last, Gate.DROP, Cause.FADE, way))
        return phases

    def _rates(self, number: int, way: Way, seen: Seen, seconds_ns: Ints) -> Ints:
        symbols_per_s = round(self._geo_ways[way][1].symbol_rate_mbaud * 1e6)
        return np.maximum(symbols_per_s * self._radio(way, seconds_ns).efficiency // EFFICIENCY_ONE, LEAST_RATE_BPS)

    def _cn(self, way: Way, seen: Seen, seconds_ns: Ints) -> Ints:
        return self._radio(way, seconds_ns).cn_centidb

    def _radio(self, way: Way, seconds_ns: Ints) -> Radio:
        """The seconds of one minute."""
        hour, first = divmod(int(seconds_ns[0]) // NS_PER_S, HOUR_S)
        radio = self._hours.get((hour, way))
        if radio is None:
            radio = self._hours[hour, way] = self._hour(hour, *self._geo_ways[way])
            if len(self._hours) > HOURS_KEPT:
                self._hours.popitem(last=False)
        return Radio(*(column[first : first + len(seconds_ns)] for column in radio))

    def _hour(self, hour: int, direction: str, way: GeoDirection) -> Radio:
        utc_ns = (hour * HOUR_S + np.arange(HOUR_S, dtype=np.int64)) * NS_PER_S
        angle_deg = self.policy.sun_angle_deg(direction, utc_ns)
        width_deg = beam_width_deg(way.receiver_antenna_m, way.receiver_ghz)
        added_k = sun_noise_k(angle_deg, width_deg, self._link.sun_temperature_k)
        cn_db = way.clear_sky_cn_db - noise_rise_db(added_k, way.receiver_noise_k)
        if self._weather is not None:
            elevation_deg = self.policy.seen(utc_ns).elevation_deg
            cn_db = cn_db - self._weather.lost_db(
                Way.UP if direction == "uplink" else Way.DOWN, utc_ns, np.broadcast_to(elevation_deg, utc_ns.shape)
            )
        margin_db = self._link.modcod_margin_db
        cn_centidb = np.floor(100 * (cn_db - margin_db)).astype(np.int64)
        waveform, hysteresis_db = WAVEFORMS[way.waveform], self._link.modcod_hysteresis_db
        return Radio(cn_centidb, followed_efficiency(cn_db, margin_db, hysteresis_db, waveform))
