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
from emulator.scenario import load_scenario
from emulator.scenario.links import MOST_EFFICIENT
from emulator.timeline.build import windows_for
from emulator.units import NS_PER_S, parse_utc_ns

TABLE = efficiency_by_cn()
# ETSI EN 302 307-1, Table 13, typed from the standard: ideal Es/N0 in dB and spectral efficiency, by code rate
TABLE_13 = {
    "QPSK": {
        "1/4": (-2.35, 0.490243), "1/3": (-1.24, 0.656448), "2/5": (-0.30, 0.789412), "1/2": (1.00, 0.988858),
        "3/5": (2.23, 1.188304), "2/3": (3.10, 1.322253), "3/4": (4.03, 1.487473), "4/5": (4.68, 1.587196),
        "5/6": (5.18, 1.654663), "8/9": (6.20, 1.766451), "9/10": (6.42, 1.788612),
    },
    "8PSK": {
        "3/5": (5.50, 1.779991), "2/3": (6.62, 1.980636), "3/4": (7.91, 2.228124), "5/6": (9.35, 2.478562),
        "8/9": (10.69, 2.646012), "9/10": (10.98, 2.679207),
    },
    "16APSK": {
        "2/3": (8.97, 2.637201), "3/4": (10.21, 2.966728), "4/5": (11.03, 3.165623), "5/6": (11.61, 3.300184),
        "8/9": (12.89, 3.523143), "9/10": (13.13, 3.567342),
    },
    "32APSK": {
        "3/4": (12.73, 3.703295), "4/5": (13.64, 3.951571), "5/6": (14.28, 4.119540), "8/9": (15.69, 4.397854),
        "9/10": (16.05, 4.453027),
    },
}  # fmt: skip
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


def test_a_sweep_of_the_cn_steps_as_etsis_table_says() -> None:
    rows = [row for rates in TABLE_13.values() for row in rates.values()]
    assert len(rows) == len(MODCODS) == 28
    sweep_db = np.arange(-400, 1801, dtype=np.int64) / 100 + 1e-9
    expected = [max((efficiency for least, efficiency in rows if least <= cn), default=0.0) for cn in sweep_db]
    assert best_efficiency(sweep_db) / 1e6 == pytest.approx(np.array(expected), abs=2e-6)
    named = {f"{constellation} {rate}" for constellation, rates in TABLE_13.items() for rate in rates}
    assert {modcod.name for modcod in MODCODS} == named


@pytest.mark.parametrize("cn_db", [-2.0, 1.5, 5.6, 9.0, 9.4, 13.0, 16.2])
def test_a_geostationary_link_carries_what_etsis_table_says(cn_db: float) -> None:
    """Through the planner: symbol rate times the efficiency of the best row that closes with the margin."""
    keys = [f"link.downlink.clear_sky_cn_db={cn_db + 1.0}", "link.modcod_margin_db=1.0", "link.sun_temperature_k=0.0"]
    start_ns = parse_utc_ns("2025-01-01T00:00:00Z")
    windows = windows_for(load_scenario("geo_dvbs2", keys), epoch_utc_ns=start_ns)
    rate_bps = windows.window(start_ns, start_ns + NS_PER_S).downlink.rate_bps[0]
    rows = [row for rates in TABLE_13.values() for row in rates.values()]
    best = max(efficiency for least, efficiency in rows if least <= cn_db)
    assert rate_bps == pytest.approx(10e6 * best, rel=1e-6)
