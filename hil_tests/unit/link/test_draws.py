"""The packet path's random numbers are a published hash, uniform, and of integers alone."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.link.draws import (
    JITTER_ONE,
    PURPOSE_JITTER,
    PURPOSE_LOSS,
    QUANTILES,
    draw32,
    exponential_table,
    mul32,
)
from hil_tests.unit.link.oracle import draw, exponential, murmur3
from hil_tests.unit.link.strategies import SEEDS

TABLE_SHA256 = "0459ebcc30e487e15307ff4f3e2fc181c275289745a414cb708b6259b1500115"


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"", 0),
        (b"\xff\xff\xff\xff", 0x76293B50),
        (b"\x21\x43\x65\x87", 0xF55B516B),
        (b"\0\0\0\0", 0x2362F9DE),
        (b"test", 0xBA6BD213),
    ],
)
def test_the_independent_hash_is_murmur3(data: bytes, value: int) -> None:
    """Known values of MurmurHash3_x86_32 with seed 0, for whole words."""
    assert murmur3(data) == value


@given(SEEDS, st.integers(0, 1), st.integers(0, 15), st.integers(0, 2**63 - 1))
def test_a_draw_is_murmur3_of_what_it_is_for(seed: int, direction: int, purpose: int, counter: int) -> None:
    assert draw32(seed, direction, purpose, counter) == draw(seed, direction, purpose, counter)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_the_product_wraps_at_32_bits_and_nowhere_else(a: int, b: int) -> None:
    assert mul32(a, b) == a * b % 2**32


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63 - 1])
@pytest.mark.parametrize("purpose", [PURPOSE_LOSS, PURPOSE_JITTER])
def test_draws_are_uniform(seed: int, purpose: int) -> None:
    """Chi-square over 64 cells of the top bits, and of the low bits that choose a jitter quantile."""
    drawn = np.array([draw32(seed, 0, purpose, counter) for counter in range(8192)])
    for cells in (drawn >> 26, drawn % 64):
        counts = np.bincount(cells, minlength=64)
        assert ((counts - 128) ** 2 / 128).sum() < 120  # 63 degrees of freedom: one in 30,000 fair draws is above


def test_draws_of_neighbours_are_unrelated() -> None:
    columns = np.array(
        [
            [draw32(seed, direction, purpose, counter) for counter in range(4096)]
            for seed in (1, 2)
            for direction in (0, 1)
            for purpose in (PURPOSE_LOSS, PURPOSE_JITTER)
        ]
    )
    assert np.abs(np.corrcoef(columns) - np.eye(len(columns))).max() < 0.08  # 5 standard deviations
    for column in columns:
        assert abs(np.corrcoef(column[:-1], column[1:])[0, 1]) < 0.08


def test_the_jitter_table_is_the_same_on_every_machine() -> None:
    assert hashlib.sha256(exponential_table().astype("<i8").tobytes()).hexdigest() == TABLE_SHA256


def test_the_jitter_table_is_an_exponential_distribution_of_mean_one() -> None:
    table = exponential_table()
    assert table.tolist() == [exponential(share) for share in range(QUANTILES)]
    assert np.all(np.diff(table) > 0)
    assert abs(table.mean() / JITTER_ONE - 1) < 1e-3
    middle = (table[QUANTILES // 2 - 1] + table[QUANTILES // 2]) / 2
    assert abs(middle / JITTER_ONE - math.log(2)) < 1e-3
