"""What an operator lets serve: a satellite or a gateway that is pinned, or one that is left out."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pin:
    """Indices into a run's satellites and gateways: the only ones that may serve; `without`: one that may not."""

    satellite: int | None = None
    gateway: int | None = None
    without: int | None = None

    def satellites(self, indices: Ints) -> Bools:
        """Which of these satellites may serve, of the same shape."""
        may = np.ones(indices.shape, np.bool_)
        if self.satellite is not None:
            may &= indices == self.satellite
        if self.without is not None:
            may &= indices != self.without
        return may

    def gateways(self, count: int) -> Bools:
        """Which gateways may, (count,)."""
        return np.ones(count, np.bool_) if self.gateway is None else np.arange(count) == self.gateway


class Pinnable:
    """A policy that obeys a Pin. What it has worked out it keeps in `_kept`, for which it holds `_lock`."""

    pin = Pin()

    def __init__(self) -> None:
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._lock = Lock()

    def pinned(self, pin: Pin) -> Self:
        """The same policy under a pin; this one stays as it is."""
        other = copy.copy(self)
        other.pin = pin
        other._kept, other._lock = OrderedDict(), Lock()
        return other
