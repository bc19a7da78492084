"""A Starlink dish: boot, search, track, stow, sleep, outages, and the record that its clients read.

How to read it: `advance` moves the dish's own state to a time, `observe` adds what the link did since it was called
last, the commands are what a client may order, and `down_until_ns` says what the dish itself does to the link. Times
are ns of simulated UTC, arguments, and never go back. Threads that share a dish hold `lock` for as long as what they
ask or order belongs together.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from emulator.orbit.site import Motion
from emulator.scenario.model import Dish
from emulator.terminal.dish_record import (
    DOWN,
    History,
    ObstructionMap,
    Outage,
    OutageCause,
    Outages,
    Second,
)
from emulator.terminal.gnss import NO_SKY, FixMode, GnssFix
from emulator.terminal.pings import Ping
from emulator.terminal.state import Terminal
from emulator.timeline.causes import Cause
from emulator.units import NS_PER_MS, NS_PER_S

__all__ = ["MINUTES_OF_DAY", "NO_END", "DishConfig", "DishTerminal", "Sky"]

NO_END = 1 << 62  # a time that does not come
OUTAGE_NS = 500 * NS_PER_MS  # so long a run of lost pings is an outage: a stated choice
FIX_NS = 30 * NS_PER_S  # how long a GNSS fix is good for: its satellites move by a quarter of a degree
MINUTES_OF_DAY = 1440
NS_PER_DAY = 86_400 * NS_PER_S

CAUSE_OF_LINK = {
    Cause.NO_SATELLITE: OutageCause.NO_SATS,
    Cause.OBSTRUCTION: OutageCause.OBSTRUCTED,
    Cause.NO_SCHEDULE: OutageCause.NO_SCHEDULE,
    Cause.BOOTING: OutageCause.BOOTING,
}
NO_DOWNLINK = {Cause.HANDOVER, Cause.OUTAGE, Cause.FADE, Cause.COMMAND}


@dataclass(frozen=True, slots=True)
class Sky:
    """Who serves the dish. Angles are None where the link has no sky."""

    satellite: str = ""
    gateway: str = ""
    azimuth_deg: float | None = None
    elevation_deg: float | None = None
    slot_end_ns: int | None = None


@dataclass(frozen=True, slots=True)
class DishConfig:
    """What clients may set. It outlives a reboot. Modes are numbered as clients know them."""

    snow_melt_mode: int = 0
    level_dish_mode: int = 0
    power_save_mode: bool = False
    power_save_start_minutes: int = 0  # past midnight, UTC
    power_save_duration_minutes: int = 0
    swupdate_three_day_deferral_enabled: bool = False


class DishTerminal:
    """A dish at `site` (None: nobody knows where), from `start_ns` on."""

    def __init__(self, settings: Dish, site: Terminal | None, start_ns: int) -> None:
        self.lock = threading.RLock()
        self.settings, self.site = settings, site
        self.config = DishConfig()
        self.inhibit_gps = False
        self.reboots = 0
        self.sky = Sky()
        self._boot_ns, self._search_ns = round(settings.boot_s * NS_PER_S), round(settings.search_s * NS_PER_S)
        self._fix: tuple[int, GnssFix] | None = None
        self._events = [
            (start_ns + round(one.at_s * NS_PER_S), start_ns + round((one.at_s + one.duration_s) * NS_PER_S), one.kind)
            for one in settings.events
        ]
        self._unfit = False
        self._now_ns = start_ns
        self._power_on(start_ns)
        if settings.at_start == "tracking":
            self._boot_end_ns = start_ns
            self._acquired_ns = start_ns
        self._settle(start_ns)

    def _power_on(self, now_ns: int) -> None:
        self.booted_ns = now_ns
        self.stowed = False
        self.history, self.outages, self.map = History(), Outages(), ObstructionMap()
        self._boot_end_ns = now_ns + self._boot_ns
        self._acquired_ns = self._boot_end_ns + self._search_ns
        self._asleep = False
        self._own: OutageCause | None = None
        self._free_ns = now_ns  # since when `_own` is what it is: pings of before are not the link's
        self._lost_since: tuple[int, Cause] | None = None
        self._second_ns = now_ns
        self._forget_second()

    def _forget_second(self) -> None:
        self._sent = self._answered = self._latency_ns = self._up_bytes = self._down_bytes = 0

    # time

    def advance(self, now_ns: int) -> None:
        """Moves the dish's own state to `now_ns`; a time that has passed already changes nothing."""
        while (at_ns := self._next_change_ns()) is not None and at_ns <= now_ns:
            self._settle(at_ns)
        self._settle(max(now_ns, self._now_ns))

    def _settle(self, at_ns: int) -> None:
        """The state at `at_ns`, given that nothing of ours has changed in between."""
        self._now_ns = at_ns
        was_asleep, self._asleep = self._asleep, at_ns >= self._boot_end_ns and self._sleeps_at(at_ns)
        if was_asleep and not self._asleep:
            self._acquired_ns = at_ns + self._search_ns
        was_unfit, self._unfit = self._unfit, self.befallen("overheat") or self.befallen("fault")
        if was_unfit and not self._unfit:
            self._acquired_ns = max(self._acquired_ns, at_ns + self._search_ns)
        own = self._own_cause()
        if own is not self._own:
            self.outages.end(at_ns, self.sky.satellite)
            if own is not None:
                self.outages.begin(own, at_ns, self.sky.satellite)
            self._own = own
            self._lost_since = None
            self._free_ns = at_ns

    def _own_cause(self) -> OutageCause | None:
        if self._now_ns < self._boot_end_ns:
            return OutageCause.BOOTING
        if self._unfit:
            return OutageCause.THERMAL_SHUTDOWN if self.befallen("overheat") else OutageCause.NO_DOWNLINK
        if self.stowed:
            return OutageCause.STOWED
        if self._asleep:
            return OutageCause.SLEEPING
        if self._now_ns < self._acquired_ns:
            return OutageCause.NO_SCHEDULE
        return OutageCause.OBSTRUCTED if self.befallen("obstruction") else None

    def befallen(self, kind: str) -> bool:
        """Whether an event of the scenario's is on."""
        return any(kind == one and start <= self._now_ns < end for start, end, one in self._events)

    @property
    def own_cause(self) -> OutageCause | None:
        """Why the dish itself has no connection; None: it tracks."""
        return self._own

    def _next_change_ns(self) -> int | None:
        ahead = [self._boot_end_ns, self._acquired_ns, *(at_ns for event in self._events for at_ns in event[:2])]
        if self.config.power_save_mode:
            day_ns = self._now_ns - self._now_ns % NS_PER_DAY
            start_ns, length_ns = self._sleep_window()
            starts = [day_ns + days * NS_PER_DAY + start_ns for days in (-1, 0, 1)]
            ahead += [*starts, *(start + length_ns for start in starts)]
        return min((at_ns for at_ns in ahead if at_ns > self._now_ns), default=None)

    def _sleep_window(self) -> tuple[int, int]:
        minute_ns = 60 * NS_PER_S
        return self.config.power_save_start_minutes * minute_ns, self.config.power_save_duration_minutes * minute_ns

    def _sleeps_at(self, at_ns: int) -> bool:
        start_ns, length_ns = self._sleep_window()
        return self.config.power_save_mode and (at_ns - start_ns) % NS_PER_DAY < length_ns

    def observe(self, pings: Iterable[Ping], uplink_bytes: int, downlink_bytes: int, sky: Sky, now_ns: int) -> None:
        """What the link did since the last call: the pings in their order, and the bytes that it delivered."""
        self.advance(now_ns)
        for ping in pings:
            self._sent += 1
            if self._own is not None or ping.utc_ns < self._free_ns:
                continue
            if ping.latency_ns is not None:
                self._answered += 1
                self._latency_ns += ping.latency_ns
            self._follow(ping, sky)
        self._up_bytes += uplink_bytes
        self._down_bytes += downlink_bytes
        self.sky = sky
        seconds = (self._now_ns - self.booted_ns) // NS_PER_S - self.history.current
        if seconds > 0:
            self._end_second(seconds)

    def _follow(self, ping: Ping, sky: Sky) -> None:
        """A run of lost pings becomes an outage; the first that is answered ends it."""
        if ping.latency_ns is not None:
            self._lost_since = None
            self.outages.end(ping.utc_ns, sky.satellite)
            return
        start_ns, cause = self._lost_since or (ping.utc_ns, ping.cause)
        if cause in (Cause.NONE, Cause.LOSS):
            cause = ping.cause
        self._lost_since = start_ns, cause
        if self.outages.open is None and ping.utc_ns - start_ns >= OUTAGE_NS:
            default = OutageCause.NO_DOWNLINK if cause in NO_DOWNLINK else OutageCause.NO_PINGS
            self.outages.begin(CAUSE_OF_LINK.get(cause, default), start_ns, self.sky.satellite)

    def _end_second(self, times: int) -> None:
        elapsed_s = max(1, self._now_ns - self._second_ns) / NS_PER_S
        second = Second(
            ping_drop_rate=1 - self._answered / self._sent if self._sent else 1.0,
            ping_latency_ms=self._latency_ns / self._answered / NS_PER_MS if self._answered else 0.0,
            downlink_bps=self._down_bytes * 8 / elapsed_s,
            uplink_bps=self._up_bytes * 8 / elapsed_s,
            power_w=self.settings.power_w * (1.0 if self._own is None else 0.5),
        )
        self.history.add(second, times)
        self._second_ns = self._now_ns
        self._forget_second()
        if self._own is None and self.sky.azimuth_deg is not None and self.sky.elevation_deg is not None:
            self.map.see(self.sky.azimuth_deg, self.sky.elevation_deg, clear=not self.obstructed)

    # what it is doing

    @property
    def now_ns(self) -> int:
        """The time that the dish has been moved to."""
        return self._now_ns

    @property
    def reachable(self) -> bool:
        """Whether clients get an answer: not at the beginning of a boot."""
        silent_ns = min(round(self.settings.unreachable_s * NS_PER_S), self._boot_end_ns - self.booted_ns)
        return self._now_ns >= self.booted_ns + silent_ns

    @property
    def down_until_ns(self) -> int | None:
        """Until when the dish itself keeps the link down: None if it does not, NO_END if nobody knows."""
        if self._own is None:
            return None
        known = self._own in (OutageCause.BOOTING, OutageCause.NO_SCHEDULE) and not self.stowed
        return self._acquired_ns if known else NO_END

    @property
    def uptime_ns(self) -> int:
        return self._now_ns - self.booted_ns

    @property
    def outage(self) -> Outage | None:
        """Why no traffic flows now; None: the dish is connected."""
        return self.outages.now(self._now_ns)

    @property
    def obstructed(self) -> bool:
        return self.outages.open is not None and self.outages.open.cause is OutageCause.OBSTRUCTED

    @property
    def seconds_to_schedule(self) -> float:
        """Until the dish has a satellite: 0 if it has one, −1 if nobody knows."""
        if self._own in (OutageCause.BOOTING, OutageCause.NO_SCHEDULE):
            return (self._acquired_ns - self._now_ns) / NS_PER_S
        return 0.0 if self.outages.open is None else -1.0

    @property
    def last_second(self) -> Second:
        """The newest sample; while the dish itself keeps the link down, that no ping is answered."""
        return self.history.last if self._own is None else DOWN

    @property
    def fix(self) -> GnssFix | None:
        """What the dish's own GNSS receiver has; None while it boots, or where nobody knows where it is."""
        if self.site is None or self._now_ns < self._boot_end_ns:
            return None
        if not self.site.hears_sky(self._now_ns):
            return NO_SKY
        if self._fix is None or not 0 <= self._now_ns - self._fix[0] < FIX_NS:
            self._fix = self._now_ns, self.site.state(self._now_ns).gnss
        return self._fix[1]

    @property
    def place(self) -> Motion | None:
        """Where it is, on a track where it is now; None where nobody knows."""
        return None if self.site is None else self.site.motion(self._now_ns)

    @property
    def gps_valid(self) -> bool:
        return not self.inhibit_gps and self.fix is not None and self.fix.mode is FixMode.THREE_D

    # what it can be told

    def reboot(self, now_ns: int) -> None:
        """Everything that a dish remembers but its configuration is gone; a stowed dish is not stowed afterwards."""
        self.advance(now_ns)
        self.reboots += 1
        self._power_on(self._now_ns)
        self._settle(self._now_ns)

    def stow(self, now_ns: int, *, unstow: bool = False) -> None:
        """Face down, no traffic, until it is unstowed; then it searches."""
        self.advance(now_ns)
        if self.stowed and unstow:
            self._acquired_ns = max(self._acquired_ns, self._now_ns + self._search_ns)
        self.stowed = not unstow
        self._settle(self._now_ns)

    def configure(self, now_ns: int, **changes: Any) -> None:
        """Changes keys of `config`."""
        self.advance(now_ns)
        self.config = replace(self.config, **changes)
        self._settle(self._now_ns)

    def clear_map(self) -> None:
        self.map = ObstructionMap()
