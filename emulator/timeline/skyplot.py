"""The sky over the terminal, with what stands in its way, and the way of the packets on a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import BinaryIO

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes

from emulator.orbit.look import Observer
from emulator.orbit.site import Site
from emulator.orbit.view import View
from emulator.scenario.model import Scenario
from emulator.timeline.model import Timeline
from emulator.timeline.plot import DOWN, FAINT, INK, SERVING, UP
from emulator.timeline.table import sky_at
from emulator.units import NS_PER_S, format_utc

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

OTHERS = "#8fa3b5"
MOST_NAMES = 12  # of serving satellites; more would cover each other
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
    step_ns = max(NS_PER_S, (timeline.end_ns - timeline.start_ns) // POINTS)
    times_ns = np.arange(timeline.start_ns, timeline.end_ns, step_ns, dtype=np.int64)
    rows = np.maximum(np.searchsorted(timeline.path.start_ns, times_ns, side="right") - 1, 0)
    serving = timeline.path.satellite[rows]
    azimuth, elevation, slant_range = sky_at(timeline.path, times_ns)
    with mpl.rc_context({"font.size": 9, "text.color": INK, "axes.labelcolor": INK, "svg.hashsalt": "bentpipe"}):
        figure = Figure(figsize=(13, 6.6), layout="constrained")
        sky: PolarAxes = figure.add_subplot(1, 2, 1, projection="polar")
        _draw_sky(sky, scenario, views)
        _draw_serving(sky, timeline, serving, azimuth, elevation)
        place = Site(scenario.terminal).observer(times_ns)
        ground = _ground(place, azimuth, elevation, slant_range)
        served = np.flatnonzero(serving >= 0)
        over = _under(over_m(int(times_ns[served[0]]))) if len(served) else (np.zeros(0), np.zeros(0))
        _draw_map(figure.add_subplot(1, 2, 2), scenario, timeline, rows, serving, ground, over)
        span = f"{format_utc(timeline.start_ns, 0)}, {(timeline.end_ns - timeline.start_ns) / NS_PER_S:g} s"
        title = f"{scenario.description or scenario.name}: {span}"
        figure.suptitle(f"{title}\n", x=0.01, ha="left", fontsize=min(12.0, 12.0 * 90 / len(title)), fontweight="bold")
        figure.savefig(file, format=file_format, dpi=130)


def _draw_sky(panel: PolarAxes, scenario: Scenario, views: Sequence[View]) -> None:
    """North is up, east is right: as on a map, and not as one lies on one's back."""
    panel.set_theta_zero_location("N")
    panel.set_theta_direction(-1)
    panel.set_rlim(0, 90)
    panel.set_rticks([0, 30, 60, 90], ["90°", "60°", "30°", "0°"], color="#888888", fontsize=7)
    panel.set_rlabel_position(112)
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
    label = f"in view: {len(np.unique(who))} satellites"
    panel.scatter(np.radians(azimuth), 90 - elevation, s=2.5, color=OTHERS, lw=0, alpha=0.7, label=label)


def _horizon_deg(scenario: Scenario, azimuth_deg: Floats) -> Floats:
    """The obstruction's edge; between its points, straight lines of the sine of its elevation, as it is applied."""
    assert scenario.terminal is not None
    points = sorted((point.azimuth_deg, point.elevation_deg) for point in scenario.terminal.horizon)
    known, edge = np.array(points).T
    sine = np.interp(azimuth_deg, known, np.sin(np.radians(edge)), period=360.0)
    return np.degrees(np.arcsin(sine))


def _draw_serving(panel: PolarAxes, timeline: Timeline, serving: Ints, azimuth: Floats, elevation: Floats) -> None:
    order = [index for index in dict.fromkeys(serving.tolist()) if index >= 0]
    for number, index in enumerate(order):
        own = np.where(serving == index, elevation, np.nan)
        colour = SERVING[number % len(SERVING)]
        panel.plot(np.radians(azimuth), 90 - own, color=colour, lw=3, marker="o", ms=3.5)
        if len(order) <= MOST_NAMES:
            at = int(np.flatnonzero(serving == index)[-1])
            panel.annotate(
                timeline.satellites[index], (np.radians(azimuth[at]), 90 - elevation[at]), fontsize=6.5, color=colour,
                xytext=(4, 4), textcoords="offset points",
            )  # fmt: skip
    panel.plot([], [], color=SERVING[0], lw=3, label=f"serving: {len(order)}, one after the other")
    panel.legend(loc="lower left", bbox_to_anchor=(-0.12, -0.1), frameon=False, fontsize=8)


