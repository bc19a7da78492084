"""Verdicts with proof: figures with confidence intervals, and `invalid` where the emulation itself fell behind.

`figures` makes figures from run records; `verdict` judges them; `evidence` says whether the emulation kept up.
"""

from __future__ import annotations

from emulator.testing.verdicts.evidence import Limits
from emulator.testing.verdicts.figures import (
    delay_ms,
    goodput_mbps,
    jitter_ms,
    loss_percent,
    recovery_s,
    reordered_percent,
)
from emulator.testing.verdicts.verdict import Figure, Invalid, NotProven, Verdict

__all__ = [
    "Figure",
    "Invalid",
    "Limits",
    "NotProven",
    "Verdict",
    "delay_ms",
    "goodput_mbps",
    "jitter_ms",
    "loss_percent",
    "recovery_s",
    "reordered_percent",
]
