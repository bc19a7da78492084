"""A steered antenna: two axes that take their time, stop at their limits, and have play in their gears.

Controllers drive it (`point`, `turn`, `stop`, `park`) and read its encoders; the sky sees where the beam is, which the
play of the gears keeps a little behind. Time is an argument. Each axis turns at a constant rate from the instant of a
command, so that a pose at any instant is exact however often it is asked for.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, fields
from enum import Enum

from emulator.errors import ScenarioError
from emulator.units import NS_PER_S


@dataclass(frozen=True, slots=True)
class Mount:
    """What an elevation-over-azimuth mount can do; angles in degrees, rates in degrees per second.

    `backlash_deg`: play of each gear; the beam follows its encoder within half of it. `keyhole_deg`: within this
    distance of the zenith the azimuth is not driven. Defaults are of a rotator that reaches over the zenith.
    Raises ScenarioError naming the field.
    """

    azimuth_rate_deg_s: float = 6.2  # Yaesu G-5500 at 60 Hz: 360° in 58 s (its user manual, specifications)
    elevation_rate_deg_s: float = 2.7  # the same: 180° in 67 s
    azimuth_min_deg: float = 0.0
    azimuth_max_deg: float = 450.0  # the same
    elevation_min_deg: float = 0.0
    elevation_max_deg: float = 180.0  # the same
    backlash_deg: float = 0.0
    keyhole_deg: float = 0.0
    park_azimuth_deg: float = 0.0
    park_elevation_deg: float = 90.0  # a dish turned up offers the wind the least; a stated choice

    def __post_init__(self) -> None:
        faults = [
            f"antenna: {field.name}: expected a number, got {getattr(self, field.name)!r}"
            for field in fields(self)
            if not math.isfinite(getattr(self, field.name))
        ]
        for name, low, high in (
            ("azimuth_rate_deg_s", 1e-3, 1e3),
            ("elevation_rate_deg_s", 1e-3, 1e3),
            ("azimuth_min_deg", -360.0, self.azimuth_max_deg),
            ("azimuth_max_deg", self.azimuth_min_deg, 720.0),
            ("elevation_min_deg", -90.0, self.elevation_max_deg),
            ("elevation_max_deg", self.elevation_min_deg, 180.0),
            ("backlash_deg", 0.0, 10.0),
            ("keyhole_deg", 0.0, 45.0),
            ("park_azimuth_deg", self.azimuth_min_deg, self.azimuth_max_deg),
            ("park_elevation_deg", self.elevation_min_deg, self.elevation_max_deg),
        ):
            value = getattr(self, name)
            if not faults and not low <= value <= high:
                faults.append(f"antenna: {name}: expected {low:g} to {high:g}, got {value:g}")
        if faults:
            raise ScenarioError(faults)


class Towards(Enum):
    """A direction to turn in: azimuth grows to the right, elevation upwards."""

    LEFT = ("azimuth", -1)
    RIGHT = ("azimuth", 1)
    DOWN = ("elevation", -1)
    UP = ("elevation", 1)


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the antenna is at an instant. The encoders' angles, the beam's, and which way each axis turns (-1, 0, 1).

    An elevation beyond 90° is behind the zenith; `direction` gives the beam as the sky has it.
    """

    azimuth_deg: float
    elevation_deg: float
    beam_azimuth_deg: float
    beam_elevation_deg: float
    azimuth_turning: int
    elevation_turning: int

    @property
    def moving(self) -> bool:
        return bool(self.azimuth_turning or self.elevation_turning)

    def direction(self) -> tuple[float, float]:
        """Azimuth in [0, 360) and elevation in [-90, 90] of the beam, degrees."""
        if self.beam_elevation_deg > 90.0:
            return (self.beam_azimuth_deg + 180.0) % 360.0, 180.0 - self.beam_elevation_deg
        return self.beam_azimuth_deg % 360.0, self.beam_elevation_deg

    def off_by_deg(self, azimuth_deg: float, elevation_deg: float) -> float:
        """The angle between the beam and a direction of the sky, degrees."""
        return separation_deg(*self.direction(), azimuth_deg, elevation_deg)


def separation_deg(azimuth_1: float, elevation_1: float, azimuth_2: float, elevation_2: float) -> float:
    """The angle between two directions, all in degrees. Haversine: exact for small angles too."""
    up_1, up_2 = math.radians(elevation_1), math.radians(elevation_2)
    across = math.sin(math.radians(azimuth_2 - azimuth_1) / 2) ** 2 * math.cos(up_1) * math.cos(up_2)
    return 2 * math.degrees(math.asin(math.sqrt(min(1.0, math.sin((up_2 - up_1) / 2) ** 2 + across))))


@dataclass(frozen=True, slots=True)
class _Travel:
    """One axis under way: from, to, at a rate, since; `beam_deg` is the beam's angle at its beginning."""

    from_deg: float
    to_deg: float
    rate_deg_s: float
    since_ns: int
    beam_deg: float

    def angle_deg(self, now_ns: int) -> float:
        far_deg = self.rate_deg_s * max(0, now_ns - self.since_ns) / NS_PER_S
        left_deg = self.to_deg - self.from_deg
        return self.to_deg if abs(left_deg) <= far_deg else self.from_deg + math.copysign(far_deg, left_deg)

    def beam_at_deg(self, now_ns: int, backlash_deg: float) -> float:
        angle_deg = self.angle_deg(now_ns)
        return min(max(self.beam_deg, angle_deg - backlash_deg / 2), angle_deg + backlash_deg / 2)

    def turning(self, now_ns: int) -> int:
        left_deg = self.to_deg - self.angle_deg(now_ns)
        return (left_deg > 0) - (left_deg < 0)

    def arrival_ns(self) -> int:
        return self.since_ns + math.ceil(abs(self.to_deg - self.from_deg) / self.rate_deg_s * NS_PER_S)


