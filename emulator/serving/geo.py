"""Who serves a terminal on a geostationary satellite: that satellite, through the nearest gateway that sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from emulator.errors import CoverageError
from emulator.orbit.geostationary import slot_position_m
from emulator.orbit.look import Look, look
from emulator.orbit.site import Site
from emulator.orbit.sun import sun_position_m
from emulator.orbit.view import View, stretches_ns
from emulator.scenario.links import GeoLink
from emulator.scenario.model import Terminal
from emulator.serving.stations import GroundStation
from emulator.units import FIBRE_SPEED_M_S, SPEED_OF_LIGHT_M_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class GeoPolicy:
    """A path that never changes: `gateway` is the index of the station that serves.

    Raises CoverageError if the terminal, or every gateway, has the satellite below its mask.
    """

    def __init__(self, link: GeoLink, terminal: Terminal, stations: Sequence[GroundStation]) -> None:
        self._position_m = slot_position_m(link.longitude_deg)
        self.stations = tuple(stations)
        self.site = Site(terminal)
        self._lowest_deg = terminal.min_elevation_deg or 0.0
        seen = look(self.site.start, self._position_m)
        _require(seen, self._lowest_deg, f"terminal at {_place(self.site)}", link, self.site)
        from_gateway = [look(station.observer, self._position_m) for station in stations]
        able = [
            number
            for number, station in enumerate(stations)
            if from_gateway[number].elevation_deg >= station.min_elevation_deg
        ]
        if not able:
            highest = int(np.argmax([float(one.elevation_deg) for one in from_gateway]))
            station = stations[highest]
            _require(from_gateway[highest], station.min_elevation_deg, f"gateway {station.name}", link)

        def path_s(number: int) -> float:
            flight_s = float(from_gateway[number].range_m) / SPEED_OF_LIGHT_M_S
            return flight_s + stations[number].fibre_m / FIBRE_SPEED_M_S

        self.gateway = min(able, key=path_s)
        self.from_gateway = from_gateway[self.gateway]
        self._gateway_m = np.array(stations[self.gateway].observer.position_m)

    def seen(self, utc_ns: Ints) -> Look:
        """The satellite from the terminal, (times,)."""
        return look(self.site.observer(utc_ns), np.broadcast_to(self._position_m, (len(utc_ns), 3)))

    def serves(self, seen: Look) -> npt.NDArray[np.bool_]:
        """Whether the terminal has the satellite in view."""
        return (seen.elevation_deg >= self._lowest_deg) & self.site.unobstructed(seen)

    def views(self, start_ns: int, end_ns: int, step_ns: int) -> Iterator[View]:
        """The satellite, index 0, as `emulator.orbit.view.views` gives those that move."""
        for utc_ns in stretches_ns(start_ns, end_ns, step_ns):
            seen = self.seen(utc_ns)
            on = self.serves(seen)
            at_ns = utc_ns[on]
            azimuth_deg, elevation_deg, range_m = (
                np.broadcast_to(column, utc_ns.shape)[on]
                for column in (seen.azimuth_deg, seen.elevation_deg, seen.range_m)
            )
            yield View(at_ns, np.zeros(len(at_ns), np.int64), azimuth_deg, elevation_deg, range_m)

    def sun_angle_deg(self, direction: str, utc_ns: Ints) -> Floats:
        """Angle between sun and satellite for who receives in a direction, (times,); the sun below its horizon too."""
        if direction == "uplink":
            receiver = self._gateway_m
        else:
            observer = self.site.observer(utc_ns)
            receiver = np.stack(np.broadcast_arrays(*observer.position_m), axis=-1)
        to_sun, to_satellite = sun_position_m(utc_ns) - receiver, self._position_m - receiver
        lengths = np.sqrt((to_sun**2).sum(axis=-1) * (to_satellite**2).sum(axis=-1))
        cosine = (to_sun * to_satellite).sum(axis=-1) / lengths
        angle: Floats = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
        return angle


def _place(site: Site) -> str:
    here = site.motion(0)
    return f"{here.latitude_deg:g}, {here.longitude_deg:g}"


def _require(seen: Look, lowest_deg: float, who: str, link: GeoLink, site: Site | None = None) -> None:
    elevation = float(seen.elevation_deg)
    where = f"{who}: {link.satellite} at longitude {link.longitude_deg:g} stands at {elevation:.1f}°"
    if elevation < lowest_deg:
        raise CoverageError(f"{where}, below the elevation mask of {lowest_deg:g}°")
    if site is not None and not np.all(site.unobstructed(seen)):
        raise CoverageError(f"{where}, behind terminal.horizon")
