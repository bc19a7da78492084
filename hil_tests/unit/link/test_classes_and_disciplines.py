"""Laws of classes and disciplines, against a model of a few lines that knows neither rings nor arrays."""

from __future__ import annotations

import math
import struct
from collections import deque
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from emulator.link.link import Discipline, LaneOptions, LinkOptions, Rule
from emulator.timeline.causes import Cause
from emulator.timeline.model import Channel
from hil_tests.unit.link.codel_oracle import Codel
from hil_tests.unit.link.driver import Offer, drive, new_link

MS = 1_000_000
BYTE_NS = 1_000  # at 8 Mbit/s a byte takes 1 µs
RATE_BPS = 8_000_000
ICMP, UDP, TCP = 1, 17, 6


def ipv4(protocol: int, size: int, number: int, *, dscp: int = 0, ports: tuple[int, int] = (0, 0)) -> bytes:
    """An IPv4 packet behind an empty virtio_net_hdr; its number is in the last four bytes."""
    head = struct.pack(">BBHHHBBH", 0x45, dscp << 2, size, 0, 0, 64, protocol, 0) + bytes(8)
    body = struct.pack(">HH", *ports) + bytes(size - 28) + struct.pack(">I", number)
    return bytes(10) + head + body


@dataclass
class Model:
    """Queues by precedence, one server, in plain Python."""

    limits: list[int]
    disciplines: list[Discipline]
    target_ns: int = 5 * MS
    interval_ns: int = 100 * MS
    free_ns: int = 0
    queues: list[deque[tuple[int, int, int]]] = field(default_factory=list)
    served: list[tuple[int, int]] = field(default_factory=list)
    full: list[int] = field(default_factory=list)
    early: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queues = [deque() for _ in self.limits]
        self.codel = [Codel(self.target_ns, self.interval_ns) for _ in self.limits]

    def offer(self, at: int, lane: int, size: int, number: int) -> None:
        self.advance(at)
        queue = self.queues[lane]
        if len(queue) == self.limits[lane] and self.disciplines[lane] == "drop_front":
            self.full.append(queue.popleft()[2])
        if len(queue) == self.limits[lane]:
            self.full.append(number)
        else:
            queue.append((at, size, number))
            self.advance(at)

    def advance(self, now: float) -> None:
        while any(self.queues):
            lane = next(index for index, queue in enumerate(self.queues) if queue)
            start = max(self.free_ns, self.queues[lane][0][0])
            if start > now:
                return
            oldest, size, _ = self.queues[lane][0]
            behind = sum(size for _, size, _ in self.queues[lane]) - size
            if self.disciplines[lane] == "codel" and self.codel[lane].drops(start - oldest, behind, start):
                self.early.append(self.queues[lane].popleft()[2])
                continue
            _, size, number = self.queues[lane].popleft()
            self.free_ns = start + size * BYTE_NS
            self.served.append((self.free_ns, number))


def lanes_of(model: Model) -> tuple[LaneOptions, ...]:
    return tuple(
        LaneOptions(limit, discipline=name, target_ns=model.target_ns, interval_ns=model.interval_ns)
        for limit, name in zip(model.limits, model.disciplines, strict=True)
    )


def number_of(packet: bytes) -> int:
    return int(struct.unpack(">I", packet[-4:])[0])


disciplines = st.sampled_from(["drop_tail", "drop_front", "codel"])
arrivals = st.lists(st.tuples(st.integers(0, 2 * MS), st.integers(0, 2), st.integers(32, 1500)), max_size=80)


