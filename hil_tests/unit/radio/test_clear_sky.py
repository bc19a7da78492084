"""Free space: twice the distance is a quarter of the power."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emulator.radio.clear_sky import REFERENCE_RANGE_M, clear_sky_cn_centidb


@given(st.floats(1e5, 1e8), st.floats(-10, 40))
def test_twice_the_distance_costs_6_db(range_m: float, reference_db: float) -> None:
    near, far = clear_sky_cn_centidb(np.array([range_m, 2 * range_m]), reference_db)
    assert abs(int(near - far) - 602) <= 1


def test_the_reference_holds_at_its_range() -> None:
    assert clear_sky_cn_centidb(np.array([REFERENCE_RANGE_M]), 12.34).tolist() == [1234]
