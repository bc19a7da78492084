"""Traces as CSV: a header of columns with their units, then a row at every change.

One time column: `utc` (ISO 8601) or `time_s`, `time_ms`, `time_us`, `time_ns` (relative times begin in 1970). The
others, for both directions or with `uplink_` or `downlink_` before them: `delay_UNIT` or `rtt_UNIT` (halved), and of
own choice `delay_slope_ns_per_s`, `jitter_UNIT`, `rate_bps`, `rate_kbps`, `rate_mbps` or `rate_gbps` (0 or no column:
no limit), `loss` (0 to 1) or `loss_percent`, `cn_db`, `gate` and `cause` by the names of `Gate` and `Cause`. A last row
with a time alone says where the trace ends. A table that `bentpipe plan` wrote is such a trace.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from enum import IntEnum

import numpy as np

from emulator.errors import TraceError
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import LOSS_ONE, Channel, Ints, Timeline
from emulator.timeline.table import delay_at, rows_at
from emulator.timeline.traces.rows import (
    LONGEST_DELAY_NS,
    ReadOptions,
    channel,
    end_after,
    fault,
    require_rising,
    timeline,
)
from emulator.units import NS_PER_MS, format_utc, parse_utc_ns

TIMES = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
RATES = {"bps": 1, "kbps": 10**3, "mbps": 10**6, "gbps": 10**9}
LAST_NS = 8 * 10**18  # the year 2223
WAYS = ("uplink", "downlink")
OF_A_PLAN = {"satellite", "gateway", "azimuth_deg", "elevation_deg", "slant_range_m"}
KINDS: dict[
    str, tuple[str, Decimal]
] = {  # column without direction → what of a Channel it gives, and how many of that one unit is
    **{f"delay_{unit}": ("delay_ns", Decimal(factor)) for unit, factor in TIMES.items()},
    **{f"rtt_{unit}": ("delay_ns", Decimal(factor) / 2) for unit, factor in TIMES.items()},
    **{f"jitter_{unit}": ("jitter_ns", Decimal(factor)) for unit, factor in TIMES.items()},
    **{f"rate_{unit}": ("rate_bps", Decimal(factor)) for unit, factor in RATES.items()},
    "delay_slope_ns_per_s": ("delay_slope_ns_per_s", Decimal(1)),
    "loss": ("loss", Decimal(LOSS_ONE)),
    "loss_percent": ("loss", Decimal(LOSS_ONE) / 100),
    "cn_db": ("cn_centidb", Decimal(100)),
    "gate": ("gate", Decimal(0)),
    "cause": ("cause", Decimal(0)),
}
NAMES: dict[str, type[IntEnum]] = {"gate": Gate, "cause": Cause}
MAY_BE_NEGATIVE = {"delay_slope_ns_per_s", "cn_centidb"}
MOST = {"delay_ns": LONGEST_DELAY_NS, "loss": LOSS_ONE, "rate_bps": 10**12}

Read = Callable[[str, int], int]


def read(name: str, text: str, options: ReadOptions) -> Timeline:
    """The Timeline of a CSV's text; `name` is for the errors. Raises TraceError."""
    lines = csv.reader(io.StringIO(text, newline=""))
    header = [column.strip() for column in next(lines, [])]
    time, columns = _understood(name, header)
    times: list[int] = []
    places: list[int | str] = []
    values: dict[tuple[str, str], list[int]] = {key: [] for key in columns.values()}
    ended = False
    for row in lines:
        if not any(field.strip() for field in row):
            continue
        place = lines.line_num
        if ended:
            raise fault(name, places[-1], "a time alone in the last row only", f"holes, and line {place} after them")
        if len(row) != len(header):
            raise fault(name, place, f"{len(header)} fields as in the header", str(len(row)))
        fields = dict(zip(header, row, strict=True))
        times.append(_time(name, place, time, fields[time]))
        places.append(place)
        ended = not any(field.strip() for column, field in fields.items() if column != time) and len(times) > 1
        if not ended:
            for column, key in columns.items():
                values[key].append(_value(name, place, column, key[1], fields[column].strip()))
    if not times:
        raise TraceError(f"{name}: expected at least one row below the header, got none")
    require_rising(name, times, places, options.gap_ns)
    end_ns = times.pop() if ended else end_after(times)
    made = [_channel(name, np.array(times, np.int64), values, way) for way in WAYS]
    return timeline(made[0], made[1], end_ns)


