"""The certificate: the worst line is its outcome, it fetches nothing, and a small trial measures the truth."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import EndpointError
from emulator.testing.intervals import Interval
from emulator.testing.report import figure
from emulator.testing.selftest.certificate import Certificate, bar_of, margin_of, write_certificate
from emulator.testing.selftest.trials import TRIALS, Result, perform
from emulator.testing.verdicts.verdict import Figure

GOOD = Figure("delay", Interval(20.1, 20.0, 20.2, 0.95), "ms", 9).between(20, 21)
BAD = Figure("delay", Interval(22.1, 22.0, 22.2, 0.95), "ms", 9).between(20, 21)
OPEN = Figure("delay", Interval(20.9, 20.0, 22.2, 0.95), "ms", 9).between(20, 21)
BEHIND = Figure("delay", Interval(20.1, 20.0, 20.2, 0.95), "ms", 9, ("it was <slow>",)).between(20, 21)


def line(verdict: object, fault: str = "") -> Result:
    return Result("delay", "ping", "20 ms", verdict, fault, "proof")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        ([line(GOOD), line(GOOD)], "passed"),
        ([line(GOOD), line(None, "irtt is not installed")], "passed"),
        ([line(None, "irtt is not installed")], "not measured"),
        ([line(GOOD), line(None, "irtt: it broke")], "not measured"),
        ([line(GOOD), line(OPEN)], "undecided"),
        ([line(OPEN), line(BEHIND)], "invalid"),
        ([line(BEHIND), line(BAD), line(GOOD)], "failed"),
    ],
)
def test_the_worst_line_is_the_outcome(lines: list[Result], outcome: str, tmp_path: Path) -> None:
    certificate = Certificate(tuple(lines), 1_800_000_000 * 10**9)
    assert certificate.outcome == outcome
    paths = write_certificate(certificate, tmp_path)
    assert json.loads(paths["certificate.json"].read_text())["outcome"] == outcome
    page = paths["certificate.html"].read_text()
    assert not re.search(r"(src|href)=|url\(|<script|@import", page)
    assert page.count('class="scale"') == sum(each.verdict is not None for each in lines)
    assert "<slow>" not in page


@given(st.floats(-100, 100), st.floats(0, 50), st.floats(0, 50), st.floats(-100, 100), st.floats(0.1, 50))
def test_a_bar_stays_on_its_scale(estimate: float, below: float, above: float, least: float, room: float) -> None:
    figure = Figure("x", Interval(estimate, estimate - below, estimate + above, 0.95), "", 1)
    bar = bar_of(figure.between(least, least + room))
    assert bar is not None
    for place in (bar.allowed_left, bar.allowed_left + bar.allowed_width, bar.left, bar.middle):
        assert 0 <= place <= 100 + 1e-9


@given(early=st.floats(-0.5, 0.5), late=st.floats(0, 0.9))
def test_what_came_exactly_when_it_was_due_is_no_close_shave(early: float, late: float) -> None:
    """From a floor, which is what was commanded, the margin is that of the other bound; too early is too early."""
    low = min(40 - early, 40 + late)
    verdict = Figure("round trip", Interval(40 + late, low, 40 + late, 0.95), "ms", 9).between(40, 41)
    told = margin_of(Result("round-trip delay", "ping", "40 ms", verdict, floor=True))
    if low < 40:
        assert told == f"{figure(verdict.margin)} ms"
        assert told.startswith("−")
    else:
        assert told == f"{figure(41 - (40 + late))} ms, none too early"
    assert margin_of(Result("x", "ping", "40 ms", verdict)) == f"{figure(verdict.margin)} ms"
    assert margin_of(Result("x", "ping", "40 ms", None)) == ""


def test_a_certificate_that_cannot_be_written_names_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EndpointError, match="file"):
        write_certificate(Certificate((line(GOOD),), 0), tmp_path / "file")


@pytest.mark.needs("netns", "tun")
def test_the_clock_of_a_bench_is_the_machines() -> None:
    (result,) = perform(next(trial for trial in TRIALS if trial.name == "clock"))
    assert result.verdict is not None
    assert abs(result.verdict.interval.estimate) < 1000


@pytest.mark.long
@pytest.mark.needs("netns", "tun", "ping", "iperf3", "irtt")
@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_every_tool_measures_what_was_commanded(trial: object) -> None:
    results = perform(trial)  # type: ignore[arg-type]
    assert results
    for result in results:
        assert result.fault == ""
        assert result.verdict is not None
        assert result.verdict.outcome in ("passed", "invalid")  # on a busy machine nothing is proven
