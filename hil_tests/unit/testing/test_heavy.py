"""Rates from bursts of heavy probes: those of the narrowest place, whatever is lost on the way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.testing.heavy import Burst, burst_of, told, with_rates
from emulator.timeline.model import LOSS_ONE
from emulator.timeline.traces.rows import channel, timeline
from emulator.units import NS_PER_MS, NS_PER_S

BYTES = 1400
START_NS = 1_700_000_000 * NS_PER_S


def through(sent_ns: np.ndarray, rate_mbps: float, queue: int) -> np.ndarray:
    """When each packet is out of a bottleneck with a drop-tail queue; −1 for those that are dropped."""
    takes_ns = round(BYTES * 8 / rate_mbps * 1000)
    free, out = 0, []
    for at in sent_ns.tolist():
        if free - at > queue * takes_ns:
            out.append(-1)
            continue
        free = max(free, at) + takes_ns
        out.append(free)
    return np.array(out, np.int64)


def burst_through(offered: float, up: float, down: float, clock_ns: int = 0) -> Burst:
    sent = START_NS + np.arange(round(2 * offered * 1e6 / (BYTES * 8)), dtype=np.int64) * round(
        BYTES * 8 / offered * 1000
    )
    there = through(sent, up, 40)
    arrived = np.flatnonzero(there >= 0)
    here = through(there[arrived], down, 40)
    rows = np.zeros((len(sent), 8), np.int64)
    rows[:, 0], rows[:, 1] = np.arange(len(sent)), sent
    came = arrived[here >= 0]
    rows[came, 2] = rows[came, 3] = there[came] + 20 * NS_PER_MS + clock_ns
    rows[came, 4] = here[here >= 0] + 40 * NS_PER_MS
    rows[came, 5] = np.flatnonzero(here >= 0) + 1
    rows[came, 6] = np.arange(len(came)) + 1
    found = burst_of(rows, BYTES)
    assert found is not None
    return found


@given(st.floats(2, 50), st.floats(0.2, 3), st.floats(0.2, 3), st.integers(-(10**12), 10**12))
def test_the_narrowest_place_is_the_rate(offered: float, up_share: float, down_share: float, clock_ns: int) -> None:
    found = burst_through(offered, up_share * offered, down_share * offered, clock_ns)
    up = min(1.0, up_share) * offered * 1e6
    down = min(down_share * offered * 1e6, up)
    assert found.offered_bps == pytest.approx(offered * 1e6, rel=0.01)
    assert found.uplink.rate_bps == pytest.approx(up, rel=0.06)
    assert found.downlink.rate_bps == pytest.approx(down, rel=0.06)
    if up_share < 0.9:
        assert found.uplink.limited
        assert found.uplink.loss > 0 or len(told([found])) == 2
    if up_share > 1.1:
        assert not found.uplink.limited
        assert "at least" in told([found])[0]


def test_too_few_that_came_back_tell_nothing() -> None:
    assert burst_of(np.zeros((100, 8), np.int64), BYTES) is None


def test_rates_stand_from_burst_to_burst_and_loaded_samples_are_left_out() -> None:
    starts = START_NS + np.arange(600, dtype=np.int64) * 100 * NS_PER_MS
    loaded = ((starts - START_NS) // NS_PER_S % 30) < 2
    delay_ns = np.where(loaded, 500, 20) * NS_PER_MS
    ways = [channel(starts, delay_ns, loss=np.where(loaded, LOSS_ONE // 2, 0)) for _ in range(2)]
    line = timeline(ways[0], ways[1], int(starts[-1]) + 100 * NS_PER_MS)
    first = burst_through(10, 8, 5)
    second = Burst(START_NS + 30 * NS_PER_S, START_NS + 32 * NS_PER_S, 10e6, first.downlink, first.uplink)
    found = with_rates(line, [first, second])
    assert found.end_ns == line.end_ns
    assert found.uplink.at(START_NS + 29 * NS_PER_S).rate_bps == round(first.uplink.rate_bps)
    assert found.uplink.at(START_NS + 40 * NS_PER_S).rate_bps == round(first.downlink.rate_bps)
    assert (found.uplink.delay_ns[1:] == 20 * NS_PER_MS).all()
    assert found.uplink.loss[1:].max() == 0
