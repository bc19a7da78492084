"""What a site on the ground sees: azimuth, elevation, slant range and range rate of positions in ECEF.

Only sums, products, square roots and divisions stand between a position and `sin_elevation` and `range_m`, all of
which IEEE 754 rounds alike on every machine and for every array shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, radians, sin, sqrt

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Component = float | Floats
Vector = tuple[Component, Component, Component]

WGS84_AXIS_M = 6_378_137.0  # WGS 84, NGA.STND.0036, table 3.1
WGS84_FLATTENING = 1 / 298.257223563  # the same


@dataclass(frozen=True)
class Observer:
    """A place on the earth: its position and its local axes in ECEF (WGS 84), metres and unit vectors.

    Of one that moves, the components are arrays, (times,), and go with the last axis of what is looked at.
    """

    position_m: Vector
    east: Vector
    north: Vector
    up: Vector

    @classmethod
    def at(cls, latitude_deg: float, longitude_deg: float, altitude_m: float) -> Observer:
        """The observer at geodetic coordinates, `altitude_m` above the ellipsoid."""
        lat, lon = radians(latitude_deg), radians(longitude_deg)
        squared = WGS84_FLATTENING * (2 - WGS84_FLATTENING)
        normal = WGS84_AXIS_M / sqrt(1 - squared * sin(lat) ** 2)
        flat = (normal + altitude_m) * cos(lat)
        return cls(
            position_m=(flat * cos(lon), flat * sin(lon), (normal * (1 - squared) + altitude_m) * sin(lat)),
            east=(-sin(lon), cos(lon), 0.0),
            north=(-sin(lat) * cos(lon), -sin(lat) * sin(lon), cos(lat)),
            up=(cos(lat) * cos(lon), cos(lat) * sin(lon), sin(lat)),
        )

    @classmethod
    def along(cls, latitude_deg: Floats, longitude_deg: Floats, altitude_m: Floats) -> Observer:
        """The same for places, (times,) each."""
        lat, lon = np.radians(latitude_deg), np.radians(longitude_deg)
        squared = WGS84_FLATTENING * (2 - WGS84_FLATTENING)
        normal = WGS84_AXIS_M / np.sqrt(1 - squared * np.sin(lat) ** 2)
        flat = (normal + altitude_m) * np.cos(lat)
        return cls(
            position_m=(flat * np.cos(lon), flat * np.sin(lon), (normal * (1 - squared) + altitude_m) * np.sin(lat)),
            east=(-np.sin(lon), np.cos(lon), np.zeros_like(lon)),
            north=(-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)),
            up=(np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)),
        )

    @classmethod
    def together(cls, observers: Sequence[Observer]) -> Observer:
        """Several in one: components (observers, 1, 1), to look at positions (1, satellites, times, 3)."""

        def stacked(vectors: Sequence[Vector]) -> Vector:
            x, y, z = np.array(vectors, np.float64).T[..., np.newaxis, np.newaxis]
            return x, y, z

        return cls(
            position_m=stacked([one.position_m for one in observers]),
            east=stacked([one.east for one in observers]),
            north=stacked([one.north for one in observers]),
            up=stacked([one.up for one in observers]),
        )

    def some(self, which: Ints) -> Observer:
        """Of observers that are `together`, some: components of the shape of `which`."""

        def picked(vector: Vector) -> Vector:
            x, y, z = (np.ravel(component)[which] for component in vector)
            return x, y, z

        return Observer(picked(self.position_m), picked(self.east), picked(self.north), picked(self.up))


@dataclass(frozen=True)
class Look:
    """Directions from an observer to positions, all of the same shape; elevation as its sine, from −1 to 1."""

    range_m: Floats
    sin_elevation: Floats
    east_m: Floats
    north_m: Floats

    @property
    def elevation_deg(self) -> Floats:
        """From −90 to 90."""
        angle: Floats = np.degrees(np.arcsin(np.clip(self.sin_elevation, -1.0, 1.0)))
        return angle

    @property
    def azimuth_deg(self) -> Floats:
        """From north over east, 0 to below 360."""
        angle = np.degrees(np.arctan2(self.east_m, self.north_m))
        turned: Floats = np.where(angle < 0, angle + 360.0, angle)
        return np.where(turned >= 360.0, 0.0, turned)  # −1e-15 + 360 rounds to 360


def look(observer: Observer, position_m: Floats) -> Look:
    """Where `position_m`, shape (…, 3) in ECEF, stands for `observer`. NaN gives NaN, and so does its own place."""
    x, y, z = (position_m[..., axis] - observer.position_m[axis] for axis in range(3))
    range_m = np.asarray(np.sqrt(x * x + y * y + z * z))

    def along(axis: Vector) -> Floats:
        part: Floats = x * axis[0] + y * axis[1] + z * axis[2]
        return part

    sine = np.divide(along(observer.up), range_m, out=np.full_like(range_m, np.nan), where=range_m > 0)
    return Look(range_m, sine, along(observer.east), along(observer.north))


def range_rate_m_s(observer: Observer, position_m: Floats, velocity_m_s: Floats) -> Floats:
    """Change of the slant range, positive when receding; velocities, shape (…, 3), in the turning frame ECEF."""
    x, y, z = (position_m[..., axis] - observer.position_m[axis] for axis in range(3))
    range_m = np.sqrt(x * x + y * y + z * z)
    rate: Floats = (x * velocity_m_s[..., 0] + y * velocity_m_s[..., 1] + z * velocity_m_s[..., 2]) / range_m
    return rate


def great_circle_m(one: Observer, other: Observer) -> float:
    """Distance along the ground on a sphere of the mean radius; within 0.6 % of the ellipsoid's."""
    mean_radius_m = WGS84_AXIS_M * (1 - WGS84_FLATTENING / 3)
    chord = float(np.sqrt(sum((a - b) ** 2 for a, b in zip(one.up, other.up, strict=True))))
    return float(2 * mean_radius_m * np.arcsin(min(1.0, chord / 2)))
