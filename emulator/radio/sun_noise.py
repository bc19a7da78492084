"""What the sun behind a satellite adds to a receiver's noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.units import SPEED_OF_LIGHT_M_S

Floats = npt.NDArray[np.float64]

SUN_WIDTH_DEG = 0.444  # half-power width of the Gaussian spot that covers as much sky as the disc (0.533° across)


def beam_width_deg(antenna_m: float, frequency_ghz: float) -> float:
    """Half-power beam width of a dish: 70° · wavelength / diameter, the usual rule for a tapered illumination."""
    return 70.0 * SPEED_OF_LIGHT_M_S / (frequency_ghz * 1e9) / antenna_m


def sun_noise_k(angle_deg: Floats, width_deg: float, sun_temperature_k: float) -> Floats:
    """Antenna temperature that the sun adds at `angle_deg` from the beam's axis.

    Beam and sun are taken as Gaussian spots, and what the beam sees of the sun is the one folded with the other: a beam
    much narrower than the sun sees its full temperature, a wide one the share of the beam that the disc fills. Side
    lobes see nothing.
    """
    squares = SUN_WIDTH_DEG**2 + width_deg**2
    noise: Floats = sun_temperature_k * SUN_WIDTH_DEG**2 / squares * np.exp(-4 * np.log(2) * angle_deg**2 / squares)
    return noise


def half_noise_deg(width_deg: float) -> float:
    """Angle from the beam's axis at which the sun adds half of what it adds on the axis."""
    return float(np.hypot(SUN_WIDTH_DEG, width_deg)) / 2


def noise_rise_db(added_k: Floats, noise_k: float) -> Floats:
    """How much C/N a receiver of `noise_k` loses when `added_k` come in as well."""
    rise: Floats = 10 * np.log10(1 + added_k / noise_k)
    return rise
