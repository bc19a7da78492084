"""The arithmetic of `bentpipe bench`: spreads, ratios, percentiles, targets, and what an iperf3 report is read as."""

from __future__ import annotations

import json
import math
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import EmulationError
from emulator.link.link import Link
from emulator.testing.performance import stages
from emulator.testing.performance.loads import read_iperf3
from emulator.testing.performance.statistics import Target, histogram_percentile, ratios, spread
from emulator.testing.performance.table import number, shown
from emulator.timeline.model import Channel

FIGURES = st.floats(min_value=1e-6, max_value=1e12, allow_nan=False)
SEVERAL = st.lists(FIGURES, min_size=1, max_size=9)
HISTOGRAMS = st.lists(st.integers(0, 1000), min_size=1, max_size=50)
SENSES = st.sampled_from(["≥", "≤"])


@given(SEVERAL)
def test_a_median_lies_within_the_range_and_half_of_the_rounds_on_either_side(values: list[float]) -> None:
    found = spread(values)
    assert found is not None
    assert found.low <= found.median <= found.high
    assert (found.low, found.median, found.high) == (min(values), median(values), max(values))
    assert found.values == tuple(values)


def test_nothing_has_no_spread() -> None:
    assert spread([]) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        spread([1.0, bad])


@given(st.lists(st.tuples(FIGURES, FIGURES, st.floats(0.01, 100)), min_size=1, max_size=9))
def test_what_slows_a_whole_round_down_does_not_change_its_ratio(rounds: list[tuple[float, float, float]]) -> None:
    plain = ratios([value for value, _, _ in rounds], [baseline for _, baseline, _ in rounds])
    slowed = ratios([value * by for value, _, by in rounds], [baseline * by for _, baseline, by in rounds])
    assert slowed == pytest.approx(plain)


@given(SEVERAL)
def test_a_thing_is_once_itself(values: list[float]) -> None:
    assert ratios(values, values) == (1.0,) * len(values)


def test_a_baseline_of_nothing_gives_no_ratio() -> None:
    assert ratios([1.0, 2.0], [0.0, 4.0]) == (0.5,)


def test_rounds_without_their_baseline_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="baselines"):
        ratios([1.0, 2.0], [1.0])


@given(HISTOGRAMS, st.floats(0, 100))
def test_a_percentile_of_a_histogram_is_that_of_its_samples(counts: list[int], percent: float) -> None:
    samples = np.repeat(np.arange(len(counts)), counts)
    found = histogram_percentile(np.array(counts, np.int64), percent)
    if not len(samples):
        assert found is None
        return
    wanted = max(1, math.ceil(percent / 100 * len(samples)))
    assert found == samples[wanted - 1]


@given(HISTOGRAMS.filter(any), st.lists(st.floats(0, 100), min_size=2, max_size=5))
def test_percentiles_rise(counts: list[int], percents: list[float]) -> None:
    histogram = np.array(counts, np.int64)
    found = [histogram_percentile(histogram, percent) for percent in sorted(percents)]
    assert found == sorted(found, key=lambda bin_: -1 if bin_ is None else bin_)
    assert all(bin_ is not None and counts[bin_] for bin_ in found)


@given(SEVERAL, SENSES, FIGURES)
def test_who_meets_a_target_in_every_round_meets_it_in_the_middle(
    values: list[float], sense: str, limit: float
) -> None:
    found = spread(values)
    assert found is not None
    strict = Target("≥" if sense == "≥" else "≤", limit, every_round=True)
    usual = Target(strict.sense, limit)
    assert strict.met(found) == all(value >= limit if sense == "≥" else value <= limit for value in values)
    assert usual.met(found) or not strict.met(found)


@given(SEVERAL.flatmap(lambda values: st.tuples(st.just(values), st.floats(0, 1))))
def test_a_better_machine_never_loses_a_verdict(case: tuple[list[float], float]) -> None:
    values, more = case
    plain, better = spread(values), spread([value + more for value in values])
    assert plain is not None
    assert better is not None
    target = Target("≥", median(values))
    assert target.met(plain)
    assert target.met(better)


@given(st.floats(0.001, 1e9))
def test_a_figure_is_shown_to_a_thousandth_or_to_its_third_digit(value: float) -> None:
    back = float(number(value).replace(",", ""))
    assert abs(back - value) <= max(0.0005, 0.005 * value) * (1 + 1e-9)


def test_a_range_is_shown_where_there_is_one() -> None:
    same, apart = spread([2.0, 2.0]), spread([1.0, 2.0, 4.0])
    assert same is not None
    assert apart is not None
    assert shown(same) == "2"
    assert shown(apart) == "2 (1–4)"


def test_an_iperf3_report_is_read_from_the_receivers_side() -> None:
    ended = {
        "sum_sent": {"bits_per_second": 9e9, "retransmits": 7},
        "sum_received": {"bits_per_second": 8e9},
        "sender_tcp_congestion": "cubic",
    }
    carried = read_iperf3(json.dumps({"end": ended}))
    assert (carried.goodput_bps, carried.retransmitted, carried.congestion) == (8e9, 7, "cubic")


@pytest.mark.parametrize("told", ["", "no JSON", "[]", "{}", '{"end": {}}', '{"end": {"sum_received": 3}}', "null"])
def test_what_is_no_report_is_an_error_that_quotes_it(told: str) -> None:
    with pytest.raises(EmulationError, match="iperf3 said"):
        read_iperf3(told)


def test_what_iperf3_complains_of_is_passed_on() -> None:
    with pytest.raises(EmulationError, match="unable to connect"):
        read_iperf3('{"error": "unable to connect to server"}')


def test_the_super_packets_that_are_timed_are_sound_and_reach_the_other_end() -> None:
    link = Link(Channel.constant(0, delay_ns=1000), 1 << 60, seed=1, direction=0)
    link.offer_super(stages.super_packet() + bytes(stages.SEGMENTS * stages.MSS), 0)
    arrived = [len(delivery.packet) for delivery in link.poll(1000)]
    assert arrived == [40 + stages.MSS] * stages.SEGMENTS
