"""Who serves a Starlink terminal: slots of 15 s in UTC, one satellite and one gateway for each.

The operator's scheduler is not published. The policy here draws one of the satellites that could serve a slot, with
weights that reproduce what was measured of its choices (Tanveer et al., arXiv 2307.00402): the picks stand 22.9° higher
than the median of the available; 45–90° holds 30 % of these and 80 % of the picks; at mid-northern sites 82 % of the
picks are north, against 58 %. Not reproduced: newer and sunlit satellites are preferred as well.

A slot's choice depends on (seed, slot) and the sky alone, never on the slots before it or on who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.orbit.geostationary import arc_cosine
from emulator.orbit.look import Look, look
from emulator.orbit.propagate import Propagator
from emulator.orbit.satellites import Satellites
from emulator.orbit.site import Site
from emulator.scenario.model import Terminal
from emulator.serving.pins import Pinnable
from emulator.serving.stations import GroundStation, require_coverage
from emulator.units import FIBRE_SPEED_M_S, NS_PER_S, SPEED_OF_LIGHT_M_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SLOT_NS = 15 * NS_PER_S  # Tanveer et al.: changes at seconds 12, 27, 42, 57 of each UTC minute, at every site
BLOCK_SLOTS = 4  # slots that are worked out together; blocks are fixed in time, so that no result depends on the asker

# Weights: (256 sin elevation)⁵, times 2 : 1 for the side of the nearer pole. Fitted to the measured shares above with
# the elements of 2025-05-29 at 41.7° N, satellites within 18° of the geostationary arc left out: 33 % of the available
# and 81 % of the picks above 45°, 25.0° between the medians, 80 % north. Whole numbers, so that the choice is the same
# on every machine.
SINE_STEPS = 256
ELEVATION_POWER = 5
POLEWARD, OTHER = 2, 1
NO_SIDE_BELOW_DEG = 20.0  # guess: the arc of geostationary satellites, which the north avoids, is then overhead


class Serving(NamedTuple):
    """Who serves a slot: index of the satellite and of the gateway, −1 for none."""

    slot: int
    satellite: int
    gateway: int
    hops: tuple[int, ...] = ()  # the satellites behind it on the way down


class Block(NamedTuple):
    """What is known of the slots of a block: their edges, the satellites that may be in view, (near,), at the edges
    from each gateway, and at which of these they may land.
    """

    edges_ns: Ints
    near: Ints
    from_gateway: Sequence[Look]
    may_land: npt.NDArray[np.bool_]


class Ways(NamedTuple):
    """The ways down, (gateways, near): metres of light's way, inf for none; and the satellites behind the first."""

    path_m: Floats
    hops: Callable[[int], tuple[int, ...]]


