"""Jitter of stated distributions, correlated in time, and never an overtaking."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.link import distributions, propagate
from emulator.link.compiled import compiled_apart, interpreted
from emulator.link.draws import JITTER_ONE, QUANTILES
from emulator.link.link import Jitter, Link, LinkOptions
from emulator.link.path import depart, due_run, offer
from emulator.link.state import RUN_DUE, RUN_SUPER, Bytes, Ints, LinkState
from emulator.link.store import reserve
from emulator.scenario import impairments
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import END_NS, drive, new_link
from hil_tests.unit.link.packets import frame
from hil_tests.unit.link.strategies import MS, S, offers_of

BINS = 3_000 if interpreted else 40_000


def values(shape: Jitter, bins: int = BINS) -> np.ndarray:
    """The jitter of consecutive bins, mean 1."""
    link = new_link(
        Channel.constant(0, delay_ns=0), LinkOptions(memory_bytes=1 << 12, flight_packets=16, jitter=shape)
    ).state
    shares = [int(propagate.share_of(link.reg, link.normal, link.weights, number)) for number in range(bins)]
    return link.jitter[shares] / JITTER_ONE


@pytest.mark.parametrize("correlation", [0.0, 0.8])
@pytest.mark.parametrize(
    ("shape", "spread"),
    [("exponential", 1.0), ("uniform", 0.5), ("normal", 0.25), ("lognormal", 0.6), ("constant", 0.0)],
)
def test_mean_and_spread_are_those_asked_for(shape: distributions.Shape, spread: float, correlation: float) -> None:
    found = values(Jitter(shape, spread, correlation=correlation))
    slack = 5 * spread / math.sqrt(BINS * (1 - correlation) / (1 + correlation)) + 0.005
    assert found.mean() == pytest.approx(1, abs=slack)
    assert found.std() == pytest.approx(spread, abs=3 * slack + 0.02)


@pytest.mark.parametrize(
    "correlation",
    [0.3, 0.9, pytest.param(0.99, marks=pytest.mark.needs("compiled"))],  # sums of 690 draws: a minute interpreted
)
def test_bins_are_as_correlated_as_asked_for(correlation: float) -> None:
    found = values(Jitter("normal", 0.2, correlation=correlation))
    for apart in (1, 2):
        ours = np.corrcoef(found[:-apart], found[apart:])[0, 1]
        assert ours == pytest.approx(correlation**apart, abs=0.02 + 4 / math.sqrt(BINS * (1 - correlation)) * 0.5)


def test_measured_delays_keep_their_shape() -> None:
    found = values(Jitter(samples=(1.0, 1.0, 2.0, 8.0)))
    mean = 3.0
    for sample, share in ((1.0, 0.5), (2.0, 0.25), (8.0, 0.25)):
        assert np.mean(np.isclose(found, sample / mean, atol=1e-5)) == pytest.approx(
            share, abs=4 * 0.5 / math.sqrt(BINS)
        )


def test_the_normal_table_is_right_to_a_millionth() -> None:
    normal = statistics.NormalDist()
    middles, ends = distributions.normal_table()
    assert [value / JITTER_ONE for value in middles] == pytest.approx(
        [normal.inv_cdf((index + 0.5) / QUANTILES) for index in range(QUANTILES)], abs=1e-6
    )
    assert [value / JITTER_ONE for value in ends[:-1]] == pytest.approx(
        [normal.inv_cdf((index + 1) / QUANTILES) for index in range(QUANTILES - 1)], abs=1e-6
    )


SPREADS = st.one_of(*(st.tuples(st.just(shape), st.floats(0, most)) for shape, most in distributions.WIDEST.items()))


@given(SPREADS)
def test_a_stated_distribution_has_the_stated_mean_and_spread(case: tuple[distributions.Shape, float]) -> None:
    """To the table's own grain, up to the widest that is taken; a lognormal lacks what its last share leaves out."""
    shape, spread = case
    table = distributions.quantile_table(shape, spread) / JITTER_ONE
    assert len(table) == QUANTILES
    assert np.all(np.diff(table) >= 0)
    assert table.min() >= 0
    assert table.mean() == pytest.approx(1, abs=1e-6)
    missing = np.interp(spread, [0.0, 0.5, 1.0, 1.5, 2.0, 3.0], [0.0, 0.001, 0.0055, 0.0175, 0.036, 0.083])
    assert table.std() <= spread + 2e-6
    assert table.std() == pytest.approx(spread, abs=2e-6 + spread * (missing if shape == "lognormal" else 1e-5))


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.0, 2.0, 3.0])
def test_a_lognormal_table_has_the_quantiles_of_its_law(spread: float) -> None:
    """Each value is within its share of the law."""
    table = distributions.quantile_table("lognormal", spread) / JITTER_ONE
    sigma = math.sqrt(math.log1p(spread**2))
    ranks = [statistics.NormalDist().cdf((math.log(value) + sigma**2 / 2) / sigma) for value in table]
    shares = np.arange(QUANTILES) / QUANTILES
    assert np.all((shares - 1e-4 <= ranks) & (ranks <= shares + 1 / QUANTILES + 1e-4))


@pytest.mark.parametrize(("shape", "spread"), [("constant", 0.0), ("exponential", 1.0)])
def test_tables_without_a_spread_rise_and_have_their_mean(shape: distributions.Shape, spread: float) -> None:
    table = distributions.quantile_table(shape, spread)
    assert len(table) == QUANTILES
    assert np.all(np.diff(table) >= 0)
    assert table.mean() / JITTER_ONE == pytest.approx(1, abs=4e-4)


