"""The next slot, handover, outage or contact of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from emulator.errors import EmulationError
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Channel, Timeline, Windows
from emulator.units import NS_PER_S

Mark = Literal["slot", "handover", "outage", "contact"]
MARKS: tuple[Mark, ...] = get_args(Mark)
LOOK_NS = 600 * NS_PER_S
LONGEST_SEARCH_NS = 7 * 86_400 * NS_PER_S

Bools = npt.NDArray[np.bool_]


def next_mark(windows: Windows, utc_ns: int, mark: Mark) -> Iterator[int | None]:
    """Searches a plan behind `utc_ns`, ten minutes at a time: None as long as it has not been found, then its UTC, ns.

    slot: a scheduling slot begins. handover: the satellite or the gateway changes. outage: a gate shuts that was open,
    handovers apart. contact: a satellite begins to serve. Who searches may stop at any time.
    Raises EmulationError if such a thing never comes on this link, or not within a week.
    """
    if mark == "slot" and not windows.slotted:
        raise EmulationError("next-slot: this link has no slots")
    if windows.constant:
        raise EmulationError(f"next-{mark}: this link never changes")
    start_ns = utc_ns - utc_ns % NS_PER_S
    before = None
    for window_ns in range(start_ns, utc_ns + LONGEST_SEARCH_NS, LOOK_NS):
        timeline = windows.window(window_ns, window_ns + LOOK_NS)
        found = [at for at in changes(timeline, mark, before) if at > utc_ns]
        if found:
            yield found[0]
            return
        before = timeline
        yield None
    raise EmulationError(f"next-{mark}: none within {LONGEST_SEARCH_NS // NS_PER_S // 86_400} days")


def changes(timeline: Timeline, mark: Mark, before: Timeline | None = None) -> list[int]:
    """The UTC of every such mark in a window, ns; `before`: the window before it, for a change right at its beginning.

    Without it what holds at the beginning counts as having held before.
    """
    if mark == "outage":
        return sorted(
            {
                at
                for name in ("uplink", "downlink")
                for at in _beginnings(
                    getattr(timeline, name).start_ns,
                    _shut(getattr(timeline, name)),
                    None if before is None else bool(_shut(getattr(before, name))[-1]),
                )
            }
        )
    path = timeline.path
    if mark == "contact":
        previous = None if before is None else bool(before.path.satellite[-1] >= 0)
        return _beginnings(path.start_ns, path.satellite >= 0, previous)
    if mark == "slot":
        last = None if before is None else int(before.path.slot[-1])
        return _differences(path.start_ns.tolist(), path.slot.tolist(), last)
    serving = [_serving(timeline, row) for row in range(len(path))]
    return _differences(path.start_ns.tolist(), serving, None if before is None else _serving(before, -1))


def _serving(timeline: Timeline, row: int) -> tuple[str, str]:
    satellite, gateway = int(timeline.path.satellite[row]), int(timeline.path.gateway[row])
    return (
        timeline.satellites[satellite] if satellite >= 0 else "",
        timeline.gateways[gateway] if gateway >= 0 else "",
    )


def _shut(channel: Channel) -> Bools:
    shut: Bools = (channel.gate == Gate.DROP) & (channel.cause != Cause.HANDOVER)
    return shut


def _beginnings(starts_ns: npt.NDArray[np.int64], true: Bools, before: bool | None) -> list[int]:
    previous = np.concatenate([[bool(true[0]) if before is None else before], true[:-1]])
    found: list[int] = starts_ns[true & ~previous].tolist()
    return found


def _differences(starts_ns: list[int], values: Sequence[object], before: object) -> list[int]:
    """Where a value is another than the one before it; None before the first: that one is no change."""
    previous = [values[0] if before is None else before, *values[:-1]]
    return [at for at, value, old in zip(starts_ns, values, previous, strict=True) if value != old]
