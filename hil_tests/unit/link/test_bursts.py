"""Bursts of loss are a process in time: laws of Gilbert and Elliott, whoever is there to feel them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.link import lose
from emulator.link.compiled import interpreted
from emulator.link.link import Bursts, Link, LinkOptions
from emulator.timeline.causes import Cause
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import drive, new_link
from hil_tests.unit.link.strategies import MS, SEEDS, S, offers_of

BURSTS = Bursts(gap_ns=400 * MS, length_ns=20 * MS, bin_ns=MS)
OPTIONS = LinkOptions(memory_bytes=1 << 21, flight_packets=1 << 13, bursts=BURSTS)
BINS = 20_000 if interpreted else 400_000


def link_with(bursts: Bursts | None, *, seed: int = 1, direction: int = 0, utc_offset_ns: int = 0) -> Link:
    options = replace(OPTIONS, bursts=bursts)
    channel = Channel.constant(0, delay_ns=0)
    return new_link(channel, options, seed=seed, direction=direction, utc_offset_ns=utc_offset_ns)


def states(bins: Iterable[int], bursts: Bursts = BURSTS, **where: int) -> list[bool]:
    link = link_with(bursts, **where).state
    return [lose.chain_state(link.reg, link.chain, number) == 1 for number in bins]


def runs(found: list[bool]) -> list[int]:
    """Lengths of the bursts in a row of bins."""
    lengths, length = [], 0
    for burst in [*found, False]:
        if burst:
            length += 1
        elif length:
            lengths.append(length)
            length = 0
    return lengths


def test_gaps_lengths_and_their_spread_are_those_asked_for() -> None:
    lengths = runs(states(range(BINS)))
    expected = BINS / (400 + 20)
    assert abs(len(lengths) - expected) <= 4 * math.sqrt(expected)
    mean = sum(lengths) / len(lengths)
    assert abs(mean - 20) <= 4 * 20 / math.sqrt(len(lengths))  # a geometric law spreads by its mean
    longer = sum(length > 20 for length in lengths) / len(lengths)
    assert abs(longer - (1 - 1 / 20) ** 20) <= 4 * math.sqrt(0.25 / len(lengths))


def chi_square(lengths: list[int], mean: float) -> float:
    """How far lengths, in bins, are from a geometric law, in 9 shares of about a tenth and the rest: 9 degrees."""
    stays = 1 - 1 / mean
    edges = [0, *(math.ceil(math.log(1 - tenth / 10) / math.log(stays)) for tenth in range(1, 10)), math.inf]
    total = 0.0
    for above, up_to in zip(edges, edges[1:], strict=False):
        expected = (stays**above - (0 if up_to == math.inf else stays**up_to)) * len(lengths)
        found = sum(above < length <= up_to for length in lengths)
        total += (found - expected) ** 2 / expected
    return total


MOST_CHI_SQUARE = 27.88  # 9 degrees of freedom, exceeded by chance once in 1,000


@pytest.mark.parametrize("length_ms", [1, 20, 500, 10_000, 3_600_000])
def test_bursts_have_the_lengths_of_their_law_however_long_they_are(length_ms: int) -> None:
    coarse = length_ms * MS // 16 if interpreted else 0
    bursts = Bursts(gap_ns=4 * length_ms * MS, length_ns=length_ms * MS, bin_ns=coarse)
    mean = length_ms * MS / bursts.bin_ns
    lengths = runs(states(range(BINS), bursts))[1:-1]  # the first and the last are cut off
    assert len(lengths) > 200
    assert chi_square(lengths, mean) < MOST_CHI_SQUARE


@pytest.mark.parametrize("length_ms", [1, 10_000])
def test_in_the_long_run_the_share_of_time_in_bursts_is_right_whenever_one_looks(length_ms: int) -> None:
    """Looks far apart, each of which has to find the state of its moment anew."""
    bursts = Bursts(gap_ns=3 * length_ms * MS, length_ns=length_ms * MS)
    looks = 100 if interpreted else 4000
    found = states((look * 123_457 for look in range(looks)), bursts)
    assert abs(sum(found) / looks - 1 / 4) < 4 * math.sqrt(1 / 4 * 3 / 4 / looks)


@given(st.floats(0.001, 1e6), st.floats(1, 3.6e6))
def test_they_come_and_go_as_often_as_asked_for_however_rare_and_short(every_s: float, length_ms: float) -> None:
    """By the odds of the chain: nobody can wait for a burst that comes once in weeks."""
    bursts = Bursts(round(every_s * S), round(length_ms * MS))
    chain = link_with(bursts).state.chain.tolist()
    one = 1 << lose.CHAIN_ONE_BITS
    assert bursts.bin_ns * one / (one - chain[0][0]) == pytest.approx(bursts.gap_ns, rel=1e-6)
    assert bursts.bin_ns * one / chain[1][0] == pytest.approx(bursts.length_ns, rel=1e-6)


@given(SEEDS, st.integers(0, 1), st.lists(st.integers(0, 3 * 4096), min_size=1, max_size=30))
def test_a_moment_has_its_state_whatever_was_asked_before(seed: int, direction: int, bins: list[int]) -> None:
    in_order = dict(zip(sorted(bins), states(sorted(bins), seed=seed, direction=direction), strict=True))
    assert states(bins, seed=seed, direction=direction) == [in_order[number] for number in bins]


@pytest.mark.parametrize("every_ms", [1, 10, 97])
def test_the_same_bursts_strike_few_and_many_packets(every_ms: int) -> None:
    span_ms = 4000
    truth = states(range(span_ms))
    offers = offers_of([(at * MS, 100) for at in range(0, span_ms, every_ms)])
    outcome = drive(link_with(BURSTS), offers)
    arrived = {delivery.due_ns // MS for delivery in outcome.deliveries}
    assert arrived == {at for at in range(0, span_ms, every_ms) if not truth[at]}
    assert outcome.counters.dropped.get(Cause.LOSS, 0) == len(offers) - len(arrived)


def test_they_live_in_utc() -> None:
    at = [(number * MS, 100) for number in range(3000)]
    here = [due for due, _ in drive(link_with(BURSTS), offers_of(at)).deliveries]
    shifted = drive(link_with(BURSTS, utc_offset_ns=500 * S), offers_of(at)).deliveries
    later = drive(link_with(BURSTS), offers_of([(500 * S + when, size) for when, size in at])).deliveries
    assert [due for due, _ in shifted] == [due - 500 * S for due, _ in later] != here


def test_within_a_burst_the_loss_is_its_own() -> None:
    half = replace(BURSTS, loss=0.5)
    truth = states(range(6000))
    outcome = drive(link_with(half), offers_of([(at * MS, 100) for at in range(6000)]))
    arrived = {delivery.due_ns // MS for delivery in outcome.deliveries}
    assert all(at in arrived for at in range(6000) if not truth[at])
    inside = [at in arrived for at in range(6000) if truth[at]]
    assert 0.3 < sum(inside) / len(inside) < 0.7


def test_losses_are_longer_together_than_chance_would_make_them() -> None:
    """The burst lengths of an independent loss of the same rate fail against these, as they must."""
    found = states(range(BINS))
    rate = sum(found) / len(found)
    singles = sum(length == 1 for length in runs(found)) / len(runs(found))
    assert singles < 0.15 < 1 - rate  # independent losses would be single with probability 1 − rate


@pytest.mark.parametrize("bad", [{"gap_ns": 0}, {"length_ns": 10}, {"loss": 1.5}, {"bin_ns": 20 * MS}])
def test_what_makes_no_sense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="bursts"):
        replace(BURSTS, **bad)  # type: ignore[arg-type]
