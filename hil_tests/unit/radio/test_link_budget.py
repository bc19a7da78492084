"""C/N of a path: a budget worked out by hand, and laws of its parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.radio.link_budget import carrier_to_noise_db, free_space_db, pointing_db, scan_db

AHEAD = np.zeros(1)


def test_free_space_of_a_geostationary_satellite_at_12_ghz() -> None:
    # 92.45 + 20 lg 12 + 20 lg 35,786 = 205.1 dB
    assert float(free_space_db(np.array([35_786e3]), 12.0)[0]) == pytest.approx(205.1, abs=0.05)


def test_a_budget_by_hand() -> None:
    # 36 dBW, 550 km at 11.7 GHz: 168.62 dB, 9 dB/K, 240 MHz: 36 - 168.62 + 9 + 228.60 - 83.80 = 21.18 dB
    kept = {"eirp_dbw": 36.0, "g_over_t_db": 9.0, "frequency_ghz": 11.7, "bandwidth_mhz": 240.0}
    assert float(carrier_to_noise_db(np.array([550e3]), AHEAD, **kept)[0]) == pytest.approx(21.18, abs=0.05)
    # as much interference as noise takes 3 dB
    equal = float(carrier_to_noise_db(np.array([550e3]), AHEAD, **kept, interference_db=21.18)[0])
    assert equal == pytest.approx(21.18 - 3.01, abs=0.05)


@given(st.floats(4e5, 4e7), st.floats(1, 50), st.floats(0, 60), st.floats(0, 2), st.floats(0, 30))
def test_what_is_added_only_takes(range_m: float, frequency: float, off: float, exponent: float, ci_db: float) -> None:
    kept = {"eirp_dbw": 40.0, "g_over_t_db": 10.0, "frequency_ghz": frequency, "bandwidth_mhz": 100.0}
    ranges, away = np.array([range_m]), np.array([off])
    plain = carrier_to_noise_db(ranges, AHEAD, **kept)
    scanned = carrier_to_noise_db(ranges, away, **kept, scan_exponent=exponent)
    shared = carrier_to_noise_db(ranges, away, **kept, scan_exponent=exponent, interference_db=ci_db)
    assert shared[0] < scanned[0] <= plain[0]
    assert shared[0] < ci_db
    twice = carrier_to_noise_db(2 * ranges, AHEAD, **kept)
    assert plain[0] - twice[0] == pytest.approx(6.02, abs=0.01)


def test_half_the_power_at_half_the_width_and_half_the_face_at_60_degrees() -> None:
    assert pointing_db(0.5, 1.0) == pytest.approx(3.0)
    assert float(scan_db(np.array([60.0]), 1.0)[0]) == pytest.approx(3.01, abs=0.01)
