"""Timelines cut, moved in time and joined: how a plan gives way to another one at an instant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from emulator.timeline.model import Channel, Contact, Ints, Path, Timeline, Windows
from emulator.units import NS_PER_S


def cut_channel(channel: Channel, start_ns: int, end_ns: int) -> Channel:
    """What holds in [start_ns, end_ns): the first row begins at start_ns, unless the channel begins later."""
    rows = _rows(channel.start_ns, start_ns, end_ns)
    columns = {field.name: getattr(channel, field.name)[rows].copy() for field in fields(Channel)}
    late_ns = start_ns - int(columns["start_ns"][0])
    if late_ns > 0:
        columns["start_ns"][0] = start_ns
        columns["delay_ns"][0] += int(columns["delay_slope_ns_per_s"][0]) * late_ns // NS_PER_S
    return Channel(**columns)


def cut_timeline(timeline: Timeline, start_ns: int, end_ns: int) -> Timeline:
    """The part of a Timeline that holds in [start_ns, end_ns), which must overlap it."""
    path = timeline.path
    rows = _rows(path.start_ns, start_ns, end_ns)
    columns = {field.name: getattr(path, field.name)[rows].copy() for field in fields(Path)}
    columns["start_ns"][0] = max(start_ns, int(columns["start_ns"][0]))
    return replace(
        timeline,
        start_ns=start_ns,
        end_ns=end_ns,
        uplink=cut_channel(timeline.uplink, start_ns, end_ns),
        downlink=cut_channel(timeline.downlink, start_ns, end_ns),
        path=Path(**columns),
    )


def moved_channel(channel: Channel, by_ns: int) -> Channel:
    """The same so much later."""
    return replace(channel, start_ns=channel.start_ns + by_ns)


def joined_channels(parts: Sequence[Channel]) -> Channel:
    """One behind the other; each must begin after the last row of the one before."""
    return Channel(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Channel)))


def joined_timelines(first: Timeline, second: Timeline) -> Timeline:
    """`second` goes on where `first` ends."""
    columns = {
        field.name: np.concatenate([getattr(first.path, field.name), getattr(second.path, field.name)])
        for field in fields(Path)
    }
    for names in ("satellite", "gateway"):
        moved = getattr(second.path, names).copy()
        moved[moved >= 0] += len(getattr(first, f"{names}s"))
        columns[names] = np.concatenate([getattr(first.path, names), moved])
    path = Path(**columns)
    satellites, path = _merged(path, "satellite", (*first.satellites, *second.satellites))
    gateways, path = _merged(path, "gateway", (*first.gateways, *second.gateways))
    return Timeline(
        first.start_ns,
        second.end_ns,
        joined_channels([first.uplink, second.uplink]),
        joined_channels([first.downlink, second.downlink]),
        path,
        satellites,
        gateways,
    )


def standing_channel(channel: Channel, utc_ns: int) -> Channel:
    """The channel of an instant, for ever."""
    one = cut_channel(channel, utc_ns, utc_ns + 1)
    return replace(one, delay_slope_ns_per_s=np.zeros_like(one.delay_slope_ns_per_s))


class SplicedWindows(Windows):
    """One plan until `at_ns` (UTC), another one from then on."""

    def __init__(self, before: Windows, at_ns: int, after: Windows) -> None:
        self.before, self.at_ns, self.after = before, at_ns, after
        self.notes = before.notes
        self.slotted = before.slotted

    def window(self, start_ns: int, end_ns: int) -> Timeline:
        if end_ns <= self.at_ns:
            return self.before.window(start_ns, end_ns)
        if start_ns >= self.at_ns:
            later = self.after.window(start_ns, end_ns)
            begins = int(min(part.start_ns[0] for part in (later.uplink, later.downlink, later.path)))
            return cut_timeline(later, start_ns, end_ns) if begins < self.at_ns else later
        return joined_timelines(
            cut_timeline(self.before.window(start_ns, self.at_ns), start_ns, self.at_ns),
            cut_timeline(self.after.window(self.at_ns, end_ns), self.at_ns, end_ns),
        )

    def contacts(self, start_ns: int, end_ns: int) -> list[Contact]:
        early = self.before.contacts(start_ns, min(end_ns, self.at_ns)) if start_ns < self.at_ns else []
        late = self.after.contacts(max(start_ns, self.at_ns), end_ns) if end_ns > self.at_ns else []
        return [*early, *late]


def _rows(starts_ns: Ints, start_ns: int, end_ns: int) -> slice:
    first = max(0, int(np.searchsorted(starts_ns, start_ns, side="right")) - 1)
    return slice(first, max(first + 1, int(np.searchsorted(starts_ns, end_ns, side="left"))))


def _merged(path: Path, column: str, names: tuple[str, ...]) -> tuple[tuple[str, ...], Path]:
    """Names once each, and the path's indices into them."""
    unique = tuple(dict.fromkeys(names))
    place = np.array([unique.index(name) for name in names] or [0], np.int64)
    indices = getattr(path, column)
    return unique, replace(path, **{column: np.where(indices >= 0, place[indices], -1)})
