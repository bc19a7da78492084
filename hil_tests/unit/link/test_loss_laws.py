"""Loss by a Markov chain and in spells of any length: the laws hold, in time, from whatever instant one looks."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.link import lose
from emulator.link.compiled import interpreted
from emulator.link.link import LinkOptions, Markov, Spells
from emulator.link.state import LinkState
from emulator.timeline.causes import Cause
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import drive, new_link
from hil_tests.unit.link.strategies import MS, SEEDS, offers_of
from hil_tests.unit.link.test_bursts import runs

STEPS = 20_000 if interpreted else 300_000
# Salsano's four states: received, received within a burst, lost within a burst, lost alone
FOUR = Markov(
    MS,
    (0.0, 0.0, 1.0, 1.0),
    ((0.94, 0.0, 0.05, 0.01), (0.0, 0.6, 0.4, 0.0), (0.1, 0.3, 0.6, 0.0), (1.0, 0.0, 0.0, 0.0)),
)
OPEN = Channel.constant(0, delay_ns=0)


def state_with(seed: int = 1, **options: object) -> LinkState:
    made = LinkOptions(memory_bytes=1 << 21, flight_packets=1 << 13, **options)  # type: ignore[arg-type]
    return new_link(OPEN, made, seed=seed).state


def chain_states(steps: Iterable[int], seed: int = 1) -> list[int]:
    link = state_with(seed, markov=FOUR)
    return [int(lose.chain_state(link.reg, link.chain, step)) for step in steps]


def test_shares_and_transitions_are_those_of_the_chain() -> None:
    found = np.array(chain_states(range(STEPS)))
    transitions = np.array(FOUR.transitions)
    values, vectors = np.linalg.eig(transitions.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    stationary /= stationary.sum()
    assert np.bincount(found, minlength=4) / STEPS == pytest.approx(stationary, abs=8 / math.sqrt(STEPS))
    for state in range(4):
        after = found[1:][found[:-1] == state]
        shares = np.bincount(after, minlength=4) / len(after)
        assert shares == pytest.approx(transitions[state], abs=4 * 0.5 / math.sqrt(len(after)))


@given(SEEDS, st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=20))
def test_a_step_has_its_state_whatever_was_asked_before(seed: int, steps: list[int]) -> None:
    in_order = dict(zip(sorted(steps), chain_states(sorted(steps), seed), strict=True))
    assert chain_states(steps, seed) == [in_order[step] for step in steps]


def test_packets_are_lost_in_the_states_that_lose() -> None:
    states = chain_states(range(3000))
    options = LinkOptions(memory_bytes=1 << 21, flight_packets=1 << 13, markov=FOUR)
    outcome = drive(new_link(OPEN, options), offers_of([(at * MS, 100) for at in range(3000)]))
    assert [due // MS for due, _ in outcome.deliveries] == [at for at in range(3000) if states[at] < 2]
    assert outcome.counters.dropped.keys() == {Cause.LOSS}


@pytest.mark.parametrize(
    "wrong",
    [
        {"losses": (0.0,)},
        {"losses": (0.0, 2.0)},
        {"transitions": ((1.0,), (1.0,))},
        {"transitions": ((0.5, 0.6), (0.5, 0.5))},
        {"step_ns": 0},
    ],
)
def test_a_chain_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    sound = {"step_ns": MS, "losses": (0.0, 1.0), "transitions": ((0.5, 0.5), (0.5, 0.5))}
    with pytest.raises(ValueError, match="markov"):
        Markov(**{**sound, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("transitions", [((1.0, 0.0), (0.0, 1.0)), ((0.0, 1.0), (1.0, 0.0))])
def test_a_chain_that_never_forgets_is_refused(transitions: tuple[tuple[float, ...], ...]) -> None:
    with pytest.raises(ValueError, match="forgets"):
        state_with(markov=Markov(MS, (0.0, 1.0), transitions))


def spell_states(spells: Spells, bins: Iterable[int], seed: int = 1) -> list[bool]:
    link = state_with(seed, spells=spells)
    return [bool(lose.in_spell(link.reg, link.spells, number)) for number in bins]


LAWS = {
    "lognormal": Spells(200 * MS, 20 * MS, "lognormal", 0.5, bin_ns=MS),
    "constant": Spells(100 * MS, 20 * MS, "constant", bin_ns=MS),
    "measured": Spells(100 * MS, 20 * MS, lengths_ns=(3 * MS, 10 * MS, 40 * MS), weights=(5, 3, 2), bin_ns=MS),
}


@pytest.mark.parametrize("law", LAWS)
def test_lengths_and_gaps_are_those_of_the_law(law: str) -> None:
    """Kolmogorov and Smirnov's distance of the lengths from the table, and the mean gap."""
    spells = LAWS[law]
    found = spell_states(spells, range(STEPS))
    lengths = np.sort(runs(found)[1:-1])
    table = np.sort(state_with(spells=spells).spells)
    values = np.unique(table)
    ours = np.searchsorted(lengths, values, side="right") / len(lengths)
    theirs = np.searchsorted(table, values, side="right") / len(table)
    touching = 1 / (spells.gap_ns / spells.bin_ns)  # two that follow each other at once look like one
    assert np.abs(ours - theirs).max() < 1.95 / math.sqrt(len(lengths)) + 2 * touching
    gaps = runs([not burst for burst in found])[1:-1]
    assert np.mean(gaps) == pytest.approx(spells.gap_ns / spells.bin_ns, rel=4 / math.sqrt(len(gaps)) + 0.02)


@given(SEEDS, st.lists(st.integers(-(10**5), 10**5), min_size=1, max_size=20))
def test_a_bin_is_in_a_spell_or_not_whatever_was_asked_before(seed: int, bins: list[int]) -> None:
    spells = LAWS["measured"]
    in_order = dict(zip(sorted(bins), spell_states(spells, sorted(bins), seed), strict=True))
    assert spell_states(spells, bins, seed) == [in_order[number] for number in bins]


def test_spells_too_dense_to_be_looked_up_are_refused() -> None:
    with pytest.raises(ValueError, match="gap"):
        state_with(spells=Spells(10 * MS, 10 * MS, lengths_ns=(MS, 100 * MS)))
