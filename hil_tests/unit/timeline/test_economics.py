"""What terminals share, as packets feel it: capacity that is asked for, and a cell by the hour of the day."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.scenario import load_scenario
from emulator.timeline.build import windows_for
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns
from hil_tests.unit.timeline.virtual_pings import Pings, ping

START_NS = parse_utc_ns("2025-10-03T10:00:00Z")
STEADY = ["link.uplink.jitter_ms=0", "link.downlink.jitter_ms=0", "link.uplink.loss=0", "link.downlink.loss=0"]
REQUEST_MS, KEPT_MS = 560, 100


def pings(name: str, interval_ns: int, count: int, *more: str, start_ns: int = START_NS) -> Pings:
    scenario = load_scenario(name, [*STEADY, *more])
    windows = windows_for(scenario, epoch_utc_ns=start_ns)
    return ping(scenario, windows, start_ns, count * interval_ns / (3600 * NS_PER_S), interval_ns)


def demand(kind: str) -> tuple[str, ...]:
    asks = f"link.uplink.request_ms={REQUEST_MS}", f"link.uplink.request_kept_ms={KEPT_MS}"
    return *asks, f'link.uplink.request_for="{kind}"'


@pytest.mark.parametrize(("kind", "waits"), [("rate", 1), ("volume", 40)])
def test_packets_of_a_busy_terminal_wait_once_for_a_rate_and_always_for_a_volume(kind: str, waits: int) -> None:
    """A packet each 50 ms: with a rate the first one waits, those behind it go with it, and from then on none waits."""
    interval_ms, count = 50, 40
    free = pings("geo_dvbs2", interval_ms * NS_PER_MS, count)
    asked = pings("geo_dvbs2", interval_ms * NS_PER_MS, count, *demand(kind))
    added_ms = asked.rtt_ms - free.rtt_ms
    late = added_ms > 1
    assert added_ms[0] == pytest.approx(REQUEST_MS, abs=1)
    if kind == "volume":
        assert added_ms == pytest.approx(np.full(count, REQUEST_MS), abs=1)
    else:  # the packets of the first 560 ms leave together, each having waited less
        assert late.sum() == -(-REQUEST_MS // interval_ms)
        assert not late[-(-REQUEST_MS // interval_ms) :].any()


def test_packets_of_an_idle_terminal_wait_each_time() -> None:
    seldom_ns = 2 * NS_PER_S
    free, asked = pings("geo_dvbs2", seldom_ns, 10), pings("geo_dvbs2", seldom_ns, 10, *demand("rate"))
    assert asked.rtt_ms - free.rtt_ms == pytest.approx(np.full(10, REQUEST_MS), abs=1)


def test_a_burst_takes_four_times_as_long_through_a_cell_of_which_a_quarter_is_left() -> None:
    # 10 h UTC are 18.4 h of local solar time in Dili, at 125.6 degrees east
    share = ["link.cell_share.least=0.25", "link.cell_share.busy_hour=18.37"]

    def lasts_ms(hours: int, *more: str) -> float:
        start_ns = START_NS + hours * 3600 * NS_PER_S
        burst = pings("o3b_mpower", 100, 2000, *more, start_ns=start_ns)
        assert not burst.lost.any()
        arrived_ms = burst.sent_ns / NS_PER_MS + burst.rtt_ms
        return float(arrived_ms[-1] - arrived_ms[0])

    assert lasts_ms(0, *share) / lasts_ms(0) == pytest.approx(4, rel=0.02)
    assert lasts_ms(12, *share) / lasts_ms(12) == pytest.approx(1, rel=0.02)
