"""Carrier to noise under a clear sky, by distance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

REFERENCE_RANGE_M = 550e3  # a satellite of the 550 km shell, overhead


def clear_sky_cn_centidb(range_m: Floats, at_reference_db: float, reference_range_m: float = REFERENCE_RANGE_M) -> Ints:
    """C/N in dB × 100 at each slant range, given that at `reference_range_m`.

    Free space alone: it falls with the square of the distance. The gain that a flat antenna loses away from its normal,
    and the power control that works against both, are not in it.
    """
    return np.rint(100 * (at_reference_db - 20 * np.log10(range_m / reference_range_m))).astype(np.int64)
