"""What every source of orbits gives: element sets, and the satellites that a run uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sgp4.api import Satrec

from emulator.units import NS_PER_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

EARTH_RADIUS_KM = 6378.135  # equatorial, WGS 72: the one that SGP4 elements are fitted with (Spacetrack Report 3)
EARTH_MU_KM3_S2 = 398_600.8  # the same

JD_UNIX = 2_440_587.5  # Julian date of 1970-01-01T00:00:00Z
SECONDS_PER_DAY = 86_400
NS_PER_DAY = SECONDS_PER_DAY * NS_PER_S


class ElementSet(NamedTuple):
    """An object of a catalogue: its name line, its catalogue number, its orbit, and where in the file it stands."""

    name: str
    number: int
    record: Satrec
    place: str  # "line 4", "message 2"

    @property
    def epoch_utc_ns(self) -> int:
        """Epoch of the elements, to about 0.1 ms."""
        return round((self.record.jdsatepoch - JD_UNIX + self.record.jdsatepochF) * SECONDS_PER_DAY) * NS_PER_S


@dataclass(frozen=True)
class Satellites:
    """The satellites of a run, in a fixed order; all arrays have shape (satellites,).

    altitude_km: of the mean orbit above the equatorial radius. shell_mask_deg: lowest elevation at which a satellite's
    shell serves, NaN where its source does not say.
    """

    names: tuple[str, ...]
    records: tuple[Satrec, ...]
    altitude_km: Floats
    shell_mask_deg: Floats

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, names: Sequence[str], records: Sequence[Satrec], shell_mask_deg: Floats | None = None) -> Satellites:
        """Satellites by name and SGP4 record."""
        motion = np.array([record.no_kozai for record in records], np.float64) / 60
        mask = np.full(len(names), np.nan) if shell_mask_deg is None else shell_mask_deg
        return cls(tuple(names), tuple(records), altitude_km(motion), mask)


def altitude_km(mean_motion_rad_s: Floats) -> Floats:
    """Mean altitude of an orbit of that mean motion over the equatorial radius (Kepler's third law)."""
    axis: Floats = (EARTH_MU_KM3_S2 / mean_motion_rad_s**2) ** (1 / 3)
    return axis - EARTH_RADIUS_KM


def mean_motion_rad_s(altitude: float) -> float:
    """The inverse of `altitude_km`, for one altitude in km."""
    return float((EARTH_MU_KM3_S2 / (altitude + EARTH_RADIUS_KM) ** 3) ** 0.5)
