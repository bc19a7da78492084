"""Geostationary slots: a satellite that stands still over the equator.

Real ones are kept within a box of about ±0.05° (±37 km, and some km of altitude), through which they wander once a day:
0.1 ms of delay at most, and not in here.
"""

from __future__ import annotations

from math import cos, radians, sin

import numpy as np
import numpy.typing as npt

from emulator.orbit.look import Look, Observer, look

Floats = npt.NDArray[np.float64]

RADIUS_M = 42_164_172.0  # of an orbit that turns with the earth: (398,600.4418 km³/s² / (7.2921159e-5 rad/s)²)^(1/3)


def slot_position_m(longitude_deg: float) -> Floats:
    """ECEF position of a slot, shape (3,)."""
    longitude = radians(longitude_deg)
    return np.array([RADIUS_M * cos(longitude), RADIUS_M * sin(longitude), 0.0])


_SLOTS_M = np.stack([slot_position_m(longitude) for longitude in np.arange(0.0, 360.0, 2.0)])[:, np.newaxis]


def arc_directions(observer: Observer) -> Floats:
    """Unit vectors east, north, up to the slots in view, (3, slots, times or 1); zeros for those that are not."""
    to_slots = look(observer, _SLOTS_M)
    return np.where(to_slots.sin_elevation > 0, _directions(to_slots), 0.0)  # no length: at a right angle to all


def arc_cosine(arc: Floats, seen: Look) -> Floats:
    """Cosine of the angle between each direction of `seen`, (satellites, times), and the nearest slot of `arc`.

    Slots are taken each 2°: the angle is too large by 0.03° at most where it is 18°. At most 0 where none is in view.
    """
    arc = np.broadcast_to(arc, (*arc.shape[:2], seen.range_m.shape[-1]))
    towards = _directions(seen)
    return np.stack([(towards[:, :, at].T @ arc[:, :, at]).max(axis=-1) for at in range(towards.shape[-1])], axis=-1)


def _directions(seen: Look) -> Floats:
    """Unit vectors east, north, up, as the first axis."""
    return np.stack([seen.east_m / seen.range_m, seen.north_m / seen.range_m, seen.sin_elevation])
