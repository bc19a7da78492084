"""The laws of the intervals: they hold the truth as often as they say, shrink with the sample, and are repeatable."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.testing.intervals import (
    binomial_at_most,
    bootstrap_interval,
    fewest_for_quantile,
    quantile_interval,
    share_interval,
)

shares = st.floats(0.001, 0.999)


@given(count=st.integers(1, 120), share=shares, data=st.data())
def test_the_binomial_sum_is_the_sum_of_its_terms(count: int, share: float, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, count))
    terms = [math.comb(count, each) * share**each * (1 - share) ** (count - each) for each in range(hits + 1)]
    assert binomial_at_most(hits, count, share) == pytest.approx(math.fsum(terms), rel=1e-9, abs=1e-12)


@given(count=st.integers(100_000, 5_000_000), share=shares)
def test_the_binomial_sum_of_many_trials_is_a_half_at_its_mean(count: int, share: float) -> None:
    spread = math.sqrt(count * share * (1 - share))
    assert abs(binomial_at_most(round(count * share), count, share) - 0.5) < 2 / spread + 0.01


@given(count=st.integers(1, 3000), data=st.data(), confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_a_share_at_the_end_of_its_interval_makes_the_outcome_as_rare_as_said(
    count: int, data: st.DataObject, confidence: float
) -> None:
    hits = data.draw(st.integers(0, count))
    interval = share_interval(hits, count, confidence)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    tail = (1 - confidence) / 2
    if hits:
        assert 1 - binomial_at_most(hits - 1, count, interval.low) == pytest.approx(tail, rel=1e-6)
    if hits < count:
        assert binomial_at_most(hits, count, interval.high) == pytest.approx(tail, rel=1e-6)


def test_the_rule_of_three() -> None:
    assert share_interval(0, 1000, 0.90).high == pytest.approx(3 / 1000, rel=0.01)  # Hanley and Lippman-Hand, 1983
    assert share_interval(0, 0).low == 0
    assert share_interval(0, 0).high == 1


@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.05, 0.5, 0.95]), count=st.integers(5, 60))
def test_an_interval_is_made_of_samples_and_holds_the_estimate(seed: int, share: float, count: int) -> None:
    values = np.random.default_rng(seed).exponential(1.0, count)
    interval = quantile_interval(values, share)
    assert interval.low <= interval.estimate <= interval.high
    for bound in (interval.low, interval.high):
        assert math.isinf(bound) or bound in values


@pytest.mark.parametrize(("share", "count"), [(0.5, 15), (0.5, 101), (0.95, 200)])
def test_quantile_intervals_hold_the_truth_as_often_as_they_say(share: float, count: int) -> None:
    random = np.random.default_rng(11)
    truth = -math.log(1 - share)  # of the exponential distribution
    runs = 600
    held = 0
    for _ in range(runs):
        interval = quantile_interval(random.exponential(1.0, count), share)
        held += interval.low <= truth <= interval.high
    assert held / runs > 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs)


def test_too_few_samples_give_no_bound() -> None:
    assert quantile_interval([1.0, 2.0, 3.0], 0.5).low == -math.inf
    assert quantile_interval(range(6), 0.5).low == 0  # 2 × 2⁻⁶ < 5 %
    assert quantile_interval(range(100), 0.99).high == math.inf
    with pytest.raises(ValueError, match="values"):
        quantile_interval([], 0.5)


@given(seed=st.integers(0, 1000))
def test_a_bootstrap_is_repeatable_and_narrows(seed: int) -> None:
    random = np.random.default_rng(seed)
    few, many = random.normal(5, 1, 20), random.normal(5, 1, 2000)

    def mean(values: np.ndarray) -> float:
        return float(values.mean())

    first, again = (bootstrap_interval(few, mean, key="a", resamples=200) for _ in range(2))
    assert first == again
    wide, narrow = first, bootstrap_interval(many, mean, key="a", resamples=200)
    assert narrow.high - narrow.low < wide.high - wide.low
    assert wide.low <= wide.estimate <= wide.high


@given(values=st.lists(st.floats(0, 10), min_size=6, max_size=30), low=st.floats(0, 10), room=st.floats(0, 10))
def test_a_claim_is_never_both_proven_and_refuted(values: list[float], low: float, room: float) -> None:
    interval = quantile_interval(values, 0.5)
    assert not (interval.within(low, low + room) and interval.outside(low, low + room))


@given(st.floats(0.02, 0.98), st.sampled_from([0.5, 0.8, 0.95, 0.99]))
def test_the_fewest_values_that_bound_a_quantile_are_the_fewest(share: float, confidence: float) -> None:
    fewest = fewest_for_quantile(share, confidence)
    enough = quantile_interval(range(fewest), share, confidence)
    assert math.isfinite(enough.low)
    assert math.isfinite(enough.high)
    if fewest > 1:
        short = quantile_interval(range(fewest - 1), share, confidence)
        assert math.isinf(short.low) or math.isinf(short.high)


def test_a_median_takes_six_values_and_no_number_bounds_the_most() -> None:
    assert fewest_for_quantile(0.5) == 6
    with pytest.raises(ValueError, match="between 0 and 1"):
        fewest_for_quantile(1.0)