class StarlinkPolicy(Pinnable):
    """Serving satellite and gateway by slot. `draw(slot)` gives the slot's number, uniform in [0, 2³²).

    propagator: of the same satellites, where several terminals share one (SharedPropagator).
    """

    def __init__(
        self,
        satellites: Satellites,
        masks: Floats,
        terminal: Terminal,
        gateways: Sequence[GroundStation],
        slot_phase_ns: int,
        draw: Callable[[int], int],
        *,
        gso_exclusion_deg: float = 0.0,
        propagator: Propagator | None = None,
    ) -> None:
        super().__init__()
        self.propagator = propagator or Propagator(satellites)
        self.site = Site(terminal)
        self.gateways = tuple(gateways)
        self._terminal = terminal
        self._masks_deg = masks
        self._sin_mask = np.sin(np.radians(masks))
        self._phase_ns = slot_phase_ns
        self._draw = draw
        self._cos_gso = float(np.cos(np.radians(gso_exclusion_deg)))

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
            block: tuple[Serving, ...] | None = self._kept.get(number)
            if block is None:
                block = self._kept[number] = self._choose(number)
                if len(self._kept) > 8:
                    self._kept.popitem(last=False)
        return block[place]

    def require_coverage(self, start_ns: int) -> None:
        """Raises CoverageError unless a satellite serves the terminal soon after `start_ns`."""
        self.site.require_track_at(start_ns)
        require_coverage(
            self.propagator,
            self.site,
            self._masks_deg,
            self.gateways,
            start_ns,
            block_ns=BLOCK_SLOTS * SLOT_NS,
            serves=lambda at_ns: any(
                self.serving(self.slot_at(at_ns) + place).satellite >= 0 for place in range(BLOCK_SLOTS)
            ),
        )

    def _choose(self, number: int) -> tuple[Serving, ...]:
        """The slots of a block."""
        first = number * BLOCK_SLOTS
        edges_ns = np.array([self.slot_start_ns(first + place) for place in range(BLOCK_SLOTS + 1)], np.int64)
        near = self.site.near(self.propagator, self._masks_deg, int(edges_ns[0]), int(edges_ns[-1]))
        position = self.propagator.positions_m(edges_ns, near)
        seen = look(self.site.observer(edges_ns), position)
        visible = (seen.sin_elevation >= self._sin_mask[near, np.newaxis]) & self.site.unobstructed(seen)
        if self._cos_gso < 1:
            visible &= arc_cosine(self.site.observer(edges_ns), seen) <= self._cos_gso
        if not visible.any():
            return tuple(Serving(first + place, -1, -1) for place in range(BLOCK_SLOTS))
        ever = visible.any(axis=1)
        near, position, visible = near[ever], position[ever], visible[ever]
        seen = Look(*(column[ever] for column in (seen.range_m, seen.sin_elevation, seen.east_m, seen.north_m)))
        from_gateway = [look(station.observer, position) for station in self.gateways]
        weight = self._weights(seen)
        block = Block(edges_ns, near, from_gateway, self.pin.gateways(len(self.gateways)))
        visible &= self.pin.satellites(near)[:, np.newaxis]
        return tuple(
            self._choose_one(first + place, block, visible[:, place] & visible[:, place + 1], weight[:, place])
            for place in range(BLOCK_SLOTS)
        )

    def _choose_one(self, slot: int, block: Block, visible: npt.NDArray[np.bool_], weight: Ints) -> Serving:
        """A satellite that the terminal sees at both ends of the slot, hence throughout, by weight."""
        if not visible.any():
            return Serving(slot, -1, -1)
        path_m, hops = self._ways(block, slot % BLOCK_SLOTS)
        chances = np.where(self._eligible(path_m.min(axis=0), visible), weight, 0)
        total = int(chances.sum())
        if total == 0:
            return Serving(slot, -1, -1)
        drawn = (self._draw(slot) * total) >> 32
        chosen = int(np.searchsorted(np.cumsum(chances), drawn, side="right"))
        satellite = int(block.near[chosen])
        return Serving(slot, satellite, int(path_m[:, chosen].argmin()), hops(satellite))

    def _eligible(self, way_m: Floats, visible: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which of the visible satellites may be drawn: here, all that have a way down."""
        return visible & np.isfinite(way_m)

    def _ways(self, block: Block, place: int) -> Ways:
        """The ways down in a slot: here, straight to a gateway."""
        path_m = np.full((len(self.gateways), len(block.near)), np.inf)
        for row, (may, seen) in enumerate(zip(block.may_land, block.from_gateway, strict=True)):
            if may:
                path_m[row] = self.gateway_way_m(row, Edges(seen, place))
        return Ways(path_m, lambda satellite: ())

    def gateway_way_m(self, gateway: int, edges: Edges) -> Floats:
        """From satellites to a gateway that sees them at both ends of a slot, and on to the point of presence.

        Fibre counts as the way that light goes in its time; inf where the gateway does not see a satellite.
        """
        station = self.gateways[gateway]
        both = edges.above(float(np.sin(np.radians(station.min_elevation_deg))))
        fibre_m = station.fibre_m * SPEED_OF_LIGHT_M_S / FIBRE_SPEED_M_S
        return np.where(both, edges.mean_range_m + fibre_m, np.inf)

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
