"""The Timeline of an Iridium link: a path over several satellites."""

from __future__ import annotations

from pathlib import Path as FilePath

import numpy as np

from emulator.orbit.look import look
from emulator.orbit.source import Swarm
from emulator.scenario.links import IridiumLink
from emulator.scenario.model import Scenario
from emulator.serving.iridium import IridiumPolicy
from emulator.serving.passes import MINUTE_NS
from emulator.timeline.model import Floats, Ints
from emulator.timeline.passes import PassWindows
from emulator.timeline.sky import Seen, Stint
from emulator.units import NS_PER_S


class IridiumWindows(PassWindows):
    """Plans a link of profile `iridium`; the way between the satellites is the shortest at each second.

    Which satellites are neighbours is looked at once in a UTC minute.
    """

    legs = ("terminal to satellite", "between satellites", "satellite to gateway")
    policy: IridiumPolicy

    def __init__(
        self,
        scenario: Scenario,
        *,
        elements: FilePath | None = None,
        epoch_utc_ns: int,
        swarm: Swarm | None = None,
    ) -> None:
        link = scenario.link
        if not isinstance(link, IridiumLink):
            raise ValueError(f"expected a scenario of link.profile 'iridium', got {link.profile!r}")
        super().__init__(scenario, link, IridiumPolicy, elements=elements, epoch_utc_ns=epoch_utc_ns, swarm=swarm)

    def over_m(self, utc_ns: int) -> Floats:
        stint = next(one for one in self._stints(utc_ns // MINUTE_NS) if one.end_ns > utc_ns)
        hops: list[int] = []
        if stint.satellite >= 0:
            second = utc_ns % MINUTE_NS // NS_PER_S
            hops = self.policy.hops(stint.gateway, _seconds_ns(utc_ns), second, stint.satellite)
        return self.policy.propagator.positions_m(np.array([utc_ns]), np.array(hops, np.int64))[:, 0]

    def _seen(self, stint: Stint, times_ns: Ints) -> Seen:
        seconds_ns = _seconds_ns(stint.start_ns)
        minute_ns = seconds_ns[0]
        ways = (way[stint.satellite] for way in self.policy.ways_down_m(stint.gateway, seconds_ns))
        # A way that is not there yet, or no longer, is not this stint's: any number will do, infinity would spread.
        between, last = (np.where(np.isfinite(way), way, 0.0) for way in ways)
        position = self.policy.propagator.positions_m(times_ns, np.array([stint.satellite]))[0]
        seen = look(self.policy.site.observer(times_ns), position)
        over = (np.interp(times_ns - minute_ns, seconds_ns - minute_ns, way) for way in (between, last))
        return Seen(seen.azimuth_deg, seen.elevation_deg, seen.range_m, np.stack([seen.range_m, *over]))


def _seconds_ns(utc_ns: int) -> Ints:
    """The seconds of a UTC minute, its end included."""
    minute_ns = utc_ns // MINUTE_NS * MINUTE_NS
    return np.arange(minute_ns, minute_ns + MINUTE_NS + 1, NS_PER_S, dtype=np.int64)
