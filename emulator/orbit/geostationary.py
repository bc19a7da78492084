"""Geostationary slots: a satellite that stands still over the equator.

Real ones are kept within a box of about ±0.05° (±37 km, and some km of altitude), through which they wander once a day:
0.1 ms of delay at most, and not in here.
"""

from __future__ import annotations

from math import cos, radians, sin

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RADIUS_M = 42_164_172.0  # of an orbit that turns with the earth: (398,600.4418 km³/s² / (7.2921159e-5 rad/s)²)^(1/3)


def slot_position_m(longitude_deg: float) -> Floats:
    """ECEF position of a slot, shape (3,)."""
    longitude = radians(longitude_deg)
    return np.array([RADIUS_M * cos(longitude), RADIUS_M * sin(longitude), 0.0])
