"""Laws of what is on the air: it leaves by due time, ties in the order of launching; and what overtaking costs."""

from __future__ import annotations

import bisect
import math
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.link import flight, path
from emulator.link.link import Link, LinkOptions, delay_line
from emulator.link.state import F_HEAD, F_TAIL, NEVER, RUN_BYTES, RUN_COUNT, RUN_DUE, RUN_FIRST, RUN_SUPER
from hil_tests.unit.link.subprocesses import python

OPTIONS = LinkOptions(memory_bytes=1 << 12, flight_packets=1 << 6)
JOINS = st.tuples(st.integers(0, 40), st.integers(0, 40))  # due, and how far below that what comes later may be due


class Look(NamedTuple):
    """A run leaves, or its beginning."""

    until: int
    cut: bool


STEPS = st.lists(JOINS | st.tuples(st.integers(0, 60), st.booleans()).map(Look._make), max_size=60)


def entered_at(before: int) -> Link:
    """A delay line where `before` packets have flown already: the ring is entered anywhere."""
    line = delay_line(OPTIONS)
    line.state.reg[F_HEAD] = line.state.reg[F_TAIL] = before
    return line


def take_run(line: Link, until: int, *, cut: bool = False) -> list[tuple[int, int]]:
    """(due, number) of the packets of the first run, looking ahead to `until`, or of its beginning (cut).

    A super-packet holds eight numbers.
    """
    state, reg = line.state, line.state.reg
    path.first_run(state, until)
    first, count = int(reg[RUN_SUPER]) * 8 + int(reg[RUN_FIRST]), int(reg[RUN_COUNT])
    rows = [state.flight[place % len(state.flight)] for place in range(reg[F_HEAD], reg[F_HEAD] + count)]
    assert int(reg[RUN_DUE]) == int(rows[0][0])
    assert int(reg[RUN_BYTES]) == sum(range(first + 1, first + count + 1))
    left = [(int(row[0]), first + place) for place, row in enumerate(rows)]
    reg[F_HEAD] += 1 if cut else count
    return left[:1] if cut else left


def join(line: Link, due: int, place: int, index: int, length: int, floor: int) -> None:
    flight.join(line.state.reg, line.state.flight, line.state.overtaken, due, place, index, length, floor)


@given(STEPS, st.integers(0, 100))
def test_who_joins_the_flight_stands_behind_all_that_are_due_no_later_and_nobody_is_lost(
    steps: list[tuple[int, int] | Look], before: int
) -> None:
    """Some join, as late as the floor that was promised allows; between them runs leave, looked at ahead or not."""
    line, order, number, floor = entered_at(before), list[tuple[int, int]](), 0, -NEVER
    for step in steps:
        if not isinstance(step, Look):
            due = max(step[0], floor)
            floor = max(floor, due - step[1])
            join(line, due, number // 8, number % 8, number + 1, floor)
            bisect.insort(order, (due, number))
            number += 1
        elif order:
            taken = take_run(line, step.until, cut=step.cut)
            assert taken == order[: len(taken)]
            assert all(due <= step.until for due, _ in taken[1:])
            following = order[len(taken) : len(taken) + 1]
            ends = not following or following[0][0] > step.until or following[0][1] != taken[-1][1] + 1
            assert step.cut or ends or following[0][1] % 8 == 0, "the run is as long as may be"
            order = order[len(taken) :]
        assert flight.flying(line.state.reg) == len(order)
        assert flight.next_due(line.state) == (order[0][0] if order else NEVER)
    while order:
        taken = take_run(line, NEVER)
        assert taken == order[: len(taken)]
        order = order[len(taken) :]
    assert flight.flying(line.state.reg) == 0


COUNT = """
import sys
import numpy as np
from emulator.link.flight import join
from emulator.link.link import LinkOptions, delay_line
from emulator.link.path import depart, due_run
from emulator.link.state import NEVER, SUPER_LEFT

class Counted(np.ndarray):
    written = 0
    def __setitem__(self, place, value):
        Counted.written += 1
        super().__setitem__(place, value)

packets, law = int(sys.argv[1]), sys.argv[2]
line = delay_line(LinkOptions(memory_bytes=1 << 12, flight_packets=2 * packets))
state = line.state._replace(flight=line.state.flight.view(Counted), overtaken=line.state.overtaken.view(Counted))
state.supers[:, SUPER_LEFT] = 1 << 40
for number in range(3 * packets):
    late = {"half": number % 2 * packets, "any": number * 2654435761 % packets}[law]
    join(state.reg, state.flight, state.overtaken, number + late, 0, 0, 1, number if law == "half" else -NEVER)
    while due_run(state, number, 0):
        depart(state)
print(Counted.written // (3 * packets))
"""


@pytest.mark.parametrize("law", ["half", "any"])
@pytest.mark.parametrize("packets", [1 << 7, 1 << 10])
def test_overtaking_costs_the_logarithm_of_the_packets_on_the_air(packets: int, law: str) -> None:
    """Counted are the values that are written for each packet, from when it is launched until it leaves."""
    found = python("-c", COUNT, str(packets), law, NUMBA_DISABLE_JIT="1")
    assert int(found) <= 5 * 2 * (math.log2(2 * packets) + 2)
