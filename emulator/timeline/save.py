"""Timelines in files: a table as .csv for people, or as .npz with the Timeline itself in it, to the last nanosecond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path as FilePath
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from emulator.timeline.model import Channel, Path, Timeline
from emulator.timeline.table import Table


def joined(windows: Sequence[Timeline]) -> Timeline:
    """Consecutive windows as one Timeline. Raises ValueError if one does not begin where the one before it ends."""
    for before, after in pairwise(windows):
        if before.end_ns != after.start_ns:
            raise ValueError(f"windows: expected the next to start at {before.end_ns}, got {after.start_ns}")
    satellites = tuple(dict.fromkeys(name for window in windows for name in window.satellites))
    gateways = tuple(dict.fromkeys(name for window in windows for name in window.gateways))
    paths = []
    for window in windows:
        columns = {field.name: getattr(window.path, field.name) for field in fields(Path)}
        columns["satellite"] = _renumbered(window.path.satellite, window.satellites, satellites)
        columns["gateway"] = _renumbered(window.path.gateway, window.gateways, gateways)
        paths.append(Path(**columns))
    uplink, downlink = (_stack(Channel, [getattr(window, way) for window in windows]) for way in ("uplink", "downlink"))
    return Timeline(
        windows[0].start_ns, windows[-1].end_ns, uplink, downlink, _stack(Path, paths), satellites, gateways
    )


def save_npz(file: BinaryIO, timeline: Timeline, rows: Table) -> None:
    """Writes the columns of `rows` under their names, and the Timeline under `timeline.…`."""
    arrays: dict[str, npt.NDArray[Any]] = dict(rows)
    for part in ("uplink", "downlink", "path"):
        columns = getattr(timeline, part)
        arrays |= {f"timeline.{part}.{field.name}": getattr(columns, field.name) for field in fields(columns)}
    arrays["timeline.span_ns"] = np.array([timeline.start_ns, timeline.end_ns], np.int64)
    arrays["timeline.satellites"] = np.array(timeline.satellites, np.str_)
    arrays["timeline.gateways"] = np.array(timeline.gateways, np.str_)
    np.savez_compressed(file, allow_pickle=False, **arrays)


def load_npz(path: FilePath | BinaryIO) -> Timeline:
    """The Timeline of a file that `save_npz` wrote."""
    with np.load(path, allow_pickle=False) as arrays:

        def part(kind: type[Any], name: str) -> Any:
            return kind(**{field.name: arrays[f"timeline.{name}.{field.name}"] for field in fields(kind)})

        start_ns, end_ns = (int(time) for time in arrays["timeline.span_ns"])
        names = [tuple(arrays[f"timeline.{what}"].tolist()) for what in ("satellites", "gateways")]
        return Timeline(
            start_ns, end_ns, part(Channel, "uplink"), part(Channel, "downlink"), part(Path, "path"), *names
        )


def _stack(kind: type[Any], parts: Sequence[Any]) -> Any:
    """Rows one after the other; a row in which one window ends and the next begins is in both, and is kept once."""
    starts = np.concatenate([part.start_ns for part in parts])
    kept = np.append(True, starts[1:] > np.maximum.accumulate(starts)[:-1])
    columns = {field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(kind)}
    return kind(**{name: column[kept] for name, column in columns.items()})


def _renumbered(index: npt.NDArray[np.int64], old: Sequence[str], new: Sequence[str]) -> npt.NDArray[np.int64]:
    place = np.array([*(new.index(name) for name in old), -1], np.int64)  # −1, none, stays −1
    return place[index]
