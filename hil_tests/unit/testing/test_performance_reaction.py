"""When packets felt a change: the first of a few probes in a row that fare as they should from then on."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import serial
from hypothesis import given
from hypothesis import strategies as st

from emulator.testing.performance.reaction import CONTROLLER, IN_A_ROW, percentiles_ms, reactions_ns

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


def test_the_played_controller_turns_on_order_and_tells_when_its_reports_changed() -> None:
    positions = ["--here", "205.0", "46.0", "--there", "205.0", "36.0"]
    command = [sys.executable, "-I", "-S", CONTROLLER, *positions, "--changes", "3", "--dwell-ms", "1", "2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as played:
        assert played.stdin is not None
        assert played.stdout is not None
        ready, path = played.stdout.readline().split()
        assert ready == "ready"
        heard: list[tuple[bytes, int]] = []
        with serial.Serial(path, 19200, timeout=60) as line:

            def ask() -> bytes:
                line.write(b"AZ EL \n")
                heard.append((line.read_until(b"\n"), time.monotonic_ns()))
                return heard[-1][0]

            assert ask() == b"AZ205.0 EL46.0\n"
            began_ns = time.monotonic_ns()
            played.stdin.write("go\n")
            played.stdin.flush()
            for _ in range(3):
                before = heard[-1][0]
                while ask() == before:
                    pass
            changes = json.loads(played.stdout.readline())
        played.stdin.close()
    turned = [at_ns for (said, at_ns), (before, _) in zip(heard[1:], heard, strict=False) if said != before]
    assert [here for _, here in changes] == [False, True, False]
    assert began_ns < changes[0][0]
    assert all(told_ns < at_ns for (told_ns, _), at_ns in zip(changes, turned, strict=True))
    assert played.returncode == 0
