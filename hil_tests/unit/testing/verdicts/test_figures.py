"""Figures of runs that never happened, whose truth is known; verdicts on them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.ports.lateness import LATEST_US
from emulator.testing.intervals import Interval, fewest_for_quantile
from emulator.testing.record import Event, Evidence, ProbeSeries, RunRecord, Transfer
from emulator.testing.verdicts import (
    Figure,
    Invalid,
    Limits,
    NotProven,
    delay_ms,
    goodput_mbps,
    jitter_ms,
    loss_percent,
    recovery_s,
    reordered_percent,
)
from emulator.testing.verdicts.evidence import faults, in_words
from emulator.units import NS_PER_MS, NS_PER_S, count_of
from hil_tests.unit.testing.synthetic import OUTAGE_S, synthetic_record

STEP_NS = 10 * NS_PER_MS


def run(delays_ms: list[float], **more: object) -> RunRecord:
    """A downlink probe every 10 ms; a delay below 0: lost."""
    delay = [round(each * NS_PER_MS) if each >= 0 else -1 for each in delays_ms]
    probes = ProbeSeries(
        sent_ns=[number * STEP_NS for number in range(len(delay))],
        delay_ns=delay,
        commanded_ns=[0] * len(delay),
        expected_ns=[0] * len(delay),
        calm=[1] * len(delay),
    )
    values = {"version": "0", "title": "", "scenario_name": "", "seed": 1, "start_utc_ns": 0, "duration_ns": 0}
    return RunRecord.model_validate({**values, "downlink_probes": probes, **more})


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), percentile=st.sampled_from([5.0, 50.0, 95.0]))
def test_the_delay_of_repetitions_holds_the_truth(seed: int, percentile: float) -> None:
    random = np.random.default_rng(seed)
    runs = [run((30 + random.exponential(2, 300)).tolist()) for _ in range(8)]
    figure = delay_ms(runs, "downlink", percentile=percentile)
    assert figure.repetitions == 8
    truth = 30 - 2 * math.log(1 - percentile / 100)
    assert figure.interval.low - 0.6 < truth < figure.interval.high + 0.6
    assert figure.interval.low <= figure.interval.estimate <= figure.interval.high


def test_one_run_is_judged_by_its_seconds() -> None:
    figure = delay_ms(run([20.0] * 1200), "downlink")
    assert figure.repetitions == 10
    assert figure.at_most(20)
    assert figure.at_most(19.9).outcome == "failed"
    assert delay_ms(run([20.0] * 350), "downlink").at_most(50).outcome == "undecided"


@given(st.lists(st.floats(1, 100), min_size=2, max_size=4))
def test_reordered_are_those_that_a_later_one_has_overtaken(delays: list[float]) -> None:
    record = run([delays[index // 40] for index in range(len(delays) * 40)])
    probes = record.downlink_probes
    arrival = [sent + delay for sent, delay in zip(probes.sent_ns, probes.delay_ns, strict=True)]
    overtaken = sum(any(later > each for later in arrival[max(0, at - 12) : at]) for at, each in enumerate(arrival))
    estimate = reordered_percent([record, record], "downlink").interval.estimate
    assert estimate == pytest.approx(100 * overtaken / len(arrival))


@given(hits=st.integers(0, 40), count=st.integers(200, 1500))
def test_loss_is_the_share_and_no_loss_in_few_probes_proves_little(hits: int, count: int) -> None:
    delays = [20.0] * count
    delays[100 : 100 + hits] = [-1.0] * hits
    figure = loss_percent([run(delays), run(delays)], "downlink")
    assert figure.interval.estimate == pytest.approx(100 * hits / count)
    assert figure.interval.high > 300 / (2 * count) * 0.99  # the rule of three
    assert figure.interval.low <= figure.interval.estimate


def test_jitter_is_the_change_between_neighbours_that_both_arrived() -> None:
    assert jitter_ms(run([10, 12] * 500), "downlink").interval.estimate == pytest.approx(2)
    assert jitter_ms(run([10, -1] * 500), "downlink").repetitions == 0


def test_recovery_is_from_the_end_of_the_outage() -> None:
    delays = [20.0] * 1000
    delays[300:437] = [-1.0] * 137
    outage = Event(kind="outage", label="", at_ns=3 * NS_PER_S, duration_ns=NS_PER_S)
    assert recovery_s(run(delays, events=[outage]), "downlink").interval.estimate == pytest.approx(0.37 + 0.02)
    delays[300:] = [-1.0] * 700
    never = recovery_s([run(delays, events=[outage])] * 8, "downlink")
    assert never.at_most(1000).outcome == "failed"


def test_recovery_with_a_transfer_is_that_of_its_rate() -> None:
    record = synthetic_record()
    figure = recovery_s(record, "downlink")
    assert 0.4 <= figure.interval.estimate <= 1.2  # the synthetic transfer is silent for 0.6 s after the outage
    at = np.arange(0, 20 * NS_PER_S, STEP_NS)
    gone = run([], transfer=Transfer(at_ns=at.tolist(), bytes=np.minimum(at, 5 * NS_PER_S).tolist()))
    gone.events = [Event(kind="outage", label="", at_ns=5 * NS_PER_S, duration_ns=NS_PER_S)]
    assert recovery_s(gone, "downlink").interval.estimate == math.inf


def test_goodput_is_that_of_the_seconds() -> None:
    at = np.arange(0, 12 * NS_PER_S, STEP_NS)
    figure = goodput_mbps(run([], transfer=Transfer(at_ns=at.tolist(), bytes=(at // 1000).tolist())))
    assert figure.interval.estimate == pytest.approx(8)
    assert figure.at_least(7.9)


def test_nothing_measured_decides_nothing() -> None:
    figure = loss_percent(run([]), "downlink")
    assert figure.at_most(100).outcome == "undecided"
    with pytest.raises(ValueError, match="one run"):
        loss_percent([], "downlink")


@pytest.mark.parametrize(
    ("evidence", "word"),
    [
        (Evidence(packets=9, lateness_p99_us=9000), "due time"),
        (Evidence(conserved=False), "missing"),
        (Evidence(ingress_wait_worst_us=200_000), "waited"),
        (Evidence(starved=3), "planned"),
        (Evidence(broken_batches=1), "batches"),
        (Evidence(beside_the_link={"PORT_QUEUE": 4}), "kernel's device queue 4"),
    ],
)
def test_an_emulation_that_fell_behind_makes_every_verdict_invalid(evidence: Evidence, word: str) -> None:
    assert word in "; ".join(faults(evidence))
    record = run([20.0] * 1200, evidence=evidence)
    for demand in (10, 30):
        verdict = delay_ms(record, "downlink").at_most(demand)
        assert verdict.outcome == "invalid"
        with pytest.raises(Invalid, match="invalid"):
            verdict.require()


def test_an_emulation_that_kept_up_has_no_faults_and_its_limits_are_the_labs_own() -> None:
    good = Evidence(packets=10, lateness_p99_us=300)
    assert faults(good) == ()
    assert "p99 300 µs" in in_words(good)
    assert faults(good, Limits(lateness_p99_us=100))
    assert faults(good.model_copy(update={"lateness_allowed_us": 299}))
    assert not faults(Evidence(packets=9, lateness_p99_us=90_000, lateness_allowed_us=90_000))


def test_synthetic_runs_over_the_outage_lose_what_the_outage_took() -> None:
    share = (OUTAGE_S[1] - OUTAGE_S[0]) / 46 * 100
    assert loss_percent(synthetic_record(), "uplink").interval.estimate == pytest.approx(share + 0.3, abs=0.5)


@given(
    estimate=st.floats(-10, 10),
    below=st.floats(0, 5),
    above=st.floats(0, 5),
    least=st.floats(-10, 10),
    room=st.floats(0, 10),
)
def test_require_lets_through_what_passed_and_nothing_else(
    estimate: float, below: float, above: float, least: float, room: float
) -> None:
    interval = Interval(estimate, estimate - below, estimate + above, 0.95)
    verdict = Figure("x", interval, "ms", 9).between(least, least + room)
    assert (verdict.margin >= 0) == bool(verdict)
    assert verdict.as_json()["outcome"] == verdict.outcome
    if verdict:
        assert verdict.require() is verdict
    else:
        with pytest.raises(NotProven, match=verdict.outcome):
            verdict.require()
    if verdict.outcome == "undecided" and least <= estimate <= least + room:
        assert verdict.require(surely=False) is verdict


@given(st.integers(1, 2 * LATEST_US), st.integers(1, 5))
def test_the_latest_that_is_counted_is_no_bound_of_what_came(late_us: int, packets: int) -> None:
    """The histogram's last bin holds all that is later."""
    us = min(late_us, LATEST_US)
    told = in_words(Evidence(packets=packets, lateness_p50_us=us, lateness_p99_us=us, lateness_worst_us=us)).partition(
        ";"
    )[0]
    if late_us < LATEST_US:
        assert told.endswith(f"p50 {us} µs, p99 {us} µs, at most {us} µs")
    else:
        assert told.endswith("p50 10 ms or more, p99 10 ms or more, the latest 10 ms or more")
    assert told.startswith(f"{packets} packet{'s' * (packets > 1)} left late by")


