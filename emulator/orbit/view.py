"""All satellites above the mask of a site, at given times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.orbit.look import look
from emulator.orbit.propagate import Propagator
from emulator.orbit.site import Site

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STRETCH_NS = 60_000_000_000  # satellites that may be in view are looked for once in this time


@dataclass(frozen=True)
class View:
    """Sightings in the order of time, then of the satellites; columns of equal length."""

    utc_ns: Ints
    satellite: Ints
    azimuth_deg: Floats
    elevation_deg: Floats
    slant_range_m: Floats


def views(
    propagator: Propagator, site: Site, masks_deg: Floats, start_ns: int, end_ns: int, step_ns: int
) -> Iterator[View]:
    """Who stands at or above its mask (satellites,) at start_ns, start_ns + step_ns, … before end_ns, in stretches.

    Memory is bounded by the stretch, whatever the length of the whole.
    """
    for utc_ns in stretches_ns(start_ns, end_ns, step_ns):
        near = site.near(propagator, masks_deg, int(utc_ns[0]), int(utc_ns[-1]))
        seen = look(site.observer(utc_ns), propagator.positions_m(utc_ns, near))
        elevation_deg = seen.elevation_deg
        above = (elevation_deg >= masks_deg[near, np.newaxis]) & site.unobstructed(seen)
        at, who = np.nonzero(above.T)
        yield View(utc_ns[at], near[who], seen.azimuth_deg[who, at], elevation_deg[who, at], seen.range_m[who, at])


def stretches_ns(start_ns: int, end_ns: int, step_ns: int) -> Iterator[Ints]:
    """start_ns, start_ns + step_ns, … before end_ns, a stretch at a time."""
    times = max(1, STRETCH_NS // step_ns)
    for first_ns in range(start_ns, end_ns, times * step_ns):
        yield np.arange(first_ns, min(first_ns + times * step_ns, end_ns), step_ns, dtype=np.int64)
