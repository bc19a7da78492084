"""From transmitter and receiver to C/N: free space, pointing, scan, noise, and the interference of others.

C/N = EIRP − free space − pointing − scan + G/T − 10 lg(k B), then combined with the C/I that other beams leave.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.units import SPEED_OF_LIGHT_M_S

Floats = npt.NDArray[np.float64]

BOLTZMANN_DBW_K_HZ = -228.599_167  # 10 lg 1.380649e-23 J/K, exact by the SI's definition of the kelvin


def free_space_db(range_m: Floats, frequency_ghz: float) -> Floats:
    """Free-space loss, ITU-R P.525-4: 20 lg (4π r f / c)."""
    loss: Floats = 20 * np.log10(4 * np.pi * range_m * frequency_ghz * 1e9 / SPEED_OF_LIGHT_M_S)
    return loss


def pointing_db(off_axis_deg: float, beam_width_deg: float) -> float:
    """What a Gaussian beam of that half-power width loses off its axis: 3 dB at half of it."""
    return 12 * (off_axis_deg / beam_width_deg) ** 2


def scan_db(off_normal_deg: Floats, exponent: float) -> Floats:
    """What a flat array loses as it looks away from its normal: its face shrinks as the cosine, to some power."""
    cosine = np.cos(np.radians(np.clip(off_normal_deg, 0.0, 89.0)))
    loss: Floats = -10 * exponent * np.log10(cosine)
    return loss


def carrier_to_noise_db(
    range_m: Floats,
    off_normal_deg: Floats,
    *,
    eirp_dbw: float,
    g_over_t_db: float,
    frequency_ghz: float,
    bandwidth_mhz: float,
    pointing_loss_db: float = 0.0,
    scan_exponent: float = 0.0,
    interference_db: float | None = None,
) -> Floats:
    """C/(N+I) at slant ranges (times,), looking so far off the array's normal. interference_db: C/I."""
    noise_db = BOLTZMANN_DBW_K_HZ + 10 * np.log10(bandwidth_mhz * 1e6)
    lost_db = free_space_db(range_m, frequency_ghz) + pointing_loss_db + scan_db(off_normal_deg, scan_exponent)
    cn_db: Floats = eirp_dbw - lost_db + g_over_t_db - noise_db
    if interference_db is None:
        return cn_db
    together: Floats = -10 * np.log10(10 ** (-cn_db / 10) + 10 ** (-interference_db / 10))
    return together
