"""The track of a terminal that moves, from a file: CSV, GPX or NMEA 0183.

A track is a law of where the terminal is at any time, so that a file with a gap, a step back in time or a place that is
none is refused, and not mended.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

import numpy as np
import numpy.typing as npt

from emulator.errors import ScenarioError
from emulator.orbit.look import WGS84_AXIS_M, Observer
from emulator.scenario.files import read_bounded
from emulator.units import NS_PER_S, format_utc, parse_utc_ns

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LARGEST_FILE_BYTES = 64 << 20  # a day at ten points a second
FASTEST_M_S = 350.0  # an aircraft with the wind behind it; more is a fault of the file
COLUMNS = {  # of a CSV table: ours first, then what else is met
    "time": ("utc", "time", "timestamp"),
    "latitude": ("latitude_deg", "latitude", "lat"),
    "longitude": ("longitude_deg", "longitude", "lon", "lng"),
    "altitude": ("altitude_m", "altitude", "alt", "ele"),
}
HEIGHTS = ("alt", "height")  # a column that begins so, and is none of these, has another unit or datum


class Point(NamedTuple):
    """A point of a file: its line, UTC, degrees, and metres above the ellipsoid (GPX: as the file has it)."""

    line: int
    utc_ns: int
    latitude_deg: float
    longitude_deg: float
    altitude_m: float


@dataclass(frozen=True)
class Track:
    """Points of equal columns (points,), strictly rising in time; straight lines between them."""

    file: str
    utc_ns: Ints
    latitude_deg: Floats
    longitude_deg: Floats
    altitude_m: Floats

    def shifted(self, start_ns: int) -> Track:
        """The same, its first point at `start_ns`."""
        return replace(self, utc_ns=self.utc_ns - self.utc_ns[0] + start_ns)

    def at(self, utc_ns: Ints) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Latitude, longitude, altitude, speed over ground (m/s) and course (degrees) at times, each (times,).

        Between two points the direction of the vertical turns evenly; outside of the track the terminal stands still.
        """
        times = self.utc_ns - self.utc_ns[0]
        asked = np.clip(utc_ns - self.utc_ns[0], 0, times[-1])
        row = np.clip(np.searchsorted(times, asked, side="right") - 1, 0, len(times) - 2)
        span_ns = times[row + 1] - times[row]
        share = (asked - times[row]) / span_ns
        up = np.stack(Observer.along(self.latitude_deg, self.longitude_deg, self.altitude_m).up, axis=-1)
        between = up[row] + share[:, np.newaxis] * (up[row + 1] - up[row])
        x, y, z = between.T
        latitude = np.degrees(np.arctan2(z, np.hypot(x, y)))
        longitude = np.degrees(np.arctan2(y, x))
        altitude = self.altitude_m[row] + share * (self.altitude_m[row + 1] - self.altitude_m[row])
        here = Observer.along(latitude, longitude, altitude)
        step = up[row + 1] - up[row]
        east = sum(step[:, axis] * np.asarray(here.east[axis]) for axis in range(3))
        north = sum(step[:, axis] * np.asarray(here.north[axis]) for axis in range(3))
        moving = (utc_ns >= self.utc_ns[0]) & (utc_ns < self.utc_ns[-1])
        speed = np.where(moving, np.hypot(east, north) * (WGS84_AXIS_M + altitude) / (span_ns / NS_PER_S), 0.0)
        course = np.where(speed > 0, np.degrees(np.arctan2(east, north)) % 360.0, 0.0) % 360.0
        return latitude, longitude, altitude, speed, course


def read_track(path: Path, largest_gap_s: float) -> Track:
    """The track of a file: GPX by its root element, NMEA by its `$`, else CSV with a header line.

    Raises ScenarioError naming file and line: what cannot be read, a time that does not rise, a gap over
    `largest_gap_s`, a place that no terminal can get to in the time, fewer than two points.
    """
    file = str(path)
    content = read_bounded(path, LARGEST_FILE_BYTES, what="track", shown=f"{file}: terminal.track")
    text = content.decode("utf-8-sig", errors="replace")
    start = text.lstrip()[:1]
    read = _gpx if start == "<" else _nmea if start in ("$", "!") else _csv
    points: list[Point] = []
    for point in read(text, file):
        _check(point, file)
        if points:
            _follows(points[-1], point, file, largest_gap_s)
        points.append(point)
    if len(points) < 2:
        raise ScenarioError([f"{file}: terminal.track: expected two points or more, got {len(points)}"])
    _, utc_ns, *places = zip(*points, strict=True)
    return Track(file, np.array(utc_ns, np.int64), *(np.array(column, np.float64) for column in places))


def _refusal(file: str, line: int, problem: str) -> ScenarioError:
    return ScenarioError([f"{file}: line {line}: {problem}"])


def _check(point: Point, file: str) -> None:
    for name, value, most in (
        ("latitude", point.latitude_deg, 90.0),
        ("longitude", point.longitude_deg, 180.0),
        ("altitude", point.altitude_m, 100_000.0),
    ):
        if not abs(value) <= most:
            raise _refusal(file, point.line, f"expected a {name} from {-most:g} to {most:g}, got {value:g}")


def _follows(before: Point, point: Point, file: str, largest_gap_s: float) -> None:
    since_s = (point.utc_ns - before.utc_ns) / NS_PER_S
    told = f"{format_utc(point.utc_ns)} after {format_utc(before.utc_ns)} in line {before.line}"
    if since_s <= 0:
        raise _refusal(file, point.line, f"expected a later time than that of the point before, got {told}")
    if since_s > largest_gap_s:
        raise _refusal(
            file,
            point.line,
            f"expected no gap over {largest_gap_s:g} s (terminal.track_gap_s), got {since_s:g} s: {told}",
        )
    one, other = (np.array(Observer.at(*place[2:]).position_m) for place in (before, point))
    speed = float(np.sqrt(((one - other) ** 2).sum())) / since_s
    if speed > FASTEST_M_S + 10.0 / since_s:  # 10 m: what a receiver's fix may jump by
        told = f"expected at most {FASTEST_M_S:g} m/s from line {before.line} on, got {speed:.0f}"
        raise _refusal(file, point.line, told)


