"""Limits of the queue that follow from the link: multiples of rate × round trip, as the packets meet them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ScenarioError
from emulator.ports.assembly import link_options
from emulator.scenario import load_scenario
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import new_link
from hil_tests.unit.link.packets import NO_OFFLOAD, packet

MS = 1_000_000


@given(
    delay_ms=st.integers(1, 600),
    rate_kbps=st.integers(10, 100_000),
    factor=st.floats(0.01, 20),
    queue_bytes=st.none() | st.integers(1, 10**6),
)
def test_a_queue_of_so_many_bdp_holds_so_many_bytes_and_one_packet_at_least(
    delay_ms: int, rate_kbps: int, factor: float, queue_bytes: int | None
) -> None:
    settings = [f"link.delay_ms={delay_ms}", f"link.rate_mbps={rate_kbps / 1000}", f"link.queue_bdp={factor!r}"]
    if queue_bytes is not None:
        settings.append(f"link.queue_bytes={queue_bytes}")
    scenario = load_scenario("fixed", settings)
    (lane,) = link_options(scenario, "uplink", delay_ms * MS).lanes
    wanted = factor * rate_kbps * 1000 / 8 * 2 * delay_ms / 1000
    if queue_bytes is not None:
        wanted = min(wanted, queue_bytes)
    assert lane.queue_bytes == pytest.approx(max(wanted, scenario.ports.mtu), abs=1)


@given(st.floats(0.1, 1.5), st.integers(60, 1500))
def test_what_waits_is_never_more_than_that_and_nothing_is_dropped_before(factor: float, size: int) -> None:
    settings = ["link.delay_ms=20", "link.rate_mbps=4", f"link.queue_bdp={factor!r}"]
    options = link_options(load_scenario("fixed", settings), "uplink", 20 * MS)
    link = new_link(Channel.constant(0, delay_ns=20 * MS, rate_bps=4_000_000), options)
    limit = options.lanes[0].queue_bytes
    for number in range(limit // size + 10):
        link.offer_super(NO_OFFLOAD + packet(size, number), 0)
    (lane,) = link.counters().lanes
    assert limit - size < lane.queued_bytes <= limit
    assert lane.dropped_packets == limit // size + 10 - 1 - limit // size  # one is being served


def test_a_multiple_of_nothing_is_refused() -> None:
    with pytest.raises(ScenarioError, match="queue_bdp"):
        link_options(load_scenario("fixed", ["link.rate_mbps=0", "link.queue_bdp=1"]), "uplink", 20 * MS)
