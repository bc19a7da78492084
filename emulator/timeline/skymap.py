"""The way of the packets on a map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patheffects import withStroke

from emulator.orbit.look import Observer
from emulator.orbit.site import Site
from emulator.scenario.model import Scenario
from emulator.timeline.model import Timeline
from emulator.timeline.plot import DOWN, FAINT, INK, SERVING, UP

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LAND = "#b9b4a6"
NARROWEST_DEG = 12.0  # of what a map shows: less, and no coast may be in it
MOST_THICK = 40  # serving satellites; the lines of more would cover each other
TRACK_POINTS = 60  # of a terminal that moves
ROOM = 1.2  # times the extent of what is shown
CORNERS = (("left", "top", 7, -5), ("left", "bottom", 7, 4), ("right", "top", -7, -5), ("right", "bottom", -7, 4))


def ground_under(position_m: Floats) -> tuple[Floats, Floats]:
    """Latitude and longitude under positions in ECEF, (…, 3), on a sphere: 0.2° off at most."""
    x, y, z = np.moveaxis(position_m, -1, 0)
    return np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))


def ground_seen(place: Observer, azimuth_deg: Floats, elevation_deg: Floats, range_m: Floats) -> tuple[Floats, Floats]:
    """The same under what stands there."""
    azimuth, elevation = np.radians(azimuth_deg), np.radians(elevation_deg)
    east, north = np.cos(elevation) * np.sin(azimuth), np.cos(elevation) * np.cos(azimuth)
    x, y, z = (
        place.position_m[axis]
        + range_m * (east * place.east[axis] + north * place.north[axis] + np.sin(elevation) * place.up[axis])
        for axis in range(3)
    )
    return ground_under(np.stack([x, y, z], axis=-1))


def coloured(serving: Ints) -> Iterator[tuple[dict[str, Any], npt.NDArray[np.bool_]]]:
    """Each colour's line, thinner where they are many, and where satellites of it serve, of the shape of `serving`."""
    first = {index: number for number, index in enumerate(dict.fromkeys(serving[serving >= 0].tolist()))}
    number = np.array([first.get(index, -1) for index in serving.tolist()])
    thick = {"lw": 3.0, "marker": "o", "ms": 3.2} if len(first) <= MOST_THICK else {"lw": 0.9}
    for turn, colour in enumerate(SERVING[: len(first)]):
        yield {"color": colour, **thick}, (number >= 0) & (number % len(SERVING) == turn)


