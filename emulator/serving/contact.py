"""Which station on the ground has a spacecraft: the one that sees it highest, above its mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emulator.errors import CoverageError
from emulator.orbit.look import look
from emulator.orbit.propagate import Propagator
from emulator.orbit.satellites import Satellites
from emulator.serving.passes import MINUTE_NS, MINUTE_S, Minute, MinutePolicy
from emulator.serving.stations import GroundStation
from emulator.units import NS_PER_S, format_utc

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SEARCHED_S = 3 * 86_400  # an orbit that keeps its plane to the sun comes back to each site within a day or two
SEARCH_STEP_S = 10


class ContactPolicy(MinutePolicy):
    """Station by second: contacts begin and end on whole UTC seconds, within which the mask is kept throughout.

    The only satellite is number 0; `gateway` is the station.
    """

    def __init__(self, spacecraft: Satellites, stations: Sequence[GroundStation]) -> None:
        super().__init__()
        self.propagator = Propagator(spacecraft)
        self.stations = tuple(stations)
        self._sin_mask = np.sin(np.radians([station.min_elevation_deg for station in stations]))

    def sin_elevation(self, utc_ns: Ints) -> Floats:
        """Sine of the spacecraft's elevation at each station, (stations, times)."""
        position = self.propagator.positions_m(utc_ns)[0]
        return np.stack([look(station.observer, position).sin_elevation for station in self.stations])

    def require_coverage(self, start_ns: int) -> None:
        """Raises CoverageError unless there is a contact within three days of `start_ns`."""
        times_ns = start_ns + np.arange(0, SEARCHED_S, SEARCH_STEP_S, dtype=np.int64) * NS_PER_S
        sine = np.nan_to_num(self.sin_elevation(times_ns), nan=-1.0)
        if not (sine >= self._sin_mask[:, np.newaxis]).any():
            highest = np.unravel_index(sine.argmax(), sine.shape)[0]
            name, elevation = self.stations[int(highest)].name, float(np.degrees(np.arcsin(sine.max())))
            until = format_utc(int(times_ns[-1]), 0)
            raise CoverageError(
                f"spacecraft {self.propagator.satellites.names[0]}: no contact from {format_utc(start_ns, 0)} to "
                f"{until}: it stands at {elevation:.1f}° at most, at {name}, below the elevation masks"
            )

    def _work_out(self, number: int) -> Minute:
        seconds_ns = number * MINUTE_NS + np.arange(MINUTE_S + 1, dtype=np.int64) * NS_PER_S
        sine = np.nan_to_num(self.sin_elevation(seconds_ns), nan=-1.0)
        above = sine >= self._sin_mask[:, np.newaxis]
        may = self.pin.gateways(len(self.stations)) & self.pin.satellites(np.zeros(1, np.int64))
        usable = above[:, :-1] & above[:, 1:] & may[:, np.newaxis]
        station = np.where(usable, sine[:, :-1], -2.0).argmax(axis=0)
        served = usable.any(axis=0)
        return Minute(np.where(served, 0, -1), np.where(served, station, -1))
