"""What takes the path in one step leaves behind, to the last register, what it would have left step by step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.link import state
from emulator.link.link import Change, Link, LinkOptions
from emulator.link.options import LaneOptions
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import Offer, Outcome, drive, new_link
from hil_tests.unit.link.packets import Super
from hil_tests.unit.link.strategies import MS, POLLS, SEEDS, changes, channels, mixed_offers

RATES = st.sampled_from([0, 0, 0, 10_000_000, 10**10])
OPTIONS = LinkOptions(memory_bytes=1 << 20, flight_packets=64)
CLEAR = channels(rates=RATES, losses=False, gates=False)  # where most go through; at the edges of the others few do
CHANGES = st.just(list[Change]()) | changes(most=2)
LANES = st.builds(
    LaneOptions,
    queue_packets=st.sampled_from([1, 3, 1000]),
    queue_bytes=st.sampled_from([0, 0, 100, 3000]),
    discipline=st.sampled_from(["drop_tail", "drop_tail", "drop_front", "codel", "pie", "fq_codel"]),
    longest_wait_ns=st.sampled_from([0, MS]),
)


def both_ways(
    channel: Channel, options: LinkOptions, offers: list[Offer], polls: list[int], made: list[Change], seed: int
) -> tuple[tuple[Link, Outcome], tuple[Link, Outcome]]:
    """The same through a link as it is, and through one whose ledger notes every packet: each goes by itself."""
    links = [new_link(channel, one, seed=seed, changes=made) for one in (options, replace(options, ledger_events=1))]
    fast, slow = ((link, drive(link, offers, polls=polls)) for link in links)
    return fast, slow


@settings(max_examples=300)  # each guard of the short way matters to a few of them only
@given(CLEAR | channels(rates=RATES), mixed_offers(), POLLS, CHANGES, SEEDS, LANES, st.sampled_from([0, 0, 10**9]))
def test_it_is_the_same_to_the_last_register(
    channel: Channel,
    offers: list[Offer],
    polls: list[int],
    made: list[Change],
    seed: int,
    lane: LaneOptions,
    egress_bps: int,
) -> None:
    options = replace(OPTIONS, lanes=(lane,), egress_rate_bps=egress_bps)
    (fast, one), (slow, other) = both_ways(channel, options, offers, polls, made, seed)
    assert one.deliveries == other.deliveries
    registers = np.arange(state.REGISTERS) != state.LEDGER_TAIL
    assert fast.state.reg[registers].tolist() == slow.state.reg[registers].tolist()
    assert fast.state.lanes.tolist() == slow.state.lanes.tolist()
    assert fast.state.dropped.tolist() == slow.state.dropped.tolist()


@pytest.mark.parametrize("waits", [False, True], ids=["idle", "a packet waits"])
def test_it_is_taken_where_nothing_stands_in_the_way_and_only_there(waits: bool) -> None:
    channel = Channel.constant(0, delay_ns=10 * MS, rate_bps=1_000_000 if waits else 0)
    offers = [Offer(at, Super("tcp", 4, 20 * 1448, 1448, at).frame()) for at in (0, 1)]
    (fast, one), (slow, other) = both_ways(channel, OPTIONS, offers, [], [], 1)
    assert len(one.deliveries) == len(other.deliveries) == 40
    assert bool(np.any(slow.state.queue)), "without it every packet stands in the queue"
    assert bool(np.any(fast.state.queue)) == waits
