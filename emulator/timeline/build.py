"""The planner of any scenario."""

from __future__ import annotations

from pathlib import Path

from emulator.scenario.model import FixedLink, Scenario
from emulator.timeline.model import Windows


def windows_for(scenario: Scenario, *, elements: Path | None = None, epoch_utc_ns: int) -> Windows:
    """The planner of `scenario`: `fixed` is constant, `starlink` follows the sky.

    `elements` replaces `constellation.elements`. `epoch_utc_ns` is the start of the run, used for checks only (are the
    elements near enough to it, does a satellite ever serve the terminal); no draw depends on it.
    Raises ElementsError for elements that cannot be used, CoverageError if no satellite ever serves the terminal.
    """
    if isinstance(scenario.link, FixedLink):
        from emulator.timeline.fixed import FixedWindows

        return FixedWindows(scenario.link)
    from emulator.timeline.starlink import StarlinkWindows

    return StarlinkWindows(scenario, elements=elements, epoch_utc_ns=epoch_utc_ns)
