"""What pointing costs: the beam, the attitude of what carries the mount, what stands in the way, and the lock.

How to read it: `Sight.of` puts a serving satellite and an antenna's pose together; `Lock` says whether the modem has a
signal to work with. Angles in degrees; azimuth from north over east, elevation from the horizon up. A carrier's frame
has its bow where north would be: heading turns it to the right, pitch lifts the bow, roll lifts the left side.
"""

from __future__ import annotations

import bisect
import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from emulator.errors import ScenarioError
from emulator.orbit.geostationary import slot_position_m
from emulator.orbit.look import Observer, look
from emulator.scenario.hardware import Blockage
from emulator.terminal.antenna import separation_deg
from emulator.units import NS_PER_S

COLUMNS = ("t_s", "roll_deg", "pitch_deg", "heading_deg")


def beam_loss_db(off_deg: float, width_deg: float, floor_db: float) -> float:
    """What a parabolic main lobe loses `off_deg` from its axis: 3 dB at half its half-power width, then the floor.

    12 (θ/θ3dB)² dB, no more than the floor: the pattern of 3GPP TR 38.901 table 7.3-1.
    """
    return min(12.0 * (off_deg / width_deg) ** 2, floor_db)


def geostationary_direction(
    latitude_deg: float, longitude_deg: float, altitude_m: float, satellite_deg: float
) -> tuple[float, float]:
    """Azimuth and elevation of a geostationary satellite at `satellite_deg` east; below 0 it has set."""
    observer = Observer.at(latitude_deg, longitude_deg, altitude_m)
    seen = look(observer, slot_position_m(satellite_deg))
    return float(seen.azimuth_deg), float(seen.elevation_deg)


@dataclass(frozen=True, slots=True)
class Attitude:
    """How the carrier stands."""

    roll_deg: float = 0.0
    pitch_deg: float = 0.0
    heading_deg: float = 0.0

    def to_carrier(self, azimuth_deg: float, elevation_deg: float) -> tuple[float, float]:
        """A direction over the ground as the mount has it: azimuth in [0, 360)."""
        x, y, z = _vector(azimuth_deg - self.heading_deg, elevation_deg)
        x, z = _turned(x, z, -self.pitch_deg)
        y, z = _turned(y, z, self.roll_deg)
        return _angles(x, y, z)

    def to_ground(self, azimuth_deg: float, elevation_deg: float) -> tuple[float, float]:
        """The other way round."""
        x, y, z = _vector(azimuth_deg, elevation_deg)
        y, z = _turned(y, z, -self.roll_deg)
        x, z = _turned(x, z, self.pitch_deg)
        azimuth, elevation = _angles(x, y, z)
        return (azimuth + self.heading_deg) % 360.0, elevation


def _vector(azimuth_deg: float, elevation_deg: float) -> tuple[float, float, float]:
    """Ahead, right, up."""
    azimuth, elevation = math.radians(azimuth_deg), math.radians(elevation_deg)
    flat = math.cos(elevation)
    return flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)


def _turned(one: float, up: float, by_deg: float) -> tuple[float, float]:
    sine, cosine = math.sin(math.radians(by_deg)), math.cos(math.radians(by_deg))
    return one * cosine - up * sine, one * sine + up * cosine


def _angles(x: float, y: float, z: float) -> tuple[float, float]:
    return math.degrees(math.atan2(y, x)) % 360.0, math.degrees(math.asin(max(-1.0, min(1.0, z))))


