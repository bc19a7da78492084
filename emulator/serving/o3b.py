"""Who serves a terminal of O3b or O3b mPOWER: a ring over the equator, left from west to east.

Seen from the ground, the satellites move from west to east, all alike, a quarter of the sky behind each other or less.
One serves until it comes down to the elevation at which it is handed over; then the next one to its west does. When
that is in practice is not published.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emulator.orbit.propagate import Propagator
from emulator.scenario.links import O3bLink
from emulator.scenario.model import Terminal
from emulator.serving.passes import PassPolicy, Sky
from emulator.serving.stations import GroundStation

Floats = npt.NDArray[np.float64]


class O3bPolicy(PassPolicy):
    """The easternmost satellite that is not about to set; if all are, the easternmost."""

    def __init__(
        self,
        link: O3bLink,
        propagator: Propagator,
        masks: Floats,
        terminal: Terminal,
        gateways: Sequence[GroundStation],
    ) -> None:
        super().__init__(propagator, masks, terminal, gateways)
        self._sin_handover = float(np.sin(np.radians(link.handover_elevation_deg)))

    def merit(self, sky: Sky) -> Floats:
        """Degrees east of the terminal; a turn less if setting."""
        longitude = np.degrees(np.arctan2(sky.position_m[..., 1], sky.position_m[..., 0]))
        east: Floats = (longitude - self.terminal.longitude_deg + 180.0) % 360.0 - 180.0
        setting = (east > 0) & (sky.seen.sin_elevation < self._sin_handover)
        return np.where(setting, east - 360.0, east)
