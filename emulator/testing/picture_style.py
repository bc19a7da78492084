"""What all panels of a run's picture share: colours, letters, the UTC axis, the legend.

Colours are those of Okabe and Ito (jfly.uni-koeln.de/color), which people with any kind of colour vision tell apart;
measured is always coloured points or areas, commanded always a dark line.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import dates as mdates
from matplotlib.axes import Axes

from emulator.testing.record import RunRecord
from emulator.units import NS_PER_S

Floats = npt.NDArray[np.float64]

INK, FAINT, GRID = "#1c2733", "#64707d", "#e3e7eb"
COLOUR = {"downlink": "#0072B2", "uplink": "#009E73"}
COMMANDED, RATE, GOODPUT, ELEVATION = "#1c2733", "#1c2733", "#56B4E9", "#7a4b94"
OUTAGE, FADE, OTHER = "#D55E00", "#E69F00", "#999999"
BAND = ("#eef2f6", "#dfe7ee")
CAUSE_COLOUR = {
    "QUEUE": "#0072B2",
    "LOSS": "#56B4E9",
    "HANDOVER": "#CC79A7",
    "OUTAGE": "#7a1f00",
    "NO_SATELLITE": "#000000",
    "OBSTRUCTION": "#F0E442",
    "FADE": "#E69F00",
    "COMMAND": "#D55E00",
}
EVENT_COLOUR = {
    "outage": OUTAGE,
    "obstruct": OUTAGE,
    "reboot": OUTAGE,
    "hold": OUTAGE,
    "fade": FADE,
    "loss": OUTAGE,
    "extra_delay": FADE,
    "jitter": FADE,
    "inject": "#CC79A7",
}
LOG_TICKS_MS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 2000, 5000)
LETTER = 0.0056  # width of a letter of a label, as a share of the picture's
MOST_SLOT_LABELS = 12  # more would not fit
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": "#b8c0c8",
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "path",
    "text.color": INK,
    "figure.facecolor": "white",
    "text.parse_math": False,
}


class Clock:
    """ns from the start of the run → times for matplotlib."""

    def __init__(self, record: RunRecord) -> None:
        seconds, ns = divmod(record.start_utc_ns, NS_PER_S)
        self._start = datetime.fromtimestamp(seconds, tz=UTC) + timedelta(microseconds=ns / 1000)
        self._zero = float(mdates.date2num(self._start))

    def at(self, ns: float) -> datetime:
        return self._start + timedelta(microseconds=ns / 1000)

    def days(self, ns: npt.ArrayLike) -> Floats:
        return self._zero + np.asarray(ns, np.float64) / (86_400 * NS_PER_S)


def legend(axis: Axes) -> None:
    """Above the panel, at the right of its title: nothing of the data is covered."""
    if axis.get_legend_handles_labels()[1]:
        axis.legend(
            loc="lower right",
            bbox_to_anchor=(1.0, 0.985),
            ncols=6,
            handlelength=1.6,
            columnspacing=1.4,
            borderaxespad=0.2,
            handletextpad=0.5,
        )
