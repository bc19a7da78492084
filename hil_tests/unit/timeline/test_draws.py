"""Draws are the packet path's, in range, uniform, and independent of how they are asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.link import draws as packet_path
from emulator.scenario.laws import Quantiles
from emulator.timeline.draws import Purpose, Way, draw32, quantile, uniform

SEEDS = st.integers(0, 2**63 - 1)
COUNTERS = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5).map(
    lambda counters: np.array(counters, np.int64)
)
QUANTILES = st.lists(st.floats(0, 1e6), min_size=5, max_size=5).map(
    lambda values: Quantiles(**dict(zip(("p0", "p5", "p50", "p95", "p100"), sorted(values), strict=True)))
)


@given(SEEDS, st.sampled_from(Way), st.sampled_from(Purpose), COUNTERS)
def test_the_packet_path_draws_the_same(seed: int, way: Way, purpose: Purpose, counters: np.ndarray) -> None:
    twin = [packet_path.draw32(seed, int(way), int(purpose), int(counter)) for counter in counters]
    assert draw32(seed, way, purpose, counters).tolist() == twin


def test_words_are_mixed_as_murmur3_does() -> None:
    # MurmurHash3_x86_32, seed 0, of the bytes 21 43 65 87: the value in the reference implementation's test vectors.
    assert packet_path.finish(packet_path.mix_word(0, 0x87654321) ^ 4) == 0xF55B516B


@given(SEEDS, COUNTERS)
def test_a_draw_depends_on_its_own_counter_alone(seed: int, counters: np.ndarray) -> None:
    together = draw32(seed, Way.UP, Purpose.RATE, counters)
    alone = [int(draw32(seed, Way.UP, Purpose.RATE, counters[[place]])[0]) for place in range(len(counters))]
    assert together.tolist() == alone


def test_draws_are_uniform_and_differ_by_purpose_way_and_seed() -> None:
    counters = np.arange(100_000, dtype=np.int64)
    columns = [
        uniform(seed, way, purpose, counters)
        for seed, way, purpose in (
            (1, Way.UP, Purpose.RATE),
            (2, Way.UP, Purpose.RATE),
            (1, Way.DOWN, Purpose.RATE),
            (1, Way.UP, Purpose.SPREAD),
        )
    ]
    for column in columns:
        counts, _ = np.histogram(column, bins=64, range=(0, 1))
        chi_square = float(((counts - 100_000 / 64) ** 2 / (100_000 / 64)).sum())
        assert chi_square < 120  # 63 degrees of freedom: one in 30,000 fair draws is above
        assert abs(float(np.corrcoef(column[:-1], column[1:])[0, 1])) < 0.015
    assert np.abs(np.corrcoef(columns) - np.eye(4)).max() < 0.015


@given(QUANTILES, st.floats(0, 1), st.floats(0, 1))
def test_quantiles_rise_with_the_share_and_stay_within_their_ends(given: Quantiles, one: float, other: float) -> None:
    low, high = quantile(given, np.sort([one, other]))
    assert given.p0 <= low <= high <= given.p100


@pytest.mark.parametrize(("share", "expected"), [(0, 1), (0.05, 3), (0.275, 6.5), (0.5, 10), (0.95, 18), (1, 25)])
def test_quantiles_are_met(share: float, expected: float) -> None:
    given = Quantiles(p0=1, p5=3, p50=10, p95=18, p100=25)
    assert quantile(given, np.array([share]))[0] == pytest.approx(expected)


@given(QUANTILES, st.floats(0, 0.49))
def test_a_share_of_the_draws_is_the_most_itself(given: Quantiles, most_share: float) -> None:
    reaching = given.model_copy(update={"p95": given.p100, "most_share": most_share})
    drawn = quantile(reaching, np.array([1 - max(most_share, 0.05), 1.0, 0.5, 0.05, 0.0]))
    assert drawn.tolist() == [given.p100, given.p100, given.p50, given.p5, given.p0]


def test_a_share_of_the_most_needs_a_95th_percentile_that_is_it() -> None:
    with pytest.raises(ValueError, match=r"most_share: expected 0 where p95 is below p100, got 0\.45"):
        Quantiles(p0=1, p5=3, p50=10, p95=18, p100=25, most_share=0.45)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 10), (0.625, 11), (0.75, 12), (0.9, 15), (0.925, 16.5), (0.95, 18)]
)
def test_more_quantiles_are_met_where_given(share: float, expected: float) -> None:
    given = Quantiles(p0=1, p5=3, p50=10, p75=12, p90=15, p95=18, p100=25)
    assert quantile(given, np.array([share]))[0] == pytest.approx(expected)


def test_quantiles_that_fall_are_refused() -> None:
    with pytest.raises(ValueError, match="p75"):
        Quantiles(p0=1, p5=3, p50=10, p75=9, p95=18, p100=25)