def _number(text: str | None, what: str, file: str, line: int) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise _refusal(file, line, f"expected a {what}, got {text!r:.40}") from None


def _time(text: str | None, file: str, line: int) -> int:
    try:
        return parse_utc_ns(text or "")
    except ValueError as error:
        raise _refusal(file, line, str(error)) from None


def _csv(text: str, file: str) -> Iterator[Point]:
    rows = csv.DictReader(io.StringIO(text), strict=True)
    try:
        header = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
    except csv.Error as error:
        raise _refusal(file, 1, f"expected CSV: {error}") from None
    found = {what: next((header[name] for name in names if name in header), None) for what, names in COLUMNS.items()}
    unread = [name for name in header if name.startswith(HEIGHTS) and header[name] != found["altitude"]]
    if unread and found["altitude"] is None:
        raise _refusal(file, 1, f"expected the altitude in a column altitude_m, got {unread[0]}")
    missing = [names[0] for what, names in COLUMNS.items() if found[what] is None and what != "altitude"]
    if missing:
        raise _refusal(file, 1, f"expected CSV with a column {', '.join(missing)}, GPX or NMEA")
    try:
        for row in rows:
            line = rows.line_num
            if None in row or None in row.values():
                raise _refusal(file, line, f"expected {len(header)} fields as in the header, got another number")
            latitude, longitude = (
                _number(row[found[what] or ""], what, file, line) for what in ("latitude", "longitude")
            )
            altitude = _number(row[found["altitude"]], "altitude", file, line) if found["altitude"] else 0.0
            yield Point(line, _time(row[found["time"] or ""], file, line), latitude, longitude, altitude)
    except csv.Error as error:
        raise _refusal(file, rows.line_num, f"expected CSV: {error}") from None


def _gpx(text: str, file: str) -> Iterator[Point]:
    """The points of all tracks of a GPX file, in its order; each must have its time."""
    points: list[Point] = []
    place: dict[str, str] = {}
    inside = ""
    line = 0

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal inside, line
        inside = name.rpartition(":")[2]
        if inside == "trkpt":
            line = parser.CurrentLineNumber
            place.clear()
            place.update(attributes)

    def said(data: str) -> None:
        if inside in ("ele", "time") and "lat" in place:
            place[inside] = place.get(inside, "") + data

    def end(name: str) -> None:
        nonlocal inside
        inside = ""
        if name.rpartition(":")[2] == "trkpt":
            latitude, longitude, altitude = (
                _number(place.get(key, default), what, file, line)
                for key, what, default in (("lat", "latitude", ""), ("lon", "longitude", ""), ("ele", "altitude", "0"))
            )
            points.append(Point(line, _time(place.get("time"), file, line), latitude, longitude, altitude))
            place.clear()

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = begin, end, said
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise _refusal(file, error.lineno, f"expected GPX: {expat.ErrorString(error.code)}") from None
    yield from points


def _nmea(text: str, file: str) -> Iterator[Point]:
    """The valid RMC sentences of a log; the altitude is that of the last GGA, with its geoid separation."""
    altitude = 0.0
    for line, raw in enumerate(text.splitlines(), start=1):
        sentence = raw.strip()
        if sentence[:1] != "$" or sentence[3:6] not in ("RMC", "GGA"):
            continue
        body, star, checksum = sentence[1:].partition("*")
        expected = 0
        for byte in body.encode():
            expected ^= byte
        if not star or checksum.strip().upper() != f"{expected:02X}":
            raise _refusal(file, line, f"expected the checksum *{expected:02X}, got {star + checksum!r}")
        fields = body.split(",")
        if len(fields) < 10:
            raise _refusal(file, line, f"expected the fields of {fields[0][2:]}, got {len(fields)} of them")
        if fields[0][2:] == "GGA":
            if fields[6] != "0" and fields[9]:
                separation = fields[11] if len(fields) > 11 and fields[11] else "0"
                altitude = _number(fields[9], "altitude", file, line) + _number(separation, "separation", file, line)
        elif fields[2] == "A":
            yield Point(
                line,
                _nmea_time(fields[9], fields[1], file, line),
                _nmea_angle(fields[3], fields[4], 2, file, line),
                _nmea_angle(fields[5], fields[6], 3, file, line),
                altitude,
            )


def _nmea_time(date: str, clock: str, file: str, line: int) -> int:
    """`250529`-like ddmmyy and hhmmss.ss; years of this century."""
    whole, _, fraction = clock.partition(".")
    try:
        instant = datetime.strptime(date + whole, "%d%m%y%H%M%S")  # noqa: DTZ007 (UTC, by the sentence's definition)
    except ValueError:
        raise _refusal(file, line, f"expected a date and time ddmmyy, hhmmss, got {date!r}, {clock!r}") from None
    return _time(f"{instant.replace(year=2000 + instant.year % 100):%Y-%m-%dT%H:%M:%S}.{fraction or 0}Z", file, line)


def _nmea_angle(text: str, side: str, digits: int, file: str, line: int) -> float:
    degrees, minutes = _number(text[:digits], "position", file, line), _number(text[digits:], "position", file, line)
    if side not in ("N", "S", "E", "W"):
        raise _refusal(file, line, f"expected N, S, E or W, got {side!r}")
    return (degrees + minutes / 60) * (-1 if side in ("S", "W") else 1)
