"""Starlink's satellites with links among each other: a +grid, and the shortest way through it to a gateway.

Each satellite has four links: to the two beside it in its plane, and in either plane beside that to the one that stands
nearest in phase. Which ones the operator's satellites hold is not published. Between the first and the last plane of a
star (the seam) there are no links, none between shells, and none through the air.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.orbit.satellites import Satellites
from emulator.scenario.model import Shell
from emulator.serving.starlink import Block, StarlinkPolicy, Ways

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NONE = -1
AIR_M = 6_458_000.0  # a link must pass above 80 km, the lowest that such proposals name; guess
# Of satellites from a file: one shell, one plane. Guesses that find the catalogue's planes (test_isl).
SAME_INCLINATION_DEG, SAME_ALTITUDE_KM, SAME_NODE_DEG = 0.1, 1.0, 0.8
FEWEST_OF_A_SHELL = 20
WIDEST_STEP = 1.9  # times the usual one between planes: no links over a gap, or over a seam
LONGEST_DETOUR = 1.25  # guess: satellites are chosen among those whose way down is so much longer than the shortest
_PLACE = re.compile(r"(?P<shell>.*) p(?P<plane>\d+) s(?P<place>\d+)")


class Ring(NamedTuple):
    """A plane: its satellites in the order in which they fly, and the longitude of its ascending node, degrees."""

    satellites: Ints
    node_deg: float


class Grid:
    """Four neighbours of each satellite, (satellites, 4), −1 for none: ahead, behind, and in either plane beside it.

    Planes are those of generated shells; of satellites from a file they are found from the elements.
    """

    def __init__(self, satellites: Satellites, shells: Sequence[Shell]) -> None:
        self.neighbours = np.full((len(satellites), 4), NONE, np.int64)
        node_deg, phase = _at_one_time(satellites)
        for rings, closed in _generated(satellites, shells, node_deg) or _found(satellites, node_deg, phase):
            for ring in rings:
                if len(ring.satellites) > 1:
                    self.neighbours[ring.satellites, 0] = np.roll(ring.satellites, -1)
                    self.neighbours[ring.satellites, 1] = np.roll(ring.satellites, 1)
            beside = [*pairwise(rings), *([(rings[-1], rings[0])] if len(rings) > 2 and closed else [])]
            steps = np.array([(other.node_deg - one.node_deg) % 360 for one, other in beside])
            for (one, other), step in zip(beside, steps, strict=True):
                if step <= WIDEST_STEP * np.median(steps):
                    self._link(one.satellites, other.satellites, phase)

    def _link(self, one: Ints, other: Ints, phase: Floats) -> None:
        """Each satellite of a plane with the one beside it that stands nearest in phase, where that is mutual."""
        apart = (phase[other][np.newaxis] - phase[one][:, np.newaxis] + np.pi) % (2 * np.pi) - np.pi
        there = np.abs(apart).argmin(axis=1)
        back = np.abs(apart).argmin(axis=0)
        mutual = back[there] == np.arange(len(one))
        self.neighbours[one[mutual], 2], self.neighbours[other[there[mutual]], 3] = other[there[mutual]], one[mutual]

    def ways_m(self, position_m: Floats, feeder_m: Floats) -> tuple[Floats, Ints]:
        """The shortest way from each satellite to the ground, and over which satellite it goes on.

        position_m: (satellites, 3). feeder_m: the last leg where a satellite has one, else inf, (satellites,). Gives
        lengths, (satellites,), inf where no way leads down, and the next satellite, −1 where the way goes down at once.
        """
        linked = self.neighbours >= 0
        hop_m = np.sqrt(((position_m[self.neighbours] - position_m[:, np.newaxis]) ** 2).sum(axis=-1))
        # how far each sees over the edge of the air: two that see less than the way between them do not see each other
        sees_m = np.sqrt(np.maximum((position_m**2).sum(axis=-1) - AIR_M**2, 0.0))
        clear = hop_m <= sees_m[self.neighbours] + sees_m[:, np.newaxis]
        hop_m = np.where(linked & clear, hop_m, np.inf)
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


def _at_one_time(satellites: Satellites) -> tuple[Floats, Floats]:
    """Ascending nodes, degrees, and the angles from there along the orbits, radians, all at the last epoch."""
    records = satellites.records
    epoch = np.array([record.jdsatepoch + record.jdsatepochF for record in records])
    minutes = (epoch.max(initial=0.0) - epoch) * 1440
    node = np.array([record.nodeo for record in records]) + np.array([record.nodedot for record in records]) * minutes
    phase = np.array([record.argpo + record.mo for record in records])
    phase = phase + np.array([record.argpdot + record.mdot for record in records]) * minutes
    return np.degrees(node) % 360, phase % (2 * np.pi)


def _generated(
    satellites: Satellites, shells: Sequence[Shell], node_deg: Floats
) -> list[tuple[list[Ring], bool]] | None:
    """Planes by shell, and whether the last is beside the first; None unless all satellites are of these shells."""
    star = {shell.name: shell.pattern == "star" for shell in shells}
    planes: dict[str, dict[int, list[int]]] = {}
    for number, name in enumerate(satellites.names):
        found = _PLACE.fullmatch(name)
        if found is None or found["shell"] not in star:
            return None
        planes.setdefault(found["shell"], {}).setdefault(int(found["plane"]), []).append(number)
    return [
        (
            [Ring(np.array(own, np.int64), float(node_deg[own[0]])) for _, own in sorted(by_plane.items())],
            not star[name],
        )
        for name, by_plane in planes.items()
    ]


def _found(satellites: Satellites, node_deg: Floats, phase: Floats) -> list[tuple[list[Ring], bool]]:
    """The same of any orbits: shells are what has one inclination and one altitude, planes what has one node."""
    inclination = np.degrees([record.inclo for record in satellites.records])
    shells = []
    for alike in _apart(inclination, np.arange(len(inclination)), SAME_INCLINATION_DEG):
        for shell in _apart(satellites.altitude_km, alike, SAME_ALTITUDE_KM):
            if len(shell) < FEWEST_OF_A_SHELL:
                continue
            order = shell[np.argsort(node_deg[shell])]
            gaps = np.diff(node_deg[order], append=node_deg[order[0]] + 360)
            order = np.roll(order, -(int(gaps.argmax()) + 1))  # begins behind the widest gap
            turned = (node_deg - node_deg[order[0]]) % 360
            planes = _apart(turned, order, SAME_NODE_DEG)
            rings = [
                Ring(plane[np.argsort(phase[plane])], float(np.median(turned[plane]) + node_deg[order[0]]) % 360)
                for plane in planes
            ]
            shells.append((rings, True))  # a seam is a step between nodes that is too wide
    return shells


def _apart(values: Floats, which: Ints, same: float) -> list[Ints]:
    """Satellites in the order of their values, cut where consecutive ones are further apart than `same`."""
    order = which[np.argsort(values[which], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(values[order]) > same) + 1)


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