class AttitudeTrack:
    """Attitude over time, straight lines between the points of a track; before and after it, its ends."""

    def __init__(self, points: Iterable[tuple[float, Attitude]] = ()) -> None:
        self._points = list(points) or [(0.0, Attitude())]
        self._times = [t_s for t_s, _ in self._points]

    @classmethod
    def read(cls, path: Path) -> Self:
        """A track from a CSV file of `COLUMNS`. Raises ScenarioError naming file and line."""
        try:
            with path.open(newline="", encoding="utf-8") as file:
                lines = csv.DictReader(file)
                if lines.fieldnames is None or tuple(lines.fieldnames) != COLUMNS:
                    raise ScenarioError([f"{path}: line 1: expected {','.join(COLUMNS)}"])
                points: list[tuple[float, Attitude]] = []
                for line in lines:
                    try:
                        t_s, *angles = (float(line[name]) for name in COLUMNS)
                    except (TypeError, ValueError):
                        t_s, angles = math.nan, []
                    if not all(map(math.isfinite, (t_s, *angles))) or (points and t_s <= points[-1][0]):
                        raise ScenarioError([f"{path}: line {lines.line_num}: expected four numbers, t_s rising"])
                    points.append((t_s, Attitude(*angles)))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ScenarioError([f"{path}: expected a readable CSV file: {error}"]) from error
        if not points:
            raise ScenarioError([f"{path}: expected at least one line of numbers"])
        return cls(points)

    def at(self, t_ns: int) -> Attitude:
        """The attitude `t_ns` after the start."""
        t_s = t_ns / NS_PER_S
        after = bisect.bisect_right(self._times, t_s)
        if after in (0, len(self._points)):
            return self._points[max(0, after - 1)][1]
        (first_s, first), (second_s, second) = self._points[after - 1], self._points[after]
        share = (t_s - first_s) / (second_s - first_s)

        def between(one: float, other: float) -> float:
            return one + share * ((other - one + 180.0) % 360.0 - 180.0)  # the short way round

        return Attitude(
            between(first.roll_deg, second.roll_deg),
            between(first.pitch_deg, second.pitch_deg),
            between(first.heading_deg, second.heading_deg),
        )


@dataclass(frozen=True, slots=True)
class Sight:
    """An antenna before its sky at an instant. Angles of the satellite over the ground; None without a satellite.

    `off_deg`: between beam and satellite. The losses are what pointing and blockage take from the C/N, floor included.
    """

    azimuth_deg: float | None
    elevation_deg: float | None
    off_deg: float | None
    receive_loss_db: float
    transmit_loss_db: float
    blocked_db: float

    @classmethod
    def of(
        cls,
        satellite: tuple[float, float] | None,
        beam: tuple[float, float] | None,
        attitude: Attitude,
        *,
        widths_deg: tuple[float, float],
        floor_db: float,
        blockages: tuple[Blockage, ...] = (),
    ) -> Self:
        """`satellite` over the ground, `beam` as the mount has it: azimuth and elevation; widths: receive, transmit.

        Nobody knows where a beam of None points: it is taken to be off by all that there is.
        """
        if satellite is None or beam is None:
            azimuth, elevation = satellite or (None, None)
            return cls(azimuth, elevation, None, floor_db, floor_db, 0.0)
        there = attitude.to_carrier(*satellite)
        off_deg = separation_deg(*beam, *there)
        blocked_db = sum(one.loss_db for one in blockages if one.hides(*there))
        receive_db, transmit_db = (beam_loss_db(off_deg, width, floor_db) + blocked_db for width in widths_deg)
        return cls(*satellite, off_deg, receive_db, transmit_db, blocked_db)


@dataclass(frozen=True, slots=True)
class Report:
    """What a controller said: where it points, or whether it works and lets the modem transmit. None: not said."""

    azimuth_deg: float | None = None
    elevation_deg: float | None = None
    on_target: bool | None = None
    may_transmit: bool | None = None


class Lock:
    """Whether the modem is locked: it takes its time once the signal can be used, and loses it at once."""

    def __init__(self, acquisition_ns: int) -> None:
        self._acquisition_ns = acquisition_ns
        self._usable_since_ns: int | None = None

    def update(self, usable: bool, now_ns: int) -> bool:
        """The state at `now_ns`, given whether the signal can be used now."""
        if not usable:
            self._usable_since_ns = None
            return False
        if self._usable_since_ns is None:
            self._usable_since_ns = now_ns
        return now_ns - self._usable_since_ns >= self._acquisition_ns
