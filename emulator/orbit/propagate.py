"""Positions of many satellites at many times: SGP4, and from its frame to the turning earth's.

SGP4 gives positions in TEME (true equator, mean equinox of date); a rotation by Greenwich mean sidereal time (IAU
1982, Aoki et al., Astron. Astrophys. 105, 359) brings them to the pseudo earth-fixed frame, used here as ECEF. Left
out, and what it costs: polar motion (under 0.6″: 20 m at 6,900 km), UT1 − UTC (taken as 0; 0.1 s in 2025 and never over
0.9 s: 50 m and at most 450 m, all along one direction, east), the equation of the equinoxes' small terms (under 1 m).
SGP4 itself is good to about 1 km at the epoch of its elements, and loses 1–3 km a day.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sgp4.api import SatrecArray

from emulator.orbit.look import Observer
from emulator.orbit.satellites import JD_UNIX, NS_PER_DAY, Satellites
from emulator.units import NS_PER_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

EARTH_TURN_RAD_S = 7.292_115_146_7e-5  # Aoki et al. 1982: rotation relative to the mean equinox's precession
DAYS_TO_J2000 = 10_957.5  # from 1970-01-01T00:00 to 2000-01-01T12:00
DAYS_PER_CENTURY = 36_525.0
ANCHOR_NS = 1200 * NS_PER_S
ANCHORS_KEPT = 4
SHARED_KEPT = 64  # an hour of Starlink's blocks: of 8,000 satellites 1 MB each
DIRECTIONS_KEPT = 64  # of 8,000 satellites 200 kB each
ORBIT_TURNS_RAD = 0.004  # what a low orbit's plane turns by in half of that, and what SGP4's periodic terms add
LOST = 1.1  # times the apogee: there SGP4's drag, far from the epoch of its elements, has left any orbit
CHUNK = 200_000  # positions propagated at once: 24 bytes each twice over, and as much for the rotation


def julian_date(utc_ns: Ints) -> tuple[Floats, Floats]:
    """Julian date as its midnight and the part of the day after it, as SGP4 wants it, each of the shape of `utc_ns`."""
    days, rest = np.divmod(utc_ns, NS_PER_DAY)
    return days + JD_UNIX, rest / NS_PER_DAY


def sidereal_angle_rad(utc_ns: Ints) -> Floats:
    """Greenwich mean sidereal time, IAU 1982, 0 to 2π, with UT1 taken as UTC."""
    days, rest = np.divmod(utc_ns, NS_PER_DAY)
    day_fraction = rest / NS_PER_DAY
    century = (days - DAYS_TO_J2000 + day_fraction) / DAYS_PER_CENTURY
    # The formula's whole turns per day are taken out, so that no digits are lost on them; days begin at midnight here
    # and at noon there, hence the half.
    seconds = 67_310.548_41 + (8_640_184.812_866 + (0.093_104 - 6.2e-6 * century) * century) * century
    turns: Floats = (seconds / 86_400.0 + day_fraction + 0.5) % 1.0
    return turns * 2 * np.pi


class Anchor(NamedTuple):
    """An instant at which all satellites were propagated: unit vectors (satellites, 3) towards each, and along its way.

    They stand in a frame that does not turn, and that is ECEF at `utc_ns`.
    """

    utc_ns: int
    towards: Floats
    ahead: Floats


class Propagator:
    """SGP4 for a set of satellites."""

    def __init__(self, satellites: Satellites) -> None:
        self.satellites = satellites
        self._all = SatrecArray(satellites.records) if len(satellites) else None
        motion = np.array([record.no_kozai for record in satellites.records]) / 60
        eccentricity = np.array([record.ecco for record in satellites.records])
        # 30 km: what SGP4's periodic terms add to the mean orbit, with room
        self._apogee_m = (satellites.altitude_km + 6378.135) * (1 + eccentricity) * 1000 + 30_000
        self._lost_km2 = (LOST * self._apogee_m / 1000) ** 2
        self._motion_rad_s, self._eccentricity = motion, eccentricity
        self._anchors: OrderedDict[int, Anchor] = OrderedDict()
        self._directions: OrderedDict[int, tuple[Floats, float]] = OrderedDict()
        self._reach: tuple[tuple[int, float], Floats, Floats] | None = None
        self._lock = Lock()
        self._fastest_rad_s = motion * (1 + 3 * eccentricity) * 1.02 + EARTH_TURN_RAD_S

    def positions_m(self, utc_ns: Ints, index: Ints | None = None) -> Floats:
        """ECEF positions, (satellites, times, 3), of all satellites or of those of `index`.

        NaN on SGP4's errors, and where it has a satellite far outside of its orbit without one.
        """
        return self._propagate(utc_ns, index, with_velocity=False)[0]

    def states(self, utc_ns: Ints, index: Ints | None = None) -> tuple[Floats, Floats]:
        """The same with velocities in ECEF (which turns), metres and metres per second."""
        return self._propagate(utc_ns, index, with_velocity=True)

    def near(self, observer: Observer, lowest_elevation_deg: Floats, start_ns: int, end_ns: int) -> Ints:
        """Indices of all satellites that may stand above `lowest_elevation_deg` (satellites,) between two times.

        None that does is left out; some that do not are in it. From the nearest of the instants at which all are
        propagated, each is turned about its orbit's normal to halfway between the two times; what that misses, and how
        far a satellite travels from there, is bounded.
        """
        half_s = (end_ns - start_ns) / 2e9
        towards, turn = self._towards((start_ns + end_ns) // 2)
        site = np.array([float(part) for part in observer.position_m])
        site_m = float(np.sqrt((site * site).sum()))
        x, y, z = site / site_m
        site = np.array([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn), z])
        return np.flatnonzero(towards @ site >= self._least_cosine(site_m, lowest_elevation_deg, half_s))

    def _least_cosine(self, site_m: float, lowest_elevation_deg: Floats, half_s: float) -> Floats:
        """Of the angle at the earth's centre between a site and a satellite that may be in view; kept for the next."""
        asked = (round(site_m / 100), half_s)
        if self._reach is None or self._reach[0] != asked or self._reach[1] is not lowest_elevation_deg:
            # Elevation counts from the ellipsoid's horizon, the triangle below from the sphere's: 0.2° apart at most.
            lowest = np.radians(np.maximum(lowest_elevation_deg - 0.2, -90.0))
            reach = np.arccos(np.clip(np.cos(lowest) * (asked[0] - 1) * 100 / self._apogee_m, -1.0, 1.0)) - lowest
            missed = self._motion_rad_s * (ANCHOR_NS / 2e9) * (3 * self._eccentricity + 0.01) + ORBIT_TURNS_RAD
            reach = np.minimum(reach + self._fastest_rad_s * half_s + missed, np.pi)
            self._reach = asked, lowest_elevation_deg, np.cos(reach)
        return self._reach[2]

    def _towards(self, utc_ns: int) -> tuple[Floats, float]:
        """Directions of all satellites, (satellites, 3), in a frame that does not turn, and how far ECEF has turned."""
        with self._lock:
            found = self._directions.get(utc_ns)
        if found is None:
            anchor = self._anchor(utc_ns // ANCHOR_NS)
            elapsed_s = (utc_ns - anchor.utc_ns) / 1e9
            angle = (self._motion_rad_s * elapsed_s)[:, np.newaxis]
            towards = np.cos(angle) * anchor.towards + np.sin(angle) * anchor.ahead
            found = towards, EARTH_TURN_RAD_S * elapsed_s
            with self._lock:
                self._directions[utc_ns] = found
                if len(self._directions) > DIRECTIONS_KEPT:
                    self._directions.popitem(last=False)
        return found

    def _anchor(self, number: int) -> Anchor:
        with self._lock:
            anchor = self._anchors.get(number)
            if anchor is None:
                anchor = self._anchors[number] = self._new_anchor(number * ANCHOR_NS + ANCHOR_NS // 2)
                if len(self._anchors) > ANCHORS_KEPT:
                    self._anchors.popitem(last=False)
        return anchor

    def _new_anchor(self, utc_ns: int) -> Anchor:
        position, velocity = (state[:, 0] for state in self.states(np.array([utc_ns], np.int64)))
        velocity[:, 0] -= EARTH_TURN_RAD_S * position[:, 1]  # of the turning frame
        velocity[:, 1] += EARTH_TURN_RAD_S * position[:, 0]
        towards = position / np.sqrt((position * position).sum(axis=1))[:, np.newaxis]
        ahead = velocity - towards * (velocity * towards).sum(axis=1)[:, np.newaxis]
        return Anchor(utc_ns, towards, ahead / np.sqrt((ahead * ahead).sum(axis=1))[:, np.newaxis])

    def _propagate(self, utc_ns: Ints, index: Ints | None, *, with_velocity: bool) -> tuple[Floats, Floats]:
        records = self.satellites.records
        chosen = range(len(records)) if index is None else index
        lost_km2 = self._lost_km2 if index is None else self._lost_km2[index]
        position = np.empty((len(chosen), len(utc_ns), 3))
        velocity = np.empty_like(position) if with_velocity else position
        day, fraction = julian_date(utc_ns)
        angle = sidereal_angle_rad(utc_ns)
        cosine, sine = np.cos(angle), np.sin(angle)
        at_once = max(1, CHUNK // max(1, len(utc_ns)))
        for first in range(0, len(chosen), at_once):
            part = slice(first, first + at_once)
            if index is None and at_once >= len(chosen) and self._all is not None:
                array = self._all
            else:
                array = SatrecArray([records[one] for one in chosen[part]])
            error, teme_km, teme_km_s = array.sgp4(day, fraction)
            astray = np.einsum("sti,sti->st", teme_km, teme_km) > lost_km2[part, np.newaxis]
            teme_km[(error != 0) | astray] = np.nan
            _turn(teme_km, cosine, sine, position[part])
            if with_velocity:
                _turn(teme_km_s, cosine, sine, velocity[part])
                velocity[part, :, 0] += EARTH_TURN_RAD_S * position[part, :, 1]
                velocity[part, :, 1] -= EARTH_TURN_RAD_S * position[part, :, 0]
        return position, velocity


class SharedPropagator(Propagator):
    """One sky for many terminals: positions asked for at the same times are propagated once, for all satellites.

    Worth it from some dozens of terminals on; for one, far more is propagated than it sees.
    """

    def __init__(self, satellites: Satellites) -> None:
        super().__init__(satellites)
        self._shared: OrderedDict[bytes, Floats] = OrderedDict()
        self._sharing = Lock()

    def positions_m(self, utc_ns: Ints, index: Ints | None = None) -> Floats:
        """As Propagator's."""
        key = utc_ns.tobytes()
        with self._sharing:
            position = self._shared.get(key)
            if position is None:
                position = self._shared[key] = super().positions_m(utc_ns)
                if len(self._shared) > SHARED_KEPT:
                    self._shared.popitem(last=False)
        return position if index is None else position[index]


def _turn(teme_km: Floats, cosine: Floats, sine: Floats, ecef_m: Floats) -> None:
    """Writes TEME in km, (satellites, times, 3), as ECEF in metres."""
    x, y = teme_km[..., 0] * 1000, teme_km[..., 1] * 1000
    ecef_m[..., 0] = cosine * x + sine * y
    ecef_m[..., 1] = cosine * y - sine * x
    ecef_m[..., 2] = teme_km[..., 2] * 1000
