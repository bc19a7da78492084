"""The line rate behind a link: what a delay that falls brings together leaves one after the other, and catches up."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.ports.assembly import line_rate_bps, link_options
from emulator.scenario import load_scenario
from hil_tests.unit.link.driver import drain, new_link
from hil_tests.unit.link.packets import NO_OFFLOAD, packet
from hil_tests.unit.link.strategies import channel_of

MS, S = 1_000_000, 1_000_000_000
BYTES = 1250


@pytest.mark.parametrize(
    ("stated_mbps", "link_mbps", "found"),
    [
        (None, 0, 0),  # a link without a rate
        (None, 0.1, 10**9),
        (None, 500, 10**9),
        (None, 501, 10**10),
        (None, 5_000, 10**10),
        (None, 50_000, 10**11),
        (None, 50_001, 0),
        (0.0, 10, 0),
        (2_500.0, 10_000, 2_500_000_000),
    ],
)
def test_a_link_fills_the_card_behind_it_to_at_most_half(stated_mbps: float, link_mbps: float, found: int) -> None:
    assert line_rate_bps(stated_mbps, link_mbps * 1e6) == found


@given(st.sampled_from([10, 100]), st.integers(1, 39))
def test_behind_a_delay_that_falls_packets_are_spaced_and_a_full_link_gets_the_shorter_one(
    rate_mbps: int, fall_ms: int
) -> None:
    options = link_options(load_scenario("fixed", [f"link.rate_mbps={rate_mbps}"]), "downlink", 40 * MS)
    falls = channel_of(
        [
            {"lasts_ns": 10 * MS, "delay_ns": 40 * MS, "rate_bps": rate_mbps * 10**6},
            {"lasts_ns": 10**12, "delay_ns": (40 - fall_ms) * MS, "rate_bps": rate_mbps * 10**6},
        ]
    )
    link = new_link(falls, options)
    service_ns, spacing_ns = BYTES * 8 * S // (rate_mbps * 10**6), BYTES * 8 * S // options.egress_rate_bps
    left = []
    for number in range(100 * MS // service_ns):  # a link that is full, without a queue
        link.offer_super(NO_OFFLOAD + packet(BYTES, number), number * service_ns)
        left += link.poll(number * service_ns)
    left += drain(link)
    assert [delivery.packet for delivery in left] == [packet(BYTES, number) for number in range(len(left))]
    assert all(later.due_ns - before.due_ns >= spacing_ns for before, later in pairwise(left))
    last = len(left) - 1
    assert left[last].due_ns == (last + 1) * service_ns + (40 - fall_ms) * MS
