"""The sky over the terminal, with what stands in its way, and the way of the packets on a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes

from emulator.orbit.geostationary import slot_position_m
from emulator.orbit.look import Look, Observer, look
from emulator.orbit.site import Site
from emulator.orbit.sun import sun_position_m
from emulator.orbit.view import View
from emulator.radio.sun_noise import beam_width_deg, half_noise_deg
from emulator.scenario.links import GeoLink, StarlinkLink
from emulator.scenario.model import Scenario
from emulator.timeline.geo import policy_of
from emulator.timeline.model import Timeline
from emulator.timeline.plot import DAY_NS, FAINT, INK, SERVING
from emulator.timeline.skymap import coloured, draw_map, ground_seen, ground_under
from emulator.timeline.table import sky_at
from emulator.units import NS_PER_S, format_utc

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

OTHERS = "#8fa3b5"
OTHERS_AREA = 2000  # of all dots together, in square points
SUN = "#e0a100"
MOST_NAMES = len(SERVING)  # of serving satellites: each has a colour of its own
SUN_STEP_NS = 30 * NS_PER_S
POINTS = 400  # at most, of the serving satellites' ways


def draw(
    file: BinaryIO,
    *,
    file_format: str,
    scenario: Scenario,
    views: Sequence[View],
    timeline: Timeline,
    over_m: Callable[[int], Floats] = lambda utc_ns: np.zeros((0, 3)),
) -> None:
    """Draws who stands in view in `views`, and who serves in `timeline`; of the scenario, mask, horizon and places.

    over_m: `SkyWindows.over_m`, of the same plan. The scenario needs a terminal.
    """
    if scenario.terminal is None:
        raise ValueError("expected a scenario with a terminal")
    site = Site(scenario.terminal)
    times_ns, rows, serving = _sampled(timeline)
    azimuth, elevation, slant_range = sky_at(timeline.path, times_ns)
    with mpl.rc_context({"font.size": 9, "text.color": INK, "axes.labelcolor": INK, "svg.hashsalt": "bentpipe"}):
        figure = Figure(figsize=(13, 6.6), layout="constrained")
        sky: PolarAxes = figure.add_subplot(1, 2, 1, projection="polar")
        _draw_sky(sky, scenario, views)
        if isinstance(scenario.link, GeoLink | StarlinkLink):
            _draw_arc(sky, scenario.link, site.observer_at(timeline.start_ns))
        if isinstance(scenario.link, GeoLink):
            _draw_sun(sky, scenario.link, scenario, timeline)
        _draw_serving(sky, timeline, serving, azimuth, elevation)
        ground = ground_seen(site.observer(times_ns), azimuth, elevation, slant_range)
        served = np.flatnonzero(serving >= 0)
        over = ground_under(over_m(int(times_ns[served[0]])) if len(served) else np.zeros((0, 3)))
        draw_map(figure.add_subplot(1, 2, 2), scenario, timeline, rows, serving, ground, over)
        span = f"{format_utc(timeline.start_ns, 0)}, {(timeline.end_ns - timeline.start_ns) / NS_PER_S:g} s"
        title = f"{scenario.description or scenario.name}: {span}"
        figure.suptitle(f"{title}\n", x=0.01, ha="left", fontsize=min(12.0, 12.0 * 90 / len(title)), fontweight="bold")
        figure.savefig(file, format=file_format, dpi=130)


def _sampled(timeline: Timeline) -> tuple[Ints, npt.NDArray[np.intp], Ints]:
    """Times, the path's rows that hold then, and who serves: both ends of each satellite's time, and what is between.

    After each satellite's last time there is one with nobody, −1, so that no line leads on to the next one.
    """
    path, step_ns = timeline.path, max(NS_PER_S, (timeline.end_ns - timeline.start_ns) // POINTS)
    begins_ns = path.start_ns[np.flatnonzero(np.diff(path.satellite, prepend=-2))].clip(timeline.start_ns)
    ends_ns = np.append(begins_ns[1:], timeline.end_ns) - 1
    grid_ns = np.arange(timeline.start_ns, timeline.end_ns, step_ns, dtype=np.int64)
    times_ns = np.concatenate([np.unique(np.concatenate([grid_ns, begins_ns, ends_ns])), ends_ns])
    order = np.argsort(times_ns, kind="stable")
    times_ns = times_ns[order]
    rows = np.maximum(np.searchsorted(path.start_ns, times_ns, side="right") - 1, 0)
    is_last = order >= len(order) - len(ends_ns)
    return times_ns, rows, np.where(is_last, -1, path.satellite[rows])


def _draw_sky(panel: PolarAxes, scenario: Scenario, views: Sequence[View]) -> None:
    """North is up, east is right: as on a map, and not as one lies on one's back."""
    panel.set_theta_zero_location("N")
    panel.set_theta_direction(-1)
    panel.set_rlim(0, 90)
    panel.set_rticks([0, 30, 60, 90], [])
    for height_deg in (0, 30, 60):
        panel.text(
            np.radians(135), 90 - height_deg, f"{height_deg}°", fontsize=7, color="#666666", ha="center", va="center",
            zorder=5, bbox={"fc": "white", "ec": "none", "pad": 0.6, "alpha": 0.85},
        )  # fmt: skip
    panel.set_thetagrids(range(0, 360, 45), ["N", "NE", "E", "SE", "S", "SW", "W", "NW"])
    panel.grid(color=FAINT, lw=0.6)
    around = np.radians(np.arange(361.0))
    terminal = scenario.terminal
    assert terminal is not None
    if terminal.horizon:
        edge = _horizon_deg(scenario, np.arange(361.0))
        panel.fill_between(around, 90 - edge, 90, color="#795548", alpha=0.35, lw=0, label="obstructed")
    if terminal.min_elevation_deg:
        panel.plot(
            around, np.full(361, 90 - terminal.min_elevation_deg), color="#888888", lw=0.9, ls="--", label="mask"
        )
    azimuth, elevation, who = (
        np.concatenate([getattr(view, name) for view in views]) if views else np.zeros(0)
        for name in ("azimuth_deg", "elevation_deg", "satellite")
    )
    area = np.clip(OTHERS_AREA / max(1, len(who)), 2.5, 18)  # dots of one instant stand alone, those of a way touch
    panel.scatter(np.radians(azimuth), 90 - elevation, s=area, color=OTHERS, lw=0, alpha=0.7)
    panel.plot([], [], ".", color=OTHERS, label=f"in view: {_count(len(np.unique(who)), 'satellite')}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _horizon_deg(scenario: Scenario, azimuth_deg: Floats) -> Floats:
    """The obstruction's edge; between its points, straight lines of the sine of its elevation, as it is applied."""
    assert scenario.terminal is not None
    points = sorted((point.azimuth_deg, point.elevation_deg) for point in scenario.terminal.horizon)
    known, edge = np.array(points).T
    sine = np.interp(azimuth_deg, known, np.sin(np.radians(edge)), period=360.0)
    return np.degrees(np.arcsin(sine))


def _draw_arc(panel: PolarAxes, link: GeoLink | StarlinkLink, place: Observer) -> None:
    """Where geostationary satellites stand, and what those of others keep away from."""
    x, y, _ = place.position_m
    middle = float(np.degrees(np.arctan2(y, x)))
    seen = look(place, np.stack([slot_position_m(middle + east) for east in range(-90, 91)]))
    words = "geostationary arc"
    if isinstance(link, StarlinkLink):
        words += f", none serves within {link.gso_exclusion_deg:g}°"
    _draw_way(panel, seen, color=INK, lw=0.9, ls=(0, (6, 3)), label=words)


def _draw_sun(panel: PolarAxes, link: GeoLink, scenario: Scenario, timeline: Timeline) -> None:
    """The sun on the first day, while it is drawn for as a thicker line, and when the dish has it in its beam."""
    policy = policy_of(link, scenario)
    begin_ns = timeline.start_ns // DAY_NS * DAY_NS
    utc_ns = np.arange(begin_ns, begin_ns + DAY_NS + 1, SUN_STEP_NS, dtype=np.int64)
    sun = look(policy.site.observer(utc_ns), sun_position_m(utc_ns))
    angle_deg = policy.sun_angle_deg("downlink", utc_ns)
    width_deg = beam_width_deg(link.downlink.receiver_antenna_m, link.downlink.receiver_ghz)
    inside = utc_ns[(angle_deg <= half_noise_deg(width_deg)) & (sun.sin_elevation > 0)]
    nearest = int(angle_deg.argmin())
    words = f"{angle_deg[nearest]:.1f}° from the satellite at {_clock(int(utc_ns[nearest]))}"
    if len(inside):
        words = f"in the dish's beam {_clock(int(inside[0]))} to {_clock(int(inside[-1]))}"
    _draw_way(panel, sun, color=SUN, lw=1.0, label=f"sun, this day: {words} UTC")
    now_ns = np.linspace(timeline.start_ns, timeline.end_ns, 2 + POINTS // 10).astype(np.int64)
    over = look(policy.site.observer(now_ns), sun_position_m(now_ns))
    _draw_way(panel, over, color=SUN, lw=4.5, solid_capstyle="round")


def _clock(utc_ns: int) -> str:
    return format_utc(utc_ns, 0)[11:19]


def _draw_way(panel: PolarAxes, seen: Look, **style: Any) -> None:
    """A line through what is above the horizon."""
    above = np.where(seen.sin_elevation >= 0, seen.elevation_deg, np.nan)
    panel.plot(np.radians(seen.azimuth_deg), 90 - above, **style)


def _draw_serving(panel: PolarAxes, timeline: Timeline, serving: Ints, azimuth: Floats, elevation: Floats) -> None:
    order = [index for index in dict.fromkeys(serving.tolist()) if index >= 0]
    for line, whose in coloured(serving):
        panel.plot(np.radians(azimuth), 90 - np.where(whose, elevation, np.nan), **line)
    if len(order) > MOST_NAMES:
        panel.plot([], [], color=SERVING[0], lw=3, label=f"serving: {len(order)}, one after the other")
    else:
        for colour, index in zip(SERVING, order, strict=False):
            panel.plot([], [], color=colour, lw=3, label=f"serving: {timeline.satellites[index]}")
    if order:
        first = int(np.flatnonzero(serving >= 0)[0])
        panel.plot(np.radians(azimuth[first]), 90 - elevation[first], "o", ms=9, mfc="none", color=INK,
                   label="at the beginning")  # fmt: skip
    panel.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.04), ncols=2, frameon=False, fontsize=8)
