"""The dish's pings, computed: what the channel says of an instant is what a ping of that instant gets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.terminal.pings import PATIENCE_NS, PERIOD_NS, ChannelAt, Direction, QueueLoad, pings
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import ChannelState
from emulator.units import NS_PER_MS, NS_PER_S

OPEN = ChannelState(delay_ns=20 * NS_PER_MS, rate_bps=10**7, loss=0.0, gate=Gate.PASS, cause=Cause.NONE)


def always(state: ChannelState) -> ChannelAt:
    return lambda direction, at_ns: state


@given(st.integers(0, 10 * NS_PER_S), st.integers(0, 5 * NS_PER_S), st.integers(0, 5 * NS_PER_S))
def test_joined_stretches_hold_the_pings_of_the_whole(start: int, first: int, second: int) -> None:
    channel = always(replace(OPEN, loss=0.3))
    middle, end = start + first, start + first + second
    parts = [*pings(channel, 7, start, middle), *pings(channel, 7, middle, end)]
    assert parts == list(pings(channel, 7, start, end))
    assert all(ping.utc_ns % PERIOD_NS == 0 and start <= ping.utc_ns < end for ping in parts)


@given(st.integers(0, 400), st.integers(0, 90), st.integers(0, 90))
def test_the_latency_is_both_delays_and_both_queues(delay_ms: int, up_ms: int, down_ms: int) -> None:
    channel = always(replace(OPEN, delay_ns=delay_ms * NS_PER_MS))
    loads = QueueLoad(up_ms * NS_PER_MS), QueueLoad(down_ms * NS_PER_MS)
    for ping in pings(channel, 1, 0, NS_PER_S, *loads):
        assert ping.latency_ns == (2 * delay_ms + up_ms + down_ms) * NS_PER_MS


@pytest.mark.parametrize("direction", ["uplink", "downlink"])
def test_a_shut_gate_loses_it_and_says_why(direction: Direction) -> None:
    shut = replace(OPEN, gate=Gate.DROP, cause=Cause.OBSTRUCTION)
    found = list(pings(lambda way, at_ns: shut if way == direction else OPEN, 1, 0, NS_PER_S))
    assert len(found) == 20
    assert {(ping.latency_ns, ping.cause) for ping in found} == {(None, Cause.OBSTRUCTION)}


def test_a_hold_delays_it_until_the_gate_opens_or_its_patience_ends() -> None:
    held = replace(OPEN, gate=Gate.HOLD, cause=Cause.HANDOVER)
    first = next(pings(lambda way, at_ns: held if at_ns < 100 * NS_PER_MS else OPEN, 1, 0, 1))
    assert first.latency_ns == 140 * NS_PER_MS
    for_ever = next(pings(always(held), 1, 0, 1))
    assert (for_ever.latency_ns, for_ever.cause) == (None, Cause.HANDOVER)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_as_many_are_lost_as_the_channel_loses(share: float) -> None:
    lost = [ping for ping in pings(always(replace(OPEN, loss=share)), 3, 0, 100 * NS_PER_S) if ping.latency_ns is None]
    both = 1 - (1 - share) ** 2
    assert len(lost) / 2000 == pytest.approx(both, abs=0.04)
    assert {ping.cause for ping in lost} <= {Cause.LOSS}


def test_a_ping_that_takes_too_long_is_lost() -> None:
    late = always(replace(OPEN, delay_ns=PATIENCE_NS))
    assert next(pings(late, 1, 0, 1)).latency_ns is None
