"""Arrivals that come to the link after it has gone on: repeated in order, they fare as they did."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emulator.link.link import Change, LaneOptions, Link, LinkOptions
from emulator.link.options import Discipline
from emulator.link.state import L_AT, L_CAUSE, L_NUMBER, LEDGER_TAIL, SUPER_COLUMNS
from emulator.ports.batch import batch_memory, begin, drop_overdue, offer_batch
from emulator.ports.capture_ring import new_ring
from emulator.ports.messages import ARRIVALS, H_RECORDS, HEADER_WORDS
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import new_link
from hil_tests.unit.link.packets import frame
from hil_tests.unit.link.strategies import MS

DISCIPLINES: list[Discipline] = ["drop_tail", "drop_front", "codel", "pie", "fq_codel"]


def ledger(link: Link) -> list[tuple[int, int, int]]:
    rows = link.state.ledger[: link.state.reg[LEDGER_TAIL]]
    return [(int(row[L_NUMBER]), int(row[L_CAUSE]), int(row[L_AT])) for row in rows]


@given(
    st.lists(
        st.tuples(st.integers(0, 2 * MS), st.sampled_from([60, 1500]), st.integers(0, 3 * MS)), min_size=1, max_size=40
    ),
    st.sampled_from(DISCIPLINES),
    st.sampled_from([0, 3 * MS]),
    st.sampled_from([0, 10**6, 10**7]),
    st.tuples(st.integers(0, 30 * MS), st.sampled_from([0, MS, 10 * MS])),
)
def test_what_comes_late_fares_as_when_its_arrivals_are_repeated_in_order(
    found: list[tuple[int, int, int]], discipline: Discipline, longest_ns: int, rate_bps: int, hold: tuple[int, int]
) -> None:
    """found: (since the one before, bytes, how much later than its arrival the link has gone on to when it comes)."""
    lane = LaneOptions(4, discipline=discipline, longest_wait_ns=longest_ns, flows=3)
    options = LinkOptions(
        lanes=(lane,), memory_bytes=1 << 20, flight_packets=1 << 8, ledger_events=1 << 8, grant_ns=MS // 3
    )
    channel = Channel.constant(0, delay_ns=MS, rate_bps=rate_bps)
    gate = Change(hold[0], sum(hold), gate=Gate.HOLD, cause=Cause.COMMAND)
    live, again = (new_link(channel, options, changes=(gate,)) for _ in range(2))
    words, data = batch_memory(1 << 10)
    arrived, entry, ring = np.zeros(2, np.int64), np.zeros(SUPER_COLUMNS, np.int64), new_ring()
    stamp = horizon = 0
    taken: list[tuple[int, bytes]] = []
    for number, (gap, size, late) in enumerate(found):
        stamp += gap
        horizon = max(horizon, stamp + late)
        drop_overdue(live.state, horizon, 0)  # which goes on to there, and drops nothing
        sent = frame(size, number)
        begin(words, ARRIVALS, 0, 1, 0, 0, 0)
        words[H_RECORDS], words[HEADER_WORDS], words[HEADER_WORDS + 1] = 1, stamp, len(sent)
        at = (HEADER_WORDS + 2) * 8
        data[at : at + len(sent)] = np.frombuffer(sent, np.uint8)
        offer_batch(live.state, ring, words, data, at + len(sent) + 7, 0, 0, horizon + 1, arrived, entry)
        taken.append((int(arrived[0]), sent))
    for when, sent in taken:
        again.offer_super(sent, when)
    for link in (live, again):
        drop_overdue(link.state, horizon + 10**12, 0)
    assert ledger(live) == ledger(again)
    if rate_bps == 0 and hold[1] == 0:
        moved = [when - int(at) for (when, _), at in zip(taken, np.cumsum([gap for gap, _, _ in found]), strict=True)]
        assert max(moved) <= MS // 3, "an idle link moves an arrival to the grant with which it has begun, at most"
