"""Adaptive coding: never more than closes, never less than surely closes, and no to and fro."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.radio.adaptive import EFFICIENCY_ONE, best_efficiency, followed_efficiency
from emulator.radio.modcod import MODCODS, best_modcod
from emulator.radio.sun_noise import SUN_WIDTH_DEG, beam_width_deg, half_noise_deg, noise_rise_db, sun_noise_k

SERIES = st.lists(st.floats(-5, 20), min_size=1, max_size=50).map(np.array)


def test_a_sweep_takes_each_modcod_of_the_table_that_is_ever_the_best() -> None:
    """ETSI EN 302 307-1 Table 13: at its threshold each carries what it says, unless another carries more for less."""
    for modcod in MODCODS:
        better = [one for one in MODCODS if one.threshold_db <= modcod.threshold_db]
        expected = max(one.efficiency for one in better)
        assert best_efficiency(np.array([modcod.threshold_db]))[0] == round(expected * EFFICIENCY_ONE)
        below = best_modcod(modcod.threshold_db - 0.001)
        found = best_efficiency(np.array([modcod.threshold_db - 0.001]))[0]
        assert found == (0 if below is None else round(below.efficiency * EFFICIENCY_ONE))


@given(SERIES, st.floats(0, 3), st.floats(0, 3))
def test_a_modem_uses_what_closes_with_margin_and_nothing_below_what_surely_does(
    cn_db: np.ndarray, margin_db: float, hysteresis_db: float
) -> None:
    followed = followed_efficiency(cn_db, margin_db, hysteresis_db)
    assert (followed <= best_efficiency(cn_db - margin_db)).all()
    assert (followed >= best_efficiency(cn_db - margin_db - hysteresis_db)).all()
    assert followed[0] == best_efficiency(cn_db - margin_db)[0]


@given(SERIES, st.floats(0, 3), st.floats(0, 3))
def test_a_modem_climbs_only_where_the_better_one_closes_with_the_hysteresis(
    cn_db: np.ndarray, margin_db: float, hysteresis_db: float
) -> None:
    followed = followed_efficiency(cn_db, margin_db, hysteresis_db)
    climbs = np.flatnonzero(np.diff(followed) > 0) + 1
    assert (followed[climbs] == best_efficiency(cn_db[climbs] - margin_db - hysteresis_db)).all()


@given(st.integers(0, 2**32 - 1))
def test_noise_smaller_than_the_hysteresis_changes_the_modcod_once_at_most(seed: int) -> None:
    noise_db = np.random.default_rng(seed).uniform(-0.2, 0.2, 500)
    followed = followed_efficiency(7.62 + noise_db, 1.0, 0.5)  # around the threshold of 8PSK 2/3
    assert np.count_nonzero(np.diff(followed)) <= 1
    assert np.count_nonzero(np.diff(best_efficiency(6.62 + noise_db))) > 50


def test_a_narrow_beam_sees_the_sun_s_temperature_and_a_wide_one_its_share() -> None:
    assert sun_noise_k(np.zeros(1), 0.01, 10_000)[0] == pytest.approx(10_000, rel=0.001)
    disc, beam = np.pi * 0.2665**2, np.pi / (4 * np.log(2)) * 5.0**2  # solid angles, square degrees
    assert sun_noise_k(np.zeros(1), 5.0, 10_000)[0] == pytest.approx(10_000 * disc / beam, rel=0.01)
    assert sun_noise_k(np.array([5.0]), 1.0, 10_000)[0] < 1
    assert np.pi / (4 * np.log(2)) * SUN_WIDTH_DEG**2 == pytest.approx(disc, rel=0.005)
    at_half, on_axis = sun_noise_k(np.array([half_noise_deg(1.5), 0.0]), 1.5, 10_000)
    assert at_half == pytest.approx(on_axis / 2)
    assert noise_rise_db(np.array([200.0]), 200.0)[0] == pytest.approx(3.01, abs=0.01)
    assert beam_width_deg(1.2, 12.0) == pytest.approx(1.46, abs=0.01)
