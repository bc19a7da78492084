"""Bursts of loss with lengths of any law: the laws hold from 10 ms to weeks, and a look at any instant is cheap."""

from __future__ import annotations

import math
import re
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from emulator.link import lose
from emulator.link.compiled import interpreted
from emulator.link.link import LinkOptions, Spells
from emulator.link.state import SPELL_END, SPELL_NEXT, LinkState
from emulator.timeline.model import LOSS_ONE, Channel, Ints
from hil_tests.unit.link import oracle
from hil_tests.unit.link.driver import drive, new_link
from hil_tests.unit.link.strategies import MS, SEEDS, S, offers_of

OPEN = Channel.constant(0, delay_ns=0)
HOUR = 3600 * S
SPELLS = 1_000 if interpreted else 20_000
STARTS, LENGTHS, PLACES = 5, 6, 13  # what draws are for
MEASURED = Spells(100 * MS, 20 * MS, lengths_ns=(3 * MS, 10 * MS, 40 * MS), weights=(5, 3, 2))
LAWS = {
    "lognormal": Spells(200 * MS, 20 * MS, "lognormal", 0.5),
    "wide": Spells(200 * MS, 20 * MS, "lognormal", 2.0),
    "normal": Spells(100 * MS, 10 * MS, "normal", 1.0),
    "constant": Spells(100 * MS, 20 * MS, "constant"),
    "dense": Spells(10 * MS, 50 * MS, "constant"),
    "measured": MEASURED,
    "a rare one": Spells(S, MS, lengths_ns=(MS, 60 * S), weights=(9_999, 1)),
    "uniform": Spells(10 * MS, MS, "uniform", 0.5),
    "hours": Spells(5 * HOUR, HOUR, "lognormal", 0.5),
    "weeks apart": Spells(10**6 * S, 10 * MS, "lognormal", 1.0),
}


def state_with(spells: Spells, seed: int = 1, direction: int = 0) -> LinkState:
    options = LinkOptions(memory_bytes=1 << 16, flight_packets=1 << 8, spells=spells)
    return new_link(OPEN, options, seed=seed, direction=direction).state


def lasts(link: LinkState, at: int) -> bool:
    return bool(lose.in_spell(link.reg, link.spells, at))


def consecutive(spells: Spells, count: int, seed: int = 1) -> Ints:
    """(count, 2): when consecutive spells begin and end, ns, the first one after UTC 0; from start to start."""
    link = state_with(spells, seed)
    found: list[tuple[int, int]] = []
    lasts(link, 0)
    ended = int(link.reg[SPELL_END])
    while len(found) < count:
        at = int(link.reg[SPELL_NEXT])
        assert lasts(link, at)
        end = int(link.reg[SPELL_END])
        if at >= ended:
            found.append((at, end))
            ended = end
    return np.array(found)


