"""Keeps the links supplied with Timeline windows, ahead of time, in constant memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from emulator.errors import EmulationError
from emulator.link.link import Link
from emulator.timeline.model import Timeline, Windows
from emulator.timeline.splice import cut_timeline
from emulator.units import NS_PER_S

WINDOW_NS = 60 * NS_PER_S
AHEAD_NS = 60 * NS_PER_S  # the next window is made when less than this is left
KEPT_WINDOWS = 64  # about an hour, for who asks what the link was


class Planner:
    """Plans windows from `start_ns` (UTC) on, and feeds them to the links once they exist."""

    def __init__(self, windows: Windows, start_ns: int) -> None:
        self.windows = windows
        self._kept: deque[Timeline] = deque(maxlen=KEPT_WINDOWS)
        self._changing = threading.Lock()
        self._kept.append(windows.window(start_ns, start_ns + WINDOW_NS))

    @property
    def first(self) -> Timeline:
        return self._kept[0]

    def timeline_at(self, utc_ns: int) -> Timeline:
        """The window that holds `utc_ns`, or the nearest one that is kept."""
        with self._changing:
            for timeline in reversed(self._kept):
                if timeline.start_ns <= utc_ns:
                    return timeline
            return self._kept[0]

    def between(self, start_ns: int, end_ns: int) -> list[Timeline]:
        """The windows that are kept of a stretch of UTC."""
        with self._changing:
            return [timeline for timeline in self._kept if timeline.start_ns <= end_ns and timeline.end_ns > start_ns]

    def next_handover_ns(self, utc_ns: int) -> int | None:
        """The next planned change of satellite or gateway; None if none is planned yet."""
        with self._changing:
            windows = [timeline for timeline in self._kept if timeline.end_ns > utc_ns]
        for timeline, following in zip(windows, [*windows[1:], None], strict=False):  # or all are past
            at = timeline.next_handover_ns(utc_ns)
            if at is not None:
                return at
            if following is not None:
                last = timeline.satellites[timeline.path.satellite[-1]] if len(timeline.satellites) else ""
                first = following.satellites[following.path.satellite[0]] if len(following.satellites) else ""
                if last != first:
                    return following.start_ns
                utc_ns = following.start_ns
        return None

    def keep_ahead(self, utc_ns: int, uplink: Link, downlink: Link) -> bool:
        """Makes at most one window, if it is time; True if one was made.

        If the world's clock was set to a time that is not planned, or no longer kept, planning starts anew from there.
        """
        with self._changing:
            windows, first, last = self.windows, self._kept[0], self._kept[-1]
        anew = not first.start_ns <= utc_ns < last.end_ns
        if not anew and last.end_ns - utc_ns > AHEAD_NS:
            return False
        start = utc_ns - utc_ns % NS_PER_S if anew else last.end_ns
        timeline = windows.window(start, start + WINDOW_NS)
        with self._changing:
            if self._kept[-1] is not last:
                return False  # another plan has been put in the place of this one meanwhile
            taken = uplink.extend(timeline.uplink, timeline.end_ns, utc_ns)
            if not (downlink.extend(timeline.downlink, timeline.end_ns, utc_ns) and taken):
                raise EmulationError(
                    f"the plan has more rows in {WINDOW_NS // NS_PER_S} s than the packet loop has room for: "
                    f"{len(timeline.uplink)} and {len(timeline.downlink)}"
                )
            if anew:
                self._kept.clear()
            self._kept.append(timeline)
        return True

    def beginning(self, windows: Windows, utc_ns: int) -> Timeline:
        """A first window of a plan that is to be in force from some moment soon after `utc_ns` on."""
        start = utc_ns - utc_ns % NS_PER_S
        return windows.window(start, start + WINDOW_NS)

    def replan(self, windows: Windows, beginning: Timeline, put: Callable[[], None]) -> None:
        """Goes on with other windows, of which the Timeline `beginning` holds from its start on; `put` tells the links.

        What was planned for after that start is forgotten.
        """
        start_ns = beginning.start_ns
        with self._changing:
            kept = [timeline for timeline in self._kept if timeline.start_ns < start_ns]
            if kept and kept[-1].end_ns > start_ns:
                kept[-1] = cut_timeline(kept[-1], kept[-1].start_ns, start_ns)
            put()
            self.windows = windows
            self._kept.clear()
            self._kept.extend((*kept, beginning))
