"""What holds for every scenario that comes along: it plans, a bench can carry it, and a sheet tells what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.ports.assembly import link_options
from emulator.scenario import embedded_scenarios, load_scenario
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Gate
from emulator.units import NS_PER_S, parse_utc_ns

START_NS = parse_utc_ns("2025-10-03T10:00:00Z")
SHEETS = Path(__file__).parents[3] / "docs" / "profiles"


@pytest.mark.parametrize("name", embedded_scenarios())
def test_it_plans_and_a_bench_can_carry_it(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    timeline = windows_for(scenario, epoch_utc_ns=START_NS).window(START_NS, START_NS + 60 * NS_PER_S)
    for direction, channel in (("uplink", timeline.uplink), ("downlink", timeline.downlink)):
        options = link_options(scenario, direction, int(channel.delay_ns.max()))  # type: ignore[arg-type]
        assert options.queue_packets >= 1
        assert options.memory_bytes >= channel.rate_bps.max() / 8 * channel.delay_ns.max() / NS_PER_S
        assert set(channel.gate.tolist()) <= set(Gate)


@pytest.mark.parametrize("name", sorted(set(embedded_scenarios()) - {"fixed"}))
def test_a_sheet_names_it(name: str) -> None:
    assert any(f"`{name}`" in sheet.read_text() for sheet in SHEETS.glob("*.md"))
