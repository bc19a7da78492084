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

from emulator.orbit.geostationary import arc_cosine, arc_directions
from emulator.orbit.look import Look, Observer, look
from emulator.orbit.propagate import Propagator
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
    """What is known of the slots of a block: their edges, the satellites that may be in view, (near,), where they are
    at the edges, (near, edges, 3), and at which gateways they may land.
    """

    edges_ns: Ints
    near: Ints
    position_m: Floats
    may_land: npt.NDArray[np.bool_]


class Ways(NamedTuple):
    """The ways down in each slot, (gateways, near, slots): metres of light's way, inf for none; and by slot, from a
    satellite to those behind it.
    """

    path_m: Floats
    hops: Sequence[Callable[[int], tuple[int, ...]]]


class StarlinkPolicy(Pinnable):
    """Serving satellite and gateway by slot. `draw(slot)` gives the slot's number, uniform in [0, 2³²).

    propagator: of the satellites; several terminals may share one.
    """

    def __init__(
        self,
        propagator: Propagator,
        masks: Floats,
        terminal: Terminal,
        gateways: Sequence[GroundStation],
        slot_phase_ns: int,
        draw: Callable[[int], int],
        *,
        gso_exclusion_deg: float = 0.0,
    ) -> None:
        super().__init__()
        self.propagator = propagator
        self.site = Site(terminal)
        self.gateways = tuple(gateways)
        self._from_gateways = Observer.together([station.observer for station in gateways])
        self._sin_gateways = np.sin(np.radians([[[station.min_elevation_deg]] for station in gateways]))
        self._fibre_m = np.array([[[station.fibre_m * SPEED_OF_LIGHT_M_S / FIBRE_SPEED_M_S]] for station in gateways])
        self._terminal = terminal
        self._masks_deg = masks
        self._sin_mask = np.sin(np.radians(masks))
        self._phase_ns = slot_phase_ns
        self._draw = draw
        self._cos_gso = float(np.cos(np.radians(gso_exclusion_deg)))
        self._arc = None if self.site.moves else arc_directions(self.site.start)

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

    def begin_m(self, slots: Ints, satellites: Ints) -> Floats:
        """Where satellites stand as slots begin, of each a (slots,) array: (slots, 3) in ECEF."""
        position_m = np.empty((len(slots), 3))
        block = slots // BLOCK_SLOTS
        for number in np.unique(block).tolist():
            among = np.flatnonzero(block == number)
            found = self.propagator.positions_m(self._edges_ns(number), satellites[among])
            position_m[among] = found[np.arange(len(among)), slots[among] % BLOCK_SLOTS]
        return position_m

    def gateway_observers(self, gateways: Ints) -> Observer:
        """Those of one gateway after the other, with components of the shape of `gateways`."""
        return self._from_gateways.some(gateways)

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

    def _edges_ns(self, number: int) -> Ints:
        """Where the slots of a block begin, and the last one ends."""
        return self.slot_start_ns(number * BLOCK_SLOTS) + np.arange(BLOCK_SLOTS + 1, dtype=np.int64) * SLOT_NS

    def _choose(self, number: int) -> tuple[Serving, ...]:
        """The slots of a block."""
        first = number * BLOCK_SLOTS
        edges_ns = self._edges_ns(number)
        near = self.site.near(self.propagator, self._masks_deg, int(edges_ns[0]), int(edges_ns[-1]))
        position = self.propagator.positions_m(edges_ns, near)
        observer = self.site.observer(edges_ns)
        seen = look(observer, position)
        above = seen.sin_elevation >= self._sin_mask[near, np.newaxis]
        ever = above.any(axis=1)
        near, position, above = near[ever], position[ever], above[ever]
        seen = Look(*(column[ever] for column in (seen.range_m, seen.sin_elevation, seen.east_m, seen.north_m)))
        visible = above & self.site.unobstructed(seen)
        if self._cos_gso < 1 and len(near):
            arc = arc_directions(observer) if self._arc is None else self._arc
            visible &= arc_cosine(arc, seen) <= self._cos_gso
        visible &= self.pin.satellites(near)[:, np.newaxis]
        usable = visible[:, :-1] & visible[:, 1:]  # at both ends of a slot, hence throughout
        if not usable.any():
            return tuple(Serving(first + place, -1, -1) for place in range(BLOCK_SLOTS))
        path_m, hops = self._ways(Block(edges_ns, near, position, self.pin.gateways(len(self.gateways))))
        chances = np.where(self._eligible(path_m.min(axis=0), usable), self._weights(seen)[:, :-1], 0)
        served = []
        for place, heaped in enumerate(chances.cumsum(axis=0).T):
            total = int(heaped[-1])
            if total == 0:
                served.append(Serving(first + place, -1, -1))
                continue
            drawn = (self._draw(first + place) * total) >> 32
            chosen = int(np.searchsorted(heaped, drawn, side="right"))
            satellite = int(near[chosen])
            gateway = int(path_m[:, chosen, place].argmin())
            served.append(Serving(first + place, satellite, gateway, hops[place](satellite)))
        return tuple(served)

    def _eligible(self, way_m: Floats, usable: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which of the usable satellites may be drawn, (near, slots): here, all that have a way down."""
        return usable & np.isfinite(way_m)

    def _ways(self, block: Block) -> Ways:
        """The ways down: here, straight to a gateway."""
        return Ways(self.feeders_m(block.position_m, block.may_land), [_straight] * BLOCK_SLOTS)

    def feeders_m(self, position_m: Floats, may_land: npt.NDArray[np.bool_]) -> Floats:
        """From satellites, (satellites, edges, 3), to gateways that see them at both ends of a slot, and on to the
        point of presence, (gateways, satellites, slots).

        Fibre counts as the way that light goes in its time; inf where the gateway does not see a satellite.
        """
        seen = look(self._from_gateways, position_m[np.newaxis])
        above = (seen.sin_elevation >= self._sin_gateways) & may_land[:, np.newaxis, np.newaxis]
        way_m = (seen.range_m[..., :-1] + seen.range_m[..., 1:]) / 2 + self._fibre_m
        return np.where(above[..., :-1] & above[..., 1:], way_m, np.inf)

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


def _straight(satellite: int) -> tuple[int, ...]:
    return ()
