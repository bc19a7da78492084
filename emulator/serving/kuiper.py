"""Who serves a terminal of Kuiper: nothing is published, so the highest satellite does."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.serving.passes import PassPolicy, Sky

Floats = npt.NDArray[np.float64]


class KuiperPolicy(PassPolicy):
    """The highest satellite that a gateway sees as well, through the gateway with the shortest way."""

    def merit(self, sky: Sky) -> Floats:
        """The sine of the elevation; below every real one where SGP4 fails."""
        return np.nan_to_num(sky.seen.sin_elevation, nan=-2.0)
