"""A steered antenna whose motors stop and whose encoders err, at times that were said before."""

from __future__ import annotations

from dataclasses import replace

from emulator.scenario.hardware import AntennaFault
from emulator.terminal.antenna import Antenna, Mount, Pose, Towards
from emulator.units import NS_PER_S


class FaultyAntenna(Antenna):
    """An antenna with `faults`, whose times count from `start_ns`; those of the line are not its own.

    Its controller does not notice: a command that moves nothing is obeyed, and encoders that err say what they say.
    """

    def __init__(self, mount: Mount, faults: tuple[AntennaFault, ...], start_ns: int) -> None:
        super().__init__(mount)
        self._windows = [
            (start_ns + round(one.at_s * NS_PER_S), start_ns + round((one.at_s + one.duration_s) * NS_PER_S), one)
            for one in faults
        ]
        self._stopped: set[int] = set()

    def _now(self, kind: str, now_ns: int) -> list[tuple[int, AntennaFault]]:
        return [(begin, one) for begin, end, one in self._windows if one.kind == kind and begin <= now_ns < end]

    def _dead(self, now_ns: int) -> bool:
        """Whether the motors are; at the first look of a fault they stop where they were when it began."""
        dead = self._now("motor", now_ns)
        for begin_ns, _ in dead:
            if begin_ns not in self._stopped:
                self._stopped.add(begin_ns)
                super().stop(begin_ns)
        return bool(dead)

    def pose(self, now_ns: int) -> Pose:
        """The beam is where it is, whatever the encoders say."""
        if self._windows:
            self._dead(now_ns)
        pose = super().pose(now_ns)
        for _, one in self._now("encoder", now_ns):
            pose = replace(
                pose,
                beam_azimuth_deg=pose.beam_azimuth_deg + one.azimuth_deg,
                beam_elevation_deg=pose.beam_elevation_deg + one.elevation_deg,
            )
        return pose

    def point(self, now_ns: int, azimuth_deg: float | None = None, elevation_deg: float | None = None) -> bool:
        return self._dead(now_ns) or super().point(now_ns, azimuth_deg, elevation_deg)

    def turn(self, now_ns: int, towards: Towards, rate_deg_s: float | None = None) -> None:
        if not self._dead(now_ns):
            super().turn(now_ns, towards, rate_deg_s)

    def stop(self, now_ns: int, *, azimuth: bool = True, elevation: bool = True) -> None:
        if not self._dead(now_ns):
            super().stop(now_ns, azimuth=azimuth, elevation=elevation)

    def park(self, now_ns: int) -> None:
        if not self._dead(now_ns):
            super().park(now_ns)
