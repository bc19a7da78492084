"""A handover with two antennas, live: the round trip steps, and not one packet of 10,000 a second is lost."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.bench import Bench
from emulator.scenario import load_scenario
from emulator.testing.session import Session
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Cause
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns

LEAD_S = 8  # from the bench's beginning to the handover: time for the senders to begin, on a busy machine too

pytestmark = pytest.mark.needs("netns", "tun")


def test_make_before_break_steps_and_loses_nothing() -> None:
    scenario = load_scenario(
        "o3b_mpower",
        ["link.uplink.loss=0", "link.downlink.loss=0", "link.uplink.jitter_ms=0", "link.downlink.jitter_ms=0"],
    )
    begin_ns = parse_utc_ns("2025-10-03T10:00:00Z")
    path = windows_for(scenario, epoch_utc_ns=begin_ns).window(begin_ns, begin_ns + 3600 * NS_PER_S).path
    handover_ns = int(path.start_ns[1:][np.diff(path.satellite) != 0][0])
    with Bench(scenario, start_utc_ns=handover_ns - LEAD_S * NS_PER_S) as bench:
        with Session(bench.terminal, bench.datacenter) as session:
            session.start_receivers()
            until_ns = handover_ns - bench.utc_ns()
            assert until_ns > NS_PER_S / 2, f"the senders took {LEAD_S} s to begin"
            session.start_probes(until_ns + 2 * NS_PER_S, NS_PER_MS // 10)
            for sender in session.senders:
                assert sender.wait(30) == 0
            probes, _ = session.finish()
        assert bench.utc_ns() > handover_ns
        counters = bench.counters()
    for direction, counted in (("uplink", counters.uplink), ("downlink", counters.downlink)):
        run = probes[direction]  # type: ignore[index]
        assert len(run.sequence) > 10_000  # some 70,000 if the machine has the time to send them
        assert set(counted.dropped) <= {Cause.PORT_QUEUE}, "what a busy machine let the kernel drop before the link"
        assert run.lost.sum() == counted.dropped.get(Cause.PORT_QUEUE, 0)
        part = len(run.delay_ns) // 20
        step_ns = run.delay_ns[-part:].min() - run.delay_ns[:part].min()  # other work on the machine only adds
        assert 5 * NS_PER_MS < -step_ns < 10 * NS_PER_MS
