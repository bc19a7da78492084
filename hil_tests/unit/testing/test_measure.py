"""The laws of the measures: the slot phase, FIFO, conservation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.testing.measure import (
    DELAY_BOUND_NS,
    balance,
    calm_probes,
    counts_of,
    delay_verdict,
    dropped_by_cause,
    drops_over_time,
    expected_delay_ns,
    goodput,
    measured_slot_phase,
    slot_phase_s,
)
from emulator.testing.record import DIRECTIONS, ProbeSeries
from emulator.units import NS_PER_MS, NS_PER_S
from hil_tests.unit.testing.synthetic import synthetic_record

Floats = npt.NDArray[np.float64]
SLOT_S = 15.0
JITTER_BIN_S = 0.02


def delays(
    seed: int,
    *,
    phase_s: float,
    slots: float,
    rate_hz: int,
    jitter_ms: float,
    least_step_ms: float,
    spike_ms: float = 0.0,
) -> tuple[Floats, Floats]:
    """Delays that step at `phase_s` mod 15 by `least_step_ms` or more, with slope, jitter and a spike at the steps."""
    random = np.random.default_rng(seed)
    start_s = random.uniform(0, 86_400)
    times = np.sort(start_s + random.uniform(0, slots * SLOT_S, int(slots * SLOT_S * rate_hz)))
    slot = np.floor((times - phase_s) / SLOT_S).astype(int)
    slot -= slot.min()
    steps = random.choice([-1, 1], slot.max() + 1) * random.uniform(
        least_step_ms, 2 * least_step_ms + 2, slot.max() + 1
    )
    jitter = random.exponential(jitter_ms, int(slots * SLOT_S / JITTER_BIN_S) + 2)
    in_slot = (times - phase_s) % SLOT_S
    spike = np.where(in_slot < 0.04, spike_ms * (1 - in_slot / 0.04), 0.0)
    return times, 40 + np.cumsum(steps)[slot] + 0.05 * in_slot + spike + jitter[
        ((times - start_s) / JITTER_BIN_S).astype(int)
    ]


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), phase_s=st.floats(0, 14.9), slots=st.floats(4, 8), jitter_ms=st.floats(0.1, 3))
def test_the_phase_of_steps_is_recovered_within_half_a_second(
    seed: int, phase_s: float, slots: float, jitter_ms: float
) -> None:
    times, values = delays(seed, phase_s=phase_s, slots=slots, rate_hz=100, jitter_ms=jitter_ms, least_step_ms=6)
    assert slot_phase_s(times, values).error_s(phase_s) <= 0.5


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), slots=st.floats(3.1, 6), jitter_ms=st.floats(0.1, 4))
def test_starlinks_phase_is_recovered_from_a_demo_of_45_seconds(seed: int, slots: float, jitter_ms: float) -> None:
    times, values = delays(
        seed, phase_s=12, slots=slots, rate_hz=500, jitter_ms=jitter_ms, least_step_ms=0.4, spike_ms=40
    )
    phase = slot_phase_s(times, values)
    assert phase.error_s(12) <= 0.5
    assert phase.confidence > 0.5


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), begins=st.floats(0.2, 0.6), length=st.floats(0.05, 0.2), height_ms=st.floats(5, 200))
def test_one_event_that_does_not_recur_is_outvoted(seed: int, begins: float, length: float, height_ms: float) -> None:
    times, values = delays(seed, phase_s=12, slots=4, rate_hz=500, jitter_ms=2, least_step_ms=1, spike_ms=40)
    place = (times - times[0]) / np.ptp(times)
    values[(place > begins) & (place < begins + length)] += height_ms
    assert slot_phase_s(times, values).error_s(12) <= 0.5


def test_delays_without_slots_are_seldom_taken_for_slots() -> None:
    sure = 0
    for seed in range(40):
        times, values = delays(seed, phase_s=0, slots=4, rate_hz=100, jitter_ms=3, least_step_ms=0)
        random = np.random.default_rng(seed)
        sure += slot_phase_s(times, 40 + random.permutation(values - values.mean())).confidence > 0.9
    assert sure <= 4  # one in ten by chance


@pytest.mark.parametrize("times", [[], [0.0], [0.0, 14.0], [float("nan"), 20.0]])
def test_less_than_a_slot_is_refused(times: list[float]) -> None:
    with pytest.raises(ValueError, match="slot"):
        slot_phase_s(times, [40.0] * len(times))


packets = st.lists(
    st.tuples(st.integers(0, 10**7), st.integers(0, 10**9), st.integers(0, 10**8), st.booleans()), max_size=80
)


@given(packets=packets)
def test_expected_delays_never_overtake_and_never_undercut(packets: list[tuple[int, int, int, bool]]) -> None:
    gaps, commanded, added, arrived = (
        (np.array(column, np.int64) for column in zip(*packets, strict=True))
        if packets
        else (np.zeros(0, np.int64) for _ in range(4))
    )
    sent = np.cumsum(gaps)
    expected = expected_delay_ns(sent, commanded, added, arrived.astype(np.bool_))
    assert np.all(expected >= commanded + added)
    due = (sent + expected)[arrived.astype(np.bool_)]
    assert np.all(np.diff(due) >= 0)
    if np.all(np.diff(sent + commanded + added) >= 0):
        assert np.array_equal(expected, commanded + added)


@given(
    sent=st.lists(st.integers(0, 10**10), max_size=50).map(sorted),
    troubles=st.lists(st.tuples(st.integers(0, 10**10), st.integers(0, 10**9)), max_size=5),
)
def test_calm_probes_keep_their_distance_from_every_trouble(sent: list[int], troubles: list[tuple[int, int]]) -> None:
    spans = [(start, start + length) for start, length in troubles]
    calm = calm_probes(np.array(sent, np.int64), spans, settle_ns=1000)
    for at, is_calm in zip(sent, calm, strict=True):
        assert is_calm == all(at < start - 1000 or at >= end + 1000 for start, end in spans)


@given(st.integers(0, 2**20), st.integers(0, 300 * NS_PER_MS))
def test_a_constant_error_is_every_figure_of_the_verdict(seed: int, error_ns: int) -> None:
    random = np.random.default_rng(seed)
    sent = np.sort(random.integers(0, 5 * NS_PER_S, 1000))
    expected = random.integers(10**6, 10**8, 1000)
    probes = ProbeSeries(
        sent_ns=sent.tolist(),
        delay_ns=(expected + error_ns).tolist(),
        commanded_ns=expected.tolist(),
        expected_ns=expected.tolist(),
        calm=[1] * 1000,
    )
    verdict = delay_verdict(probes)
    assert verdict.floor_error is not None
    assert verdict.median_error_ns == verdict.p99_error_ns == verdict.floor_error.estimate == error_ns
    assert (verdict.sent, verdict.lost, verdict.calm) == (1000, 0, 1000)
    assert verdict.holds == (error_ns <= DELAY_BOUND_NS)


@pytest.mark.parametrize("interval_ms", [2, 19, 21, 28, 100])
def test_ten_seconds_of_probes_are_enough_however_slow_the_link(interval_ms: int) -> None:
    """Where they are sent seldom, a window is longer: of a link of 352 kbit/s, one each 28 ms."""
    sent = np.arange(0, 10 * NS_PER_S, interval_ms * NS_PER_MS)
    same = [10**8] * len(sent)
    probes = ProbeSeries(sent_ns=sent.tolist(), delay_ns=same, commanded_ns=same, expected_ns=same,
                         calm=[1] * len(sent), interval_ns=interval_ms * NS_PER_MS)  # fmt: skip
    assert delay_verdict(probes).holds


def test_nothing_measured_is_no_verdict_and_no_fault() -> None:
    verdict = delay_verdict(ProbeSeries())
    assert (verdict.sent, verdict.median_error_ns, verdict.measured_p99_ns) == (0, None, None)
    assert not verdict.holds


@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
def test_drops_over_time_add_up_to_the_drops_by_cause(seed: int) -> None:
    record = synthetic_record(seed)
    edges = np.arange(0, record.duration_ns + NS_PER_S, NS_PER_S)
    for direction in DIRECTIONS:
        over_time = {
            name: round(float(column.sum())) for name, column in drops_over_time(record, direction, edges).items()
        }
        assert over_time == dropped_by_cause(record)[direction]
        assert balance(counts_of(record, direction)).holds


def test_the_phase_of_a_record_is_that_of_its_slots() -> None:
    record = synthetic_record()
    phase = measured_slot_phase(record)
    assert phase is not None
    assert phase.error_s(record.slot_phase_s) <= 0.5


def test_goodput_is_the_bytes_of_the_transfer() -> None:
    record = synthetic_record()
    assert record.transfer is not None
    _, bits = goodput(record)
    assert bits.sum() * 0.1 / 8 == pytest.approx(record.transfer.bytes[-1] - record.transfer.bytes[0])
