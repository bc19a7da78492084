"""Who serves, second by second: of all satellites that terminal and gateway see, the one with the most merit.

The base of all systems whose schedule is not published: a system says what merit is, a function of the sky at that
instant. So no second depends on the one before, or on who asks. UTC minutes are worked out one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.orbit.look import Look, look
from emulator.orbit.propagate import Propagator
from emulator.orbit.site import Site
from emulator.scenario.model import Terminal
from emulator.serving.pins import Pinnable
from emulator.serving.stations import GroundStation, require_coverage
from emulator.units import FIBRE_SPEED_M_S, NS_PER_S, SPEED_OF_LIGHT_M_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MINUTE_S = 60
MINUTE_NS = MINUTE_S * NS_PER_S
MINUTES_KEPT = 16


class Minute(NamedTuple):
    """Who serves each second of a UTC minute, (60,): indices of satellite and gateway, −1 for none."""

    satellite: Ints
    gateway: Ints


@dataclass(frozen=True)
class Sky:
    """The satellites that may be in view in a UTC minute, at its 61 full seconds.

    seconds_ns: UTC, (61,). near: which satellites, (near,). position_m: ECEF, (near, 61, 3). seen, from_gateway: from
    the terminal and from each gateway, (near, 61).
    """

    seconds_ns: Ints
    near: Ints
    position_m: Floats
    seen: Look
    from_gateway: tuple[Look, ...]


class MinutePolicy(Pinnable):
    """Who serves, worked out by the UTC minute, of which the last few are kept; `_work_out` is the system's."""

    def minute(self, number: int) -> Minute:
        """Who serves the UTC minute `number`, counted from 1970."""
        with self._lock:
            minute: Minute | None = self._kept.get(number)
            if minute is None:
                minute = self._kept[number] = self._work_out(number)
                if len(self._kept) > MINUTES_KEPT:
                    self._kept.popitem(last=False)
        return minute

    def _work_out(self, number: int) -> Minute:
        raise NotImplementedError


class PassPolicy(MinutePolicy):
    """Serving satellite and gateway by second; systems override `merit`, and what else differs."""

    def __init__(
        self, propagator: Propagator, masks: Floats, terminal: Terminal, gateways: Sequence[GroundStation]
    ) -> None:
        super().__init__()
        self.propagator = propagator
        self.site = Site(terminal)
        self.gateways = tuple(gateways)
        self.terminal = terminal
        self._masks_deg = masks
        self._sin_mask = np.sin(np.radians(masks))
        self._sin_gateway_mask = [float(np.sin(np.radians(station.min_elevation_deg))) for station in gateways]

    def merit(self, sky: Sky) -> Floats:
        """How good each satellite is at each second, (near, 61)."""
        raise NotImplementedError

    def gateway_merit(self, sky: Sky) -> Floats:
        """How good each gateway is for each satellite, (gateways, near, 61): here, the shorter the way the better.

        Fibre counts as the detour that it is: as far as light goes in its time.
        """
        return np.stack(
            [
                -(one.range_m + station.fibre_m * SPEED_OF_LIGHT_M_S / FIBRE_SPEED_M_S)
                for station, one in zip(self.gateways, sky.from_gateway, strict=True)
            ]
        )

    def tracked(self, sky: Sky) -> Bools:
        """Through which gateways each satellite can serve, (gateways, near, 61): those above whose mask it stands."""
        return np.stack(
            [one.sin_elevation >= lowest for one, lowest in zip(sky.from_gateway, self._sin_gateway_mask, strict=True)]
        )

    def require_coverage(self, start_ns: int) -> None:
        """Raises CoverageError unless a satellite serves the terminal soon after `start_ns`."""
        self.site.require_track_at(start_ns)
        require_coverage(
            self.propagator,
            self.site,
            self._masks_deg,
            self.gateways,
            start_ns,
            block_ns=MINUTE_NS,
            serves=lambda at_ns: bool((self.minute(at_ns // MINUTE_NS).satellite >= 0).any()),
        )

    def _work_out(self, number: int) -> Minute:
        """A satellite can serve a second if it is seen at both ends of it, hence throughout."""
        seconds_ns = (number * MINUTE_S + np.arange(MINUTE_S + 1, dtype=np.int64)) * NS_PER_S
        near = self.site.near(self.propagator, self._masks_deg, int(seconds_ns[0]), int(seconds_ns[-1]))
        none = np.full(MINUTE_S, -1, np.int64)
        if len(near) == 0:
            return Minute(none, none)
        position = self.propagator.positions_m(seconds_ns, near)
        seen = look(self.site.observer(seconds_ns), position)
        from_gateway = tuple(look(station.observer, position) for station in self.gateways)
        sky = Sky(seconds_ns, near, position, seen, from_gateway)
        above = seen.sin_elevation >= self._sin_mask[near, np.newaxis]
        visible = _throughout(above & self.site.unobstructed(seen))
        tracked = _throughout(self.tracked(sky))
        may = self.pin.satellites(near)[:, np.newaxis] & self.pin.gateways(len(tracked))[:, np.newaxis, np.newaxis]
        usable = visible & tracked & may  # (gateways, near, 60)
        able = usable.any(axis=0)
        satellite = np.where(able, self.merit(sky)[:, :-1], -np.inf).argmax(axis=0)
        second = np.arange(MINUTE_S)
        there = np.where(usable, self.gateway_merit(sky)[:, :, :-1], -np.inf)[:, satellite, second]
        served = able.any(axis=0)
        return Minute(np.where(served, near[satellite], -1), np.where(served, there.argmax(axis=0), -1))


def _throughout(at_seconds: Bools) -> Bools:
    """What holds at 61 instants → what holds in the 60 seconds between them, along the last axis."""
    both: Bools = at_seconds[..., :-1] & at_seconds[..., 1:]
    return both
