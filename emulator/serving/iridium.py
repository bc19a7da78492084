"""Who serves a terminal of Iridium: the highest satellite; links between satellites lead to the gateway."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emulator.orbit.look import look
from emulator.orbit.propagate import Propagator
from emulator.scenario.model import Terminal
from emulator.serving.mesh import Mesh
from emulator.serving.passes import Bools, PassPolicy, Sky
from emulator.serving.stations import GroundStation
from emulator.units import FIBRE_SPEED_M_S, SPEED_OF_LIGHT_M_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class IridiumPolicy(PassPolicy):
    """The highest satellite from which a way leads to a gateway; of several gateways the one with the shortest way."""

    def __init__(
        self, propagator: Propagator, masks: Floats, terminal: Terminal, gateways: Sequence[GroundStation]
    ) -> None:
        super().__init__(propagator, masks, terminal, gateways)
        self._mesh = Mesh(propagator.satellites)

    def merit(self, sky: Sky) -> Floats:
        """The sine of the elevation; below every real one where SGP4 fails."""
        return np.nan_to_num(sky.seen.sin_elevation, nan=-2.0)

    def tracked(self, sky: Sky) -> Bools:
        return np.isfinite(self._lengths_m(sky))

    def gateway_merit(self, sky: Sky) -> Floats:
        fibre_m = np.array([station.fibre_m for station in self.gateways]) * SPEED_OF_LIGHT_M_S / FIBRE_SPEED_M_S
        return -(self._lengths_m(sky) + fibre_m[:, np.newaxis, np.newaxis])

    def ways_down_m(self, gateway: int, utc_ns: Ints) -> tuple[Floats, Floats]:
        """From every satellite to a gateway: between satellites, and the last leg, each (satellites, times)."""
        return self._mesh.way_down_m(*self._feeders_m(gateway, utc_ns))

    def hops(self, gateway: int, utc_ns: Ints, time: int, satellite: int) -> list[int]:
        """The satellites that the way from `satellite` to a gateway leads over, at one of the times; without itself."""
        return self._mesh.hops(*self._feeders_m(gateway, utc_ns), time, satellite)

    def _feeders_m(self, gateway: int, utc_ns: Ints) -> tuple[Floats, Floats]:
        """Where all satellites are, and their range from a gateway, inf below its mask."""
        position = self.propagator.positions_m(utc_ns)
        station = self.gateways[gateway]
        seen = look(station.observer, position)
        above = seen.sin_elevation >= np.sin(np.radians(station.min_elevation_deg))
        return position, np.where(above, seen.range_m, np.inf)

    def _lengths_m(self, sky: Sky) -> Floats:
        ways = [np.add(*self.ways_down_m(gateway, sky.seconds_ns))[sky.near] for gateway in range(len(self.gateways))]
        return np.stack(ways)
