"""What all systems have on the ground: gateways with their fibre, and the terminal's elevation masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.errors import CoverageError
from emulator.orbit.look import Observer, great_circle_m, look
from emulator.orbit.propagate import Propagator
from emulator.orbit.satellites import Satellites
from emulator.orbit.site import Site
from emulator.scenario.model import Constellation, Gateway, PointOfPresence, Terminal
from emulator.units import NS_PER_S, format_utc

Floats = npt.NDArray[np.float64]

# Lowest elevation by shell altitude, FCC's grant for the second generation (by way of the news): above 500 km 25°,
# 400–500 km 20°, some shells below 400 km 10°.
MASK_BY_ALTITUDE = ((400.0, 10.0), (500.0, 20.0), (float("inf"), 25.0))


SCAN_PROPAGATIONS = 700_000  # about 1 s: how far the search for a first satellite goes before it gives up
LONGEST_SCAN_NS = 86_400 * NS_PER_S


@dataclass(frozen=True)
class GroundStation:
    """A gateway: where it is, down to which elevation it tracks, how far its fibre to the point of presence is."""

    name: str
    observer: Observer
    min_elevation_deg: float
    fibre_m: float

    @classmethod
    def of(cls, gateway: Gateway, pop: PointOfPresence, detour: float) -> GroundStation:
        """`detour`: length of the fibre over the great circle to `pop`."""
        observer = Observer.at(gateway.latitude_deg, gateway.longitude_deg, gateway.altitude_m)
        there = Observer.at(pop.latitude_deg, pop.longitude_deg, pop.altitude_m)
        return cls(gateway.name, observer, gateway.min_elevation_deg, detour * great_circle_m(observer, there))


def masks_deg(satellites: Satellites, constellation: Constellation, terminal: Terminal) -> Floats:
    """Lowest elevation at which each satellite serves, (satellites,): the terminal's own mask, else the shell's, else
    the constellation's, else by altitude.
    """
    if terminal.min_elevation_deg is not None:
        return np.full(len(satellites), terminal.min_elevation_deg)
    if constellation.min_elevation_deg is not None:
        unsaid = np.full(len(satellites), constellation.min_elevation_deg)
    else:
        edges = [edge for edge, _ in MASK_BY_ALTITUDE[:-1]]
        unsaid = np.array([mask for _, mask in MASK_BY_ALTITUDE])[np.searchsorted(edges, satellites.altitude_km)]
    return np.where(np.isnan(satellites.shell_mask_deg), unsaid, satellites.shell_mask_deg)


def require_coverage(
    propagator: Propagator,
    site: Site,
    masks: Floats,
    stations: Sequence[GroundStation],
    start_ns: int,
    *,
    block_ns: int,
    serves: Callable[[int], bool],
) -> None:
    """Raises CoverageError unless a satellite serves the terminal soon after `start_ns`; the error says why not.

    Soon: at least one orbit of the highest satellite; up to a day for constellations small enough to try. `serves`
    tells whether one does within the block of `block_ns` that begins at a time.
    """
    satellites = propagator.satellites
    slowest = min((record.no_kozai for record in satellites.records), default=1.0)
    orbit_ns = round(2 * np.pi / slowest * 60 * NS_PER_S)
    affordable_ns = SCAN_PROPAGATIONS // max(1, len(satellites)) * block_ns
    until_ns = start_ns + max(orbit_ns, min(LONGEST_SCAN_NS, affordable_ns))
    if any(serves(at_ns) for at_ns in range(start_ns, until_ns, block_ns)):
        return
    here = site.motion(start_ns)
    where = (
        f"terminal at latitude {here.latitude_deg:g}, longitude {here.longitude_deg:g}: no satellite serves it "
        f"from {format_utc(start_ns, 0)} to {format_utc(until_ns, 0)}"
    )
    if len(masks) == 0:
        raise CoverageError(f"{where}: the constellation is empty")
    mask = f"{masks.min():g}°" if masks.min() == masks.max() else f"{masks.min():g}° to {masks.max():g}° by shell"
    highest, name, visible, clear = -90.0, "", False, False
    for at_ns in range(start_ns, until_ns, block_ns):
        position = propagator.positions_m(np.array([at_ns], np.int64))[:, 0]
        seen = look(site.observer_at(at_ns), position)
        elevation = np.nan_to_num(seen.elevation_deg, nan=-90.0)
        visible = visible or bool((elevation >= masks).any())
        clear = clear or bool(((elevation >= masks) & site.unobstructed(seen)).any())
        if elevation.max() > highest:
            highest, name = float(elevation.max()), satellites.names[int(elevation.argmax())]
    if visible and not clear:
        raise CoverageError(f"{where}: all that stand above the mask of {mask} are behind terminal.horizon")
    if visible:
        names = ", ".join(station.name for station in stations)
        raise CoverageError(
            f"{where}: some stand above the mask of {mask}, but none long enough and in view of a gateway ({names})"
        )
    raise CoverageError(f"{where}: elevation mask {mask}, highest elevation seen {highest:.1f}° ({name})")
