"""Short burst data over the link of `iridium_certus`: sessions last as long as published."""

from __future__ import annotations

import numpy as np

from emulator.bench.devices import BYTE_NS, session_ns
from emulator.scenario import load_scenario
from emulator.timeline.build import windows_for
from emulator.units import NS_PER_S, parse_utc_ns
from firmware_stubs.sbd import LONGEST_MO

START_NS = parse_utc_ns("2025-10-03T10:00:00Z")


def test_short_messages_take_5_seconds_and_the_longest_20() -> None:
    timeline = windows_for(load_scenario("iridium_certus"), epoch_utc_ns=START_NS).window(
        START_NS, START_NS + 1200 * NS_PER_S
    )
    round_trips_ns = timeline.uplink.delay_ns[:1000] + timeline.downlink.delay_ns[:1000]
    for bytes_sent, published_s in ((1, 5), (LONGEST_MO, 20)):
        lasts_s = [(session_ns(int(trip)) + bytes_sent * BYTE_NS) / NS_PER_S for trip in round_trips_ns]
        assert abs(np.median(lasts_s) - published_s) < 0.3
        assert np.ptp(lasts_s) < 1
