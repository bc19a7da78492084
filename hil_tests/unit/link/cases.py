"""A few hundred random cases from fixed seeds, and a digest of all that they lead to.

    python -m hil_tests.unit.link.cases CASES        prints the digest

Run twice, compiled and interpreted, it must print the same.
"""

from __future__ import annotations

import hashlib
import random
import sys
from dataclasses import replace
from typing import Any

import numpy as np

from emulator.link import state, wire
from emulator.link.link import (
    Bucket,
    Bursts,
    Change,
    Jitter,
    LaneOptions,
    LinkOptions,
    Markov,
    Opportunities,
    Rule,
    Spells,
)
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import LOSS_ONE, Channel
from hil_tests.unit.link.driver import Offer, drive, new_link
from hil_tests.unit.link.packets import Super, frame, offload_header
from hil_tests.unit.link.strategies import MS, channel_of

EFFICIENCY = np.array([0, *range(100, 2000, 13)], np.int64)


def random_channel(rng: random.Random) -> Channel:
    rows = []
    for _ in range(rng.randint(1, 6)):
        gate = rng.choice([Gate.PASS, Gate.PASS, Gate.HOLD, Gate.DROP])
        rows.append(
            {
                "lasts_ns": rng.randint(1, 30 * MS),
                "delay_ns": rng.randint(40 * MS, 60 * MS),
                "delay_slope_ns_per_s": rng.randint(-1000 * MS, 1000 * MS),
                "rate_bps": rng.choice([0, rng.randint(1, 10**11)]),
                "loss": rng.choice([0, rng.randint(0, LOSS_ONE)]),
                "jitter_ns": rng.choice([0, rng.randint(0, 5 * MS)]),
                "cn_centidb": rng.randint(-300, 2000),
                "gate": int(gate),
                "cause": int(Cause.OUTAGE if gate else Cause.NONE),
            }
        )
    return channel_of(rows)


def random_changes(rng: random.Random) -> list[Change]:
    made = []
    for _ in range(rng.randint(0, 4)):
        start = rng.randint(0, 60 * MS)
        gate = rng.choice([Gate.PASS, Gate.PASS, Gate.HOLD, Gate.DROP])
        made.append(
            Change(
                start,
                start + rng.randint(0, 30 * MS),
                gate,
                Cause.COMMAND if gate else Cause.NONE,
                rng.choice([0, 500, 5000]),
                rng.choice([0, MS]),
                rng.choice([0.0, rng.random()]),
            )
        )
    return made


def random_frame(rng: random.Random, number: int) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return frame(rng.randint(20, 9000), number)
    if kind == 1:
        return rng.randbytes(rng.randint(0, 200))
    segment = rng.randint(1, 3000)
    burst = Super(rng.choice(["tcp", "udp"]), rng.choice([4, 6]), rng.randint(0, 12 * segment), segment, number).frame()
    if kind == 2:
        return burst
    spoilt = bytearray(burst)
    for _ in range(rng.randint(1, 4)):
        spoilt[rng.randrange(min(90, len(spoilt)))] = rng.randrange(256)
    return bytes(spoilt[: rng.randint(10, len(spoilt))])


def random_lanes(rng: random.Random) -> tuple[LaneOptions, ...]:
    return tuple(
        LaneOptions(
            rng.choice([1, 5, 1000]),
            queue_bytes=rng.choice([0, 3000]),
            discipline=rng.choice(["drop_tail", "drop_front", "codel", "pie", "fq_codel"]),
            target_ns=rng.choice([0, 1000, MS]),
            interval_ns=rng.choice([MS, 100 * MS]),
            longest_wait_ns=rng.choice([0, 0, 5 * MS]),
            ecn=rng.random() < 0.5,
            flows=rng.choice([1, 3, 1024]),
            quantum_bytes=rng.choice([1, 300, 1514]),
        )
        for _ in range(rng.randint(1, 3))
    )


