"""What the terminal's own GNSS receiver sees: the nominal GPS constellation, its geometry, the fix that it gives.

The 24 slots are those of the design, not today's almanac: satellites rise and set as they do over a real receiver,
and a fix has a believable dilution of precision, but PRN 7 here is not where the real PRN 7 is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from emulator.orbit.look import Look, Observer, look
from emulator.units import NS_PER_S

Vectors = npt.NDArray[np.float64]

# GPS SPS Performance Standard, October 2001, table 3-1 and appendix A: reference orbit of the 24 slots A1 to F4.
EPOCH_UTC_S = 741_484_800  # 1993-07-01T00:00:00Z
EPOCH_SIDEREAL_DEG = 279.06  # Greenwich hour angle at the epoch: 18 h 36 min 14.4 s
SEMI_MAJOR_AXIS_M = 26_559_700.0
INCLINATION_RAD = math.radians(55.0)
NODES_DEG = (272.847, 332.847, 32.847, 92.847, 152.847, 212.847)  # right ascension of planes A to F at the epoch
ARGUMENTS_OF_LATITUDE_DEG = (
    (268.126, 161.786, 11.676, 41.806),
    (80.956, 173.336, 309.976, 204.376),
    (111.876, 11.796, 339.666, 241.556),
    (135.226, 265.446, 35.156, 167.356),
    (197.046, 302.596, 66.066, 333.686),
    (238.886, 345.226, 105.206, 135.346),
)

GM_M3_S2 = 3.986005e14  # IS-GPS-200, 20.3.3.4.3
EARTH_ROTATION_RAD_S = 7.2921151467e-5  # IS-GPS-200, 20.3.3.4.3

MASK_DEG = 5.0  # GPS SPS Performance Standard, 3.2: the mask of its representative user
CHANNELS = 12  # as many as a GSA sentence has room for

# A stated choice, not a measurement: a roof antenna hears 35 dB-Hz at the horizon and 50 dB-Hz at the zenith.
CN0_HORIZON_DBHZ = 35.0
CN0_GAIN_DB = 15.0


class FixMode(IntEnum):
    """Numbered as NMEA's GSA numbers it."""

    NONE = 1
    TWO_D = 2
    THREE_D = 3


@dataclass(frozen=True, slots=True)
class GnssSatellite:
    """A satellite above the horizon. `used`: it takes part in the fix."""

    prn: int
    azimuth_deg: float
    elevation_deg: float
    cn0_dbhz: float
    used: bool


@dataclass(frozen=True, slots=True)
class GnssFix:
    """A fix and the satellites in view, the highest first. The dilutions are 99.99 where the geometry gives none."""

    mode: FixMode
    satellites: tuple[GnssSatellite, ...]
    pdop: float
    hdop: float
    vdop: float

    @property
    def satellites_used(self) -> int:
        return sum(satellite.used for satellite in self.satellites)


NO_DILUTION = 99.99
NO_SKY = GnssFix(FixMode.NONE, (), NO_DILUTION, NO_DILUTION, NO_DILUTION)
"""Of a receiver that hears no satellite."""


def gnss_fix(latitude_deg: float, longitude_deg: float, altitude_m: float, utc_ns: int) -> GnssFix:
    """The fix of a receiver with an open sky at a place and time. Angles in degrees, altitude above the ellipsoid."""
    seen, towards = _sky(latitude_deg, longitude_deg, altitude_m, utc_ns)
    elevations, azimuths = seen.elevation_deg, seen.azimuth_deg
    in_view = [int(row) for row in np.argsort(-elevations, kind="stable") if elevations[row] > 0]
    used = [row for row in in_view if elevations[row] >= MASK_DEG][:CHANNELS]
    satellites = tuple(
        GnssSatellite(
            prn=row + 1,
            azimuth_deg=float(azimuths[row]),
            elevation_deg=float(elevations[row]),
            cn0_dbhz=CN0_HORIZON_DBHZ + CN0_GAIN_DB * float(towards[row, 2]),
            used=row in used,
        )
        for row in in_view
    )
    mode = FixMode.THREE_D if len(used) >= 4 else FixMode.TWO_D if len(used) == 3 else FixMode.NONE
    return GnssFix(mode, satellites, *_dilution(towards[used]))


def _sky(latitude_deg: float, longitude_deg: float, altitude_m: float, utc_ns: int) -> tuple[Look, Vectors]:
    """The 24 satellites from the site, and the unit vectors (24, 3) towards them: east, north, up."""
    elapsed_s = utc_ns / NS_PER_S - EPOCH_UTC_S
    sidereal = math.radians(EPOCH_SIDEREAL_DEG) + EARTH_ROTATION_RAD_S * elapsed_s
    argument = np.radians(ARGUMENTS_OF_LATITUDE_DEG).ravel() + math.sqrt(GM_M3_S2 / SEMI_MAJOR_AXIS_M**3) * elapsed_s
    node = np.repeat(np.radians(NODES_DEG), 4) - sidereal  # longitude of the ascending node
    across = np.sin(argument) * math.cos(INCLINATION_RAD)
    satellites_m = SEMI_MAJOR_AXIS_M * np.stack(
        [
            np.cos(node) * np.cos(argument) - np.sin(node) * across,
            np.sin(node) * np.cos(argument) + np.cos(node) * across,
            np.sin(argument) * math.sin(INCLINATION_RAD),
        ],
        axis=1,
    )
    seen = look(Observer.at(latitude_deg, longitude_deg, altitude_m), satellites_m)
    return seen, np.stack([seen.east_m / seen.range_m, seen.north_m / seen.range_m, seen.sin_elevation], axis=1)


def _dilution(towards: Vectors) -> tuple[float, float, float]:
    """PDOP, HDOP, VDOP of unit vectors (rows, 3) east, north, up. Least squares over position and clock."""
    if len(towards) < 4:
        return NO_DILUTION, NO_DILUTION, NO_DILUTION
    design = np.column_stack([towards, np.ones(len(towards))])
    normal = design.T @ design
    if np.linalg.cond(normal) > 1e9:  # satellites in one plane: a fix without a meaning
        return NO_DILUTION, NO_DILUTION, NO_DILUTION
    variance = np.diag(np.linalg.inv(normal))
    squares = (variance[:3].sum(), variance[:2].sum(), variance[2])
    pdop, hdop, vdop = (min(NO_DILUTION, math.sqrt(max(0.0, float(square)))) for square in squares)
    return pdop, hdop, vdop
