"""When the link changes: rows of the plan, turns of the course, edges of the overlay, on the packets' clock."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from emulator.bench.clock import WorldClock
from emulator.bench.overlay import Overlay
from emulator.bench.planner import Planner
from emulator.timeline.model import Timeline


def instants(clock: WorldClock, planner: Planner, overlay: Overlay, after_ns: int, until_ns: int) -> list[int]:
    """The monotonic ns in (after_ns, until_ns] at which something changes, in order."""
    turns = [piece.from_ns for piece in clock.pieces if after_ns < piece.from_ns <= until_ns]
    found = {*turns, *overlay.edges(after_ns, until_ns)}
    for first_ns, last_ns in pairwise([after_ns, *turns, until_ns + 1]):
        utc_ns, end_ns = clock.utc_of_monotonic_ns(first_ns), clock.utc_of_monotonic_ns(last_ns - 1)
        for timeline in planner.between(utc_ns, end_ns):
            found |= {first_ns + at - utc_ns for at in rows_between(timeline, utc_ns, end_ns)}
    return sorted(found)


def rows_between(timeline: Timeline, after_ns: int, until_ns: int) -> list[int]:
    """The UTC of every row that begins in (after_ns, until_ns]."""
    starts = np.concatenate([timeline.uplink.start_ns, timeline.downlink.start_ns, timeline.path.start_ns])
    found: list[int] = starts[(starts > after_ns) & (starts <= until_ns)].tolist()
    return found