def random_rules(rng: random.Random, lanes: int) -> tuple[Rule, ...]:
    networks = [(0, 0, 0), (4, 15, 0xC6120000), (6, 48, 0x20010002 << 96), (4, 32, 0x08080808), (6, 128, 1)]
    return tuple(
        Rule(
            rng.randrange(lanes),
            rng.choice([-1, 6, 17, 253]),
            rng.choice([-1, 0, 46]),
            rng.choice([(-1, -1), (0, 4999), (4000, 4000), (0, 65_535)]),
            rng.choice(networks),
        )
        for _ in range(rng.choice([0, 1, 3, 70]))
    )


def random_extras(rng: random.Random) -> dict[str, Any]:
    """Some of what most links do without."""
    step = rng.choice([1000, MS])
    every = {
        "bucket": Bucket(rng.randint(1, 10**9), rng.choice([1, 1500, 10**6])),
        "opportunities": Opportunities((*sorted(rng.randrange(20 * MS) for _ in range(5)), 20 * MS), 1504),
        "bursts": Bursts(10 * MS, 5 * MS),
        "markov": Markov(step, (0.0, 1.0, 0.5), ((0.9, 0.1, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5))),
        "spells": Spells(30 * MS, 5 * MS, rng.choice(["lognormal", "constant"]), 0.3),
        "lost_packets": tuple(rng.randint(1, 60) for _ in range(5)),
        "bit_error_rate": 1e-5,
        "spoilt": rng.random(),
        "copied": rng.random(),
        "late": rng.random(),
        "late_ns": rng.randint(0, 30 * MS),
        "jitter": Jitter(rng.choice(["normal", "uniform"]), 0.4, (), rng.choice([0.0, 0.5]), rng.random() < 0.3),
    }
    chosen = {name: value for name, value in every.items() if rng.random() < 0.25}
    if "bursts" in chosen:
        chosen.pop("markov", None)
    return chosen


def outcome_of(seed: int) -> str:
    """One case, driven with polls in between, as text."""
    rng = random.Random(seed)
    options = LinkOptions(
        queue_packets=rng.choice([1, 5, 1000]),
        overhead_bytes=rng.choice([0, 20]),
        egress_rate_bps=rng.choice([0, rng.randint(10**6, 10**10)]),
        jitter_bin_ns=rng.choice([1, 20 * MS]),
        memory_bytes=rng.choice([1 << 15, 1 << 20]),
        flight_packets=rng.choice([4, 1 << 10]),
        efficiency=rng.choice([None, EFFICIENCY]),
        efficiency_zero=24,
    )
    if rng.random() < 0.7:
        lanes = random_lanes(rng)
        options = replace(options, lanes=lanes, rules=random_rules(rng, len(lanes)), **random_extras(rng))
    link = new_link(
        random_channel(rng),
        options,
        seed=rng.getrandbits(63),
        direction=rng.randrange(2),
        changes=random_changes(rng),
        utc_offset_ns=rng.choice([0, rng.randint(-MS, 10**18)]),
    )
    at, offers = 0, []
    for number in range(rng.randint(1, 40)):
        at += rng.choice([0, rng.randint(0, 1000), rng.randint(0, 10 * MS)])
        offers.append(Offer(at, random_frame(rng, number)))
    return repr(drive(link, offers, polls=[rng.randint(0, 200 * MS) for _ in range(5)]))


def dissected(seed: int) -> str:
    """What is read from hostile frames that end where their memory ends."""
    rng = random.Random(seed)
    found = []
    for number in range(20):
        body = Super(rng.choice(["tcp", "udp"]), rng.choice([4, 6]), rng.randint(0, 40), 10, number).frame()[10:]
        start = rng.choice([20, 40, rng.randint(0, len(body) + 20)])
        data = np.frombuffer(offload_header(rng.choice([1, 4, 5]), 40, 10, start, 16) + body, np.uint8)
        if rng.random() < 0.3:
            data = np.frombuffer(random_frame(rng, number), np.uint8)
        entry = np.zeros(state.SUPER_COLUMNS, np.int64)
        found.append((bool(wire.dissect(data, 0, len(data), entry)), entry.tolist()))
    return repr(found)


def digest(cases: int) -> str:
    return hashlib.sha256("\n".join(outcome_of(seed) + dissected(seed) for seed in range(cases)).encode()).hexdigest()


if __name__ == "__main__":
    print(digest(int(sys.argv[1])))
