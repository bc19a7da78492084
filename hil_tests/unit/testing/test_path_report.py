"""What a report says of a path follows from the stamps alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import EndpointError
from emulator.testing.path_report import COLUMNS, Ints, read_rows, reordered, report
from emulator.testing.roundtrip import ROW

MS = 1_000_000
AHEAD_NS = 77_000 * MS  # the far machine's clock


def rows_of(fates: Sequence[tuple[int | None, int | None]], ahead_ns: int = 0) -> Ints:
    """Probes every 2 ms; each with its delay there and its delay back (ns), None where it was lost."""
    sent = np.arange(len(fates)) * 2 * MS + MS
    there = {number: int(sent[number]) + up for number, (up, _) in enumerate(fates) if up is not None}
    places = {number: place for place, number in enumerate(sorted(there, key=lambda key: (there[key], key)), 1)}
    home = {
        number: there[number] + 5000 + down
        for number, (_, down) in enumerate(fates)
        if number in there and down is not None
    }
    ends = {number: place for place, number in enumerate(sorted(home, key=lambda key: (home[key], key)), 1)}
    rows = np.zeros((len(fates), COLUMNS), np.int64)
    for number in range(len(fates)):
        rows[number, :2] = number, sent[number]
        if number in home:
            t2 = there[number] + ahead_ns
            rows[number, 2:] = t2, t2 + 5000, home[number], places[number], ends[number], 3
    return rows


DELAYS = st.none() | st.integers(0, 50 * MS)


@given(st.lists(st.tuples(DELAYS, DELAYS), min_size=1, max_size=40), st.sampled_from([0, AHEAD_NS, -AHEAD_NS]))
def test_losses_and_round_trips_need_no_common_clock(fates: list[tuple[int | None, int | None]], ahead_ns: int) -> None:
    found = report(rows_of(fates, ahead_ns), same_clock=ahead_ns == 0)
    whole = [(up, down) for up, down in fates if up is not None and down is not None]
    assert (found.forward.sent, found.backward.received) == (len(fates), len(whole))
    assert found.forward.lost + found.backward.lost == len(fates) - len(whole)
    assert found.forward.received == found.forward.sent - found.forward.lost == found.backward.sent
    trips = [up + down for up, down in whole]
    assert found.round_trip.minimum_ms == (min(trips) / 1e6 if trips else None)
    assert found.round_trip.maximum_ms == (max(trips) / 1e6 if trips else None)
    doubt = min(trips) / 2e6 if trips and ahead_ns else 0.0
    assert found.clock_uncertainty_ms == doubt
    if whole and ahead_ns == 0:
        assert found.forward.delay.minimum_ms == min(up for up, _ in whole) / 1e6
        assert found.backward.delay.maximum_ms == max(down for _, down in whole) / 1e6


@given(st.lists(DELAYS, min_size=1, max_size=40))
def test_a_loss_is_on_the_way_on_which_it_happened(delays: list[int | None]) -> None:
    """As far as it can be told: what the reflector got after the last answer that came back is not known."""
    there = report(rows_of([(delay, 0) for delay in delays]), same_clock=True)
    assert there.backward.lost == 0
    back = report(rows_of([(0, delay) for delay in delays] + [(0, 0)]), same_clock=True)
    assert back.forward.lost == 0
    assert back.backward.lost == delays.count(None)


def test_reordering_is_counted_on_the_way_on_which_it_happened() -> None:
    late = [(0, 0), (5 * MS, 0), (0, 0), (0, 0), (0, 0)]  # the second arrives after the third and the fourth
    forward = report(rows_of(late), same_clock=True)
    assert (forward.forward.reordered, forward.backward.reordered) == (1, 0)
    backward = report(rows_of([(down, up) for up, down in late]), same_clock=True)
    assert (backward.forward.reordered, backward.backward.reordered) == (0, 1)


@given(st.permutations(range(8)))
def test_reordered_is_what_comes_after_a_later_one(numbers: list[int]) -> None:
    rows = np.zeros((8, COLUMNS), np.int64)
    rows[:, 0] = numbers
    assert reordered(rows) == sum(number < max(numbers[: at + 1]) for at, number in enumerate(numbers))


def test_a_torn_file_is_read_as_far_as_it_goes_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "probes"
    path.write_bytes(ROW.pack(1, *range(7)) + ROW.pack(0, *range(7)) + b"torn")
    assert read_rows(path)[:, 0].tolist() == [0, 1]
    with pytest.raises(EndpointError, match="nowhere"):
        read_rows(tmp_path / "nowhere")
