"""What a clear or cloudy sky takes: oxygen and water vapour (P.676-12), clouds (P.840-8), scintillation (P.618-13)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.radio.climate import table

Floats = npt.NDArray[np.float64]

FREEZING_K = 273.15
REFERENCE_GHZ, REFERENCE_HPA = 20.6, 845.0  # P.676-12 eq. 37

SCINTILLATION_GHZ = 20.0  # the ITU-R's validation rows hold what P.618-13 gives here for all that is above

# P.676-12, table 3: lines of the equivalent height of oxygen
_OXYGEN_HEIGHT = np.array(
    [
        (0.1597, 118.750334), (0.1066, 368.498246), (0.1325, 424.763020), (0.1242, 487.249273), (0.0938, 715.392902),
        (0.1448, 773.839490), (0.1374, 834.145546),
    ]
)  # fmt: skip


def oxygen_db_km(frequency_ghz: float, dry_hpa: float, vapour_g_m3: float, kelvin: float) -> float:
    """Specific attenuation by oxygen (P.676-12, annex 1), 1 to 1000 GHz."""
    f, theta = frequency_ghz, 300 / kelvin
    vapour_hpa = vapour_g_m3 * kelvin / 216.7
    line, a1, a2, a3, a4, a5, a6 = table()["oxygen"]
    width = a3 * 1e-4 * (dry_hpa * theta ** (0.8 - a4) + 1.1 * vapour_hpa * theta)
    width = np.sqrt(width**2 + 2.25e-6)
    overlap = (a5 + a6 * theta) * 1e-4 * (dry_hpa + vapour_hpa) * theta**0.8
    shape = (width - overlap * (line - f)) / ((line - f) ** 2 + width**2)
    shape = f / line * (shape + (width - overlap * (line + f)) / ((line + f) ** 2 + width**2))
    strength = a1 * 1e-7 * dry_hpa * theta**3 * np.exp(a2 * (1 - theta))
    debye = 5.6e-4 * (dry_hpa + vapour_hpa) * theta**0.8
    dry = 6.14e-5 / (debye * (1 + (f / debye) ** 2)) + 1.4e-12 * dry_hpa * theta**1.5 / (1 + 1.9e-5 * f**1.5)
    return float(0.1820 * f * ((strength * shape).sum() + f * dry_hpa * theta**2 * dry))


def vapour_db_km(frequency_ghz: float, dry_hpa: float, vapour_g_m3: float, kelvin: float) -> float:
    """Specific attenuation by water vapour (the same)."""
    f, theta = frequency_ghz, 300 / kelvin
    vapour_hpa = vapour_g_m3 * kelvin / 216.7
    line, b1, b2, b3, b4, b5, b6 = table()["vapour"]
    width = b3 * 1e-4 * (dry_hpa * theta**b4 + b5 * vapour_hpa * theta**b6)
    width = 0.535 * width + np.sqrt(0.217 * width**2 + 2.1316e-12 * line**2 / theta)
    shape = f / line * (width / ((line - f) ** 2 + width**2) + width / ((line + f) ** 2 + width**2))
    strength = b1 * 0.1 * vapour_hpa * theta**3.5 * np.exp(b2 * (1 - theta))
    return float(0.1820 * f * (strength * shape).sum())


def gas_db(
    frequency_ghz: float,
    elevation_deg: Floats,
    *,
    vapour_kg_m2: float,
    kelvin: float,
    site_km: float = 0.0,
    dry_hpa: float = 1013.25,
    vapour_g_m3: float = 7.5,
) -> Floats:
    """Attenuation by gas on the way out of the atmosphere, 5° to 90° (P.676-12, annex 2), below 350 GHz."""
    f = frequency_ghz
    ratio = (dry_hpa + vapour_g_m3 * kelvin / 216.7) / 1013.25
    t1 = 5.1040 / (1 + 0.066 * ratio**-2.3) * np.exp(-(((f - 59.7) / (2.87 + 12.4 * np.exp(-7.9 * ratio))) ** 2))
    weight, line = _OXYGEN_HEIGHT.T
    t2 = (weight * np.exp(2.12 * ratio) / ((f - line) ** 2 + 0.025 * np.exp(2.2 * ratio))).sum()
    t3 = 0.0114 * f / (1 + 0.14 * ratio**-2.6)
    t3 *= (15.02 * f**2 - 1353 * f + 5.333e4) / (f**3 - 151.3 * f**2 + 9629 * f - 6803)
    oxygen_km = 6.1 * (0.7832 + 0.00709 * (kelvin - FREEZING_K)) / (1 + 0.17 * ratio**-1.1) * (1 + t1 + t2 + t3)
    if f < 70:
        oxygen_km = min(oxygen_km, 10.7 * ratio**0.3)
    zenith_db = oxygen_db_km(f, dry_hpa, vapour_g_m3, kelvin) * oxygen_km + _zenith_vapour_db(f, vapour_kg_m2, site_km)
    slant: Floats = zenith_db / np.sin(np.radians(np.maximum(elevation_deg, 5.0)))
    return slant


def _zenith_vapour_db(f: float, vapour_kg_m2: float, site_km: float) -> float:
    """P.676-12, eq. 37."""
    density, kelvin = vapour_kg_m2 / 2.38, 14 * np.log(0.22 * vapour_kg_m2 / 2.38) + 3 + FREEZING_K
    here, reference = (vapour_db_km(at, REFERENCE_HPA, density, kelvin) for at in (f, REFERENCE_GHZ))
    zenith_db = 0.0176 * vapour_kg_m2 * here / reference
    if f >= 20:
        a = 0.2048 * np.exp(-(((f - 22.43) / 3.097) ** 2)) + 0.2326 * np.exp(-(((f - 183.5) / 4.096) ** 2))
        a += 0.2073 * np.exp(-(((f - 325) / 3.651) ** 2)) - 0.1113
        b = 8.741e4 * np.exp(-0.587 * f) + 312.2 * f**-2.38 + 0.723
        zenith_db *= a * min(max(site_km, 0.0), 4.0) ** b + 1
    return float(zenith_db)


def cloud_db(frequency_ghz: float, elevation_deg: Floats, liquid_kg_m2: float | Floats) -> Floats:
    """Attenuation by clouds of so much liquid water, reduced to 0 °C (P.840-8), 5° to 90°, below 200 GHz."""
    f, theta = frequency_ghz, 300 / FREEZING_K
    e0 = 77.66 + 103.3 * (theta - 1)
    e1, e2 = 0.0671 * e0, 3.52
    first = 20.20 - 146 * (theta - 1) + 316 * (theta - 1) ** 2
    second = 39.8 * first
    imaginary = f * (e0 - e1) / (first * (1 + (f / first) ** 2)) + f * (e1 - e2) / (second * (1 + (f / second) ** 2))
    real = (e0 - e1) / (1 + (f / first) ** 2) + (e1 - e2) / (1 + (f / second) ** 2) + e2
    eta = (2 + real) / imaginary
    per_kg = 0.819 * f / (imaginary * (1 + eta**2))
    slant: Floats = liquid_kg_m2 * per_kg / np.sin(np.radians(np.maximum(elevation_deg, 5.0)))
    return slant


def scintillation_db(
    percent: Floats,
    *,
    frequency_ghz: float,
    elevation_deg: Floats,
    antenna_m: float,
    antenna_efficiency: float = 0.65,
    wet_refractivity: float,
) -> Floats:
    """Fade by scintillation that is exceeded in `percent` of the time (P.618-13, 2.4.1), 4 to 55 GHz.

    percent, elevation_deg: of one shape; below 0.001 % the fade of that stands, above 50 % there is none.
    """
    sine, frequency_ghz = np.sin(np.radians(np.maximum(elevation_deg, 5.0))), min(frequency_ghz, SCINTILLATION_GHZ)
    reference = 3.6e-3 + 1e-4 * wet_refractivity
    length_m = 2 * 1000.0 / (np.sqrt(sine**2 + 2.35e-4) + sine)
    x = 1.22 * antenna_efficiency * antenna_m**2 * frequency_ghz / length_m
    averaging = 3.86 * (x**2 + 1) ** (11 / 12) * np.sin(11 / 6 * np.arctan2(1, x)) - 7.08 * x ** (5 / 6)
    deviation = reference * frequency_ghz ** (7 / 12) * np.sqrt(np.maximum(averaging, 0.0)) / sine**1.2
    log_p = np.log10(np.maximum(percent, 0.001))
    fade: Floats = np.where(percent > 50, 0.0, (-0.061 * log_p**3 + 0.072 * log_p**2 - 1.71 * log_p + 3.0) * deviation)
    return fade
