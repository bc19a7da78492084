"""Loss by a Markov chain: its laws hold, in time, from whatever instant one looks, however rare a transition is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.link import lose, tables
from emulator.link.compiled import interpreted
from emulator.link.link import LinkOptions, Markov
from emulator.link.state import CHAIN_AT, CHAIN_STATE, LinkState
from emulator.timeline.causes import Cause
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import drive, new_link
from hil_tests.unit.link.oracle import draw
from hil_tests.unit.link.strategies import MS, SEEDS, offers_of

STEPS = 20_000 if interpreted else 300_000
# Salsano's four states: received, received within a burst, lost within a burst, lost alone
FOUR = Markov(
    MS,
    (0.0, 0.0, 1.0, 1.0),
    ((0.94, 0.0, 0.05, 0.01), (0.0, 0.6, 0.4, 0.0), (0.1, 0.3, 0.6, 0.0), (1.0, 0.0, 0.0, 0.0)),
)
OPEN = Channel.constant(0, delay_ns=0)


def state_with(seed: int = 1, direction: int = 0, **options: object) -> LinkState:
    made = LinkOptions(memory_bytes=1 << 21, flight_packets=1 << 13, **options)  # type: ignore[arg-type]
    return new_link(OPEN, made, seed=seed, direction=direction).state


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


@pytest.mark.parametrize(("enter", "leave"), [(1e-3, 1e-2), (0.25, 0.5), (2e-4, 1e-4)])
def test_a_chain_of_two_states_forgets_as_fast_as_it_changes(enter: float, leave: float) -> None:
    """One draw in enter + leave leads both states to one."""
    table = tables.chain_table(LinkOptions(markov=Markov(MS, (0.0, 1.0), ((1 - enter, enter), (leave, 1 - leave)))))
    for steps in (1, 100, 10_000):
        assert tables.remembered(table, steps) == pytest.approx((1 - enter - leave) ** steps, rel=1e-6)


@pytest.mark.parametrize("change", [1e-5, 1e-7])
def test_a_chain_that_forgets_too_slowly_to_be_looked_up_is_refused(change: float) -> None:
    with pytest.raises(ValueError, match="markov: expected a chain that forgets"):
        state_with(markov=Markov(MS, (0.0, 1.0), ((1 - change, change), (change, 1 - change))))


@given(st.lists(st.lists(st.floats(1e-15, 1e-9), min_size=2, max_size=2), min_size=3, max_size=3))
def test_transitions_may_be_rare(rare: list[list[float]]) -> None:
    """Down to once in 10¹⁵ steps, to a thousandth, although a row of floats adds up to 1 no better than that."""
    rows = [
        (1 - sum(rare[0]), *rare[0]),
        (0.5, 0.5 - sum(rare[1]), sum(rare[1])),
        (0.5, sum(rare[2]), 0.5 - sum(rare[2])),
    ]
    table = tables.chain_table(LinkOptions(markov=Markov(MS, (0.0, 1.0, 1.0), tuple(rows)))).tolist()
    for row, wanted in zip(table, rows, strict=True):
        found = [after - before for before, after in pairwise([0, *row[:3]])]
        assert sum(found) == 1 << lose.CHAIN_ONE_BITS
        for ours, theirs in zip(found, wanted, strict=True):
            assert ours / 2**lose.CHAIN_ONE_BITS == pytest.approx(theirs, rel=1e-3)


@given(SEEDS, st.integers(0, 1), st.integers(0, 2**40), st.integers(-2, 2), st.integers(0, 1))
def test_a_transition_is_drawn_with_62_bits(seed: int, direction: int, step: int, off: int, state: int) -> None:
    """The bound is put right at what is drawn: the next state turns with its last bit."""
    drawn = draw(seed, direction, 4, step) << 30 | draw(seed, direction, 12, step) >> 2
    bound = drawn + off
    link = state_with(seed, direction=direction, markov=FOUR)
    one = 1 << lose.CHAIN_ONE_BITS
    chain = np.array([[bound, one, 0], [bound, one, 0]])
    link.reg[CHAIN_AT], link.reg[CHAIN_STATE] = step - 1, state
    assert lose.chain_state(link.reg, chain, step) == (0 if drawn < bound else 1)