def test_where_nothing_crossed_no_lateness_is_told() -> None:
    assert in_words(Evidence()).startswith("no packet crossed; 0 dropped")


@given(st.integers(0, 12), st.sampled_from([5.0, 50.0, 90.0]))
def test_a_verdict_without_bounds_says_how_many_it_takes(seconds: int, percentile: float) -> None:
    """goodput_mbps of one run: of its whole seconds, the quantile itself."""
    record = run([20.0] * 1200)
    bins = list(range(0, (seconds + 1) * NS_PER_S + 1, NS_PER_S // 10))
    record.transfer = Transfer(at_ns=bins, bytes=[1000 * at // NS_PER_S for at in bins], congestion="cubic")
    figure = goodput_mbps(record, percentile=percentile)
    told = str(figure.at_least(0))
    needed = fewest_for_quantile(percentile / 100)
    assert ("needed" in told) == (figure.repetitions < needed)
    assert ("?" in told or "nothing" in told or "too short" in told) == ("needed" in told)
    if "needed" in told:
        whole = count_of(figure.repetitions, "whole second")
        assert f"too short for an interval: {whole}, {needed} needed" in told
    assert "nan" not in told


def test_what_was_never_measured_is_told_in_words() -> None:
    told = str(recovery_s(run([20.0] * 1200), "downlink").at_most(1))
    assert told == (
        "recovery downlink: nothing measured (too short for an interval: 0 outages, 6 needed), demanded at most 1 s: "
        "undecided"
    )
    three = [run([20.0] * 1200) for _ in range(3)]
    assert "(too short for an interval: 3 runs, 6 needed)" in str(delay_ms(three, "downlink").at_most(60))
