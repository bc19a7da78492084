"""Where the terminal of a running bench is, for whoever tells it to its clients; and how it is put somewhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.errors import ScenarioError
from emulator.scenario.model import Scenario
from emulator.terminal import Terminal, TerminalState
from emulator.timeline.build import windows_for

if TYPE_CHECKING:
    from emulator.bench.bench import Bench


class Whereabouts:
    """The terminal's place; read when it is asked for, so that a move is seen by all."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._terminal: Terminal | None = None
        self._start_utc_ns = 0

    def begin(self, utc_ns: int) -> None:
        """The simulated time begins: what the scenario says of times counts from now on."""
        self._start_utc_ns, self._terminal = utc_ns, None

    @property
    def terminal(self) -> Terminal:
        """Raises ScenarioError if the scenario gives it no place on Earth."""
        if self._terminal is None:
            self._terminal = Terminal.from_scenario(self._scenario, self._start_utc_ns)
        return self._terminal

    def state(self, utc_ns: int) -> TerminalState:
        """The terminal at an instant. Raises ScenarioError as `terminal` does."""
        return self.terminal.state(utc_ns)

    def become(self, scenario: Scenario) -> None:
        """From now on it is where this one has it."""
        self._scenario, self._terminal = scenario, None


def move(bench: Bench, latitude_deg: float, longitude_deg: float, altitude_m: float, at_ns: int | None = None) -> int:
    """Puts the terminal somewhere else, at `at_ns` of the packets' clock or as soon as it is planned; a track ends.

    Plans the link from there first, then waits. Returns when it was. Raises ScenarioError for a link without a sky,
    CoverageError where no satellite ever serves, EmulationError if the bench ends first.
    """
    scenario = bench.scenario
    if scenario.terminal is None or bench.windows.constant:
        raise ScenarioError([f"move: {scenario.name or 'this link'} has no sky: it is the same everywhere"])
    there = {"latitude_deg": latitude_deg, "longitude_deg": longitude_deg, "altitude_m": altitude_m, "track": ""}
    moved = scenario.model_copy(update={"terminal": scenario.terminal.model_copy(update=there)})
    windows = windows_for(moved, elements=bench.elements, epoch_utc_ns=bench.utc_ns())
    turn_ns = bench.operator.follow(windows, at_ns)
    bench.place.become(moved)
    if bench.dish is not None:
        with bench.dish.dish.lock:
            bench.dish.dish.site = bench.place.terminal
    return turn_ns
