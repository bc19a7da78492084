"""What a packet costs in the compiled path alone, without ports: ns of the processor, one feature beside another.

Runs take turns, and the least of each counts: what else the machine does only ever adds.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

import numpy as np

from emulator.link import wire
from emulator.link.compiled import compiled_apart
from emulator.link.link import Bucket, Bursts, CustomStage, Jitter, LaneOptions, Link, LinkOptions, Opportunities, Rule
from emulator.link.path import depart, due_run, offer
from emulator.link.state import Bytes, LinkState
from emulator.link.store import reserve
from emulator.testing.performance.names import PLAIN, SUPERS
from emulator.timeline.model import Channel

PACKETS = 200_000
GAP_NS = 2_000
ROUNDS = 7
PACKET_BYTES = 64
DRAIN_NS = 1_000_000_000
SEGMENTS, MSS = 40, 1460  # a super-packet's wire packets, and what each of them carries


@compiled_apart
def carry(link: LinkState, frames: Bytes, length: int, first: int, packets: int, gap: int) -> None:
    """Offers frames of `length` bytes that begin with the rows of `frames`, one each `gap` ns; delivers what is due."""
    now = first
    for number in range(packets):
        now += gap
        while due_run(link, now, 0):
            depart(link)
        offset = reserve(link, length)
        row = number % len(frames)
        for at in range(frames.shape[1]):
            link.ring[offset + at] = frames[row, at]
        offer(link, now, offset, length)
    now += DRAIN_NS
    while due_run(link, now, 0):
        depart(link)


def udp_packet(size: int, port: int) -> bytes:
    """A UDP packet of `size` bytes behind an empty virtio_net_hdr."""
    head = struct.pack(">BBHHHBBH", 0x45, 2, size, 0, 0, 64, 17, 0) + bytes([198, 18, 0, 2, 198, 18, 0, 1])
    return bytes(10) + head + struct.pack(">HHHH", port, 5000, size - 20, 0) + bytes(size - 28)


def udp_packets(flows: int) -> list[bytes]:
    """Small ones, of as many flows."""
    return [udp_packet(PACKET_BYTES, 1000 + flow) for flow in range(flows)]


def super_packet() -> bytes:
    """Headers of a TCP super-packet of SEGMENTS full wire packets, behind its virtio_net_hdr."""
    offload = struct.pack("<BBHHHH", wire.NEEDS_CHECKSUM, wire.GSO_TCP4, 40, MSS, 20, wire.TCP_CHECKSUM)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 40 + SEGMENTS * MSS, 0, 0, 64, 6, 0) + bytes(
        [198, 18, 0, 2, 198, 18, 0, 1]
    )
    return offload + head + struct.pack(">HHIIBBHHH", 1000, 5000, 0, 0, 0x50, 0x10, 1000, 0, 0)


def timed(options: LinkOptions, channel: Channel, packets: list[bytes], segments: int = 1) -> Callable[[], float]:
    """A run of one variant, as ns of the processor per wire packet. segments: wire packets for which a packet stands.

    Of super-packets the link looks at the headers alone; their payload is whatever is in the ring.
    """
    frames = np.stack([np.frombuffer(packet, np.uint8) for packet in packets]).copy()
    length = frames.shape[1] + (segments * MSS if segments > 1 else 0)
    link = Link(channel, 1 << 60, seed=1, direction=0, options=options)
    clock = [0]

    def run() -> float:
        begun = time.thread_time_ns()
        carry(link.state, frames, length, clock[0], PACKETS // segments, GAP_NS * segments)
        clock[0] += PACKETS * GAP_NS + 2 * DRAIN_NS
        return (time.thread_time_ns() - begun) / PACKETS

    return run


def plain() -> Channel:
    """A delay, a rate, some loss and jitter: what every link has."""
    return Channel.constant(0, delay_ns=1_000_000, rate_bps=10**9, loss=0.001, jitter_ns=10_000)


def variants() -> dict[str, Callable[[], float]]:
    """Every feature that has a cost of its own, against PLAIN."""
    classes = tuple(LaneOptions() for _ in range(100))
    rules = tuple(Rule(lane, 17, -1, (60_000 + lane, 60_000 + lane)) for lane in range(99))
    idle = CustomStage("emulator.testing.performance.idle_stage:idle")
    damage = LinkOptions(bursts=Bursts(10**9, 10**7), copied=0.001, late=0.001, late_ns=10**6)
    everything = LinkOptions(
        lanes=tuple(LaneOptions(discipline="fq_codel", ecn=True) for _ in classes),
        rules=rules,
        frame_ns=1_333_333,
        grant_ns=4_000_000,
        bursts=damage.bursts,
        bit_error_rate=1e-9,
        spoilt=0.001,
        copied=0.001,
        late=0.001,
        late_ns=10**6,
        bucket=Bucket(10**9, 10**6),
        jitter=Jitter("normal", 0.3, correlation=0.9),
        stage=idle,
        egress_rate_bps=10**10,
        ledger_events=1 << 16,
    )
    made: dict[str, tuple[LinkOptions, int]] = {
        PLAIN: (LinkOptions(), 1),
        "100 classes": (LinkOptions(lanes=classes, rules=rules), 1),
        "1,000 flows": (LinkOptions(), 1000),
        "codel": (LinkOptions(lanes=(LaneOptions(discipline="codel", ecn=True),)), 1),
        "pie": (LinkOptions(lanes=(LaneOptions(discipline="pie", ecn=True),)), 1),
        "fq_codel, 1,000 flows": (LinkOptions(lanes=(LaneOptions(discipline="fq_codel", ecn=True),)), 1000),
        "frames and grants": (LinkOptions(frame_ns=1_333_333, grant_ns=4_000_000), 1),
        "bursts, doubles, lateness": (damage, 1),
        "token bucket": (LinkOptions(bucket=Bucket(10**9, 10**6)), 1),
        "opportunities": (LinkOptions(opportunities=Opportunities(tuple(range(12_000, 12_000_001, 12_000)))), 1),
        "correlated jitter": (LinkOptions(jitter=Jitter("normal", 0.3, correlation=0.9)), 1),
        "egress rate": (LinkOptions(egress_rate_bps=10**10), 1),
        "ledger": (LinkOptions(ledger_events=1 << 16), 1),
        "own stage": (LinkOptions(stage=idle), 1),
        "all of them": (everything, 1000),
    }
    runs = {name: timed(options, plain(), udp_packets(flows)) for name, (options, flows) in made.items()}
    unlimited = Channel.constant(0, delay_ns=1_000_000)
    runs[SUPERS] = timed(LinkOptions(), unlimited, [super_packet()], SEGMENTS)
    return runs


def costs(runs: dict[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, float]:
    """ns per packet: the least of the runs of each, taken in turns after one that does not count."""
    for run in runs.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(run())
    return {name: min(values) for name, values in found.items()}
