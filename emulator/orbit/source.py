"""Where a scenario's satellites come from."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from emulator.errors import CoverageError
from emulator.orbit.elements import ServiceOrbit, load_elements
from emulator.orbit.propagate import Propagator
from emulator.orbit.satellites import Satellites
from emulator.orbit.walker import generate
from emulator.scenario.model import Scenario


class Swarm(NamedTuple):
    """Satellites, what was left out of them, and who propagates them: of one terminal, or shared by many."""

    satellites: Satellites
    notes: tuple[str, ...]
    propagator: Propagator


def swarm_of(scenario: Scenario, *, elements: Path | None, epoch_utc_ns: int) -> Swarm:
    """Those of one terminal; raises what `satellites_of` raises."""
    satellites, notes = satellites_of(scenario, elements=elements, epoch_utc_ns=epoch_utc_ns)
    return Swarm(satellites, notes, Propagator(satellites))


def satellites_of(
    scenario: Scenario, *, elements: Path | None, epoch_utc_ns: int
) -> tuple[Satellites, tuple[str, ...]]:
    """The satellites of a scenario: from `elements`, else its own file, else its shells; and notes on what is left out.

    Raises ElementsError for a file that cannot be used, CoverageError for a constellation without satellites.
    """
    constellation = scenario.constellation
    name = scenario.name or "scenario"
    if constellation is None:
        raise CoverageError(f"{name}: constellation: expected satellites, got a scenario without a sky")
    if elements is None and constellation.elements:
        elements = Path(constellation.elements)
    if elements is None:
        if not constellation.shells:
            raise CoverageError(f"{name}: constellation: expected shells or an elements file, got neither")
        return generate(constellation.shells), ()
    loaded = load_elements(
        elements,
        epoch_utc_ns=epoch_utc_ns,
        max_age_days=constellation.max_age_days,
        names=constellation.names,
        orbit=ServiceOrbit(
            constellation.min_altitude_km, constellation.max_altitude_km, constellation.max_eccentricity
        ),
    )
    return loaded.satellites, loaded.notes