@given(
    found=arrivals,
    limits=st.lists(st.integers(1, 12), min_size=3, max_size=3),
    names=st.lists(disciplines, min_size=3, max_size=3),
    polls=st.lists(st.integers(0, 100 * MS), max_size=10),
)
def test_service_and_drops_are_those_of_the_model(
    found: list[tuple[int, int, int]], limits: list[int], names: list[Discipline], polls: list[int]
) -> None:
    model = Model(limits, names, target_ns=2 * MS, interval_ns=5 * MS)
    rules = (Rule(0, ICMP), Rule(1, -1, 46))
    options = LinkOptions(lanes=lanes_of(model), rules=rules, memory_bytes=1 << 18, flight_packets=128)
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=RATE_BPS), options)
    offers, at = [], 0
    for number, (gap, lane, size) in enumerate(found):
        at += gap
        frame = ipv4(ICMP if lane == 0 else UDP, size, number, dscp=46 if lane == 1 else 0)
        offers.append(Offer(at, frame))
        model.offer(at, lane, size, number)
    model.advance(math.inf)
    outcome = drive(link, offers, polls=polls)
    assert [(due, number_of(packet)) for due, packet in outcome.deliveries] == model.served
    assert outcome.counters.dropped.get(Cause.QUEUE, 0) == len(model.full)
    assert outcome.counters.dropped.get(Cause.AQM, 0) == len(model.early)
    assert sum(lane.offered_packets for lane in outcome.counters.lanes) == len(found)
    assert sum(lane.dropped_packets for lane in outcome.counters.lanes) == len(model.full) + len(model.early)
    assert all(lane.queued_packets == lane.queued_bytes == 0 for lane in outcome.counters.lanes)


