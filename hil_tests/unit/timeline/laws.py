"""What holds for the Timeline of every link with a sky; each system's tests call these."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Channel, Timeline, Windows
from emulator.timeline.save import joined
from emulator.units import NS_PER_S


def same_channel(one: Channel, other: Channel) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__)


def same(one: Timeline, other: Timeline) -> bool:
    ways = same_channel(one.uplink, other.uplink) and same_channel(one.downlink, other.downlink)
    names = [
        [
            (
                timeline.satellites[satellite] if satellite >= 0 else "",
                timeline.gateways[gateway] if gateway >= 0 else "",
            )
            for satellite, gateway in zip(timeline.path.satellite, timeline.path.gateway, strict=True)
        ]
        for timeline in (one, other)
    ]
    angles = all(
        np.array_equal(getattr(one.path, name), getattr(other.path, name), equal_nan=True)
        for name in ("start_ns", "azimuth_deg", "elevation_deg", "slant_range_m", "slot")
    )
    return ways and angles and names[0] == names[1]


def joined_windows_are_the_long_window(windows: Windows, other: Windows, edges_ns: list[int]) -> None:
    """`other`: a planner of the same scenario; it is asked for the end first."""
    parts = [windows.window(begin, end) for begin, end in pairwise(edges_ns)]
    other.window(edges_ns[-1], edges_ns[-1] + NS_PER_S)
    assert same(joined(parts), other.window(edges_ns[0], edges_ns[-1]))


def a_window_holds_a_row_for_each_of_its_instants(timeline: Timeline) -> None:
    for starts in (timeline.uplink.start_ns, timeline.downlink.start_ns, timeline.path.start_ns):
        assert starts[0] <= timeline.start_ns
        assert len(starts) == 1 or starts[1] > timeline.start_ns
        assert starts[-1] < timeline.end_ns
        assert np.diff(starts, append=timeline.end_ns).max() <= NS_PER_S


def delay_is_continuous_while_the_path_stays(timeline: Timeline, steepest_ns_per_s: int) -> None:
    """To 1 ns within a stretch of time; slopes of one direction at most `steepest_ns_per_s`."""
    path = timeline.path
    stays = (np.diff(path.satellite) == 0) & (np.diff(path.gateway) == 0) & (np.diff(path.slot) == 0)
    for channel in (timeline.uplink, timeline.downlink):
        step_ns = np.diff(channel.start_ns)
        ends = channel.delay_ns[:-1] + channel.delay_slope_ns_per_s[:-1] * step_ns // NS_PER_S
        assert np.abs(channel.delay_ns[1:] - ends)[stays].max(initial=0) <= 1
        assert np.abs(channel.delay_slope_ns_per_s).max() <= steepest_ns_per_s


def nobody_serves_where_the_gate_says_so(timeline: Timeline) -> None:
    without = timeline.path.satellite < 0
    for channel in (timeline.uplink, timeline.downlink):
        assert np.array_equal((channel.cause == Cause.NO_SATELLITE) & (channel.gate == Gate.DROP), without)
        assert (channel.rate_bps > 0).all()
    assert np.isnan(timeline.path.slant_range_m[without]).all()
    assert (timeline.path.gateway[without] == -1).all()


def delays_are_the_sum_of_their_parts(windows: Windows, timeline: Timeline) -> None:
    """At the whole seconds in which a satellite serves."""
    parts = windows.delay_parts(timeline.start_ns, timeline.end_ns)
    at = timeline.path.start_ns
    seconds = (at >= timeline.start_ns) & (at % NS_PER_S == 0) & (timeline.path.satellite >= 0)
    for channel, way in ((timeline.uplink, "uplink_ns"), (timeline.downlink, "downlink_ns")):
        sums = np.sum([getattr(part, way) for part in parts if not part.name.endswith(", mean")], axis=0)
        assert np.array_equal(sums, channel.delay_ns[seconds])
