"""What a dish remembers: the last fifteen minutes by the second, its outages, where it has heard satellites."""

from __future__ import annotations

import math
from array import array
from collections import deque
from dataclasses import dataclass
from enum import IntEnum

from emulator.units import NS_PER_S

RING = 900  # shared/INTERFACES.md: a ring of 900 samples at 1 Hz
MAP_SIZE = 123  # the same: 123 × 123
MAP_MAX_THETA_DEG = 80.0  # a stated choice: the map reaches from the zenith to 10° above the horizon
MAP_MIN_ELEVATION_DEG = 90.0 - MAP_MAX_THETA_DEG
MOST_OUTAGES = 256
LONG_OUTAGES_S = (1, 2, 5, 15, 60)


class OutageCause(IntEnum):
    """Numbered as the dish's clients know them (shared/INTERFACES.md)."""

    UNKNOWN = 0
    BOOTING = 1
    STOWED = 2
    THERMAL_SHUTDOWN = 3
    NO_SCHEDULE = 4
    NO_SATS = 5
    OBSTRUCTED = 6
    NO_DOWNLINK = 7
    NO_PINGS = 8
    SLEEPING = 11


@dataclass(frozen=True, slots=True)
class Outage:
    """[start_ns, start_ns + duration_ns). `did_switch`: another satellite serves after it."""

    cause: OutageCause
    start_ns: int
    duration_ns: int
    did_switch: bool = False


@dataclass(frozen=True, slots=True)
class Second:
    """A sample of the ring. The latency is 0 where no ping was answered."""

    ping_drop_rate: float
    ping_latency_ms: float
    downlink_bps: float
    uplink_bps: float
    power_w: float


QUIET = Second(0.0, 0.0, 0.0, 0.0, 0.0)
DOWN = Second(1.0, 0.0, 0.0, 0.0, 0.0)


class History:
    """The ring. `current` counts the samples since the boot; the newest is at (current − 1) % RING."""

    def __init__(self) -> None:
        self.current = 0
        self.last = QUIET
        self.ping_drop_rate = array("f", bytes(4 * RING))
        self.ping_latency_ms = array("f", bytes(4 * RING))
        self.downlink_bps = array("f", bytes(4 * RING))
        self.uplink_bps = array("f", bytes(4 * RING))
        self.power_w = array("f", bytes(4 * RING))

    def add(self, second: Second, times: int = 1) -> None:
        """The next sample, `times` over: a gap in which nobody looked is filled with the mean of the whole."""
        for number in range(max(0, times - RING), times):
            place = (self.current + number) % RING
            self.ping_drop_rate[place] = second.ping_drop_rate
            self.ping_latency_ms[place] = second.ping_latency_ms
            self.downlink_bps[place] = second.downlink_bps
            self.uplink_bps[place] = second.uplink_bps
            self.power_w[place] = second.power_w
        self.current += times
        self.last = second

    def recent(self, seconds: int) -> tuple[float, float]:
        """Mean drop rate and mean latency (ms, of what was answered) of the last `seconds` samples; 0 without any."""
        places = [number % RING for number in range(max(0, self.current - min(seconds, RING)), self.current)]
        drops = [self.ping_drop_rate[place] for place in places]
        answered = [self.ping_latency_ms[place] for place in places if self.ping_drop_rate[place] < 1]
        return sum(drops) / max(1, len(drops)), sum(answered) / max(1, len(answered))


class Outages:
    """The outage of now, and those that are over."""

    def __init__(self) -> None:
        self.open: Outage | None = None
        self._over: deque[Outage] = deque(maxlen=MOST_OUTAGES)
        self._last_end_ns: dict[int, int] = {}
        self._satellite = ""

    def begin(self, cause: OutageCause, at_ns: int, satellite: str = "") -> None:
        self.open = Outage(cause, at_ns, 0)
        self._satellite = satellite

    def end(self, at_ns: int, satellite: str = "") -> None:
        """Ends the outage of now, if there is one."""
        if self.open is None:
            return
        lasted_ns = max(0, at_ns - self.open.start_ns)
        switched = bool(satellite and self._satellite and satellite != self._satellite)
        self._over.append(Outage(self.open.cause, self.open.start_ns, lasted_ns, switched))
        for length_s in LONG_OUTAGES_S:
            if lasted_ns >= length_s * NS_PER_S:
                self._last_end_ns[length_s] = at_ns
        self.open = None

    def now(self, now_ns: int) -> Outage | None:
        """The outage of now, with the time that it has lasted."""
        if self.open is None:
            return None
        return Outage(self.open.cause, self.open.start_ns, max(0, now_ns - self.open.start_ns))

    def recent(self, now_ns: int) -> list[Outage]:
        """Those of the ring's time, the one of now included, the oldest first."""
        since = now_ns - RING * NS_PER_S
        current = self.now(now_ns)
        over = [outage for outage in self._over if outage.start_ns + outage.duration_ns >= since]
        return [*over, current] if current is not None else over

    def seconds_since(self, length_s: int, now_ns: int) -> float | None:
        """Since the last outage of `length_s` or longer ended; None if there was none, 0 during one."""
        if self.open is not None and now_ns - self.open.start_ns >= length_s * NS_PER_S:
            return 0.0
        end_ns = self._last_end_ns.get(length_s)
        return None if end_ns is None else (now_ns - end_ns) / NS_PER_S

    def prolonged(self, cause: OutageCause) -> tuple[int, float]:
        """How many of the outages that are over had this cause, and their mean duration in s."""
        lasted = [outage.duration_ns / NS_PER_S for outage in self._over if outage.cause is cause]
        return len(lasted), sum(lasted) / max(1, len(lasted))


class ObstructionMap:
    """Where satellites were heard: rows from north to south, columns from west to east, the zenith in the middle.

    The distance from the middle is the angle from the zenith. −1: nothing known; 0 (obstructed) to 1 (clear) elsewhere.
    """

    def __init__(self) -> None:
        self.snr = array("f", [-1.0]) * (MAP_SIZE * MAP_SIZE)
        self.valid_s = 0
        self.obstructed_s = 0
        self.painted = 0

    def see(self, azimuth_deg: float, elevation_deg: float, *, clear: bool) -> None:
        """A second of a satellite there."""
        self.valid_s += 1
        self.obstructed_s += not clear
        place = _place(azimuth_deg, elevation_deg)
        if place is not None:
            self.painted += self.snr[place] < 0
            self.snr[place] = 1.0 if clear else 0.0

    @property
    def fraction_obstructed(self) -> float:
        return self.obstructed_s / self.valid_s if self.valid_s else 0.0


def _place(azimuth_deg: float, elevation_deg: float) -> int | None:
    middle = MAP_SIZE // 2
    radius = (90.0 - elevation_deg) / MAP_MAX_THETA_DEG * middle
    if not radius <= middle:
        return None
    row = middle - round(radius * math.cos(math.radians(azimuth_deg)))
    column = middle + round(radius * math.sin(math.radians(azimuth_deg)))
    return row * MAP_SIZE + column