@pytest.mark.parametrize("law", LAWS)
def test_lengths_and_gaps_are_those_of_the_law(law: str) -> None:
    """Kolmogorov's and Smirnov's distance of the lengths from the table and of the gaps from an exponential law."""
    spells = LAWS[law]
    found = consecutive(spells, min(SPELLS, 2**61 // spells.gap_ns))  # all before the year 2043
    lengths = np.sort(found[:, 1] - found[:, 0])
    table = state_with(spells).spells
    values = np.unique(table[:, 1])
    ours = np.searchsorted(lengths, values, side="right") / len(lengths)
    theirs = np.array([(np.diff(table[:, 0], prepend=0) * (table[:, 1] <= value)).sum() for value in values]) / LOSS_ONE
    assert np.abs(ours - theirs).max() < 1.95 / math.sqrt(len(lengths))  # exceeded by chance once in 1,000
    gaps = np.sort(found[1:, 0] - found[:-1, 1])
    assert gaps.mean() == pytest.approx(spells.gap_ns, rel=4 / math.sqrt(len(gaps)))
    law_of_gaps = 1 - np.exp(-gaps / spells.gap_ns)
    assert np.abs(law_of_gaps - (np.arange(len(gaps)) + 0.5) / len(gaps)).max() < 1.95 / math.sqrt(len(gaps))


@pytest.mark.parametrize("length_ms", [1, 20, 500, 10_000, 3_600_000])
def test_lengths_follow_a_stated_law_however_long_they_are(length_ms: int) -> None:
    """Chi-square in tenths of a lognormal law of spread 1: 9 degrees of freedom."""
    spells = Spells(4 * length_ms * MS, length_ms * MS, "lognormal", 1.0)
    found = consecutive(spells, SPELLS)
    sigma = math.sqrt(math.log(2))
    scores = (np.log((found[:, 1] - found[:, 0]) / spells.length_ns) + sigma**2 / 2) / sigma
    tenths = [-math.inf, -1.28155, -0.84162, -0.52440, -0.25335, 0, 0.25335, 0.52440, 0.84162, 1.28155, math.inf]
    counts = np.histogram(scores, tenths)[0]
    assert ((counts - SPELLS / 10) ** 2 / (SPELLS / 10)).sum() < 27.88  # exceeded by chance once in 1,000


@pytest.mark.parametrize("law", [name for name in LAWS if name not in ("wide", "weeks apart", "a rare one")])
def test_in_the_long_run_the_share_of_time_in_spells_is_right_whenever_one_looks(law: str) -> None:
    """Looks far apart, each of which has to find the state of its moment anew."""
    spells, looks = LAWS[law], 200 if interpreted else 20_000
    step = min(1_234_567 * spells.gap_ns, 2**61 // looks)
    link = state_with(spells)
    share = sum(lasts(link, look * step) for look in range(looks)) / looks
    table = link.spells
    mean = (np.diff(table[:, 0], prepend=0) / LOSS_ONE * table[:, 1]).sum()
    expected = mean / (mean + spells.gap_ns)
    assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / looks))


def draw(seed: int, direction: int, purpose: int, counter: int) -> int:
    return oracle.draw(seed, direction, purpose, counter % 2**64)


def told_plainly(spells: Ints, gap: int, seed: int, direction: int, first: int, last: int) -> list[tuple[int, int]]:
    """All spells from cell `first` to cell `last`, from the definition: every start of every cell, in order."""
    starts = []
    for cell in range(first, last + 1):
        drawn, number = draw(seed, direction, STARTS, cell), 0
        while drawn >= round(LOSS_ONE * math.exp(-1) * sum(1 / math.factorial(k) for k in range(number + 1))):
            place = draw(seed, direction, PLACES, cell * 16 + number) >> 1
            starts.append(cell * gap + place * gap // 2**31)
            number += 1
    found: list[tuple[int, int]] = []
    for start in sorted(starts):
        if not found or start >= found[-1][1]:
            drawn = draw(seed, direction, LENGTHS, start)
            found.append((start, start + next(int(length) for reached, length in spells if drawn < reached)))
    return found


@given(SEEDS, st.integers(0, 1), st.integers(-(10**6), 10**9), st.lists(st.floats(0, 10), min_size=1, max_size=20))
def test_they_are_where_the_definition_has_them_in_whatever_order_one_looks(
    seed: int, direction: int, cell: int, places: list[float]
) -> None:
    """The definition begins a hundred mean gaps earlier, with none under way: by then that makes no difference."""
    gap = MEASURED.gap_ns
    link = state_with(MEASURED, seed, direction)
    truth = told_plainly(link.spells, gap, seed, direction, cell - 100, cell + 10)
    edges = [
        edge + off for spell in truth for edge in spell for off in (-1, 0) if cell * gap <= edge < (cell + 10) * gap
    ]
    looks = [cell * gap + int(place * gap) for place in places]
    for at in [*looks, *edges, *reversed(edges)]:
        assert lasts(link, at) == any(start <= at < end for start, end in truth)


@given(SEEDS, st.sampled_from(sorted(LAWS)), st.lists(st.integers(-(2**60), 2**60), min_size=1, max_size=8))
def test_an_instant_is_in_a_spell_or_not_whatever_was_asked_before(seed: int, law: str, looks: list[int]) -> None:
    gap = LAWS[law].gap_ns
    near = [at + step * gap // 3 for at in looks for step in (0, -2, 5, 1)]
    in_order = state_with(LAWS[law], seed)
    truth = {at: lasts(in_order, at) for at in sorted(near)}
    link = state_with(LAWS[law], seed)
    assert [lasts(link, at) for at in near] == [truth[at] for at in near]


@pytest.mark.parametrize("every_ns", [MS // 10, MS, 100 * MS])
def test_the_same_spells_strike_few_and_many_packets(every_ns: int) -> None:
    """10 to 10,000 packets a second."""
    offers = offers_of([(number * every_ns, 60) for number in range(min(3000, 10 * S // every_ns))])
    options = LinkOptions(memory_bytes=1 << 21, flight_packets=1 << 13, spells=MEASURED)
    arrived = {due for due, _ in drive(new_link(OPEN, options), offers).deliveries}
    truth = consecutive(MEASURED, 200)
    lost = {offer.at_ns for offer in offers if np.any((truth[:, 0] <= offer.at_ns) & (offer.at_ns < truth[:, 1]))}
    assert 0 < len(lost) < len(offers)
    assert arrived == {offer.at_ns for offer in offers} - lost


@pytest.mark.needs("compiled")
@given(
    SEEDS,
    st.integers(MS, 10**6 * S),
    st.lists(st.integers(1, 3600 * S), min_size=1, max_size=3),
    st.integers(1, 10**5),
)
def test_no_table_that_is_taken_stalls_the_link(seed: int, gap: int, lengths: list[int], often: int) -> None:
    """By the processor's clock, after any pause: a hundred looks in a tenth of a second, each from nothing."""
    spells = Spells(gap, MS, lengths_ns=(MS, *lengths), weights=(often, *(1 for _ in lengths)))
    try:
        link = state_with(spells, seed)
    except ValueError:
        assume(False)
    lasts(link, 0)
    began = time.thread_time_ns()
    for look in range(100):
        lasts(link, (look * 7919 % 101) * 10**16)
    assert time.thread_time_ns() - began < 100 * MS


@given(st.integers(MS, S), st.integers(1, 100), st.integers(0, 10**4))
def test_where_they_are_too_dense_it_is_told_how_rare_they_must_be(gap: int, times: int, often: int) -> None:
    spells = Spells(gap, MS, lengths_ns=(times * gap, 10 * times * gap), weights=(often, 1))
    try:
        state_with(spells)
    except ValueError as error:
        told = re.search(r"bursts: expected every_s of at least ([\d.e+-]+) with .* got", str(error))
        assert told is not None
        enough = float(told[1]) * S
        assert enough > gap
        state_with(replace(spells, gap_ns=math.ceil(enough)))
        with pytest.raises(ValueError, match="every_s"):
            state_with(replace(spells, gap_ns=int(0.99 * enough)))


def test_a_histogram_has_its_rarest_length_as_often_as_its_weight_says() -> None:
    table = state_with(Spells(S, MS, lengths_ns=(MS, 7 * MS, 2 * MS), weights=(99_999, 1, 0))).spells
    assert table[:, 1].tolist() == [MS, 7 * MS]
    assert np.diff(table[:, 0], prepend=0) / LOSS_ONE == pytest.approx([0.99999, 1e-5], rel=1e-4)


def test_the_number_of_starts_in_a_cell_is_poissons() -> None:
    reached = [math.exp(-1) * sum(1 / math.factorial(k) for k in range(count + 1)) for count in range(13)]
    assert list(lose.FEWER_STARTS) == [round(LOSS_ONE * share) for share in reached]
    assert all(low < high for low, high in pairwise(lose.FEWER_STARTS))
    assert lose.FEWER_STARTS[-1] == LOSS_ONE
    assert len(lose.FEWER_STARTS) <= lose.MOST_STARTS


@pytest.mark.parametrize(
    "wrong", [{"gap_ns": 10}, {"length_ns": 0}, {"weights": (1,)}, {"weights": (0, 0, 0)}, {"loss": -1.0}]
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="bursts"):
        replace(MEASURED, **wrong)  # type: ignore[arg-type]