def codel_run(rate_of_arrival: float, seconds: int) -> tuple[Model, int]:
    """Packets of 1,000 bytes that come faster than they can go, through CoDel, in the model and in the link."""
    model = Model([5000], ["codel"])
    options = LinkOptions(lanes=lanes_of(model), memory_bytes=1 << 23, flight_packets=1 << 13)
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=RATE_BPS), options)
    gap = round(1000 * BYTE_NS / rate_of_arrival)
    offers = [Offer(number * gap, ipv4(UDP, 1000, number)) for number in range(seconds * 1_000_000_000 // gap)]
    for number, offer in enumerate(offers):
        model.offer(offer.at_ns, 0, 1000, number)
    model.advance(math.inf)
    outcome = drive(link, offers)
    assert [(due, number_of(packet)) for due, packet in outcome.deliveries] == model.served
    return model, outcome.counters.dropped.get(Cause.AQM, 0)


def test_codel_drops_ever_more_often_under_lasting_load_and_never_below_the_rate() -> None:
    model, dropped = codel_run(1.1, 4)
    assert dropped == len(model.early) > 10
    gaps = [later - earlier for earlier, later in zip(model.early, model.early[1:], strict=False)]
    assert sum(gaps[-3:]) < sum(gaps[:3])
    assert codel_run(0.9, 1)[1] == 0


@given(burst=st.integers(2, 40), limit=st.integers(1, 20))
def test_drop_front_keeps_the_newest_and_drop_tail_the_oldest(burst: int, limit: int) -> None:
    kept = {}
    for name in ("drop_tail", "drop_front"):
        model = Model([limit], [name])
        options = LinkOptions(lanes=lanes_of(model), memory_bytes=1 << 18, flight_packets=64)
        link = new_link(Channel.constant(0, delay_ns=0, rate_bps=RATE_BPS), options)
        outcome = drive(link, [Offer(0, ipv4(UDP, 100, number)) for number in range(burst)])
        kept[name] = [number_of(packet) for _, packet in outcome.deliveries]
    assert kept["drop_tail"] == list(range(min(burst, limit + 1)))  # one is in service
    assert kept["drop_front"] == [0, *range(max(1, burst - limit), burst)]


def test_a_ping_waits_for_one_packet_at_most_behind_any_load() -> None:
    options = LinkOptions(
        lanes=(LaneOptions(10), LaneOptions(500)), rules=(Rule(0, ICMP),), memory_bytes=1 << 20, flight_packets=1024
    )
    link = new_link(Channel.constant(0, delay_ns=10 * MS, rate_bps=RATE_BPS), options)
    load = [Offer(0, ipv4(UDP, 1500, number)) for number in range(400)]
    pings = [Offer(at, ipv4(ICMP, 84, 1_000_000 + at)) for at in range(5 * MS, 300 * MS, 20 * MS)]
    outcome = drive(link, sorted(load + pings, key=lambda offer: offer.at_ns))
    waited = [
        due - 10 * MS - (number_of(packet) - 1_000_000) for due, packet in outcome.deliveries if packet[9] == ICMP
    ]
    assert len(waited) == len(pings)
    assert max(waited) <= (1500 + 84) * BYTE_NS


def extension(kind: int, following: int, length: int) -> bytes:
    """An IPv6 extension header of `length` × 8 bytes (authentication: counted in words of 4)."""
    units = (length * 8) // 4 - 2 if kind == 51 else length - 1
    return bytes([following, units]) + bytes(length * 8 - 2)


@given(
    version=st.sampled_from([4, 6]),
    protocol=st.sampled_from([ICMP, UDP, TCP, 132, 47, 58]),
    dscp=st.integers(0, 63),
    ports=st.tuples(st.integers(0, 65_535), st.integers(0, 65_535)),
    extensions=st.lists(st.tuples(st.sampled_from([0, 43, 51, 60]), st.integers(1, 3)), max_size=4),
    fragment=st.sampled_from(["none", "first", "later"]),
    rule_protocol=st.sampled_from([-1, ICMP, UDP, TCP, 132, 58]),
    rule_dscp=st.sampled_from([-1, 0, 46]),
    rule_ports=st.sampled_from([(-1, -1), (0, 1023), (5000, 5000), (0, 65_535)]),
)
def test_a_rule_fits_what_its_words_say(
    version: int, protocol: int, dscp: int, ports: tuple[int, int], extensions: list[tuple[int, int]], fragment: str,
    rule_protocol: int, rule_dscp: int, rule_ports: tuple[int, int],
) -> None:  # fmt: skip
    body = struct.pack(">HH", *ports) + bytes(28)
    if version == 4:
        offset = {"none": 0, "first": 0x2000, "later": 0x2000 | 5}[fragment]
        packet = struct.pack(">BBHHHBBH", 0x45, dscp << 2, 20 + len(body), 0, offset, 64, protocol, 0) + bytes(8) + body
    else:
        chain = [*extensions, *([] if fragment == "none" else [(44, 1)])]
        headers = b""
        following = [*(kind for kind, _ in chain[1:]), protocol][: len(chain)]
        for (kind, length), after in zip(chain, following, strict=True):
            if kind == 44:
                headers += struct.pack(">BBHI", after, 0, 1 if fragment == "first" else 0xF9, 7)
            else:
                headers += extension(kind, after, length)
        first = chain[0][0] if chain else protocol
        size = len(headers) + len(body)
        packet = struct.pack(">IHBB", 0x60000000 | dscp << 22, size, first, 64) + bytes(32) + headers + body
    has_ports = fragment != "later" and protocol in (UDP, TCP, 132)
    in_range = rule_ports == (-1, -1) or (has_ports and any(rule_ports[0] <= port <= rule_ports[1] for port in ports))
    fits = rule_protocol in (-1, protocol) and rule_dscp in (-1, dscp) and in_range
    options = LinkOptions(
        lanes=(LaneOptions(), LaneOptions()), rules=(Rule(0, rule_protocol, rule_dscp, rule_ports),),
        memory_bytes=1 << 18, flight_packets=64,
    )  # fmt: skip
    outcome = drive(new_link(Channel.constant(0, delay_ns=0), options), [Offer(0, bytes(10) + packet)])
    assert [delivery.packet for delivery in outcome.deliveries] == [packet]
    assert [lane.offered_packets for lane in outcome.counters.lanes] == ([1, 0] if fits else [0, 1])
