"""A Timeline as the table that people read: one row at every change, and at least every second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import LOSS_ONE, Channel, Floats, Ints, Path, Timeline
from emulator.units import NS_PER_MS, NS_PER_S, format_utc

COLUMNS = (
    "utc",
    "satellite",
    "gateway",
    "azimuth_deg",
    "elevation_deg",
    "slant_range_m",
    "uplink_delay_ms",
    "downlink_delay_ms",
    "uplink_rate_mbps",
    "downlink_rate_mbps",
    "uplink_loss",
    "downlink_loss",
    "gate",
    "cause",
)
FORMATS = {  # to a tenth of what matters: metres on the sky, ns, bit/s
    "azimuth_deg": ".4f", "elevation_deg": ".4f", "slant_range_m": ".2f", "uplink_delay_ms": ".6f",
    "downlink_delay_ms": ".6f", "uplink_rate_mbps": ".6f", "downlink_rate_mbps": ".6f", "uplink_loss": ".6g",
    "downlink_loss": ".6g",
}  # fmt: skip
Table = dict[str, npt.NDArray[Any]]


def table(timeline: Timeline, *, since_ns: int | None = None, goes_on: bool = False) -> Table:
    """Columns of equal length by the names of `COLUMNS`, `utc` as datetime64[ns]; and `uplink_open`, `downlink_open`.

    Gate and cause are the uplink's; where they differ, the worse direction's: `…_open` tells them apart. Without a
    satellite the names are empty and the angles NaN. `since_ns`: where the table begins, if not with the Timeline.
    `goes_on`: what is before is in another table, so that a row which began there is left out.
    """
    since_ns = timeline.start_ns if since_ns is None else since_ns
    starts = np.unique(np.concatenate([timeline.uplink.start_ns, timeline.downlink.start_ns, timeline.path.start_ns]))
    starts = starts[(starts >= since_ns) & (starts < timeline.end_ns)]
    if not goes_on:
        starts = np.union1d(starts, [since_ns])
    if np.any(np.diff(starts, append=timeline.end_ns, prepend=since_ns) > NS_PER_S):
        starts = np.union1d(starts, np.arange(since_ns, timeline.end_ns, NS_PER_S))
    azimuth, elevation, slant_range = sky_at(timeline.path, starts)
    serving = rows_at(timeline.path.start_ns, starts)
    up, down = rows_at(timeline.uplink.start_ns, starts), rows_at(timeline.downlink.start_ns, starts)
    gates = np.stack([timeline.uplink.gate[up], timeline.downlink.gate[down]])
    causes = np.stack([timeline.uplink.cause[up], timeline.downlink.cause[down]])
    worse = gates.argmax(axis=0)[np.newaxis]
    gate = np.take_along_axis(gates, worse, 0)[0]
    cause = np.take_along_axis(causes, worse, 0)[0]
    return {
        "utc": starts.astype("datetime64[ns]"),
        "satellite": _names(timeline.satellites, timeline.path.satellite[serving]),
        "gateway": _names(timeline.gateways, timeline.path.gateway[serving]),
        "azimuth_deg": azimuth,
        "elevation_deg": elevation,
        "slant_range_m": slant_range,
        "uplink_delay_ms": delay_at(timeline.uplink, starts) / NS_PER_MS,
        "downlink_delay_ms": delay_at(timeline.downlink, starts) / NS_PER_MS,
        "uplink_rate_mbps": timeline.uplink.rate_bps[up] / 1e6,
        "downlink_rate_mbps": timeline.downlink.rate_bps[down] / 1e6,
        "uplink_loss": timeline.uplink.loss[up] / LOSS_ONE,
        "downlink_loss": timeline.downlink.loss[down] / LOSS_ONE,
        "gate": gate_names(gate),
        "cause": cause_names(cause),
        "uplink_open": gates[0] == Gate.PASS,
        "downlink_open": gates[1] == Gate.PASS,
    }


def gate_names(gate: Ints) -> npt.NDArray[Any]:
    """Gates as the table names them."""
    return np.array([one.name.lower() for one in Gate])[gate]


def cause_names(cause: Ints) -> npt.NDArray[Any]:
    """Causes as the table names them."""
    return np.array([one.name.lower() for one in Cause])[cause]


def stacked(tables: list[Table]) -> Table:
    """Consecutive tables as one."""
    return {name: np.concatenate([one[name] for one in tables]) for name in tables[0]}


def rows_at(start_ns: Ints, times_ns: Ints) -> npt.NDArray[np.intp]:
    """The row that holds at each time; before the first, the first."""
    return np.maximum(np.searchsorted(start_ns, times_ns, side="right") - 1, 0)


def delay_at(channel: Channel, times_ns: Ints) -> Ints:
    """One-way delay in ns at each time, as `Channel.at` has it."""
    row = rows_at(channel.start_ns, times_ns)
    elapsed_ns = np.maximum(times_ns - channel.start_ns[row], 0)
    return channel.delay_ns[row] + channel.delay_slope_ns_per_s[row] * elapsed_ns // NS_PER_S


def sky_at(path: Path, times_ns: Ints) -> tuple[Floats, Floats, Floats]:
    """Azimuth, elevation and slant range of the serving satellite at any times: the path's rows, and lines between.

    Between two rows a line strays from the curve by 15 m at most, beyond a slot's last row by 170 m (the
    acceleration of a range is up to 112 m/s²). A slot's last row that stands alone in the window has nothing to go on
    by, and stays.
    """
    row = rows_at(path.start_ns, times_ns)
    last = len(path) - 1
    follows = np.append((np.diff(path.satellite) == 0) & (np.diff(path.slot) == 0), False)
    first = np.where(follows[row], row, np.maximum(row - 1, 0))  # a slot's last row goes on as the one before it
    second = np.minimum(first + 1, last)
    steady = follows[first] & (path.satellite[row] >= 0)
    span_ns = np.where(steady, path.start_ns[second] - path.start_ns[first], 1)
    share = np.where(steady, (times_ns - path.start_ns[row]) / span_ns, 0.0)

    def between(values: Floats, turn: float = np.inf) -> Floats:
        step = values[second] - values[first]
        if np.isfinite(turn):
            step = (step + turn / 2) % turn - turn / 2
        moved: Floats = values[row] + np.where(share == 0, 0.0, share * step)
        return moved

    return between(path.azimuth_deg, 360.0) % 360.0, between(path.elevation_deg), between(path.slant_range_m)


def csv_lines(rows: Mapping[str, npt.NDArray[Any]], names: Sequence[str] = COLUMNS) -> Iterator[str]:
    """A table's lines, without header, each with its line end. NaN is an empty field."""
    columns = [[_text(name, value) for value in rows[name].tolist()] for name in names]
    return (",".join(fields) + "\n" for fields in zip(*columns, strict=True))


def _text(name: str, value: Any) -> str:
    """A field of a column; what datetime64[ns] gives to Python is whole ns."""
    if isinstance(value, str):
        return quoted(value)
    if name == "utc":
        return utc_text(value)
    return "" if isnan(value) else format(value, FORMATS[name])


def utc_text(utc_ns: int) -> str:
    """ISO 8601 with Z, to the millisecond; to the nanosecond where the time has more digits."""
    return format_utc(utc_ns, 9 if utc_ns % NS_PER_MS else 3)


def quoted(name: str) -> str:
    """A name as a CSV field."""
    return '"' + name.replace('"', '""') + '"' if any(char in name for char in ',"\r\n') else name


def _names(names: tuple[str, ...], index: Ints) -> npt.NDArray[Any]:
    return np.array([*names, ""])[index]  # −1, none, is the last: empty
