"""A schedule of contacts as what shuts a link: open exactly in the reservations that are not over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emulator.bench.schedule import NEXT_CONTACTS, shut_between
from emulator.units import NS_PER_S

SECOND = st.integers(0, 1000)
RESERVATIONS = st.lists(st.tuples(SECOND, st.integers(1, 100)), max_size=NEXT_CONTACTS)


@given(RESERVATIONS, SECOND, SECOND)
def test_it_is_open_in_a_reservation_and_shut_in_between(
    wanted: list[tuple[int, int]], now_s: int, ahead_s: int
) -> None:
    reserved = [(begin * NS_PER_S, (begin + lasts) * NS_PER_S) for begin, lasts in wanted]
    events = shut_between(reserved, now_s * NS_PER_S)
    middle_s = ahead_s + 0.5
    shut = [event for event in events if event.at_s <= middle_s < event.at_s + event.duration_s]
    at_ns = round((now_s + middle_s) * NS_PER_S)
    assert len(shut) == (0 if any(begin <= at_ns < end for begin, end in reserved) else 1)
    assert {(event.kind, event.cause, event.direction) for event in events} == {("outage", "no_satellite", "both")}


def test_what_is_far_ahead_waits_for_its_turn() -> None:
    reserved = [(number * 10 * NS_PER_S, (number * 10 + 5) * NS_PER_S) for number in range(1, 2 * NEXT_CONTACTS)]
    assert len(shut_between(reserved, 0)) == NEXT_CONTACTS + 1
