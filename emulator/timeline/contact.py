"""The Timeline of a spacecraft in low orbit and the stations that it passes: contacts, and nothing between them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path as FilePath

import numpy as np

from emulator.errors import ScenarioError
from emulator.orbit.look import look
from emulator.orbit.source import satellites_of
from emulator.radio.clear_sky import clear_sky_cn_centidb
from emulator.scenario.links import ContactLink
from emulator.scenario.model import Scenario
from emulator.serving.contact import ContactPolicy
from emulator.serving.passes import MINUTE_NS
from emulator.serving.stations import GroundStation
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.draws import Way
from emulator.timeline.model import Contact, Ints
from emulator.timeline.passes import stints_of
from emulator.timeline.sky import Phase, Seen, SkyWindows, Stint
from emulator.units import NS_PER_S, bits_per_s


class ContactWindows(SkyWindows):
    """Plans a link of profile `ground_station`. Angles and ranges are those of the station that has the spacecraft.

    Raises ScenarioError unless the constellation is one spacecraft, ElementsError for elements that cannot be used,
    CoverageError if no station ever sees it.
    """

    legs = ("spacecraft to station",)

    def __init__(self, scenario: Scenario, *, elements: FilePath | None = None, epoch_utc_ns: int) -> None:
        link = scenario.link
        if not isinstance(link, ContactLink) or scenario.pop is None:
            raise ValueError(f"expected a scenario of link.profile 'ground_station', got {link.profile!r}")
        spacecraft, self.notes = satellites_of(scenario, elements=elements, epoch_utc_ns=epoch_utc_ns)
        if len(spacecraft) != 1:
            name = scenario.name or "scenario"
            raise ScenarioError(
                [f"{name}: constellation: expected one spacecraft (constellation.names), got {len(spacecraft)}"]
            )
        stations = [GroundStation.of(gateway, scenario.pop, link.fibre_detour) for gateway in scenario.gateways]
        ways = link.uplink, link.downlink
        super().__init__(scenario, link, ways, spacecraft.names, stations, stretch_ns=MINUTE_NS)
        self.policy = ContactPolicy(spacecraft, stations)
        self._acquisition_ns = round(link.acquisition_s * NS_PER_S)
        self._cn_range_m = link.cn_range_km * 1000
        self._contact_ways = {Way.UP: link.uplink, Way.DOWN: link.downlink}
        self._steps = {}
        for way, direction in self._contact_ways.items():
            steps = sorted(direction.rates, key=lambda step: step.elevation_deg)
            self._steps[way] = (
                np.array([step.elevation_deg for step in steps]),
                np.array([bits_per_s(step.rate_mbps) for step in steps], np.int64),
            )
        self.policy.require_coverage(epoch_utc_ns)

    def contacts(self, start_ns: int, end_ns: int) -> list[Contact]:
        found: list[Contact] = []
        for number in range(start_ns // MINUTE_NS, -(-end_ns // MINUTE_NS)):
            for stint in self._stints(number):
                first, last = max(stint.start_ns, start_ns), min(stint.end_ns, end_ns)
                if stint.satellite < 0 or first >= last:
                    continue
                times_ns = np.arange(first, last + 1, NS_PER_S, dtype=np.int64)
                sine = self.policy.sin_elevation(times_ns)[stint.gateway]
                highest, station = float(np.degrees(np.arcsin(sine.max()))), self.gateways[stint.gateway]
                if found and found[-1].end_ns == first and found[-1].station == station:
                    before = found.pop()
                    first, highest = before.start_ns, max(highest, before.highest_deg)
                found.append(Contact(station, first, last, highest))
        return found

    def handover_phases(self, at_ns: int) -> list[Phase]:
        return [Phase(at_ns, at_ns + self._acquisition_ns, Gate.DROP, Cause.HANDOVER)]

    def _stints(self, number: int) -> list[Stint]:
        return stints_of(number, self.policy.minute(number))

    def _seen(self, stint: Stint, times_ns: Ints) -> Seen:
        position = self.policy.propagator.positions_m(times_ns)[0]
        seen = look(self.policy.stations[stint.gateway].observer, position)
        return Seen(seen.azimuth_deg, seen.elevation_deg, seen.range_m, seen.range_m[np.newaxis])

    def _phases(self, number: int) -> list[Phase]:
        """Modems that search: at the beginning of a contact with a station, and as long as it takes; outages."""
        phases: list[Phase] = []
        if self._acquisition_ns > 0:
            first = number - -(-self._acquisition_ns // MINUTE_NS)
            minutes = [self.policy.minute(at) for at in range(first - 1, number + 1)]
            station = np.concatenate([minute.gateway for minute in minutes])[59:]
            for second, (before, now) in enumerate(pairwise(station.tolist())):
                if now >= 0 and now != before:
                    at_ns = first * MINUTE_NS + second * NS_PER_S
                    phases.append(Phase(at_ns, at_ns + self._acquisition_ns, Gate.DROP, Cause.HANDOVER))
        return [*phases, *super()._phases(number)]

    def _rates(self, number: int, way: Way, seen: Seen, seconds_ns: Ints) -> Ints:
        """By the lower elevation of each second's two ends."""
        elevations_deg, rates_bps = self._steps[way]
        lower = np.nan_to_num(np.minimum(seen.elevation_deg[:-1], seen.elevation_deg[1:]), nan=-90.0)
        step = np.searchsorted(elevations_deg, lower, side="right") - 1
        return rates_bps[np.maximum(step, 0)]

    def _cn(self, way: Way, seen: Seen, seconds_ns: Ints) -> Ints:
        at_range_db = self._contact_ways[way].clear_sky_cn_db
        return clear_sky_cn_centidb(seen.slant_range_m[:-1], at_range_db, self._cn_range_m)
