"""What a packet costs in the compiled path, without ports: ns from offer to delivery, one variant beside another.

    python -m hil_tests.performance.packet_path                    each feature against a plain link
    python -m hil_tests.performance.packet_path --against CHECKOUT  this checkout against another, a plain link

Runs alternate, and the least of them counts: what else the machine does only ever adds.
"""

from __future__ import annotations

import json
import os
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from emulator.link.compiled import compiled_apart
from emulator.link.link import Bucket, Bursts, CustomStage, Jitter, LaneOptions, Link, LinkOptions, Rule
from emulator.link.path import depart, due_run, offer
from emulator.link.state import Bytes, LinkState
from emulator.link.store import reserve
from emulator.timeline.model import Channel

PACKETS = 200_000
GAP_NS = 2_000
ROUNDS = 7
REPOSITORY = Path(__file__).parents[2]


@compiled_apart
def carry(link: LinkState, frames: Bytes, length: int, first: int, packets: int, gap: int) -> None:
    """Offers frames of `length` bytes, the rows of `frames` in turns, one each `gap` ns; delivers what is due."""
    now = first
    for number in range(packets):
        now += gap
        while due_run(link, now, 0):
            depart(link)
        offset = reserve(link, length)
        row = number % len(frames)
        for at in range(length):
            link.ring[offset + at] = frames[row, at]
        offer(link, now, offset, length)
    now += 1_000_000_000
    while due_run(link, now, 0):
        depart(link)


def udp(size: int, port: int) -> bytes:
    """A UDP packet of `size` bytes behind an empty virtio_net_hdr."""
    head = struct.pack(">BBHHHBBH", 0x45, 2, size, 0, 0, 64, 17, 0) + bytes([198, 18, 0, 2, 198, 18, 0, 1])
    return bytes(10) + head + struct.pack(">HHHH", port, 5000, size - 20, 0) + bytes(size - 28)


def timed(options: LinkOptions, channel: Channel, flows: int = 1) -> Callable[[], float]:
    """A run of one variant, as ns of the processor per packet."""
    frames = np.stack([np.frombuffer(udp(64, 1000 + flow), np.uint8) for flow in range(flows)]).copy()
    link = Link(channel, 1 << 60, seed=1, direction=0, options=options)
    clock = [0]

    def run() -> float:
        begun = time.thread_time_ns()
        carry(link.state, frames, frames.shape[1], clock[0], PACKETS, GAP_NS)
        clock[0] += PACKETS * GAP_NS + 2_000_000_000
        return (time.thread_time_ns() - begun) / PACKETS

    return run


def plain() -> Channel:
    return Channel.constant(0, delay_ns=1_000_000, rate_bps=10**9, loss=0.001, jitter_ns=10_000)


def variants() -> dict[str, Callable[[], float]]:
    """Every feature that has a cost of its own, against `one class`."""
    made: dict[str, tuple[LinkOptions, int]] = {"one class": (LinkOptions(), 1)}
    classes = tuple(LaneOptions() for _ in range(100))
    rules = tuple(Rule(lane, 17, -1, (60_000 + lane, 60_000 + lane)) for lane in range(99))
    made["100 classes"] = (LinkOptions(lanes=classes, rules=rules), 1)
    made["1,000 flows"] = (LinkOptions(), 1000)
    made["codel"] = (LinkOptions(lanes=(LaneOptions(discipline="codel", ecn=True),)), 1)
    made["pie"] = (LinkOptions(lanes=(LaneOptions(discipline="pie", ecn=True),)), 1)
    made["fq_codel, 1,000 flows"] = (LinkOptions(lanes=(LaneOptions(discipline="fq_codel", ecn=True),)), 1000)
    made["bursts, doubles, lateness"] = (
        LinkOptions(bursts=Bursts(10**9, 10**7), copied=0.001, late=0.001, late_ns=10**6),
        1,
    )
    made["token bucket"] = (LinkOptions(bucket=Bucket(10**9, 10**6)), 1)
    made["correlated jitter"] = (LinkOptions(jitter=Jitter("normal", 0.3, correlation=0.9)), 1)
    made["own stage"] = (LinkOptions(stage=CustomStage("hil_tests.performance.idle_stage:idle")), 1)
    return {name: timed(options, plain(), flows) for name, (options, flows) in made.items()}


def table(runs: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The least of ROUNDS runs of each, taken in turns."""
    for run in runs.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            found[name].append(run())
    return {name: min(values) for name, values in found.items()}


def in_checkout(path: Path) -> float:
    """One process's figure for a plain link, of the sources in a checkout."""
    finished = subprocess.run(
        [sys.executable, "-B", __file__, "--one"],
        cwd=path, env={**os.environ, "PYTHONPATH": str(path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(finished.stdout)


def main(arguments: list[str]) -> None:
    if arguments == ["--one"]:
        print(table({"plain": timed(LinkOptions(), plain())})["plain"])
    elif arguments[:1] == ["--against"]:
        pairs = [(in_checkout(REPOSITORY), in_checkout(Path(arguments[1]))) for _ in range(5)]
        here, there = (min(values) for values in zip(*pairs, strict=True))
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        print(json.dumps({"here_ns": here, "there_ns": there, "ratio": here / there, "median_ratio": ratio}))
    else:
        found = table(variants())
        for name, cost in found.items():
            print(f"{name:30} {cost:8.1f} ns/packet {cost / found['one class']:6.2f} ×")


if __name__ == "__main__":
    main(sys.argv[1:])
