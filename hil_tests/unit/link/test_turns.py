"""Who is served is decided when service begins, whatever the queues have waited for: tokens, grants, the gate."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from emulator.link.fair import fair_next, fair_turn
from emulator.link.link import Bucket, Change, Discipline, LaneOptions, Link, LinkOptions, Opportunities, Rule
from emulator.link.state import FAIR_FLOW, LANE_HEAD, LANE_TAIL, NEVER
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import Offer, drain, drive, new_link
from hil_tests.unit.link.strategies import MS, SEEDS, S
from hil_tests.unit.link.test_classes_and_disciplines import BYTE_NS, ICMP, RATE_BPS, UDP, ipv4, number_of

EVERY: list[Discipline] = ["drop_tail", "drop_front", "codel", "pie", "fq_codel"]
FIFOS: list[Discipline] = ["drop_tail", "drop_front"]
TAILS: list[Discipline] = ["drop_tail"] * 3
OPTIONS = LinkOptions(rules=(Rule(0, ICMP), Rule(1, -1, 46)), memory_bytes=1 << 20, flight_packets=256)
ARRIVALS = st.lists(st.tuples(st.integers(0, 9 * MS), st.integers(0, 2), st.integers(32, 1500)), max_size=60)
HOLDS = st.lists(st.tuples(st.integers(0, 200 * MS), st.sampled_from([MS, 40 * MS])), max_size=2)


def offers_to_lanes(found: list[tuple[int, int, int]], size: int = 0) -> list[Offer]:
    """(gap, lane, bytes) as packets; `size`: of all of them."""
    at, offers = 0, []
    for number, (gap, lane, own_size) in enumerate(found):
        at += gap
        protocol, dscp = ICMP if lane == 0 else UDP, 46 if lane == 1 else 0
        offers.append(Offer(at, ipv4(protocol, size or own_size, number, dscp=dscp)))
    return offers


@dataclass
class Model:
    """Lanes by precedence that drop from either end, a bucket, demand assignment and holds, in plain Python."""

    options: LinkOptions
    holds: list[Change]
    rate_bps: int
    free_ns: int = -(10**18)
    since_ns: int = 0
    last_ns: int = 0
    requests: list[int] = field(default_factory=list)
    queues: list[deque[tuple[int, int, int]]] = field(default_factory=list)
    level: int = 0
    level_at_ns: int = 0
    served: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queues = [deque() for _ in self.options.lanes]
        if self.options.bucket:
            self.level = self.options.bucket.burst_bytes * 8 * S

    def offer(self, at: int, lane: int, size: int, number: int) -> None:
        self.advance(at)
        queue, options = self.queues[lane], self.options.lanes[lane]
        full = len(queue) == options.queue_packets
        if not any(self.queues):
            self.since_ns = at
        if not full:
            self.requests.append(at)
        self.last_ns = at
        if full and options.discipline == "drop_front":
            queue.popleft()
        if not full or options.discipline == "drop_front":
            queue.append((at, size, number))
        self.advance(at)

    def granted(self, at: int) -> int:
        return at + -at % self.options.grant_ns if self.options.grant_ns else at

    def filled(self, at: int) -> int:
        """Bits × 10⁹ in the bucket."""
        assert self.options.bucket
        most = self.options.bucket.burst_bytes * 8 * S
        return min(most, self.level + (at - self.level_at_ns) * self.options.bucket.rate_bps)

    def start(self, size: int) -> int:
        options, start = self.options, self.free_ns
        since = self.requests[0] if options.request_volume else self.since_ns
        if options.request_volume or since > start:
            asks = options.request_volume or since - start > options.request_kept_ns
            start = max(start, self.granted(since + options.request_ns if asks else since))
        if options.bucket:
            wanted = min(size, options.bucket.burst_bytes) * 8 * S
            begin = max(start, self.last_ns)
            begin += max(0, -((self.filled(begin) - wanted) // options.bucket.rate_bps))
            start = start if begin == start else self.granted(begin)
        while shut := [hold for hold in self.holds if hold.start_ns <= start < hold.end_ns]:
            start = self.granted(max(hold.end_ns for hold in shut))
        return start

    def advance(self, now: float) -> None:
        while any(self.queues):
            lane = next(index for index, queue in enumerate(self.queues) if queue)
            came, size, number = self.queues[lane][0]
            start = self.start(size)
            if start > now:
                return
            self.queues[lane].popleft()
            self.last_ns = start
            longest = self.options.lanes[lane].longest_wait_ns
            if longest and start - came > longest:
                self.requests.pop()
                continue
            self.requests.pop(0)
            if self.options.bucket:
                self.level, self.level_at_ns = self.filled(start) - size * 8 * S, start
            self.free_ns = start + (size * BYTE_NS if self.rate_bps else 0)
            self.served.append((self.free_ns, number))


LANES = st.lists(
    st.builds(LaneOptions, st.sampled_from([1, 4, 50]), discipline=st.sampled_from(["drop_tail", "drop_front"])),
    min_size=3,
    max_size=3,
).map(tuple)
BUCKETS = st.none() | st.builds(
    Bucket, st.sampled_from([7 * 10**5, 10**6, 10**8]), st.sampled_from([1, 100, 1500, 9000])
)
DEMANDS = st.fixed_dictionaries(
    {
        "grant_ns": st.sampled_from([0, 7 * MS]),
        "request_ns": st.sampled_from([0, MS, 60 * MS]),
        "request_kept_ns": st.sampled_from([0, 5 * MS]),
        "request_volume": st.booleans(),
    }
)
POLLS = st.lists(st.integers(0, 400 * MS), max_size=6)


@settings(max_examples=200)
@given(ARRIVALS, LANES, BUCKETS, DEMANDS, HOLDS, st.sampled_from([0, RATE_BPS]), st.sampled_from([0, 20 * MS]), POLLS)
@example(  # a full lane drops the packet for which capacity was asked
    [(10 * MS, 2, 500)] * 30, (LaneOptions(1, discipline="drop_front"),) * 3, None,
    {"request_ns": 60 * MS}, [], 0, 0, [],
)  # fmt: skip
@example(  # the same, where each packet asks for itself
    [(10 * MS, 2, 500)] * 30, (LaneOptions(1, discipline="drop_front"),) * 3, None,
    {"request_ns": 60 * MS, "request_volume": True}, [], 0, 0, [],
)  # fmt: skip
@example(  # one that has waited too long is dropped, and the short one behind it would have had its tokens before
    [(0, 2, 1500), (0, 2, 1500), (0, 2, 1500), (15 * MS, 2, 32)], (LaneOptions(4),) * 3, Bucket(7 * 10**5, 1500),
    {}, [], 0, 20 * MS, [],
)  # fmt: skip
@example(  # a ping comes while a long packet waits for tokens, and the gate shuts before they are there
    [(0, 2, 1500), (0, 2, 1500), (5 * MS, 0, 32)], (LaneOptions(4),) * 3, Bucket(10**6, 1500),
    {}, [(10 * MS, 40 * MS)], 0, 0, [],
)  # fmt: skip
def test_service_is_that_of_the_model(
    found: list[tuple[int, int, int]],
    lanes: tuple[LaneOptions, ...],
    bucket: Bucket | None,
    demand: dict[str, int],
    holds: list[tuple[int, int]],
    rate_bps: int,
    longest_wait_ns: int,
    polls: list[int],
) -> None:
    if not holds:  # what a hold keeps for too long has its own laws
        lanes = tuple(replace(lane, longest_wait_ns=longest_wait_ns) for lane in lanes)
    options = replace(OPTIONS, lanes=lanes, bucket=bucket, **demand)  # type: ignore[arg-type]
    overlay = [Change(start, start + lasts, gate=Gate.HOLD, cause=Cause.COMMAND) for start, lasts in holds]
    model, at = Model(options, overlay, rate_bps), 0
    for number, (gap, lane, size) in enumerate(found):
        at += gap
        model.offer(at, lane, size, number)
    model.advance(math.inf)
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=rate_bps), options, changes=overlay)
    outcome = drive(link, offers_to_lanes(found), polls=polls)
    assert [(due, number_of(packet)) for due, packet in outcome.deliveries] == model.served
    waits = [lane.worst_wait_ns for lane in outcome.counters.lanes]
    assert all(wait <= lane.longest_wait_ns for wait, lane in zip(waits, lanes, strict=True) if lane.longest_wait_ns)


@given(ARRIVALS, st.lists(st.sampled_from(EVERY), min_size=3, max_size=3), BUCKETS, DEMANDS, HOLDS)
def test_whom_a_full_lane_drops_changes_nothing_about_when_the_link_serves(
    found: list[tuple[int, int, int]],
    disciplines: list[Discipline],
    bucket: Bucket | None,
    demand: dict[str, int],
    holds: list[tuple[int, int]],
) -> None:
    """Of packets of one size, where those drop that drop one for one."""
    overlay = [Change(start, start + lasts, gate=Gate.HOLD, cause=Cause.COMMAND) for start, lasts in holds]
    instants = []
    for names in (disciplines, TAILS):
        lanes = tuple(
            LaneOptions(4 if full in FIFOS else 100, discipline=name, target_ns=100 * S, flows=3)
            for name, full in zip(names, disciplines, strict=True)
        )
        options = replace(OPTIONS, lanes=lanes, bucket=bucket, **demand)  # type: ignore[arg-type]
        link = new_link(Channel.constant(0, delay_ns=0, rate_bps=RATE_BPS), options, changes=overlay)
        instants.append([due for due, _ in drive(link, offers_to_lanes(found, 500)).deliveries])
    assert instants[0] == instants[1]


@given(
    ARRIVALS,
    st.sampled_from(EVERY),
    st.none() | st.just(Opportunities((3 * MS, 50 * MS), 700)),
    BUCKETS,
    DEMANDS,
    st.integers(1, 300 * MS),
    st.sampled_from([60 * MS, 10 * S, NEVER]),
    SEEDS,
)
def test_a_hold_that_is_lifted_early_is_as_one_that_was_to_end_then(
    found: list[tuple[int, int, int]],
    discipline: Discipline,
    opportunities: Opportunities | None,
    bucket: Bucket | None,
    demand: dict[str, int],
    lifted_at: int,
    longer_ns: int,
    seed: int,
) -> None:
    lanes = (LaneOptions(9, discipline=discipline, flows=3),) * 3
    options = replace(OPTIONS, lanes=lanes, opportunities=opportunities, bucket=bucket, **demand)  # type: ignore[arg-type]
    short = Change(MS, MS + lifted_at, gate=Gate.HOLD, cause=Cause.COMMAND)
    offers = offers_to_lanes(found)
    known, lifted = (
        new_link(Channel.constant(0, delay_ns=0), options, seed=seed, changes=[hold])
        for hold in (short, replace(short, end_ns=min(NEVER, short.end_ns + longer_ns)))
    )
    before = [offer for offer in offers if offer.at_ns < short.end_ns]
    left = drive(lifted, before, polls=[short.end_ns - 1], drained=False).deliveries
    lifted.next_event_ns()
    lifted.overlay([short])
    left += drive(lifted, offers[len(before) :]).deliveries
    assert left == drive(known, offers).deliveries


@given(
    st.lists(st.tuples(st.integers(0, 3 * MS), st.integers(1, 5), st.integers(32, 1500)), max_size=60),
    st.sampled_from([1, 300, 1514]),
)
def test_the_flow_that_is_next_is_told_without_a_change(found: list[tuple[int, int, int]], quantum: int) -> None:
    lane = LaneOptions(20, discipline="fq_codel", target_ns=2 * MS, interval_ns=5 * MS, quantum_bytes=quantum, flows=7)
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=RATE_BPS), replace(OPTIONS, lanes=(lane,), rules=()))

    def compare(looked_at: Link) -> None:
        lanes, flows = looked_at.state.lanes.copy(), looked_at.state.flows.copy()
        if lanes[0, LANE_HEAD] == lanes[0, LANE_TAIL]:
            return
        told = fair_next(lanes, flows, 0)
        assert lanes.tolist() == looked_at.state.lanes.tolist()
        assert flows.tolist() == looked_at.state.flows.tolist()
        fair_turn(lanes, flows, 0)
        assert told == lanes[0, FAIR_FLOW]

    at = 0
    for number, (gap, port, size) in enumerate(found):
        at += gap
        link.offer_super(ipv4(UDP, size, number, ports=(port, port)), at)
        compare(link)
    drain(link, compare)
