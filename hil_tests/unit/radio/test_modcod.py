"""Adaptive modulation: the most efficient that closes, and a table that never promises more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.radio.adaptive import best_efficiency
from emulator.radio.modcod import (
    EFFICIENCY_ZERO,
    HIGHEST_CN_CENTIDB,
    LOWEST_CN_CENTIDB,
    MODCODS,
    WAVEFORMS,
    best_modcod,
    efficiency_by_cn,
    row_of_cn,
)
from emulator.scenario.links import MOST_EFFICIENT

TABLE = efficiency_by_cn()
CN_CENTIDB = st.integers(-3000, 6000)


@given(CN_CENTIDB)
def test_the_best_modcod_closes_and_none_that_closes_carries_more(cn_centidb: int) -> None:
    best = best_modcod(cn_centidb / 100)
    closing = [modcod for modcod in MODCODS if modcod.threshold_db <= cn_centidb / 100]
    if best is None:
        assert not closing
    else:
        assert best in closing
        assert best.efficiency == max(modcod.efficiency for modcod in closing)


@given(CN_CENTIDB)
def test_the_table_never_promises_more_than_the_cn_carries(cn_centidb: int) -> None:
    best, within_a_step = best_modcod(cn_centidb / 100), best_modcod(cn_centidb / 100 - 0.1)
    promised = TABLE[row_of_cn(cn_centidb)]
    assert promised <= (round(best.efficiency * 1000) if best else 0)
    assert promised >= (round(within_a_step.efficiency * 1000) if within_a_step else 0)


def test_more_cn_never_carries_less() -> None:
    assert (np.diff(TABLE) >= 0).all()


def test_thresholds_are_not_monotonic_and_the_choice_knows() -> None:
    # ETSI EN 302 307-1 Table 13: at 9.35 dB 8PSK 5/6 closes with 2.479, and so does 16APSK 2/3 with 2.637.
    best = best_modcod(9.35)
    assert best is not None
    assert best.name == "16APSK 2/3"


def test_the_table_has_its_ends_and_its_zero_where_they_are_said_to_be() -> None:
    assert TABLE.dtype == np.int64
    assert TABLE[0] == 0
    assert TABLE[-1] == round(max(modcod.efficiency for modcod in MODCODS) * 1000) == 4453
    assert len(TABLE) == row_of_cn(HIGHEST_CN_CENTIDB) + 1 == row_of_cn(10_000) + 1
    assert row_of_cn(LOWEST_CN_CENTIDB) == row_of_cn(-9_000) == 0
    assert row_of_cn(0) == EFFICIENCY_ZERO
    assert TABLE[row_of_cn(-240)] == 0
    assert TABLE[row_of_cn(-230)] == 490  # QPSK 1/4 from −2.35 dB on


@pytest.mark.parametrize("name", WAVEFORMS)
def test_every_waveforms_table_promises_no_more_than_the_cn_gives(name: str) -> None:
    waveform = WAVEFORMS[name]
    table = efficiency_by_cn(waveform)
    for row, promised in enumerate(table.tolist()):
        best = best_modcod((waveform.lowest_cn_centidb + 10 * row) / 100, waveform)
        assert promised == (0 if best is None else round(best.efficiency * 1000))
    assert table[0] == 0
    assert table[-1] == round(waveform.most * 1000)
    assert waveform.most == pytest.approx(MOST_EFFICIENT[name], abs=1e-6)
    assert (np.diff(table) >= 0).all()
    sweep = np.arange(-400, 2100, 3) / 100
    exact = [best_modcod(float(cn_db), waveform) for cn_db in sweep]
    found = best_efficiency(sweep, waveform).tolist()
    assert found == [0 if one is None else round(one.efficiency * 1e6) for one in exact]


def test_s2x_is_never_worse_than_s2_and_steps_are_finer() -> None:
    sweep = np.arange(-240, 2000, 5) / 100
    s2, s2x = (best_efficiency(sweep, WAVEFORMS[name]) for name in ("dvb_s2", "dvb_s2x"))
    assert (s2x >= s2).all()
    assert len(set(s2x.tolist())) > 1.4 * len(set(s2.tolist()))
