"""FQ-CoDel against RFC 8290, told with lists; and what it is for."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from emulator.link.link import LaneOptions, LinkOptions
from emulator.timeline.causes import Cause
from emulator.timeline.model import Channel
from hil_tests.unit.link.codel_oracle import Codel
from hil_tests.unit.link.driver import Offer, drive, new_link
from hil_tests.unit.link.test_classes_and_disciplines import BYTE_NS, MS, RATE_BPS, UDP, ipv4, number_of

TARGET, INTERVAL = 2 * MS, 5 * MS


@dataclass
class Flow:
    """A queue of (arrival, bytes, number)."""

    packets: deque[tuple[int, int, int]] = field(default_factory=deque)
    deficit: int = 0
    codel: Codel = field(default_factory=lambda: Codel(TARGET, INTERVAL))

    @property
    def size(self) -> int:
        return sum(size for _, size, _ in self.packets)


@dataclass
class Model:
    """RFC 8290 sections 4.1 and 4.2; `ecn` marks instead of dropping."""

    limit: int
    quantum: int
    ecn: bool = False
    flows: dict[int, Flow] = field(default_factory=dict)
    new: deque[int] = field(default_factory=deque)
    old: deque[int] = field(default_factory=deque)
    free_ns: int = 0
    served: list[tuple[int, int]] = field(default_factory=list)
    full: list[int] = field(default_factory=list)
    early: list[int] = field(default_factory=list)

    def offer(self, at: int, port: int, size: int, number: int) -> None:
        self.advance(at)
        flow = self.flows.setdefault(port, Flow())
        flow.packets.append((at, size, number))
        if port not in self.new and port not in self.old:
            flow.deficit = self.quantum
            self.new.append(port)
        if sum(len(flow.packets) for flow in self.flows.values()) > self.limit:
            longest = max(self.flows.values(), key=lambda flow: flow.size)
            half = longest.size / 2
            for _ in range(64):
                self.full.append(longest.packets.popleft()[2])
                if longest.size <= half:
                    break
        self.advance(at)

    def advance(self, now: int) -> None:
        while any(flow.packets for flow in self.flows.values()):
            start = max(self.free_ns, min(flow.packets[0][0] for flow in self.flows.values() if flow.packets))
            if start > now:
                return
            found = self.dequeue(start)
            if found is not None:
                self.free_ns = start + found[1] * BYTE_NS
                self.served.append((self.free_ns, found[2]))

    def dequeue(self, now: int) -> tuple[int, int, int] | None:
        while self.new or self.old:
            source = self.new or self.old
            flow = self.flows[source[0]]
            if flow.deficit <= 0:
                flow.deficit += self.quantum
                self.old.append(source.popleft())
                continue
            while flow.packets:
                arrival, size, number = flow.packets[0]
                late = flow.codel.drops(now - arrival, flow.size - size, now)
                if late:
                    self.early.append(number)
                if late and not self.ecn:
                    flow.packets.popleft()
                    continue
                flow.deficit -= size
                return flow.packets.popleft()
            flow.codel.empty()
            port = source.popleft()
            if source is self.new and self.old:
                self.old.append(port)
        return None


ARRIVALS = st.lists(st.tuples(st.integers(0, 2 * MS), st.integers(1, 4), st.integers(32, 1500)), max_size=120)


@given(ARRIVALS, st.sampled_from([3, 20, 200]), st.sampled_from([300, 1514]), st.booleans())
def test_service_and_drops_are_those_of_the_rfc(
    found: list[tuple[int, int, int]], limit: int, quantum: int, ecn: bool
) -> None:
    lane = LaneOptions(
        limit,
        discipline="fq_codel",
        target_ns=TARGET,
        interval_ns=INTERVAL,
        quantum_bytes=quantum,
        ecn=ecn,
        flows=65_536,
    )
    options = LinkOptions(lanes=(lane,), memory_bytes=1 << 18, flight_packets=256)
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=RATE_BPS), options)
    model, offers, at = Model(limit, quantum, ecn), [], 0
    for number, (gap, port, size) in enumerate(found):
        at += gap
        frame = bytearray(ipv4(UDP, size, number, ports=(1000 + port, 5000)))
        frame[11] = 2  # ECT(0)
        model.offer(at, port, size, number)
        offers.append(Offer(at, bytes(frame)))
    model.advance(1 << 60)
    outcome = drive(link, offers)
    assert [(due, number_of(packet)) for due, packet in outcome.deliveries] == model.served
    assert outcome.counters.dropped.get(Cause.QUEUE, 0) == len(model.full)
    marked = [number_of(packet) for _, packet in outcome.deliveries if packet[1] & 3 == 3]
    assert sorted(marked) == (sorted(model.early) if ecn else [])
    assert outcome.counters.marked_packets == len(marked)
    assert outcome.counters.dropped.get(Cause.AQM, 0) == (0 if ecn else len(model.early))


def test_a_sparse_flow_hardly_waits_beside_a_greedy_one() -> None:
    options = LinkOptions(
        lanes=(LaneOptions(10_000, discipline="fq_codel"),), memory_bytes=1 << 22, flight_packets=1 << 12
    )
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=RATE_BPS), options)
    greedy = [Offer(at * MS, ipv4(UDP, 1500, at, ports=(1, 1))) for at in range(1000)]
    sparse = [Offer(at * 50 * MS, ipv4(UDP, 100, 10**6 + at, ports=(2, 2))) for at in range(1, 20)]
    outcome = drive(link, sorted(greedy + sparse, key=lambda offer: offer.at_ns))
    waits = [
        due - (number_of(packet) - 10**6) * 50 * MS for due, packet in outcome.deliveries if number_of(packet) >= 10**6
    ]
    assert len(waits) == len(sparse)
    assert max(waits) <= (1500 + 100) * BYTE_NS


def test_flows_share_a_link_evenly_whatever_their_packets() -> None:
    options = LinkOptions(
        lanes=(LaneOptions(10_000, discipline="fq_codel", target_ns=1 << 50),),
        memory_bytes=1 << 22,
        flight_packets=1 << 12,
    )
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=RATE_BPS), options)
    sizes = {1: 1500, 2: 300, 3: 700}
    offers = [
        Offer(0, ipv4(UDP, size, port * 10**6 + index, ports=(port, port)))
        for port, size in sizes.items()
        for index in range(300_000 // size)
    ]
    sent = dict.fromkeys(sizes, 0)
    for due, packet in drive(link, offers).deliveries:
        if due < 600 * MS:  # all have something waiting until then
            sent[number_of(packet) // 10**6] += len(packet)
    assert max(sent.values()) - min(sent.values()) <= 2 * 1514 + 1500
