"""MODCODs of DVB-S2, DVB-S2X and DVB-RCS2: which C/N carries how many bits per symbol.

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
S2X_MODCODS = (  # ETSI EN 302 307-2 Table 20a: normal FECFRAME, ideal Es/N0 on a linear channel; on top of those of S2
    Modcod("QPSK 2/9", -2.85, 0.434841),
    Modcod("QPSK 13/45", -2.03, 0.567805),
    Modcod("QPSK 9/20", 0.22, 0.889135),
    Modcod("QPSK 11/20", 1.45, 1.088581),
    Modcod("8APSK 5/9-L", 4.73, 1.647211),
    Modcod("8APSK 26/45-L", 5.13, 1.713601),
    Modcod("8PSK 23/36", 6.12, 1.896173),
    Modcod("8PSK 25/36", 7.02, 2.062148),
    Modcod("8PSK 13/18", 7.49, 2.145136),
    Modcod("16APSK 1/2-L", 5.97, 1.972253),
    Modcod("16APSK 8/15-L", 6.55, 2.104850),
    Modcod("16APSK 5/9-L", 6.84, 2.193247),
    Modcod("16APSK 26/45", 7.51, 2.281645),
    Modcod("16APSK 3/5", 7.80, 2.370043),
    Modcod("16APSK 3/5-L", 7.41, 2.370043),
    Modcod("16APSK 28/45", 8.10, 2.458441),
    Modcod("16APSK 23/36", 8.38, 2.524739),
    Modcod("16APSK 2/3-L", 8.43, 2.635236),
    Modcod("16APSK 25/36", 9.27, 2.745734),
    Modcod("16APSK 13/18", 9.71, 2.856231),
    Modcod("16APSK 7/9", 10.65, 3.077225),
    Modcod("16APSK 77/90", 11.99, 3.386618),
    Modcod("32APSK 2/3-L", 11.10, 3.289502),
    Modcod("32APSK 32/45", 11.75, 3.510192),
    Modcod("32APSK 11/15", 12.17, 3.620536),
    Modcod("32APSK 7/9", 13.05, 3.841226),
    Modcod("64APSK 32/45-L", 13.98, 4.206428),
    Modcod("64APSK 11/15", 14.81, 4.338659),
    Modcod("64APSK 7/9", 15.47, 4.603122),
    Modcod("64APSK 4/5", 15.87, 4.735354),
    Modcod("64APSK 5/6", 16.55, 4.933701),
    Modcod("128APSK 3/4", 17.73, 5.163248),
    Modcod("128APSK 7/9", 18.53, 5.355556),
    Modcod("256APSK 29/45-L", 16.98, 5.065690),
    Modcod("256APSK 2/3-L", 17.24, 5.241514),
    Modcod("256APSK 31/45-L", 18.10, 5.417338),
    Modcod("256APSK 32/45", 18.59, 5.593162),
    Modcod("256APSK 11/15-L", 18.84, 5.768987),
    Modcod("256APSK 3/4", 19.57, 5.900855),
)
RCS2_BURST_SYMBOLS = 1616  # the long bursts, their preamble and pilots among them
RCS2_MODCODS = tuple(  # ETSI EN 301 545-2, linear modulation, waveforms 13 to 22: payload bytes and Es/N0 as recalled
    Modcod(name, threshold_db, payload_bytes * 8 / RCS2_BURST_SYMBOLS)
    for name, threshold_db, payload_bytes in (
        ("RCS2 QPSK 1/3", -0.51, 123), ("RCS2 QPSK 1/2", 1.71, 188), ("RCS2 QPSK 2/3", 3.69, 264),
        ("RCS2 QPSK 3/4", 4.73, 298), ("RCS2 QPSK 5/6", 5.94, 333), ("RCS2 8PSK 2/3", 7.49, 355),
        ("RCS2 8PSK 3/4", 8.77, 400), ("RCS2 8PSK 5/6", 10.23, 444), ("RCS2 16QAM 3/4", 10.72, 539),
        ("RCS2 16QAM 5/6", 12.04, 599),
    )
)  # fmt: skip
LOWEST_CN_CENTIDB = -240  # row 0 of the table; below it, and in it, nothing gets through
EFFICIENCY_ZERO = -LOWEST_CN_CENTIDB // CENTIDB_PER_STEP  # the row of 0 dB
HIGHEST_CN_CENTIDB = 1610  # the last row: from here on up, the most efficient MODCOD


@dataclass(frozen=True)
class Waveform:
    """The MODCODs of an air interface, and the C/N of the first and the last row of its lookup table."""

    modcods: tuple[Modcod, ...]
    lowest_cn_centidb: int
    highest_cn_centidb: int

    @property
    def efficiency_zero(self) -> int:
        """The row of 0 dB."""
        return -self.lowest_cn_centidb // CENTIDB_PER_STEP

    @property
    def most(self) -> float:
        """The efficiency of the most efficient MODCOD."""
        return max(modcod.efficiency for modcod in self.modcods)


WAVEFORMS = {
    "dvb_s2": Waveform(MODCODS, LOWEST_CN_CENTIDB, HIGHEST_CN_CENTIDB),
    "dvb_s2x": Waveform((*MODCODS, *S2X_MODCODS), -290, 1960),
    "dvb_rcs2": Waveform(RCS2_MODCODS, -60, 1210),
}
DVB_S2 = WAVEFORMS["dvb_s2"]


def best_modcod(cn_db: float, waveform: Waveform = DVB_S2) -> Modcod | None:
    """The most efficient MODCOD whose threshold `cn_db` meets, or None.

    Not the one with the highest threshold: thresholds are not monotonic across constellations (16APSK 2/3 needs less
    than 8PSK 5/6 and carries more).
    """
    feasible = [modcod for modcod in waveform.modcods if modcod.threshold_db <= cn_db]
    return max(feasible, key=lambda modcod: modcod.efficiency, default=None)


def efficiency_by_cn(waveform: Waveform = DVB_S2) -> npt.NDArray[np.int64]:
    """Efficiency × 1000 of the best MODCOD, shape (rows,), by C/N in steps of 0.1 dB; 0 where none closes.

    The row of a C/N of DVB-S2 is `row_of_cn`: (C/N − LOWEST) // 10 in dB × 100, the ends of the table for all beyond
    them. A row holds what its lower edge can carry, so the table never promises more than the C/N gives.
    """
    steps = range(waveform.lowest_cn_centidb, waveform.highest_cn_centidb + 1, CENTIDB_PER_STEP)
    best = [best_modcod(centidb / 100, waveform) for centidb in steps]
    return np.array([0 if modcod is None else round(modcod.efficiency * 1000) for modcod in best], np.int64)


def row_of_cn(cn_centidb: int) -> int:
    """The row of `efficiency_by_cn()` that holds for a C/N in dB × 100."""
    bounded = min(max(cn_centidb, LOWEST_CN_CENTIDB), HIGHEST_CN_CENTIDB)
    return (bounded - LOWEST_CN_CENTIDB) // CENTIDB_PER_STEP
