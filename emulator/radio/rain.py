"""Attenuation by rain: how much of it a kilometre makes (P.838-3), and how much is exceeded how long (P.618-13)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# ITU-R P.838-3, tables 1 to 4: a, b, c of the Gaussian terms, then slope and constant, by polarization
_K = {
    "horizontal": (
        (-5.33980, -0.35351, -0.23789, -0.94158), (-0.10008, 1.26970, 0.86036, 0.64552),
        (1.13098, 0.45400, 0.15354, 0.16817), -0.18961, 0.71147,
    ),
    "vertical": (
        (-3.80595, -3.44965, -0.39902, 0.50167), (0.56934, -0.22911, 0.73042, 1.07319),
        (0.81061, 0.51059, 0.11899, 0.27195), -0.16398, 0.63297,
    ),
}  # fmt: skip
_ALPHA = {
    "horizontal": (
        (-0.14318, 0.29591, 0.32177, -5.37610, 16.1721), (1.82442, 0.77564, 0.63773, -0.96230, -3.29980),
        (-0.55187, 0.19822, 0.13164, 1.47828, 3.43990), 0.67849, -1.95537,
    ),
    "vertical": (
        (-0.07771, 0.56727, -0.20238, -48.2991, 48.5833), (2.33840, 0.95545, 1.14520, 0.791669, 0.791459),
        (-0.76284, 0.54039, 0.26809, 0.116226, 0.116479), -0.053739, 0.83433,
    ),
}  # fmt: skip
LOWEST_ELEVATION_DEG = 5.0  # P.618-13's formulae without the earth's curve hold down to here

Fit = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], float, float]


def coefficients(frequency_ghz: float, elevation_deg: float, tilt_deg: float = 45.0) -> tuple[float, float]:
    """k and α of dB/km = k·(mm/h)^α, 1 to 1000 GHz; tilt 45 for circular polarization (P.838-3)."""
    log_f = np.log10(frequency_ghz)

    def fitted(fit: Fit) -> float:
        a, b, c, slope, constant = fit
        bells = (np.array(a) * np.exp(-(((log_f - np.array(b)) / np.array(c)) ** 2))).sum()
        return float(bells + slope * log_f + constant)

    k_h, k_v = (10 ** fitted(_K[polarization]) for polarization in ("horizontal", "vertical"))
    alpha_h, alpha_v = (fitted(_ALPHA[polarization]) for polarization in ("horizontal", "vertical"))
    turn = np.cos(np.radians(elevation_deg)) ** 2 * np.cos(2 * np.radians(tilt_deg))
    k = (k_h + k_v + (k_h - k_v) * turn) / 2
    alpha = (k_h * alpha_h + k_v * alpha_v + (k_h * alpha_h - k_v * alpha_v) * turn) / (2 * k)
    return float(k), float(alpha)


def exceeded_db(
    percent: Floats,
    *,
    rain_rate_mm_h: float,
    rain_height_km: float,
    site_km: float,
    latitude_deg: float,
    elevation_deg: float,
    frequency_ghz: float,
    tilt_deg: float = 45.0,
) -> Floats:
    """Attenuation by rain that is exceeded in `percent` (0.001 to 5) of an average year, dB (P.618-13, 2.2.1.1).

    rain_rate_mm_h: that of 0.01 %. Below 5° of elevation the value of 5° stands.
    """
    elevation = np.radians(max(elevation_deg, LOWEST_ELEVATION_DEG))
    height_km = rain_height_km - site_km
    if height_km <= 0 or rain_rate_mm_h <= 0:
        return np.zeros_like(percent)
    slant_km = height_km / np.sin(elevation)
    ground_km = slant_km * np.cos(elevation)
    k, alpha = coefficients(frequency_ghz, elevation_deg, tilt_deg)
    specific_db_km = k * rain_rate_mm_h**alpha
    horizontal = 1 / (
        1 + 0.78 * np.sqrt(ground_km * specific_db_km / frequency_ghz) - 0.38 * (1 - np.exp(-2 * ground_km))
    )
    zeta = np.arctan2(height_km, ground_km * horizontal)
    path_km = ground_km * horizontal / np.cos(elevation) if zeta > elevation else slant_km
    chi_deg = max(0.0, 36 - abs(latitude_deg))
    above = 31 * (1 - np.exp(-np.degrees(elevation) / (1 + chi_deg)))
    vertical = 1 / (
        1 + np.sqrt(np.sin(elevation)) * (above * np.sqrt(path_km * specific_db_km) / frequency_ghz**2 - 0.45)
    )
    of_001_percent_db = specific_db_km * path_km * vertical
    poleward = abs(latitude_deg) - 36
    beta = np.where((percent >= 1) | (poleward >= 0), 0.0, -0.005 * poleward)
    if np.degrees(elevation) < 25:
        beta = np.where(beta != 0, beta + 1.8 - 4.25 * np.sin(elevation), beta)
    exponent = 0.655 + 0.033 * np.log(percent) - 0.045 * np.log(of_001_percent_db)
    exponent -= beta * (1 - percent) * np.sin(elevation)
    exceeded: Floats = of_001_percent_db * (percent / 0.01) ** -exponent
    return exceeded
