"""Starlink's satellites with links among each other: a +grid, and the shortest way through it to a gateway.

Each satellite has four links: to the two beside it in its plane, and in either plane beside that to the one that stands
nearest in phase. Which ones the operator's satellites hold is not published. Planes are those of the generated shells;
between the first and the last plane of a star (the seam) there are no links, and none between shells.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from emulator.errors import ScenarioError
from emulator.orbit.satellites import Satellites
from emulator.scenario.model import Shell
from emulator.serving.starlink import Block, StarlinkPolicy, Ways

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NONE = -1
LONGEST_DETOUR = 1.25  # guess: satellites are chosen among those whose way down is so much longer than the shortest
_PLACE = re.compile(r"(?P<shell>.*) p(?P<plane>\d+) s(?P<place>\d+)")


class Grid:
    """Four neighbours of each satellite, (satellites, 4), −1 for none.

    Raises ScenarioError for satellites that are of no generated shell.
    """

    def __init__(self, satellites: Satellites, shells: Sequence[Shell]) -> None:
        self.neighbours = np.full((len(satellites), 4), NONE, np.int64)
        star = {shell.name: shell.pattern == "star" for shell in shells}
        planes: dict[str, dict[int, list[int]]] = {}
        for number, name in enumerate(satellites.names):
            found = _PLACE.fullmatch(name)
            if found is None or found["shell"] not in star:
                raise ScenarioError(
                    [f"link.isl: expected satellites of constellation.shells, whose planes are known, got {name}"]
                )
            planes.setdefault(found["shell"], {}).setdefault(int(found["plane"]), []).append(number)
        phase = np.array([record.argpo + record.mo for record in satellites.records])
        for shell, by_plane in planes.items():
            rings = [np.array(by_plane[plane], np.int64) for plane in sorted(by_plane)]
            for ring in rings:
                if len(ring) > 1:
                    self.neighbours[ring, 0], self.neighbours[ring, 1] = np.roll(ring, -1), np.roll(ring, 1)
            beside = [*pairwise(rings), *([(rings[-1], rings[0])] if len(rings) > 2 and not star[shell] else [])]
            for one, other in beside:
                apart = (phase[other][np.newaxis] - phase[one][:, np.newaxis] + np.pi) % (2 * np.pi) - np.pi
                there = other[np.abs(apart).argmin(axis=1)]
                self.neighbours[one, 2], self.neighbours[there, 3] = there, one

    def ways_m(self, position_m: Floats, feeder_m: Floats) -> tuple[Floats, Ints]:
        """The shortest way from each satellite to the ground, and over which satellite it goes on.

        position_m: (satellites, 3). feeder_m: the last leg where a satellite has one, else inf, (satellites,). Gives
        lengths, (satellites,), inf where no way leads down, and the next satellite, −1 where the way goes down at once.
        """
        linked = self.neighbours >= 0
        hop_m = np.sqrt(((position_m[self.neighbours] - position_m[:, np.newaxis]) ** 2).sum(axis=-1))
        hop_m = np.where(linked & np.isfinite(hop_m), hop_m, np.inf)
        total, onward = feeder_m.copy(), np.full(len(feeder_m), NONE, np.int64)
        rows = np.arange(len(total))
        while True:
            offered = total[self.neighbours] + hop_m
            best = offered.argmin(axis=1)
            shorter = offered[rows, best] < total
            if not shorter.any():
                return total, onward
            total = np.where(shorter, offered[rows, best], total)
            onward = np.where(shorter, self.neighbours[rows, best], onward)

    @staticmethod
    def route(onward: Ints, first: int) -> tuple[int, ...]:
        """The satellites behind the first, in the order of the way down."""
        route = []
        while onward[first] != NONE:
            first = int(onward[first])
            route.append(first)
        return tuple(route)


class IslPolicy(StarlinkPolicy):
    """Bent pipe or a way over other satellites, whichever is shorter, counted in light's time."""

    grid: Grid

    def _eligible(self, way_m: Floats, usable: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Those whose way down is not much longer than the shortest: not those that fly the other way round."""
        possible = super()._eligible(way_m, usable)
        shortest_m = np.where(possible, way_m, np.inf).min(axis=0, initial=np.inf)
        near_enough: npt.NDArray[np.bool_] = possible & (way_m <= LONGEST_DETOUR * shortest_m)
        return near_enough

    def _ways(self, block: Block) -> Ways:
        paths = np.full((len(self.gateways), len(block.near), len(block.edges_ns) - 1), np.inf)
        hops = []
        for place in range(paths.shape[-1]):
            position = self.propagator.positions_m(block.edges_ns[place : place + 2])
            feeders_m = self.feeders_m(position, block.may_land)[..., 0]
            gateway = feeders_m.argmin(axis=0)
            total, onward = self.grid.ways_m(position.mean(axis=1), feeders_m.min(axis=0))
            routes = {int(number): self.grid.route(onward, int(number)) for number in block.near}
            for column, number in enumerate(block.near.tolist()):
                last = (number, *routes[number])[-1]
                paths[gateway[last], column, place] = total[number]
            hops.append(routes.__getitem__)
        return Ways(paths, hops)
