"""What a hold keeps for longer than the lane allows is dropped then: its counter, its place and its bytes are right."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emulator.link.link import Bucket, Change, LaneOptions, Link, LinkOptions, Opportunities, Rule
from emulator.link.options import Discipline
from emulator.link.state import L_AT, L_CAUSE, L_NUMBER, LEDGER_TAIL, SUPER_LEFT
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import drain, drive, new_link
from hil_tests.unit.link.packets import frame
from hil_tests.unit.link.strategies import MS, POLLS, arrivals, offers_of

BEGINS, LONG = MS, 10**12
STEPS = st.sampled_from([0, 1, MS // 3, MS, 2 * MS + 7]) | st.integers(0, 4 * MS)
DISCIPLINES: list[Discipline] = ["drop_tail", "drop_front", "codel", "pie", "fq_codel"]


def holding(lanes: tuple[LaneOptions, ...], until_ns: int, rules: tuple[Rule, ...] = ()) -> Link:
    """A link without a rate whose gate holds from BEGINS on."""
    options = LinkOptions(lanes=lanes, rules=rules, memory_bytes=1 << 22, flight_packets=1 << 8, ledger_events=1 << 8)
    hold = Change(BEGINS, until_ns, gate=Gate.HOLD, cause=Cause.COMMAND)
    return new_link(Channel.constant(0, delay_ns=0), options, changes=(hold,))


def ledger(link: Link) -> list[tuple[int, int, int]]:
    """(number, cause, at) in the order in which it was noted."""
    rows = link.state.ledger[: link.state.reg[LEDGER_TAIL]]
    return [(int(row[L_NUMBER]), int(row[L_CAUSE]), int(row[L_AT])) for row in rows]


@given(
    gaps=st.lists(STEPS, min_size=5, max_size=40),
    longest_ns=st.sampled_from([1, MS, 3 * MS, 10 * MS]) | st.integers(1, 20 * MS),
    lasts_ns=st.sampled_from([4 * MS, 20 * MS, LONG]) | st.integers(1, 60 * MS),
    room=st.integers(1, 8) | st.just(1000),
    looks=st.lists(st.integers(0, 60 * MS), max_size=10),
    discipline=st.sampled_from(["drop_tail", "fq_codel"]),
)
def test_at_every_moment_nobody_waits_who_has_waited_too_long(
    gaps: list[int], longest_ns: int, lasts_ns: int, room: int, looks: list[int], discipline: Discipline
) -> None:
    """By a model of a list: places are free again from the nanosecond after the longest wait on."""
    opens = BEGINS + lasts_ns
    room = room if discipline == "drop_tail" else 1000  # whom a full FQ-CoDel drops is its own affair
    lane = LaneOptions(
        room, discipline=discipline, longest_wait_ns=longest_ns, target_ns=10**10, interval_ns=10**10, flows=3
    )
    link = holding((lane,), opens)
    waiting: list[tuple[int, int]] = []  # number, arrival
    expected: list[tuple[int, int, int]] = []

    def pass_by(now: int) -> None:
        while waiting and waiting[0][1] + longest_ns + 1 <= min(now, opens):
            number, came = waiting.pop(0)
            expected.append((number, Cause.QUEUE, came + longest_ns + 1))
        if now >= opens:
            expected.extend((number, 0, opens) for number, _ in waiting)
            waiting.clear()

    def check(now: int) -> None:
        pass_by(now)
        counted = link.counters()
        assert counted.dropped.get(Cause.QUEUE, 0) == sum(cause == Cause.QUEUE for _, cause, _ in expected)
        assert counted.held_packets == len(waiting)
        assert counted.lanes[0].queued_packets == len(waiting)

    at, steps = 0, [(look, False) for look in looks]
    for gap in gaps:
        at += gap
        steps.append((at, True))
    number = 0
    for now, comes in sorted(steps):
        pass_by(now)
        if not comes:
            link.poll(now)
            check(now)
            continue
        number += 1
        link.offer_super(frame(100, number), now)
        if not BEGINS <= now < opens:
            expected.append((number, 0, now))
        elif len(waiting) < room:
            waiting.append((number, now))
        else:
            expected.append((number, Cause.QUEUE, now))
    drain(link)
    pass_by(LONG if lasts_ns == LONG else opens)
    assert sorted(ledger(link)) == sorted(expected)
    assert link.counters().held_packets == 0
    assert int(link.state.supers[:, SUPER_LEFT].sum()) == 0, "and their bytes are free again"


@given(
    arrivals(gaps=STEPS),
    st.lists(st.tuples(st.sampled_from(DISCIPLINES), st.sampled_from([0, 1, 3 * MS, 10 * MS])), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 40 * MS), st.sampled_from([MS, 10 * MS, 50 * MS])), min_size=1, max_size=3),
    POLLS,
    st.sampled_from([0, 10**6, 10**8]),
    st.none() | st.just(Bucket(10**6, 1000)),
    st.none() | st.just(Opportunities((3 * MS, 20 * MS), 700)),
)
def test_when_it_is_looked_at_changes_neither_what_is_dropped_nor_when(
    found: list[tuple[int, int]],
    wanted: list[tuple[Discipline, int]],
    holds: list[tuple[int, int]],
    looks: list[int],
    rate_bps: int,
    bucket: Bucket | None,
    opportunities: Opportunities | None,
) -> None:
    lanes = tuple(
        LaneOptions(6, discipline=discipline, longest_wait_ns=longest_ns, flows=3) for discipline, longest_ns in wanted
    )
    rules = tuple(Rule(lane, ports=(lane, 65_535 - lane)) for lane in range(len(lanes) - 1))
    options = LinkOptions(
        lanes=lanes,
        rules=rules,
        memory_bytes=1 << 22,
        flight_packets=1 << 8,
        ledger_events=1 << 8,
        grant_ns=7 * MS,
        bucket=bucket,
        opportunities=opportunities,
    )
    channel = Channel.constant(0, delay_ns=MS, rate_bps=rate_bps)
    overlay = [Change(start, start + lasts, gate=Gate.HOLD, cause=Cause.COMMAND) for start, lasts in holds]
    plain, looked = (new_link(channel, options, changes=overlay) for _ in range(2))
    assert drive(plain, offers_of(found)) == drive(looked, offers_of(found), polls=looks)
    assert ledger(plain) == ledger(looked)


def test_the_link_asks_to_be_polled_when_a_held_packet_is_overdue() -> None:
    link = holding((LaneOptions(longest_wait_ns=5 * MS),), LONG)
    link.offer_super(frame(100, 1), BEGINS + MS)
    assert link.next_event_ns() == BEGINS + 6 * MS + 1
    assert link.poll(BEGINS + 6 * MS) == []
    assert link.counters().held_packets == 1, "it has waited for no longer than it may"
    assert link.poll(BEGINS + 6 * MS + 1) == []
    assert link.counters().dropped == {Cause.QUEUE: 1}
    assert link.next_event_ns() is None