def _understood(name: str, header: list[str]) -> tuple[str, dict[str, tuple[str, str]]]:
    """The time column, and for each other one direction and kind. Raises TraceError for what is unknown or twice."""
    times = [column for column in header if column == "utc" or column in {f"time_{unit}" for unit in TIMES}]
    if len(times) != 1:
        raise fault(name, 1, "one time column, such as time_s or utc", ", ".join(times) or "none")
    columns: dict[str, tuple[str, str]] = {}
    for column in header:
        if column in times or column in OF_A_PLAN:
            continue
        way, _, rest = column.partition("_")
        way, rest = (way, rest) if way in WAYS else ("both", column)
        if rest not in KINDS:
            raise fault(name, 1, "columns with their units, such as delay_ms, uplink_rate_mbps, loss", repr(column))
        key = (way, KINDS[rest][0])
        if key in columns.values():
            other = next(known for known, own in columns.items() if own == key)
            raise fault(name, 1, f"one column for what {other} tells", f"{column} too: units are mixed")
        columns[column] = key
    for way in WAYS:
        if not {(way, "delay_ns"), ("both", "delay_ns")} & set(columns.values()):
            raise fault(name, 1, f"a column such as delay_ms or {way}_delay_ms", "none")
    return times[0], columns


def _time(name: str, line: int, column: str, field: str) -> int:
    if column != "utc":
        time_ns = int(_number(name, line, column, field) * TIMES[column.partition("_")[2]])
        if not 0 <= time_ns <= LAST_NS:
            raise fault(name, line, f"{column} from 0 on, since 1970 at most", field)
        return time_ns
    try:
        return parse_utc_ns(field)
    except ValueError as error:
        raise TraceError(f"{name}: line {line}: {column}: {error}") from None


def _value(name: str, line: int, column: str, kind: str, field: str) -> int:
    if kind in NAMES:
        members = {one.name.lower(): int(one) for one in NAMES[kind]}
        if field.lower() not in members:
            raise fault(name, line, f"{column} to be one of {', '.join(members)}", field or "a hole")
        return members[field.lower()]
    rest = column.partition("_")[2] if column.partition("_")[0] in WAYS else column
    number = _number(name, line, column, field)
    value = round(number * KINDS[rest][1])
    if kind not in MAY_BE_NEGATIVE and number < 0:
        raise fault(name, line, f"{column} of 0 or more", field)
    if value > MOST.get(kind, 1 << 62):
        raise fault(name, line, f"{column} of at most {MOST[kind] / float(KINDS[rest][1]):g}", field)
    return value


def _number(name: str, line: int, column: str, field: str) -> Decimal:
    try:
        number = Decimal(field.strip())
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise fault(name, line, f"a number in {column}", f"{field.strip()!r}" if field.strip() else "a hole")
    if abs(number.adjusted()) > 30 and number:
        raise fault(name, line, f"a number of sense in {column}", field)
    return number


def _channel(name: str, times: Ints, values: dict[tuple[str, str], list[int]], way: str) -> Channel:
    own = {kind: np.array(column, np.int64) for (of, kind), column in values.items() if of == "both"}
    own |= {kind: np.array(column, np.int64) for (of, kind), column in values.items() if of == way}
    try:
        return channel(times, **own)
    except ValueError as error:  # a rule between columns
        raise TraceError(f"{name}: {way}: {error}") from error


def write(line: Timeline) -> str:
    """All of a Timeline but who serves, to the nanosecond; at each row, where the directions do not change together."""
    starts = np.unique(np.concatenate([line.uplink.start_ns, line.downlink.start_ns]))
    starts = np.union1d(starts[(starts > line.start_ns) & (starts < line.end_ns)], [line.start_ns])
    header, columns = ["utc"], [[format_utc(at, 9) for at in [*starts.tolist(), line.end_ns]]]
    for way in WAYS:
        one: Channel = getattr(line, way)
        row = rows_at(one.start_ns, starts)
        for column, texts in {
            "delay_ms": [_decimal(value, NS_PER_MS) for value in delay_at(one, starts).tolist()],
            "delay_slope_ns_per_s": [str(value) for value in one.delay_slope_ns_per_s[row].tolist()],
            "rate_mbps": [_decimal(value, 10**6) for value in one.rate_bps[row].tolist()],
            "loss": [repr(value / LOSS_ONE) for value in one.loss[row].tolist()],
            "jitter_ms": [_decimal(value, NS_PER_MS) for value in one.jitter_ns[row].tolist()],
            "cn_db": [_decimal(value, 100) for value in one.cn_centidb[row].tolist()],
            "gate": [Gate(value).name.lower() for value in one.gate[row].tolist()],
            "cause": [Cause(value).name.lower() for value in one.cause[row].tolist()],
        }.items():
            header.append(f"{way}_{column}")
            columns.append([*texts, ""])
    return "".join(",".join(fields) + "\n" for fields in [header, *zip(*columns, strict=True)])


def _decimal(value: int, unit: int) -> str:
    """value / unit, all its digits."""
    return f"{Decimal(value) / unit:f}"
