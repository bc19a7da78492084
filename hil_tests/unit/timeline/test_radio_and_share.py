"""A direction's C/N from transmitter and receiver, and what sharing a cell leaves of its rate."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.scenario import load_scenario
from emulator.timeline.build import windows_for
from emulator.timeline.model import Channel
from emulator.units import NS_PER_S, parse_utc_ns

START_NS = parse_utc_ns("2025-10-03T04:00:00Z")
RADIO = (
    "link.downlink.radio={eirp_dbw=36.0, g_over_t_db=9.0, frequency_ghz=11.7, bandwidth_mhz=240.0,"
    " pointing_loss_db=0.5, scan_exponent=1.2, interference_db=15.0}"
)


def downlink(*overrides: str, start_ns: int = START_NS) -> tuple[Channel, np.ndarray]:
    scenario = load_scenario("starlink_2025", overrides)
    timeline = windows_for(scenario, epoch_utc_ns=start_ns).window(start_ns, start_ns + 120 * NS_PER_S)
    return timeline.downlink, timeline.path.elevation_deg


def test_the_cn_follows_from_transmitter_and_receiver() -> None:
    plain, _ = downlink()
    channel, elevation = downlink(RADIO)
    assert (channel.cn_centidb < 1500).all()  # below the C/I
    high, low = elevation > np.percentile(elevation, 80), elevation < np.percentile(elevation, 20)
    assert channel.cn_centidb[high].mean() > channel.cn_centidb[low].mean()
    assert np.array_equal(channel.rate_bps, plain.rate_bps)  # a clear sky's rates are drawn
    assert np.array_equal(channel.delay_ns, plain.delay_ns)


def test_a_shared_cell_slows_by_local_time_and_delays_nothing() -> None:
    busy = ["link.cell_share.least=0.5", "link.cell_share.busy_hour=20.0"]
    # 4 h UTC are 19.8 h of local solar time at 123.3 degrees west, 16 h UTC are 7.8 h
    for hours, share in ((0, 0.5), (12, 1.0)):
        start_ns = START_NS + hours * 3600 * NS_PER_S
        (alone, _), (shared, _) = downlink(start_ns=start_ns), downlink(*busy, start_ns=start_ns)
        assert shared.rate_bps / alone.rate_bps == pytest.approx(np.full(len(alone), share), abs=0.01)
        assert np.array_equal(shared.delay_ns, alone.delay_ns)