class Antenna:
    """An antenna on its mount, parked at first. Shared by threads; the last command wins.

    A clock that is set back stops nobody: what is under way goes on from where it is.
    """

    def __init__(self, mount: Mount | None = None) -> None:
        self.mount = mount or Mount()
        azimuth, elevation = self.mount.park_azimuth_deg, self.mount.park_elevation_deg
        self._travels = (_Travel(azimuth, azimuth, 1.0, 0, azimuth), _Travel(elevation, elevation, 1.0, 0, elevation))
        self._changing = threading.Lock()

    def pose(self, now_ns: int) -> Pose:
        """Where the antenna is at `now_ns`."""
        azimuth, elevation = travels = self._travels
        if now_ns < max(azimuth.since_ns, elevation.since_ns):
            with self._changing:
                if self._travels is travels:
                    self._travels = self._since(now_ns, azimuth), self._since(now_ns, elevation)
                azimuth, elevation = self._travels
        return Pose(
            azimuth.angle_deg(now_ns),
            elevation.angle_deg(now_ns),
            azimuth.beam_at_deg(now_ns, self.mount.backlash_deg),
            elevation.beam_at_deg(now_ns, self.mount.backlash_deg),
            azimuth.turning(now_ns),
            elevation.turning(now_ns),
        )

    def point(self, now_ns: int, azimuth_deg: float | None = None, elevation_deg: float | None = None) -> bool:
        """Turns towards a position; None leaves an axis as it is. False, and nothing changes, beyond a limit."""
        mount = self.mount
        if azimuth_deg is not None and not mount.azimuth_min_deg <= azimuth_deg <= mount.azimuth_max_deg:
            return False
        if elevation_deg is not None and not mount.elevation_min_deg <= elevation_deg <= mount.elevation_max_deg:
            return False
        with self._changing:
            azimuth, elevation = self._travels
            if elevation_deg is not None:
                elevation = self._travel(now_ns, elevation, elevation_deg, mount.elevation_rate_deg_s)
            if abs(elevation.to_deg - 90.0) < mount.keyhole_deg:
                azimuth = self._travel(now_ns, azimuth, azimuth.angle_deg(now_ns), mount.azimuth_rate_deg_s)
            elif azimuth_deg is not None:
                azimuth = self._travel(now_ns, azimuth, azimuth_deg, mount.azimuth_rate_deg_s)
            self._travels = azimuth, elevation
        return True

    def turn(self, now_ns: int, towards: Towards, rate_deg_s: float | None = None) -> None:
        """Turns one axis until it is stopped or at its limit, no faster than the mount can; a rate of 0 stops it."""
        mount, (axis, sign) = self.mount, towards.value
        with self._changing:
            azimuth, elevation = self._travels
            if axis == "azimuth":
                limit_deg = mount.azimuth_max_deg if sign > 0 else mount.azimuth_min_deg
                azimuth = self._turned(now_ns, azimuth, limit_deg, rate_deg_s, mount.azimuth_rate_deg_s)
            else:
                limit_deg = mount.elevation_max_deg if sign > 0 else mount.elevation_min_deg
                elevation = self._turned(now_ns, elevation, limit_deg, rate_deg_s, mount.elevation_rate_deg_s)
            self._travels = azimuth, elevation

    def stop(self, now_ns: int, *, azimuth: bool = True, elevation: bool = True) -> None:
        """Stops axes where they are."""
        self.pose(now_ns)  # follows a clock that was set back
        with self._changing:
            first, second = self._travels
            if azimuth:
                first = self._travel(now_ns, first, first.angle_deg(now_ns), 1.0)
            if elevation:
                second = self._travel(now_ns, second, second.angle_deg(now_ns), 1.0)
            self._travels = first, second

    def park(self, now_ns: int) -> None:
        """Turns to the parking position, keyhole or not."""
        mount = self.mount
        with self._changing:
            azimuth, elevation = self._travels
            self._travels = (
                self._travel(now_ns, azimuth, mount.park_azimuth_deg, mount.azimuth_rate_deg_s),
                self._travel(now_ns, elevation, mount.park_elevation_deg, mount.elevation_rate_deg_s),
            )

    def reset(self, now_ns: int) -> None:
        """Forgets what it was told: here it stands."""
        self.stop(now_ns)

    def arrival_ns(self) -> int:
        """When the last axis under way is where it was sent."""
        return max(travel.arrival_ns() for travel in self._travels)

    def _turned(self, now_ns: int, old: _Travel, limit_deg: float, rate: float | None, fastest: float) -> _Travel:
        wanted = fastest if rate is None else min(rate, fastest)
        if wanted <= 0:
            return self._travel(now_ns, old, old.angle_deg(now_ns), fastest)
        return self._travel(now_ns, old, limit_deg, wanted)

    def _travel(self, now_ns: int, old: _Travel, to_deg: float, rate_deg_s: float) -> _Travel:
        beam_deg = old.beam_at_deg(now_ns, self.mount.backlash_deg)
        return _Travel(old.angle_deg(now_ns), to_deg, rate_deg_s, now_ns, beam_deg)

    def _since(self, now_ns: int, old: _Travel) -> _Travel:
        return self._travel(now_ns, old, old.to_deg, old.rate_deg_s) if now_ns < old.since_ns else old
