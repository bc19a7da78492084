"""The Timeline of links whose satellites come and go at any second: UTC minutes, cut where they change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path as FilePath

import numpy as np

from emulator.orbit.propagate import Propagator
from emulator.orbit.source import Swarm, swarm_of
from emulator.scenario.links import OrbitLink
from emulator.scenario.model import Scenario, Terminal
from emulator.serving.passes import MINUTE_NS, Minute, PassPolicy
from emulator.serving.stations import GroundStation, masks_deg
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Floats
from emulator.timeline.orbiting import OrbitWindows
from emulator.timeline.sky import Phase, Stint
from emulator.units import NS_PER_MS, NS_PER_S

MakePolicy = Callable[[Propagator, Floats, Terminal, Sequence[GroundStation]], PassPolicy]


class PassWindows(OrbitWindows):
    """Plans a link of kind OrbitLink by a PassPolicy. `notes`: what was left out of the elements, a line each.

    breaks: a change of satellite does what the scenario's `link.handover` says; without, nothing is lost by it, and
    only the delay steps. swarm: shared with other terminals; whether it serves this one is then not looked into.
    Raises ElementsError for elements that cannot be used, CoverageError if no satellite serves the terminal.
    """

    policy: PassPolicy

    def __init__(
        self,
        scenario: Scenario,
        link: OrbitLink,
        make_policy: MakePolicy,
        *,
        breaks: bool = True,
        elements: FilePath | None = None,
        epoch_utc_ns: int,
        swarm: Swarm | None = None,
    ) -> None:
        if not (scenario.terminal and scenario.constellation and scenario.pop):
            raise ValueError(f"expected a scenario with a sky, got link.profile {scenario.link.profile!r} without")
        satellites, self.notes, propagator = swarm or swarm_of(scenario, elements=elements, epoch_utc_ns=epoch_utc_ns)
        stations = [GroundStation.of(gateway, scenario.pop, link.fibre_detour) for gateway in scenario.gateways]
        super().__init__(scenario, link, satellites.names, stations, stretch_ns=MINUTE_NS)
        masks = masks_deg(satellites, scenario.constellation, scenario.terminal)
        self.policy = make_policy(propagator, masks, scenario.terminal, stations)
        self._breaks = breaks
        if swarm is None:
            self.policy.require_coverage(epoch_utc_ns)

    def handover_phases(self, at_ns: int) -> list[Phase]:
        return self._handover(at_ns) if self._breaks else []

    def _stints(self, number: int) -> list[Stint]:
        return stints_of(number, self.policy.minute(number))

    def _phases(self, number: int) -> list[Phase]:
        """Handovers of this minute, and of those before it that last until now; outages."""
        law = self._handover_law
        longest_ms = max(law.drop_ms + law.hold_ms, law.reconfigure_hold_ms)
        phases: list[Phase] = []
        if longest_ms > 0 and self._breaks:
            first = number - -(-round(longest_ms * NS_PER_MS) // MINUTE_NS)
            minutes = [self.policy.minute(at) for at in range(first - 1, number + 1)]
            satellite, gateway = (np.concatenate(columns)[59:] for columns in zip(*minutes, strict=True))
            for second in np.flatnonzero((np.diff(satellite) != 0) | (np.diff(gateway) != 0)).tolist():
                at_ns = first * MINUTE_NS + second * NS_PER_S
                if satellite[second] != satellite[second + 1]:
                    phases += self._handover(at_ns)
                else:
                    end_ns = at_ns + round(law.reconfigure_hold_ms * NS_PER_MS)
                    phases.append(Phase(at_ns, end_ns, Gate.HOLD, Cause.HANDOVER))
        return [*phases, *super()._phases(number)]


def stints_of(number: int, minute: Minute) -> list[Stint]:
    """A minute's seconds as stints of one satellite and one gateway."""
    satellite, gateway = minute
    changes = np.flatnonzero((np.diff(satellite) != 0) | (np.diff(gateway) != 0)) + 1
    return [
        Stint(
            number * MINUTE_NS + first * NS_PER_S,
            number * MINUTE_NS + last * NS_PER_S,
            int(satellite[first]),
            int(gateway[first]),
        )
        for first, last in pairwise([0, *changes.tolist(), len(satellite)])
    ]