def _ground(place: Observer, azimuth_deg: Floats, elevation_deg: Floats, range_m: Floats) -> tuple[Floats, Floats]:
    """Latitude and longitude under what stands there, on a sphere: 0.2° off at most."""
    azimuth, elevation = np.radians(azimuth_deg), np.radians(elevation_deg)
    east, north = np.cos(elevation) * np.sin(azimuth), np.cos(elevation) * np.cos(azimuth)
    x, y, z = (
        place.position_m[axis]
        + range_m * (east * place.east[axis] + north * place.north[axis] + np.sin(elevation) * place.up[axis])
        for axis in range(3)
    )
    return _under(np.stack([x, y, z], axis=-1))


def _under(position_m: Floats) -> tuple[Floats, Floats]:
    """Latitude and longitude under positions in ECEF, (…, 3), on a sphere."""
    x, y, z = np.moveaxis(position_m, -1, 0)
    return np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))


def _draw_map(
    panel: Axes,
    scenario: Scenario,
    timeline: Timeline,
    rows: npt.NDArray[np.intp],
    serving: Ints,
    ground: tuple[Floats, Floats],
    over: tuple[Floats, Floats],
) -> None:
    """Plate carrée around the terminal: the first way as lines, ground points for all time.

    over: under the satellites between the serving one and the gateway.
    """
    assert scenario.terminal is not None
    start = Site(scenario.terminal).motion(timeline.start_ns)
    middle = start.longitude_deg

    def near(longitude_deg: Floats | float) -> Floats:
        turned: Floats = middle + (np.asarray(longitude_deg, np.float64) - middle + 180.0) % 360.0 - 180.0
        return turned

    latitude, longitude = ground[0], near(ground[1])
    order = [index for index in dict.fromkeys(serving.tolist()) if index >= 0]
    for number, index in enumerate(order):
        own = np.where(serving == index, latitude, np.nan)
        panel.plot(longitude, own, color=SERVING[number % len(SERVING)], lw=2.5, marker="o", ms=2.5)
    used = set(timeline.path.gateway[rows[serving >= 0]].tolist())
    for index, gateway in enumerate(scenario.gateways):
        busy = gateway.name in {timeline.gateways[number] for number in used if number >= 0}
        panel.plot(
            near(gateway.longitude_deg), gateway.latitude_deg, "^", ms=8, color=DOWN, mfc=DOWN if busy else "none",
            label="gateway, filled where it serves" if index == 0 else None,
        )  # fmt: skip
        panel.annotate(gateway.name, (near(gateway.longitude_deg), gateway.latitude_deg), fontsize=7,
                       xytext=(6, -9), textcoords="offset points")  # fmt: skip
    panel.plot(middle, start.latitude_deg, "*", ms=14, color=UP, label="terminal")
    way = [(middle, start.latitude_deg)]
    served = np.flatnonzero(serving >= 0)
    if len(served):
        first = int(served[0])
        panel.plot(longitude[first], latitude[first], "o", ms=9, mfc="none", color=INK, label="under the satellite")
        way.append((float(longitude[first]), float(latitude[first])))
        between = list(zip(near(over[1]).tolist(), over[0].tolist(), strict=True))
        if between:
            panel.plot(*zip(*between, strict=True), "o", ms=6, mfc="none", color=INK, label="under those behind it")
        way += between
        number = int(timeline.path.gateway[rows[first]])
        name = timeline.gateways[number] if number >= 0 else ""
        way += [(float(near(one.longitude_deg)), one.latitude_deg) for one in scenario.gateways if one.name == name]
    if scenario.pop is not None:
        pop = float(near(scenario.pop.longitude_deg)), scenario.pop.latitude_deg
        panel.plot(*pop, "s", ms=8, color=INK, label=f"point of presence, {scenario.pop.name}")
        if len(way) == 3 + len(over[0]):
            panel.plot(*zip(way[-1], pop, strict=True), color=INK, lw=1.2, ls="-", label="fibre")
    panel.plot(*zip(*way, strict=True), color=INK, lw=1.2, ls=":", label="over satellites, at the beginning")
    panel.set_xlabel("longitude, ° east")
    panel.set_ylabel("latitude, ° north")
    panel.set_aspect(1 / max(0.1, float(np.cos(np.radians(start.latitude_deg)))), adjustable="datalim")
    panel.margins(0.12)
    panel.grid(color=FAINT, lw=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.xaxis.set_major_formatter(lambda value, _: f"{(value + 180) % 360 - 180:g}")
    panel.legend(loc="upper left", bbox_to_anchor=(0, -0.09), ncols=3, frameon=False, fontsize=8)
