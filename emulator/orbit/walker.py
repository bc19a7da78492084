"""Walker constellations: orbits made from a shell's few numbers, without a file.

Elements are fixed at one epoch and without drag, so that the same UTC has the same sky in every run, for years.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import radians, tau

import numpy as np
from sgp4.api import WGS72, Satrec

from emulator.orbit.satellites import JD_UNIX, NS_PER_DAY, Satellites, mean_motion_rad_s
from emulator.scenario.model import Shell
from emulator.units import parse_utc_ns

EPOCH_UTC_NS = parse_utc_ns("2025-10-03T00:00:00Z")
JD_SGP4 = 2_433_281.5  # 1949-12-31T00:00:00, from which sgp4init counts its days


def generate(shells: Iterable[Shell]) -> Satellites:
    """The satellites of `shells`, named `shell p03 s17` by plane and place, in that order."""
    names: list[str] = []
    records: list[Satrec] = []
    masks: list[float] = []
    for shell in shells:
        for plane in range(shell.planes):
            for place in range(shell.satellites_per_plane):
                names.append(f"{shell.name} p{plane:02d} s{place:02d}")
                records.append(_record(shell, plane, place, len(records) + 1))
                masks.append(shell.min_elevation_deg)
    return Satellites.of(names, records, np.array(masks, np.float64))


def _record(shell: Shell, plane: int, place: int, number: int) -> Satrec:
    """Walker's notation i:T/P/F; ascending nodes over 360° (delta) or 180° (star), F·360°/T between planes."""
    node = radians(shell.raan_offset_deg) + (tau if shell.pattern == "delta" else tau / 2) * plane / shell.planes
    anomaly = tau * place / shell.satellites_per_plane
    anomaly += tau * shell.phasing * plane / (shell.planes * shell.satellites_per_plane)
    record = Satrec()
    record.sgp4init(
        WGS72,
        "i",
        number,
        JD_UNIX + EPOCH_UTC_NS / NS_PER_DAY - JD_SGP4,
        0.0,
        0.0,
        0.0,  # drag term, derivatives of the mean motion
        0.0,
        0.0,
        radians(shell.inclination_deg),  # eccentricity, perigee, inclination
        anomaly % tau,
        mean_motion_rad_s(shell.altitude_km) * 60,
        node % tau,
    )
    return record
