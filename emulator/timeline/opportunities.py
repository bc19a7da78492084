"""What a trace of delivery opportunities makes of a link's rate: it stands in the place of the Timeline's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from emulator.scenario.links import direction_keys
from emulator.scenario.model import Scenario
from emulator.scenario.opportunities import read_opportunities
from emulator.timeline.model import Channel, Timeline
from emulator.units import NS_PER_MS, NS_PER_S

Direction = Literal["uplink", "downlink"]
DIRECTIONS: tuple[Direction, ...] = ("uplink", "downlink")


@dataclass(frozen=True)
class Delivery:
    """A direction's trace at a glance. rate_bps: its mean, if every opportunity is used; longest_pause_ns: between two
    opportunities, the repetition included.
    """

    file: Path
    rate_bps: int
    longest_pause_ns: int


def deliveries(scenario: Scenario) -> dict[Direction, Delivery]:
    """The traces of the directions that have one. Raises ScenarioError for one that cannot be read."""
    found: dict[Direction, Delivery] = {}
    for direction in DIRECTIONS:
        wanted = direction_keys(scenario.link, direction).opportunities
        if wanted is not None:
            instants_ns = read_opportunities(Path(wanted.file))
            period_ns = instants_ns[-1]
            carried_bits = len(instants_ns) * wanted.packet_bytes * 8
            pauses_ns = np.diff(np.array([0, *instants_ns], np.int64))  # the last line is where it begins anew
            rate_bps = max(1, carried_bits * NS_PER_S // period_ns)  # 0 would stand for no limit
            found[direction] = Delivery(Path(wanted.file), rate_bps, int(pauses_ns.max()))
    return found


def notes(found: Mapping[Direction, Delivery]) -> list[str]:
    """What to tell of them, a line each."""
    return [
        f"{direction}: delivery opportunities of {one.file.name} stand in the place of the rate: "
        f"{one.rate_bps / 1e6:.6g} Mbit/s on average, up to {one.longest_pause_ns / NS_PER_MS:g} ms apart"
        for direction, one in found.items()
    ]


def with_deliveries(timeline: Timeline, found: Mapping[Direction, Delivery]) -> Timeline:
    """The Timeline with the traces' mean rates in place of its own."""
    changed: dict[str, Channel] = {
        direction: _at_rate(getattr(timeline, direction), one.rate_bps) for direction, one in found.items()
    }
    return replace(timeline, **changed) if changed else timeline  # type: ignore[arg-type]


def _at_rate(channel: Channel, rate_bps: int) -> Channel:
    return replace(channel, rate_bps=np.full_like(channel.rate_bps, rate_bps))
