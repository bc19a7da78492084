"""DVB-S2 MODCODs: which C/N carries how many bits per symbol.

ETSI EN 302 307-1, Table 13: ideal Es/N0 (not Eb/N0) at quasi-error-free, normal FECFRAME, no pilots, and spectral
efficiency. C/N in the symbol rate's bandwidth is Es/N0. Other systems' waveforms are not published; until one is,
this table stands for how any adaptive link gives up rate as its C/N falls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CENTIDB_PER_STEP = 10  # the lookup table has a row each 0.1 dB


@dataclass(frozen=True, slots=True)
class Modcod:
    """A modulation and code rate: `threshold_db` is the least Es/N0, `efficiency` in bit per symbol."""

    name: str
    threshold_db: float
    efficiency: float


MODCODS = (  # ETSI EN 302 307-1 Table 13
    Modcod("QPSK 1/4", -2.35, 0.490243),
    Modcod("QPSK 1/3", -1.24, 0.656448),
    Modcod("QPSK 2/5", -0.30, 0.789412),
    Modcod("QPSK 1/2", 1.00, 0.988858),
    Modcod("QPSK 3/5", 2.23, 1.188304),
    Modcod("QPSK 2/3", 3.10, 1.322253),
    Modcod("QPSK 3/4", 4.03, 1.487473),
    Modcod("QPSK 4/5", 4.68, 1.587196),
    Modcod("QPSK 5/6", 5.18, 1.654663),
    Modcod("QPSK 8/9", 6.20, 1.766451),
    Modcod("QPSK 9/10", 6.42, 1.788612),
    Modcod("8PSK 3/5", 5.50, 1.779991),
    Modcod("8PSK 2/3", 6.62, 1.980636),
    Modcod("8PSK 3/4", 7.91, 2.228124),
    Modcod("8PSK 5/6", 9.35, 2.478562),
    Modcod("8PSK 8/9", 10.69, 2.646012),
    Modcod("8PSK 9/10", 10.98, 2.679207),
    Modcod("16APSK 2/3", 8.97, 2.637201),
    Modcod("16APSK 3/4", 10.21, 2.966728),
    Modcod("16APSK 4/5", 11.03, 3.165623),
    Modcod("16APSK 5/6", 11.61, 3.300184),
    Modcod("16APSK 8/9", 12.89, 3.523143),
    Modcod("16APSK 9/10", 13.13, 3.567342),
    Modcod("32APSK 3/4", 12.73, 3.703295),
    Modcod("32APSK 4/5", 13.64, 3.951571),
    Modcod("32APSK 5/6", 14.28, 4.119540),
    Modcod("32APSK 8/9", 15.69, 4.397854),
    Modcod("32APSK 9/10", 16.05, 4.453027),
)
LOWEST_CN_CENTIDB = -240  # row 0 of the table; below it, and in it, nothing gets through
EFFICIENCY_ZERO = -LOWEST_CN_CENTIDB // CENTIDB_PER_STEP  # the row of 0 dB
HIGHEST_CN_CENTIDB = 1610  # the last row: from here on up, the most efficient MODCOD


def best_modcod(cn_db: float) -> Modcod | None:
    """The most efficient MODCOD whose threshold `cn_db` meets, or None.

    Not the one with the highest threshold: thresholds are not monotonic across constellations (16APSK 2/3 needs less
    than 8PSK 5/6 and carries more).
    """
    feasible = [modcod for modcod in MODCODS if modcod.threshold_db <= cn_db]
    return max(feasible, key=lambda modcod: modcod.efficiency, default=None)


def efficiency_by_cn() -> npt.NDArray[np.int64]:
    """Efficiency × 1000 of the best MODCOD, shape (186,), by C/N in steps of 0.1 dB; 0 where none closes.

    The row of a C/N is `row_of_cn`: (C/N − LOWEST) // 10 in dB × 100, and the ends of the table for all beyond them.
    A row holds what its lower edge can carry, so the table never promises more than the C/N gives.
    """
    steps = range(LOWEST_CN_CENTIDB, HIGHEST_CN_CENTIDB + 1, CENTIDB_PER_STEP)
    best = [best_modcod(centidb / 100) for centidb in steps]
    return np.array([0 if modcod is None else round(modcod.efficiency * 1000) for modcod in best], np.int64)


def row_of_cn(cn_centidb: int) -> int:
    """The row of `efficiency_by_cn()` that holds for a C/N in dB × 100."""
    bounded = min(max(cn_centidb, LOWEST_CN_CENTIDB), HIGHEST_CN_CENTIDB)
    return (bounded - LOWEST_CN_CENTIDB) // CENTIDB_PER_STEP
