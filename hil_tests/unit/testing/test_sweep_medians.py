"""Sweeps summed up: what a median is made of, and that the picture shows every run that counts."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.cli.main import run as bentpipe
from emulator.testing.store import Run
from emulator.testing.sweeps.medians import SHOWN, Group, group_runs
from emulator.testing.sweeps.picture import draw_sweep, picture_of

FIGURES = st.floats(0, 1e6) | st.sampled_from([math.nan, math.inf])
RUNS = st.lists(
    st.tuples(
        st.sampled_from(["starlink_2025", "fixed link.loss=0 link.delay_ms=1", "fixed link.loss=0.001"]),
        st.sampled_from(["done", "done", "invalid"]),
        st.dictionaries(st.sampled_from(list(SHOWN)), FIGURES),
    ),
    min_size=1,
    max_size=30,
)


def made(told: list[tuple[str, str, dict[str, float]]]) -> list[Run]:
    return [
        Run(
            key=str(number), kind="sweep", name=name, outcome=outcome, scenario=name.split()[0], seed=number,
            start_utc="2026-01-01T00:00:00Z", version="1", seconds=1.0, figures=figures,
        )
        for number, (name, outcome, figures) in enumerate(told)
    ]  # fmt: skip


@given(RUNS)
def test_a_median_is_of_the_valid_runs_of_its_group(told: list[tuple[str, str, dict[str, float]]]) -> None:
    groups = group_runs(made(told))
    assert [group.name for group in groups] == list(dict.fromkeys(name for name, _, _ in told))
    for group in groups:
        mine = [(outcome, figures) for name, outcome, figures in told if name == group.name]
        assert (group.runs, group.invalid) == (len(mine), sum(outcome == "invalid" for outcome, _ in mine))
        for figure in SHOWN:
            valid = sorted(
                figures[figure]
                for outcome, figures in mine
                if outcome != "invalid" and not math.isnan(figures.get(figure, math.nan))
            )
            median = group.median(figure)
            assert (median is None) == (not valid)
            if median is not None:
                assert valid[(len(valid) - 1) // 2] <= median.estimate <= valid[len(valid) // 2]
                assert median.low <= median.estimate <= median.high


@settings(max_examples=15, deadline=None)
@given(RUNS)
def test_the_picture_has_a_dot_for_each_run_that_counts(told: list[tuple[str, str, dict[str, float]]]) -> None:
    groups = group_runs(made(told))
    panels = picture_of(groups, "a sweep").axes
    for axes, (figure, heading) in zip(panels, SHOWN.items(), strict=True):
        assert axes.get_title(loc="center") == heading
        dots = [tuple(place) for drawn in axes.collections if len(drawn.get_offsets()) for place in drawn.get_offsets()]
        for row, group in enumerate(groups):
            finite = sorted(value for value in group.values[figure] if math.isfinite(value))
            there = sorted(x for x, y in dots if abs(y - row) < 0.5 and y != row)
            assert there == pytest.approx(finite)


def test_a_sweep_without_runs_has_no_picture() -> None:
    with pytest.raises(ValueError, match="at least one"):
        draw_sweep([], io.BytesIO(), file_format="png", title="none")


@pytest.mark.parametrize(("file_format", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_pictures_are_what_their_names_say(file_format: str, begins: bytes) -> None:
    group = Group("fixed", 2, 0, {figure: [1.0, 1000.0] for figure in SHOWN})
    file = io.BytesIO()
    draw_sweep([group], file, file_format=file_format, title="of two runs")
    assert file.getvalue().startswith(begins)


def test_the_command_draws_and_refuses_what_is_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["sweep", "fixed", "--seeds", "1-2", "--duration", "10s", "--packets", "50", "--jobs", "1"]
    store = ["--store", str(tmp_path / "runs.sqlite")]
    picture = tmp_path / "sweep.png"
    assert bentpipe([*common, *store, "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert bentpipe([*common, *store, "--plot", str(tmp_path / "sweep.doc")]) != 0
    told = capsys.readouterr()
    assert (told.out, "sweep.doc" in told.err) == ("", True)


@pytest.mark.parametrize("runs", [1, 5, 6, 9])
def test_too_few_runs_for_an_interval_are_told(runs: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["sweep", "fixed", "--seeds", f"1-{runs}", "--duration", "1s", "--packets", "20", "--jobs", "1"]
    assert bentpipe([*common, "--store", str(tmp_path / "runs.sqlite")]) == 0
    told = capsys.readouterr()
    each = "1 run" if runs == 1 else f"{runs} runs"
    assert ("? to ?" in told.out) is False
    assert (f"({each}; an interval needs 6)" in " ".join(told.out.split())) == (runs < 6)
    assert f"{each}, 0 of them" in told.err
    (group,) = group_runs(made([("fixed", "done", dict.fromkeys(SHOWN, 1.0))] * runs))
    (label, *_) = picture_of([group], "a sweep").axes[0].get_yticklabels()
    assert ("an interval needs 6" in label.get_text()) == (runs < 6)
