"""What a one-way delay is made of: the table that tells geometry from everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DelayPart:
    """A part of the one-way delays: samples in ns, at the same instants for all parts of a window."""

    name: str
    uplink_ns: Ints
    downlink_ns: Ints


def joined(windows: Sequence[Sequence[DelayPart]]) -> list[DelayPart]:
    """The parts of consecutive windows as one; each window has the same parts in the same order."""
    return [
        DelayPart(
            parts[0].name,
            np.concatenate([part.uplink_ns for part in parts]),
            np.concatenate([part.downlink_ns for part in parts]),
        )
        for parts in zip(*windows, strict=True)
    ]


def total(parts: Sequence[DelayPart]) -> DelayPart:
    """The sum of all parts, instant by instant."""
    return DelayPart(
        "sum", np.sum([part.uplink_ns for part in parts], axis=0), np.sum([part.downlink_ns for part in parts], axis=0)
    )
