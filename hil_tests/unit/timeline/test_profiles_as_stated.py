"""Profiles of which little was measured do what their pages state: loss, jitter, outages and queues, packet by packet.

A figure of LINK_FACTS where there is one, else the stated guess, so that none changes unseen. Starlink's profiles have
tests of their own.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pytest

from emulator.scenario import load_scenario
from emulator.timeline.build import windows_for
from emulator.timeline.model import Timeline
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns
from hil_tests.unit.timeline.virtual_pings import Pings, ping

pytestmark = pytest.mark.needs("compiled")
START_NS = parse_utc_ns("2025-10-03T10:00:00Z")
INTERVAL_NS = 97_300_000  # no multiple of the jitter's 20 ms
HOURS = 1.0
LONG_S = 1.0  # lost together for so long: an outage, or a gap at a handover


@dataclass(frozen=True)
class Stated:
    """Least and most of each, round trip; shares of pings."""

    median_ms: tuple[float, float]
    step_ms: tuple[float, float]  # mean absolute difference of consecutive round trips: jitter
    lost_alone: tuple[float, float]  # outages and gaps apart
    longest_s: float  # of outages and gaps
    in_gaps: tuple[float, float]


STATED = {
    "o3b_mpower": Stated((120, 140), (0.5, 1.0), (0.00005, 0.0005), 0, (0, 0)),  # 120 reported, 130-140 the vendor's
    "o3b_classic_single_antenna": Stated((120, 140), (0.5, 1.0), (0.00005, 0.0005), 16, (0.010, 0.016)),
    "geo_dvbs2": Stated((590, 605), (4, 9), (0.00005, 0.0005), 0, (0, 0)),  # typically about 600 ms
    "oneweb": Stated((28, 60), (2, 5), (0.0009, 0.0023), 0, (0, 0)),  # 16-29 ms of propagation, and what is fixed
    "kuiper_geometry": Stated((10, 20), (0, 0.01), (0, 0), 0, (0, 0)),
    "iridium_certus": Stated((440, 520), (30, 60), (0.008, 0.012), 140, (0.005, 0.04)),  # gaps up to 70 s; two may meet
}


@functools.cache
def pings_of(name: str) -> Pings:
    scenario = load_scenario(name)
    return ping(scenario, windows_for(scenario, epoch_utc_ns=START_NS), START_NS, HOURS, INTERVAL_NS)


@pytest.mark.parametrize("name", STATED)
def test_round_trips_and_losses_are_as_stated(name: str) -> None:
    stated, pings = STATED[name], pings_of(name)
    bursts, count = pings.bursts(), len(pings.sent_ns)
    long = bursts[bursts * INTERVAL_NS > LONG_S * NS_PER_S]
    found = {
        "median_ms": np.nanmedian(pings.rtt_ms),
        "step_ms": np.nanmean(np.abs(np.diff(pings.rtt_ms))),
        "lost_alone": (bursts.sum() - long.sum()) / count,
        "in_gaps": long.sum() / count,
    }
    for key, value in found.items():
        least, most = getattr(stated, key)
        assert least <= value <= most, f"{key}: {found}"
    assert (long * INTERVAL_NS <= stated.longest_s * NS_PER_S).all()


QUEUES_MS = {  # longest wait of a full queue at the direction's usual rate, up and down: each page's or file's guess
    "o3b_mpower": (100, 100),
    "o3b_classic_single_antenna": (100, 100),
    "geo_dvbs2": (180, 200),
    "oneweb": (100, 100),
    "kuiper_geometry": (100, 100),
    "iridium_certus": (1000, 2000),
}


@pytest.mark.parametrize("name", QUEUES_MS)
def test_queues_hold_as_much_as_stated(name: str) -> None:
    """1,500-byte packets that find the queue full wait this long, by the rates of an hour."""
    scenario = load_scenario(name)
    windows = windows_for(scenario, epoch_utc_ns=START_NS)
    timeline: Timeline = windows.window(START_NS, START_NS + round(HOURS * 3600) * NS_PER_S)
    for direction, stated_ms in zip(("uplink", "downlink"), QUEUES_MS[name], strict=True):
        way = getattr(scenario.link, direction)
        rate_bps = float(np.median(getattr(timeline, direction).rate_bps))
        full_ms = way.queue_packets * (1500 + (way.overhead_bytes or 0)) * 8e9 / rate_bps / NS_PER_MS
        longest_ms = min(full_ms, way.queue_ms or np.inf)
        assert longest_ms == pytest.approx(stated_ms, rel=0.2)
