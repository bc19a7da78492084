"""Where the sun stands: good to 0.01° from 1950 to 2050, where its disc measures 0.53°.

Low-precision formulae of the Astronomical Almanac (page C5): mean longitude and anomaly, two terms of the equation of
the centre. UTC is taken for the terrestrial time that they ask for (69 s in 2025: 0.0008°). The turn to ECEF is that of
`propagate`; the equator and equinox are those of date.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.orbit.propagate import DAYS_TO_J2000, sidereal_angle_rad
from emulator.orbit.satellites import NS_PER_DAY

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ASTRONOMICAL_UNIT_M = 149_597_870_700.0  # exact, IAU 2012 Resolution B2


def sun_position_m(utc_ns: Ints) -> Floats:
    """ECEF positions of the sun's centre, (times, 3)."""
    whole, rest = np.divmod(utc_ns, NS_PER_DAY)
    days = whole - DAYS_TO_J2000 + rest / NS_PER_DAY
    anomaly = np.radians(357.528 + 0.985_600_3 * days)
    longitude = np.radians(280.460 + 0.985_647_4 * days + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    obliquity = np.radians(23.439 - 4e-7 * days)
    distance_m = ASTRONOMICAL_UNIT_M * (1.000_14 - 0.016_71 * np.cos(anomaly) - 0.000_14 * np.cos(2 * anomaly))
    x, y = np.cos(longitude), np.cos(obliquity) * np.sin(longitude)
    turn = sidereal_angle_rad(utc_ns)
    cosine, sine = np.cos(turn), np.sin(turn)
    direction = np.stack([cosine * x + sine * y, cosine * y - sine * x, np.sin(obliquity) * np.sin(longitude)], axis=-1)
    position: Floats = distance_m[:, np.newaxis] * direction
    return position
