"""Another machine's clock is known to half of the quickest exchange, whatever the others took; a jump is noticed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.ports.clocks import FLUSH_NS, LAG_NS, ClockEstimate, flush_ns, lag_ns
from emulator.units import NS_PER_MS, NS_PER_S, NS_PER_US

EVERY_NS = 50 * NS_PER_MS


def talk(estimate: ClockEstimate, offset_ns: int, drift: float, seconds: float, *, seed: int, from_ns: int = 0) -> int:
    """Questions and answers whose ways take 40 µs and a wait that is exponential around 300; when the last one was."""
    draws = random.Random(seed)
    at_ns = from_ns
    for at_ns in range(from_ns, from_ns + round(seconds * NS_PER_S), EVERY_NS):
        there, back = (40 * NS_PER_US + round(draws.expovariate(1 / (300 * NS_PER_US))) for _ in range(2))

        def theirs(ours_ns: int) -> int:
            return ours_ns + offset_ns + round(ours_ns * drift)

        assert estimate.add(at_ns, theirs(at_ns + there), theirs(at_ns + there) + 20_000, at_ns + there + back + 20_000)
    return at_ns


@given(st.integers(-(10**18), 10**18), st.floats(-2e-4, 2e-4), st.integers(0, 1000))
def test_offset_and_drift_are_found(offset_ns: int, drift: float, seed: int) -> None:
    estimate = ClockEstimate()
    assert not estimate.known
    end_ns = talk(estimate, offset_ns, drift, 30, seed=seed)
    found = estimate.state(end_ns)
    assert found.steps == 0
    assert abs(found.offset_ns - offset_ns - end_ns * drift) < 50 * NS_PER_US
    assert abs(found.drift_ppm - drift * 1e6) < 5
    assert 40 * NS_PER_US <= found.error_ns < 150 * NS_PER_US


@given(
    st.floats(-2e-4, 2e-4),
    st.lists(st.tuples(st.integers(1, 10**7), st.floats(0, 1)), min_size=1, max_size=200),
    st.integers(0, 10**10),
)
def test_the_truth_lies_within_the_stated_error(
    drift: float, exchanges: list[tuple[int, float]], later_ns: int
) -> None:
    """However unevenly the ways there and back took: on a busy machine every exchange may be a bad one."""
    estimate, at_ns = ClockEstimate(), 0
    for delay_ns, share in exchanges:
        at_ns += EVERY_NS
        answered_ns = round((at_ns + share * delay_ns) * (1 + drift)) + 10**12
        assert estimate.add(at_ns, answered_ns, answered_ns, at_ns + delay_ns)
    now_ns = at_ns + later_ns
    found = estimate.state(now_ns)
    assert abs(found.offset_ns - (now_ns * drift + 10**12)) <= found.error_ns + 10


@pytest.mark.parametrize("jump_ns", [50 * NS_PER_MS, -3600 * NS_PER_S])
def test_a_jump_is_followed_after_four_exchanges(jump_ns: int) -> None:
    estimate = ClockEstimate()
    end_ns = talk(estimate, 10**12, 0, 10, seed=1)
    end_ns = talk(estimate, 10**12 + jump_ns, 0, 0.3, seed=2, from_ns=end_ns + EVERY_NS)
    found = estimate.state(end_ns)
    assert found.steps == 1
    assert abs(found.offset_ns - 10**12 - jump_ns) <= found.error_ns


def test_a_shared_clock_needs_no_estimate_and_an_answer_before_its_question_is_none() -> None:
    estimate = ClockEstimate(shared=True)
    assert estimate.known
    assert estimate.offset_ns(5) == 0
    assert not estimate.add(10, 0, 0, 9)
    assert not estimate.add(10, 20, 15, 30)
    assert not estimate.add(10, 0, 30, 20)
    assert estimate.exchanges == 0


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_what_the_transport_may_take_of_the_delay_is_bounded(delay_ns: int, round_trip_ns: int) -> None:
    lag, flush = lag_ns(delay_ns, round_trip_ns), flush_ns(delay_ns)
    assert 0 <= lag <= max(0, (delay_ns - NS_PER_MS) // 2)
    assert lag <= max(LAG_NS, 5 * NS_PER_MS)
    assert 0 <= flush <= min(FLUSH_NS, delay_ns // 60)
