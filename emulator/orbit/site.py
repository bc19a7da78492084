"""Where a terminal is: a place, or a track that it follows, and what stands in its view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emulator.errors import ScenarioError
from emulator.orbit.look import Look, Observer
from emulator.orbit.propagate import Propagator
from emulator.orbit.track import Track, read_track
from emulator.scenario.model import Horizon, Terminal
from emulator.units import format_utc, parse_utc_ns

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOVING_SLACK_DEG = 2.0  # 300 m/s for half a minute are 9 km: 1.5° of a satellite 340 km overhead


@dataclass(frozen=True)
class Motion:
    """A terminal at one instant: WGS 84, speed over ground, course clockwise from north, 0 to below 360."""

    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    speed_m_s: float
    course_deg: float


class Site:
    """The place of a terminal over time. `start` is its observer where the track begins; `slack_deg`: how much lower
    than its mask a satellite may stand half a minute before or after it is above.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._still = Motion(terminal.latitude_deg, terminal.longitude_deg, terminal.altitude_m, 0.0, 0.0)
        self._track = _track(terminal)
        self.slack_deg = 0.0 if self._track is None else MOVING_SLACK_DEG
        self._horizon = _horizon(terminal.horizon)
        first = self.motion(0)
        self.start = Observer.at(first.latitude_deg, first.longitude_deg, first.altitude_m)

    @property
    def moves(self) -> bool:
        return self._track is not None

    def require_track_at(self, utc_ns: int) -> None:
        """Raises ScenarioError if there is a track and it does not lead through `utc_ns`."""
        track = self._track
        if track is not None and not track.utc_ns[0] <= utc_ns <= track.utc_ns[-1]:
            first, last = (format_utc(int(at), 0) for at in track.utc_ns[[0, -1]])
            told = (
                f"expected a track through the start {format_utc(utc_ns, 0)}, got one from {first} to {last}: "
                f"start there (--start {first}), or move it (terminal.track_starts_utc)"
            )
            raise ScenarioError([f"{track.file}: terminal.track: {told}"])

    def observer(self, utc_ns: Ints) -> Observer:
        """The observer at times (times,): of a track, one whose vectors have components of that shape.

        Before its track a terminal stands where that begins, after it where it ends.
        """
        if self._track is None:
            return self.start
        return Observer.along(*self._track.at(utc_ns)[:3])

    def observer_at(self, utc_ns: int) -> Observer:
        """The observer at one time."""
        if self._track is None:
            return self.start
        here = self.motion(utc_ns)
        return Observer.at(here.latitude_deg, here.longitude_deg, here.altitude_m)

    def motion(self, utc_ns: int) -> Motion:
        """Place and motion at one time."""
        if self._track is None:
            return self._still
        return Motion(*(float(column[0]) for column in self._track.at(np.array([utc_ns], np.int64))))

    def near(self, propagator: Propagator, masks_deg: Floats, start_ns: int, end_ns: int) -> Ints:
        """Indices of all satellites that may stand above `masks_deg` between two times, a minute apart at most.

        None that does is left out, wherever the terminal moves in that time.
        """
        observer = self.observer_at((start_ns + end_ns) // 2)
        masks = masks_deg - self.slack_deg if self.slack_deg else masks_deg
        return propagator.near(observer, masks, start_ns, end_ns)

    def unobstructed(self, seen: Look) -> npt.NDArray[np.bool_] | bool:
        """Whether directions stand above what surrounds the site, in the shape of `seen`."""
        if self._horizon is None:
            return True
        azimuth_deg, sine = self._horizon
        above: npt.NDArray[np.bool_] = seen.sin_elevation >= np.interp(seen.azimuth_deg, azimuth_deg, sine)
        return above


def _track(terminal: Terminal) -> Track | None:
    if not terminal.track:
        return None
    track = read_track(Path(terminal.track), terminal.track_gap_s)
    return track.shifted(parse_utc_ns(terminal.track_starts_utc)) if terminal.track_starts_utc else track


def _horizon(points: Sequence[Horizon]) -> tuple[Floats, Floats] | None:
    """The obstruction's edge as the sine of its elevation over azimuths from −360 to 720."""
    if not points:
        return None
    around = sorted((point.azimuth_deg, point.elevation_deg) for point in points)
    azimuth, elevation = np.array([(turn + az, el) for turn in (-360.0, 0.0, 360.0) for az, el in around]).T
    return azimuth, np.sin(np.radians(elevation))
