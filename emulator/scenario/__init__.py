"""From a TOML file to one frozen, validated Scenario; the only reader of configuration."""

from __future__ import annotations

from emulator.scenario.load import embedded_scenarios, load_scenario
from emulator.scenario.model import Scenario

__all__ = ["Scenario", "embedded_scenarios", "load_scenario"]
