"""When packets felt a change: the first of a few probes in a row that fare as they should from then on."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emulator.testing.performance.reaction import IN_A_ROW, percentiles_ms, reactions_ns

SPACING_NS = 500_000
DWELL_NS = 100_000_000


@given(
    st.lists(st.integers(0, DWELL_NS - 4 * SPACING_NS), min_size=1, max_size=8),
    st.integers(0, SPACING_NS - 1),
    st.booleans(),
)
def test_each_change_is_found_to_the_distance_of_two_probes(took_ns: list[int], phase_ns: int, passes: bool) -> None:
    """Changes every DWELL_NS; each is on the link `took_ns` after it was told."""
    changes = [((number + 1) * DWELL_NS, passes ^ bool(number % 2)) for number in range(len(took_ns))]
    sent_ns = np.arange(phase_ns, (len(took_ns) + 2) * DWELL_NS, SPACING_NS, dtype=np.int64)
    pass_now = np.full(len(sent_ns), not passes)
    for (at_ns, then), one in zip(changes, took_ns, strict=True):
        pass_now[sent_ns >= at_ns + one] = then
    found = reactions_ns(changes, sent_ns, ~pass_now, DWELL_NS)
    for felt_ns, true_ns in zip(found, took_ns, strict=True):
        assert felt_ns is not None
        assert true_ns <= felt_ns < true_ns + SPACING_NS


def test_a_probe_that_is_lost_alone_is_no_change_and_what_nobody_felt_counts_as_the_longest() -> None:
    sent_ns = np.arange(100, dtype=np.int64) * SPACING_NS
    lost = np.zeros(100, np.bool_)
    lost[20 : 20 + IN_A_ROW - 1] = True
    found = reactions_ns([(10 * SPACING_NS, False)], sent_ns, lost, 90 * SPACING_NS)
    assert found == [None]
    assert percentiles_ms([*found, 5_000_000], 90 * SPACING_NS) == {"p50": 25.0, "p99": 44.6, "longest": 45.0}


def test_a_change_without_probes_is_not_felt() -> None:
    nothing = np.array([], np.int64)
    assert reactions_ns([(5, True)], nothing, nothing.astype(np.bool_), 10) == [None]
    assert reactions_ns([], nothing, nothing.astype(np.bool_), 10) == []
