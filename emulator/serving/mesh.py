"""Links between satellites: each with the two beside it in its plane, and with the nearest in either plane beside it.

Planes are read off the orbits' ascending nodes, so that shells and element files are treated alike. Between the first
and the last plane of a star, where the satellites fly against each other (the seam), there are no links.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from emulator.orbit.satellites import Satellites

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SAME_PLANE_DEG = 8.0  # ascending nodes of a plane's satellites lie within this of the next one's


class Mesh:
    """Neighbours, and the shortest ways through them to a station on the ground."""

    def __init__(self, satellites: Satellites) -> None:
        self.planes = planes_of(satellites)
        phase = np.array([record.argpo + record.mo for record in satellites.records])
        motion = np.array([record.no_kozai for record in satellites.records])
        epoch = np.array([record.jdsatepoch + record.jdsatepochF for record in satellites.records])
        # where each stands in its plane, all at the time of the last epoch
        angle = (phase + motion * (epoch.max(initial=0.0) - epoch) * 1440) % (2 * np.pi)
        ahead = [
            (int(one), int(other))
            for plane in self.planes
            if len(plane) > 1
            for one, other in zip(
                plane[np.argsort(angle[plane])], np.roll(plane[np.argsort(angle[plane])], -1), strict=True
            )
        ]
        self._within = np.array(ahead, np.int64).reshape(-1, 2)

    def links(self, position_m: Floats) -> Ints:
        """All links while the satellites stand at position_m, (satellites, 3): pairs of indices, (links, 2)."""
        pairs = [self._within]
        for one, other in pairwise(self.planes):
            apart = np.sqrt(((position_m[one][:, np.newaxis] - position_m[other][np.newaxis]) ** 2).sum(axis=-1))
            pairs.append(np.stack([one, other[apart.argmin(axis=1)]], axis=1))
        return np.concatenate(pairs)

    def way_down_m(self, position_m: Floats, feeder_m: Floats) -> tuple[Floats, Floats]:
        """The shortest ways from each satellite to a station: between satellites, and the last leg.

        position_m: ECEF, (satellites, times, 3). feeder_m: range from the station, inf where it does not see one,
        (satellites, times), as is what is given back: inf where no way leads there. The links are those of the middle
        of the times.
        """
        links = self.links(np.nan_to_num(position_m[:, position_m.shape[1] // 2]))
        one, other = np.concatenate([links, links[:, ::-1]]).T
        order = np.argsort(one, kind="stable")
        one, other = one[order], other[order]
        satellites, first = np.unique(one, return_index=True)
        lengths = np.diff(first, append=len(one))
        hop_m = np.sqrt(((position_m[one] - position_m[other]) ** 2).sum(axis=-1))
        hop_m = np.nan_to_num(hop_m, nan=np.inf)
        total, feeder = feeder_m.copy(), feeder_m.copy()
        for _ in range(len(total) if len(one) else 0):
            through = total[other] + hop_m
            offered = np.minimum.reduceat(through, first)
            shorter = offered < total[satellites]
            if not shorter.any():
                break
            ways = through == np.repeat(offered, lengths, axis=0)
            last_leg = np.minimum.reduceat(np.where(ways, feeder[other], np.inf), first)
            feeder[satellites] = np.where(shorter, last_leg, feeder[satellites])
            total[satellites] = np.where(shorter, offered, total[satellites])
        between = np.where(np.isfinite(total), total - np.where(np.isfinite(feeder), feeder, 0.0), np.inf)
        return between, feeder

    def hops(self, position_m: Floats, feeder_m: Floats, time: int, start: int) -> list[int]:
        """The satellites that such a way leads over from `start` on, in order and without it, at one of the times."""
        total = np.add(*self.way_down_m(position_m, feeder_m))[:, time]
        links = self.links(np.nan_to_num(position_m[:, position_m.shape[1] // 2]))
        here, hops, at = position_m[:, time], [], start
        while np.isfinite(total[at]) and total[at] < feeder_m[at, time]:
            beside = np.concatenate([links[links[:, 0] == at, 1], links[links[:, 1] == at, 0]])
            hop_m = np.sqrt(((here[beside] - here[at]) ** 2).sum(axis=-1))
            at = int(beside[np.nanargmin(hop_m + total[beside])])
            hops.append(at)
        return hops


def planes_of(satellites: Satellites) -> tuple[Ints, ...]:
    """Indices of the satellites of each plane, in the order of ascending nodes from behind the widest gap on."""
    node = np.degrees([record.nodeo for record in satellites.records]) % 360
    order = np.argsort(node, kind="stable")
    if len(order) == 0:
        return ()
    gaps = np.diff(node[order], append=node[order][0] + 360)
    order = np.roll(order, -(int(gaps.argmax()) + 1))
    turned = (node[order] - node[order][0]) % 360
    edges = np.flatnonzero(np.diff(turned) > SAME_PLANE_DEG) + 1
    return tuple(np.split(order, edges))
