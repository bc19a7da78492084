"""The slots' phase, recovered from nothing but measured round trips: 12 s modulo 15 s of UTC (LINK_FACTS, Tanveer)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emulator.link.link import Link
from emulator.scenario import load_scenario
from emulator.testing.measure import slot_phase_s
from emulator.timeline.build import windows_for
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns

SCENARIO = Path(__file__).parents[2] / "configs" / "starlink_2025.toml"
EXPECTED_S, TOLERANCE_S = 12.0, 0.5
PROBE = bytes([0x45, 0, 0, 60]) + bytes(16) + bytes(40)  # an IPv4 header that says 60 bytes, and no more of it


def round_trips(start: str, seed: int, seconds: int, interval_ns: int) -> tuple[list[float], list[float]]:
    """UTC s and round trip in ms of probes through both directions, in virtual time; lost ones are left out."""
    start_ns = parse_utc_ns(start)
    timeline = windows_for(load_scenario(SCENARIO, [f"seed={seed}"]), epoch_utc_ns=start_ns).window(
        start_ns, start_ns + (seconds + 5) * NS_PER_S
    )
    up = Link(timeline.uplink, timeline.end_ns, seed=seed, direction=0)
    down = Link(timeline.downlink, timeline.end_ns, seed=seed, direction=1)
    times, trips = [], []
    sent = start_ns
    while sent < start_ns + seconds * NS_PER_S:
        up.offer(PROBE, sent)
        arrived = up.poll(sent + 2 * NS_PER_S)
        if arrived:
            down.offer(PROBE, arrived[0].due_ns)
            returned = down.poll(arrived[0].due_ns + 2 * NS_PER_S)
            if returned:
                times.append(sent / NS_PER_S)
                trips.append((returned[0].due_ns - sent) / NS_PER_MS)
        sent += interval_ns
    return times, trips


@pytest.mark.parametrize(
    ("start", "seed"), [("2025-06-01T00:00:05Z", 1), ("2025-09-09T09:09:09.5Z", 7), ("2026-02-28T23:58:58.123Z", 42)]
)
def test_the_phase_is_that_of_utc_and_not_of_the_start(start: str, seed: int) -> None:
    phase = slot_phase_s(*round_trips(start, seed, seconds=240, interval_ns=50 * NS_PER_MS))
    assert phase.error_s(EXPECTED_S) <= TOLERANCE_S
    assert phase.confidence > 0.95


@pytest.mark.long
@pytest.mark.needs("netns", "tun", "irtt")
def test_the_phase_is_seen_from_outside() -> None:
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "emulator.cli.main",
            "shell",
            str(SCENARIO),
            "--isolate",
            "--datacenter-cmd",
            "exec irtt server",
            "--",
            "sh",
            "-c",
            "irtt client -i 20ms -d 100s -o - -Q $BENTPIPE_DATACENTER",
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    trips = [trip for trip in json.loads(result.stdout)["round_trips"] if "rtt" in trip["delay"]]
    times = np.array([trip["timestamps"]["client"]["send"]["wall"] for trip in trips]) / NS_PER_S
    phase = slot_phase_s(times, [trip["delay"]["rtt"] / NS_PER_MS for trip in trips])
    assert phase.error_s(EXPECTED_S) <= TOLERANCE_S