def draw_map(
    panel: Axes,
    scenario: Scenario,
    timeline: Timeline,
    rows: npt.NDArray[np.intp],
    serving: Ints,
    ground: tuple[Floats, Floats],
    over: tuple[Floats, Floats],
) -> None:
    """Plate carrée around the terminal: the first way as lines, ground points for all time.

    rows, serving: of the timeline, at each time. ground: under the serving satellite, at each time. over: under the
    satellites between the first one that serves and the gateway.
    """
    assert scenario.terminal is not None
    site = Site(scenario.terminal)
    start = site.motion(timeline.start_ns)
    middle = start.longitude_deg

    def near(longitude_deg: Floats | float) -> Floats:
        turned: Floats = middle + (np.asarray(longitude_deg, np.float64) - middle + 180.0) % 360.0 - 180.0
        return turned

    latitude, longitude = ground[0], near(ground[1])
    for line, whose in coloured(serving):
        panel.plot(longitude, np.where(whose, latitude, np.nan), **line)
    pop = None
    if scenario.pop is not None:
        pop = float(near(scenario.pop.longitude_deg)), scenario.pop.latitude_deg
        panel.plot(
            *pop, "s", ms=11, mfc="none", mew=1.6, color=INK, zorder=4, label=f"point of presence, {scenario.pop.name}"
        )
    used = set(timeline.path.gateway[rows[serving >= 0]].tolist())
    busy = {timeline.gateways[number] for number in used if number >= 0}
    places = [(float(near(one.longitude_deg)), one.latitude_deg) for one in scenario.gateways]
    for index, (gateway, place) in enumerate(zip(scenario.gateways, places, strict=True)):
        panel.plot(
            *place, "^", ms=7, zorder=4, color=DOWN, mfc=DOWN if gateway.name in busy else "none",
            label="gateway, filled where it serves" if index == 0 else None,
        )  # fmt: skip
    panel.plot(middle, start.latitude_deg, "*", ms=14, color=UP, zorder=4, label="terminal")
    if site.moves:
        track = [site.motion(at) for at in np.linspace(timeline.start_ns, timeline.end_ns, TRACK_POINTS).astype(int)]
        panel.plot(
            near(np.array([here.longitude_deg for here in track])), [here.latitude_deg for here in track],
            color=UP, lw=1.8, zorder=4, label="the terminal's way",
        )  # fmt: skip
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
        way += [place for one, place in zip(scenario.gateways, places, strict=True) if one.name == name]
        if pop is not None and name:
            panel.plot(*zip(way[-1], pop, strict=True), color=INK, lw=1.2, ls="-", label="fibre")
        panel.plot(*zip(*way, strict=True), color=INK, lw=1.2, ls=":", label="over satellites, at the beginning")
    panel.set_xlabel("longitude, ° east")
    panel.set_ylabel("latitude, ° north")
    panel.set_aspect(1 / max(0.1, float(np.cos(np.radians(start.latitude_deg)))), adjustable="datalim")
    panel.margins(0.02)
    panel.grid(color=FAINT, lw=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.xaxis.set_major_formatter(lambda value, _: _degrees((value + 180) % 360 - 180))
    panel.yaxis.set_major_formatter(lambda value, _: _degrees(value))
    panel.legend(loc="upper left", bbox_to_anchor=(0, -0.09), ncols=3, frameon=False, fontsize=8)
    _widen(panel)
    _draw_land(panel, middle)
    _name(panel, [gateway.name for gateway in scenario.gateways], places, [*way, *places])


def _degrees(value: float) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def _widen(panel: Axes) -> None:
    """Makes room around what is shown: the aspect's own search for limits may give up a margin."""
    shown = panel.dataLim
    middle_x, middle_y = (shown.x0 + shown.x1) / 2, (shown.y0 + shown.y1) / 2
    width, height = (max(NARROWEST_DEG, ROOM * length) / 2 for length in (shown.width, shown.height))
    panel.update_datalim([(middle_x - width, middle_y - height), (middle_x + width, middle_y + height)])
    panel.autoscale_view()


def _draw_land(panel: Axes, middle_deg: float) -> None:
    """The outlines of countries, three times around, since what is shown may lie across the date line."""
    with files("emulator.timeline").joinpath("land.npz").open("rb") as file, np.load(file) as land:
        degrees, ends = land["centidegrees"] / 100, np.cumsum(land["points"][:-1], dtype=np.int64)
    turn = 360.0 * np.round(middle_deg / 360.0)
    lines = [ring + np.array([turn + whole, 0.0]) for whole in (-360.0, 0.0, 360.0) for ring in np.split(degrees, ends)]
    panel.add_collection(LineCollection(lines, colors=LAND, linewidths=0.7, zorder=0), autolim=False)


def _name(
    panel: Axes, names: Sequence[str], places: Sequence[tuple[float, float]], taken: Sequence[tuple[float, float]]
) -> None:
    """Writes each name beside its place, at that corner where it covers the fewest marks and other names."""
    panel.figure.draw_without_rendering()
    halo = [withStroke(linewidth=2, foreground="white")]
    marks = panel.transData.transform(np.array(taken))
    boxes = [(x - 5, y - 5, x + 5, y + 5) for x, y in marks.tolist()]
    for name, place in zip(names, places, strict=True):
        written = []
        for horizontal, vertical, right, up in CORNERS:
            text = panel.annotate(
                name, place, xytext=(right, up), textcoords="offset points", ha=horizontal, va=vertical, fontsize=7,
                path_effects=halo,
            )  # fmt: skip
            text.set_in_layout(False)
            box = text.get_window_extent()
            covers = sum(box.x0 < x1 and x0 < box.x1 and box.y0 < y1 and y0 < box.y1 for x0, y0, x1, y1 in boxes)
            written.append((covers, text, (box.x0, box.y0, box.x1, box.y1)))
        best = min(range(len(written)), key=lambda number: written[number][0])
        boxes.append(written[best][2])
        for number, (_, text, _) in enumerate(written):
            if number != best:
                text.remove()
