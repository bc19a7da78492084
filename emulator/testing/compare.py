"""Two runs side by side: the same figures with their intervals, and where they differ by more than chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from emulator.testing.intervals import Interval
from emulator.testing.measure import FEWEST_FLOORS
from emulator.testing.record import DIRECTIONS, RunRecord
from emulator.testing.verdicts.figures import delay_ms, goodput_mbps, jitter_ms, loss_percent
from emulator.testing.verdicts.verdict import Figure


@dataclass(frozen=True)
class Difference:
    """A figure of both runs. `word`: lower or higher in the second run, where the intervals have nothing in common."""

    name: str
    unit: str
    first: str
    second: str
    word: str


def compare(first: RunRecord, second: RunRecord) -> list[Difference]:
    """Every figure that at least one of the two runs has."""
    found = []
    for one, other in zip(_figures(first), _figures(second), strict=True):
        if one.repetitions or other.repetitions:
            word = _word(one, other) if one.repetitions and other.repetitions else "only one has it"
            found.append(Difference(one.name, one.unit, _shown(one.interval), _shown(other.interval), word))
    return found


def _figures(record: RunRecord) -> list[Figure]:
    figures = []
    for direction in DIRECTIONS:
        figures += [delay_ms(record, direction, percentile=percentile) for percentile in (50, 95)]
        figures += [jitter_ms(record, direction), loss_percent(record, direction)]
    return [*figures, goodput_mbps(record)]


def _word(one: Figure, other: Figure) -> str:
    if other.interval.low > one.interval.high:
        return "higher"
    return "lower" if other.interval.high < one.interval.low else "no difference that is sure"


def _shown(interval: Interval) -> str:
    if math.isnan(interval.estimate):
        return "–"
    if not (math.isfinite(interval.low) or math.isfinite(interval.high)):
        return f"{interval.estimate:.4g} (no interval)"
    low, high = (f"{bound:.4g}" if math.isfinite(bound) else "?" for bound in (interval.low, interval.high))
    return f"{interval.estimate:.4g} ({low} to {high})"


def write_comparison(first: RunRecord, second: RunRecord, directory: Path) -> Path:
    """Writes `comparison.html`, self-contained. Raises EndpointError."""
    from markupsafe import Markup

    from emulator.testing.picture import to_svg
    from emulator.testing.report import pages, write_files
    from emulator.units import format_utc

    text = (
        pages()
        .get_template("comparison.html.j2")
        .render(
            runs=[
                {"record": record, "start": format_utc(record.start_utc_ns, 1), "picture": Markup(to_svg(record))}
                for record in (first, second)
            ],
            differences=compare(first, second),
            fewest=FEWEST_FLOORS,
        )
    )
    return write_files(directory, {"comparison.html": text.encode()})["comparison.html"]
