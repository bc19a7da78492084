"""Who serves a Starlink terminal: slots of 15 s in UTC, one satellite and one gateway for each.

The operator's scheduler is not published. The policy here draws one of the satellites that could serve a slot, with
weights that reproduce what was measured of its choices (Tanveer et al., arXiv 2307.00402): the picks stand 22.9° higher
than the median of the available; 45–90° holds 30 % of these and 80 % of the picks; at mid-northern sites 82 % of the
picks are north, against 58 %. Not reproduced: newer and sunlit satellites are preferred as well.

A slot's choice depends on (seed, slot) and the sky alone, never on the slots before it or on who asks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.errors import CoverageError
from emulator.orbit.look import Look, Observer, great_circle_m, look
from emulator.orbit.propagate import Propagator
from emulator.orbit.satellites import Satellites
from emulator.scenario.model import Constellation, Gateway, PointOfPresence, Terminal
from emulator.units import FIBRE_SPEED_M_S, NS_PER_S, SPEED_OF_LIGHT_M_S, format_utc

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SLOT_NS = 15 * NS_PER_S  # Tanveer et al.: changes at seconds 12, 27, 42, 57 of each UTC minute, at every site
BLOCK_SLOTS = 4  # slots that are worked out together; blocks are fixed in time, so that no result depends on the asker

# Lowest elevation by shell altitude, FCC's grant for the second generation (by way of the news): above 500 km 25°,
# 400–500 km 20°, some shells below 400 km 10°.
MASK_BY_ALTITUDE = ((400.0, 10.0), (500.0, 20.0), (float("inf"), 25.0))

# Weights: (256 sin elevation)⁵, times 7 : 2 for the side of the nearer pole. Fitted to the measured shares above with
# the elements of 2025-05-29 at 41.7° N: 33 % of the available and 81 % of the picks above 45°, 23.4° between the
# medians, 81 % north. Whole numbers, so that the choice is the same on every machine.
SINE_STEPS = 256
ELEVATION_POWER = 5
POLEWARD, OTHER = 7, 2
NO_SIDE_BELOW_DEG = 20.0  # guess: the arc of geostationary satellites, which the north avoids, is then overhead

SCAN_PROPAGATIONS = 700_000  # about 1 s: how far the search for a first satellite goes before it gives up
LONGEST_SCAN_NS = 86_400 * NS_PER_S


class Serving(NamedTuple):
    """Who serves a slot: index of the satellite and of the gateway, −1 for none."""

    slot: int
    satellite: int
    gateway: int


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


class StarlinkPolicy:
    """Serving satellite and gateway by slot. `draw(slot)` gives the slot's number, uniform in [0, 2³²)."""

    def __init__(
        self,
        satellites: Satellites,
        masks: Floats,
        terminal: Terminal,
        gateways: Sequence[GroundStation],
        slot_phase_ns: int,
        draw: Callable[[int], int],
    ) -> None:
        self.propagator = Propagator(satellites)
        self.observer = Observer.at(terminal.latitude_deg, terminal.longitude_deg, terminal.altitude_m)
        self.gateways = tuple(gateways)
        self._terminal = terminal
        self._masks_deg = masks
        self._sin_mask = np.sin(np.radians(masks))
        self._phase_ns = slot_phase_ns
        self._draw = draw
        self._blocks: OrderedDict[int, tuple[Serving, ...]] = OrderedDict()
        self._lock = Lock()

    def slot_at(self, utc_ns: int) -> int:
        """Number of the slot that holds `utc_ns`, counted from 1970."""
        return (utc_ns - self._phase_ns) // SLOT_NS

    def slot_start_ns(self, slot: int) -> int:
        """UTC ns at which a slot begins."""
        return slot * SLOT_NS + self._phase_ns

    def serving(self, slot: int) -> Serving:
        """Who serves `slot`."""
        number, place = divmod(slot, BLOCK_SLOTS)
        with self._lock:
            block = self._blocks.get(number)
            if block is None:
                block = self._blocks[number] = self._choose(number)
                if len(self._blocks) > 8:
                    self._blocks.popitem(last=False)
        return block[place]

    def require_coverage(self, start_ns: int) -> None:
        """Raises CoverageError unless a satellite serves the terminal soon after `start_ns`.

        Soon: at least one orbit of the highest satellite; up to a day for constellations small enough to try.
        """
        satellites = self.propagator.satellites
        slowest = min((record.no_kozai for record in satellites.records), default=1.0)
        orbit_ns = round(2 * np.pi / slowest * 60 * NS_PER_S)
        block_ns = BLOCK_SLOTS * SLOT_NS
        affordable_ns = SCAN_PROPAGATIONS // max(1, len(satellites)) * block_ns
        until_ns = start_ns + max(orbit_ns, min(LONGEST_SCAN_NS, affordable_ns))
        slot = self.slot_at(start_ns)
        while self.slot_start_ns(slot) < until_ns:
            if self.serving(slot).satellite >= 0:
                return
            slot += 1
        raise CoverageError(self._why_not(start_ns, until_ns))

    def _why_not(self, start_ns: int, until_ns: int) -> str:
        place, masks = self._terminal, self._masks_deg
        where = (
            f"terminal at latitude {place.latitude_deg:g}, longitude {place.longitude_deg:g}: no satellite serves it "
            f"from {format_utc(start_ns, 0)} to {format_utc(until_ns, 0)}"
        )
        if len(masks) == 0:
            return f"{where}: the constellation is empty"
        mask = f"{masks.min():g}°" if masks.min() == masks.max() else f"{masks.min():g}° to {masks.max():g}° by shell"
        highest, name, visible = -90.0, "", False
        for at_ns in range(start_ns, until_ns, BLOCK_SLOTS * SLOT_NS):
            position = self.propagator.positions_m(np.array([at_ns], np.int64))[:, 0]
            elevation = np.nan_to_num(look(self.observer, position).elevation_deg, nan=-90.0)
            visible = visible or bool((elevation >= masks).any())
            if elevation.max() > highest:
                highest, name = float(elevation.max()), self.propagator.satellites.names[int(elevation.argmax())]
        if visible:
            names = ", ".join(station.name for station in self.gateways)
            return (
                f"{where}: some stand above the mask of {mask}, but none long enough and in view of a gateway ({names})"
            )
        return f"{where}: elevation mask {mask}, highest elevation seen {highest:.1f}° ({name})"

    def _choose(self, number: int) -> tuple[Serving, ...]:
        """The slots of a block."""
        first = number * BLOCK_SLOTS
        edges_ns = np.array([self.slot_start_ns(first + place) for place in range(BLOCK_SLOTS + 1)], np.int64)
        near = self.propagator.near(self.observer, self._masks_deg, int(edges_ns[0]), int(edges_ns[-1]))
        position = self.propagator.positions_m(edges_ns, near)
        seen = look(self.observer, position)
        visible = seen.sin_elevation >= self._sin_mask[near, np.newaxis]
        if not visible.any():
            return tuple(Serving(first + place, -1, -1) for place in range(BLOCK_SLOTS))
        from_gateway = [look(station.observer, position) for station in self.gateways]
        weight = self._weights(seen)
        return tuple(
            self._choose_one(
                first + place,
                near,
                visible[:, place] & visible[:, place + 1],
                weight[:, place],
                [Edges(one, place) for one in from_gateway],
            )
            for place in range(BLOCK_SLOTS)
        )

    def _choose_one(
        self, slot: int, near: Ints, visible: npt.NDArray[np.bool_], weight: Ints, from_gateway: Sequence[Edges]
    ) -> Serving:
        """A satellite that terminal and gateway see at both ends of the slot, hence throughout, by weight."""
        path_m = np.full((len(self.gateways), len(near)), np.inf)
        for row, (station, edges) in enumerate(zip(self.gateways, from_gateway, strict=True)):
            both = edges.above(float(np.sin(np.radians(station.min_elevation_deg))))
            fibre_m = station.fibre_m * SPEED_OF_LIGHT_M_S / FIBRE_SPEED_M_S  # as long in time
            path_m[row, both] = edges.mean_range_m[both] + fibre_m
        chances = np.where(visible & np.isfinite(path_m).any(axis=0), weight, 0)
        total = int(chances.sum())
        if total == 0:
            return Serving(slot, -1, -1)
        drawn = (self._draw(slot) * total) >> 32
        chosen = int(np.searchsorted(np.cumsum(chances), drawn, side="right"))
        return Serving(slot, int(near[chosen]), int(path_m[:, chosen].argmin()))

    def _weights(self, seen: Look) -> Ints:
        """Whole numbers by elevation and side, of the shape of `seen`."""
        sine = np.clip(np.nan_to_num(seen.sin_elevation), 0.0, 1.0)
        steps = (sine * SINE_STEPS).astype(np.int64)
        latitude = self._terminal.latitude_deg
        if abs(latitude) < NO_SIDE_BELOW_DEG:
            side = np.full(steps.shape, OTHER, np.int64)
        else:
            side = np.where(seen.north_m * np.sign(latitude) > 0, POLEWARD, OTHER)
        weight: Ints = side * np.maximum(steps, 1) ** ELEVATION_POWER
        return weight


class Edges(NamedTuple):
    """What a gateway sees at the two ends of a slot."""

    seen: Look
    place: int

    def above(self, sine: float) -> npt.NDArray[np.bool_]:
        """At both ends."""
        pair = self.seen.sin_elevation[:, self.place : self.place + 2]
        return np.asarray((pair >= sine).all(axis=1))

    @property
    def mean_range_m(self) -> Floats:
        mean: Floats = (self.seen.range_m[:, self.place] + self.seen.range_m[:, self.place + 1]) / 2
        return mean
