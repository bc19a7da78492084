"""The report comes from the record alone, and fetches nothing."""

from __future__ import annotations

import json
import re
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import EndpointError, ScenarioError
from emulator.testing.compare import compare, write_comparison
from emulator.testing.picture import draw
from emulator.testing.picture_traffic import throughput_top
from emulator.testing.record import Direction, Evidence, Judged, RunRecord, StateSeries, load_record
from emulator.testing.report import main, to_html, write_report
from emulator.testing.summary import summarise
from hil_tests.unit.testing.synthetic import synthetic_record

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def record() -> RunRecord:
    return synthetic_record(duration_s=46)


@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
def test_a_record_that_was_saved_is_the_record(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    path = tmp_path_factory.mktemp("record") / "run.json"
    record = synthetic_record(seed, duration_s=20)
    record.save(path)
    assert load_record(path) == record


def test_the_report_can_be_made_again_from_its_record(record: RunRecord, tmp_path: Path) -> None:
    paths = write_report(record, tmp_path / "first")
    assert main([str(paths["run.json"]), "-o", str(tmp_path / "second")]) == 0
    for name, path in paths.items():
        assert (tmp_path / "second" / name).read_bytes() == path.read_bytes(), name
    assert paths["report.png"].read_bytes().startswith(PNG)


def test_the_page_fetches_nothing(record: RunRecord) -> None:
    page = to_html(record)
    named = re.findall(r"""(?:src|href|xlink:href|action|data)\s*=\s*["']([^"']*)""", page) + re.findall(
        r"url\(([^)]*)\)", page
    )
    assert named
    assert all(address.strip("\"'").startswith(("data:", "#")) for address in named)
    assert "<script" not in page
    assert "@import" not in page


def test_the_page_says_what_the_record_says(record: RunRecord) -> None:
    page = to_html(record)
    for text in (
        record.scenario_name,
        "2025-10-03T14:20:04.5Z",
        record.version,
        *(check.outcome for check in record.checks),
    ):
        assert str(text) in page
    assert "every check holds" in page


def test_text_from_outside_is_text(record: RunRecord) -> None:
    hostile = record.model_copy(update={"scenario_name": "<script>alert(1)</script>"})
    assert "<script>" not in to_html(hostile)


def test_packets_that_are_missing_break_the_verdict(record: RunRecord) -> None:
    broken = record.model_copy(deep=True)
    broken.counters.uplink.delivered_packets[-1] -= 1
    summary = summarise(broken)
    assert not summary.passed
    assert "offered = delivered + dropped + held" in summary.verdict


def test_packets_that_the_link_made_twice_are_in_the_sum(record: RunRecord) -> None:
    twice = record.model_copy(deep=True)
    twice.counters.uplink.copied_packets[-1] += 5
    assert "offered + copied = delivered + dropped + held" in summarise(twice).verdict
    twice.counters.uplink.delivered_packets[-1] += 5
    assert summarise(twice).passed
    assert "copied by the link" in to_html(twice)


def test_a_record_that_does_not_tell_of_copies_has_none(record: RunRecord) -> None:
    told = json.loads(record.model_dump_json())
    for direction in ("uplink", "downlink"):
        del told["counters"][direction]["copied_packets"]
    assert summarise(RunRecord.model_validate(told)).passed


def test_probes_lost_beyond_what_was_counted_break_the_verdict(record: RunRecord) -> None:
    broken = record.model_copy(deep=True)
    broken.uplink_probes.delay_ns = [-1] * len(broken.uplink_probes.delay_ns)
    assert "Probes lost" in summarise(broken).verdict


@pytest.mark.parametrize("direction", ["uplink", "downlink"])
@pytest.mark.parametrize("error_ns", [-150_000, 150_000])
def test_a_wrong_delay_breaks_the_verdict(record: RunRecord, direction: Direction, error_ns: int) -> None:
    broken = record.model_copy(deep=True)
    probes = broken.probes(direction)
    probes.delay_ns = [delay + error_ns if delay >= 0 else delay for delay in probes.delay_ns]
    assert "Delay error" in summarise(broken).verdict


def test_a_busy_machine_makes_no_delay_wrong(record: RunRecord) -> None:
    busy = record.model_copy(deep=True)
    late = np.random.default_rng(5).exponential(400e3, len(busy.uplink_probes.delay_ns)).astype(int)
    busy.uplink_probes.delay_ns = [
        delay + int(more) if delay >= 0 else delay
        for delay, more in zip(busy.uplink_probes.delay_ns, late, strict=True)
    ]
    assert summarise(busy).passed


def test_too_few_calm_probes_prove_nothing(record: RunRecord) -> None:
    blind = record.model_copy(deep=True)
    blind.downlink_probes.calm = [0] * len(blind.downlink_probes.calm)
    assert "Delay error" in summarise(blind).verdict
    assert summarise(blind.model_copy(update={"interrupted": True})).passed


def test_a_wrong_slot_phase_breaks_the_verdict(record: RunRecord) -> None:
    assert "Slot phase" in summarise(record.model_copy(update={"slot_phase_s": 5.0})).verdict


def test_a_run_cut_short_at_once_still_has_its_report(tmp_path: Path) -> None:
    empty = RunRecord(
        version="0.1.0",
        title="nothing",
        scenario_name="fixed",
        seed=1,
        start_utc_ns=1_700_000_000 * 10**9,
        duration_ns=0,
        interrupted=True,
    )
    paths = write_report(empty, tmp_path)
    assert paths["report.html"].stat().st_size > 0
    assert summarise(empty).verdict.startswith("interrupted")


def test_a_run_that_fell_behind_or_was_judged_wanting_does_not_hold(record: RunRecord) -> None:
    behind = record.model_copy(update={"evidence": Evidence(packets=9, lateness_p99_us=90_000)})
    assert "kept up" in summarise(behind).verdict
    assert summarise(record.model_copy(update={"evidence": Evidence(packets=9)})).passed
    wanting = record.model_copy(update={"verdicts": [Judged(outcome="undecided", text="delay p95: 3 ms")]})
    assert "does not hold: delay p95" in summarise(wanting).verdict
    taken = Judged(outcome="undecided", text="delay p95: 3 ms", taken=True)
    assert summarise(record.model_copy(update={"verdicts": [taken]})).passed


def test_a_long_run_has_a_small_page(tmp_path: Path) -> None:
    page = to_html(synthetic_record(duration_s=600))
    assert len(page.encode()) <= 5_000_000


def test_who_serves_is_named_even_where_nobody_did_before_and_slow_links_have_wide_bins() -> None:
    record = synthetic_record(duration_s=12)
    record.states.satellite[:20] = [-1] * 20
    record.states.downlink.rate_bps = [350_000] * len(record.states.at_ns)
    figure = draw(record)
    try:
        told = [text.get_text() for axis in figure.axes for text in axis.texts]
        labels = [label for axis in figure.axes for label in axis.get_legend_handles_labels()[1]]
    finally:
        figure.clear()
    served = {record.states.satellites[number] for number in record.states.satellite if number >= 0}
    assert all(any(text.startswith(name) for text in told) for name in served)
    assert any("bins of 1 s" in label for label in labels)


def test_what_was_done_after_the_run_leaves_its_picture_alone() -> None:
    assert "<svg" in to_html(synthetic_record(duration_s=5))


def test_two_runs_stand_side_by_side(record: RunRecord, tmp_path: Path) -> None:
    other = synthetic_record(seed=9)
    other.uplink_probes.delay_ns = [delay + 9_000_000 if delay >= 0 else -1 for delay in record.uplink_probes.delay_ns]
    words = {each.name: each.word for each in compare(record, other)}
    assert words["delay uplink p50"] == "higher"
    assert {each.word for each in compare(record, record)} == {"no difference that is sure"}
    page = write_comparison(record, other, tmp_path / "two").read_text()
    assert page.count("<svg") == 2
    assert "http-equiv" not in page
    (tmp_path / "file").write_text("")
    with pytest.raises(EndpointError, match="file"):
        write_comparison(record, other, tmp_path / "file")


def test_columns_of_two_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        StateSeries(at_ns=[1, 2], satellite=[0])


@pytest.mark.parametrize(
    ("text", "named"),
    [("{", "JSON"), ("{}", "version"), ("[]", "run record"), ('{"format": "other"}', "format")],
)
def test_a_record_that_is_none_is_refused_by_key(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=named) as caught:
        load_record(path)
    assert all(line.startswith(str(path)) for line in caught.value.problems)


def test_a_record_with_a_broken_part_names_the_part(record: RunRecord, tmp_path: Path) -> None:
    values = json.loads(record.model_dump_json())
    values["states"]["at_ns"].append(5)
    path = tmp_path / "run.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ScenarioError, match="states"):
        load_record(path)


def test_a_report_that_cannot_be_written_names_its_place(record: RunRecord, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EndpointError, match="file"):
        write_report(record, tmp_path / "file")


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.json")]) == EndpointError.exit_status
    assert "none.json" in capsys.readouterr().err


def test_a_disk_that_is_full_leaves_the_report_that_was_there(record: RunRecord, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("the last one")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(EndpointError, match=r"run\.json: cannot be written: File too large"):
            record.save(tmp_path / "run.json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("run.json", "the last one")]


@given(st.floats(0, 1e4, allow_subnormal=False), st.floats(0, 1e5, allow_subnormal=False))
def test_a_burst_of_goodput_does_not_shrink_the_rate(rate: float, goodput: float) -> None:
    top = throughput_top(np.array([0.0, rate]), np.array([goodput]))
    assert top > rate
    assert rate == 0 or top <= 2 * rate
    assert rate > 0 or top > goodput