@given(st.lists(st.floats(0, 60_000), min_size=1, max_size=3000), st.floats(1e-3, 60_000), st.integers(0, 50))
def test_measured_delays_are_scaled_to_their_mean_outliers_and_all(
    samples: list[float], outlier: float, times: int
) -> None:
    table = distributions.sample_table([*samples * times, outlier]) / JITTER_ONE
    assert table.mean() == pytest.approx(1, abs=2e-6)
    assert np.all(np.diff(table) >= 0)


@pytest.mark.parametrize("shape", distributions.WIDEST)
def test_a_spread_wider_than_a_shape_can_be_is_refused(shape: distributions.Shape) -> None:
    with pytest.raises(ValueError, match=f"spread: expected .* with '{shape}'"):
        distributions.quantile_table(shape, distributions.WIDEST[shape] + 0.001)


def test_scenarios_take_the_spreads_that_tables_can_have() -> None:
    """The widest of all is a bound of the key itself."""
    assert distributions.WIDEST == {"lognormal": 3.0, **impairments.WIDEST}
    for distribution, widest in distributions.WIDEST.items():
        assert impairments.JitterShape.model_validate({"distribution": distribution, "spread": widest}).spread == widest
        with pytest.raises(ValueError, match="spread"):
            impairments.JitterShape.model_validate({"distribution": distribution, "spread": widest + 0.001})


@pytest.mark.parametrize("samples", [[], [0.0, 0.0], [1.0, -0.5]])
def test_samples_that_are_no_delays_are_refused(samples: list[float]) -> None:
    with pytest.raises(ValueError, match="samples"):
        distributions.sample_table(samples)


def test_ten_links_of_ten_ms_in_a_row_make_two_hundred_there_and_back() -> None:
    """Nested links in virtual time: exactly 20 × 10 ms, for every one of the packets."""
    channel = Channel.constant(0, delay_ns=10 * MS)
    small = LinkOptions(memory_bytes=1 << 20, flight_packets=1 << 8)
    chain = [new_link(channel, small, direction=number % 2) for number in range(20)]
    offers = offers_of([(at * 777_777, 100) for at in range(50)])
    packets = [(offer.at_ns, offer.frame[10:]) for offer in offers]
    for link in chain:
        for at, packet in packets:
            link.offer(packet, at)
        packets = [(due, packet) for due, packet in link.poll(1 << 50)]
    assert packets == [(offer.at_ns + 200 * MS, offer.frame[10:]) for offer in offers]


@compiled_apart
def watch(link: LinkState, data: Bytes, packets: int, gap: int, worst: Ints) -> None:
    """Carries `packets` copies of a frame, one each `gap`; worst: how many overtook, the last due time, the count."""
    previous, due = -1, -1
    for number in range(packets + 1):
        now = number * gap if number < packets else packets * gap + 10 * 1_000_000_000
        while due_run(link, now, 0):
            place = link.reg[RUN_SUPER]  # each packet has a place of its own, in the order in which they came
            if link.reg[RUN_DUE] < due or (previous >= 0 and place != (previous + 1) % len(link.supers)):
                worst[0] += 1
            previous, due = place, link.reg[RUN_DUE]
            worst[1], worst[2] = due, worst[2] + 1
            depart(link)
        if number < packets:
            offset = reserve(link, len(data))
            for at in range(len(data)):
                link.ring[offset + at] = data[at]
            offer(link, now, offset, len(data))


@pytest.mark.long
def test_no_reordering_in_a_million_packets_while_the_delay_falls() -> None:
    """10,000 packets/s for 100 s, the delay falling from 40 to 20 ms in steps of 0.2 ms a second."""
    rows = 100
    packets = 20_000 if interpreted else 1_000_000
    starts = np.arange(rows, dtype=np.int64) * S
    delays = np.linspace(40 * MS, 20 * MS, rows).astype(np.int64)
    zero = np.zeros(rows, np.int64)
    channel = Channel(starts, delays, zero, zero, zero, zero + MS, zero, zero, zero)
    options = LinkOptions(memory_bytes=1 << 24, flight_packets=1 << 12)
    link = Link(channel, END_NS, seed=1, direction=0, options=options)
    worst = np.zeros(3, np.int64)
    watch(link.state, np.frombuffer(frame(60, 1), np.uint8), packets, 100_000, worst)
    assert worst[0] == 0
    assert worst[2] == packets


def test_packets_that_fall_due_together_keep_their_serialisation_apart() -> None:
    """The delay falls by 20 ms at once: what comes due together leaves at the rate of the line behind the link."""
    channel = Channel(*(np.array(pair, np.int64) for pair in (
        (0, 50 * MS), (40 * MS, 20 * MS), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)
    )))  # fmt: skip
    options = LinkOptions(memory_bytes=1 << 20, flight_packets=1 << 10, egress_rate_bps=100_000_000)
    offers = offers_of([(at * 100_000, 1000) for at in range(1000)])
    dues = [due for due, _ in drive(new_link(channel, options), offers).deliveries]
    assert len(dues) == 1000
    assert min(np.diff(dues)) >= 80_000  # 1,000 bytes at 100 Mbit/s
