"""Who serves a terminal of OneWeb: the highest satellite, through the portal to which that satellite is bound.

Satellites have no links among each other; each hangs on one portal (gateway) at a time. Round trips are measured to
stay stable over handovers between beams and satellites, and to jump where the portal changes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.serving.passes import PassPolicy, Sky

Floats = npt.NDArray[np.float64]


class OneWebPolicy(PassPolicy):
    """The highest satellite that sees a portal, through the portal that sees it highest. Both are guesses."""

    def merit(self, sky: Sky) -> Floats:
        """The sine of the elevation; below every real one where SGP4 fails."""
        return np.nan_to_num(sky.seen.sin_elevation, nan=-2.0)

    def gateway_merit(self, sky: Sky) -> Floats:
        """The satellite's elevation at the portal, as its sine: the terminal has no say in it."""
        return np.stack([np.nan_to_num(one.sin_elevation, nan=-2.0) for one in sky.from_gateway])
