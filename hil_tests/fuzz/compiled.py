"""A corpus through compiled code, indices checked: `python -m hil_tests.fuzz.compiled CORPUS --inputs N`.

First each input as it is, then N mutated ones by target. Prints what was done as JSON; fails on the first finding.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from emulator.link.compiled import bounds_checked, interpreted
from emulator.link.link import LinkOptions, delay_line
from emulator.link.state import SUPER_COLUMNS, Bytes, Ints
from emulator.link.store import VNET_BYTES
from emulator.link.wire import LARGEST_HEADER
from emulator.ports.batch import batch_memory
from emulator.ports.capture_ring import new_ring
from emulator.ports.syscalls import READING_WORDS
from emulator.timeline.model import Channel
from hil_tests.fuzz.links import FOR_EVER_NS, RING_BYTES, watchful_link
from hil_tests.fuzz.seeds import seeds
from hil_tests.fuzz.storm import (
    DONE,
    DRAWN,
    INTERESTING,
    MOST_BYTES,
    PLACE_WORDS,
    STEP_NS,
    storm_batches,
    storm_frames,
    storm_told,
)
from hil_tests.fuzz.targets import TARGETS

SHARES = {"ip-frames": 0.3, "ethernet-frames": 0.4, "ancillary": 0.1, "batches": 0.2}
SEED = 0x2545F4914F6CDD1D
SLICE = 100_000

Storm = Callable[[int], bool]


def inputs_of(corpus: Path, target: str) -> list[bytes]:
    """What the fuzzer has kept for a target, and what it began with."""
    kept = sorted(path for path in (corpus / target).glob("*") if path.is_file())
    return seeds()[target] + [path.read_bytes() for path in kept]


def packed(inputs: list[bytes]) -> tuple[Bytes, Ints]:
    """All in one piece, and where each begins; the end last."""
    cut = [each[:MOST_BYTES] for each in inputs]
    starts = np.cumsum([0] + [len(each) for each in cut]).astype(np.int64)
    return np.frombuffer(bytearray(b"".join(cut) + b"\0"), np.uint8), starts


def storms(target: str, inputs: list[bytes], place: Ints) -> Storm:
    """What drives so many mutated inputs through a target; False if one of them is a finding."""
    corpus, starts = packed(inputs)
    entry, out = np.zeros(SUPER_COLUMNS, np.int64), np.zeros(MOST_BYTES, np.uint8)
    if target == "ancillary":
        reading = np.zeros(READING_WORDS, np.int64)
        return lambda count: storm_told(corpus, starts, INTERESTING, out, reading, place, count)
    if target == "batches":
        options = LinkOptions(memory_bytes=RING_BYTES, flight_packets=1 << 12)
        link = delay_line(options)
        link.extend(Channel.constant(0, delay_ns=1000), FOR_EVER_NS)
        kept, times, capture = link.state.reg.copy(), np.zeros(2, np.int64), new_ring()
        words, memory = batch_memory(MOST_BYTES // 8)
        return lambda count: storm_batches(
            link.state, capture, kept, corpus, starts, INTERESTING, words, memory, entry, times, place, count
        )
    link = watchful_link(target == "ethernet-frames")
    head = np.zeros(LARGEST_HEADER + VNET_BYTES, np.uint8)
    clock = [0]

    def frames(count: int) -> bool:
        clock[0] += STEP_NS * (count + 1)
        now = clock[0] - STEP_NS * count
        return storm_frames(link.state, corpus, starts, INTERESTING, out, head, entry, place, now, count)

    return frames


def run(corpus: Path, inputs: int, told: Callable[[str], None] = lambda line: None) -> dict[str, int]:
    """Inputs by target, as they are and mutated. Raises AssertionError or IndexError with the first finding."""
    done: dict[str, int] = {}
    for target, function in TARGETS.items():
        replayed = inputs_of(corpus, target)
        for each in replayed:
            function(each)
        done[f"{target}, as it is"] = len(replayed)
    for target, share in SHARES.items():
        place = np.zeros(PLACE_WORDS, np.int64)
        place[DRAWN] = SEED
        storm = storms(target, inputs_of(corpus, target), place)
        left, begun = round(inputs * share), time.monotonic()
        while left > 0:
            count = min(left, SLICE)
            assert storm(count), f"{target}: input {place[DONE]} of the storm"
            left -= count
        done[f"{target}, mutated"] = int(place[DONE])
        told(f"{target}: {place[DONE]:,} mutated inputs in {time.monotonic() - begun:.0f} s")
    return done


def main() -> None:
    import sys

    parser = argparse.ArgumentParser(prog="python -m hil_tests.fuzz.compiled", description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--inputs", type=int, default=100_000, help="mutated ones, over all targets")
    chosen = parser.parse_args()
    done = run(chosen.corpus, chosen.inputs, lambda line: print(line, file=sys.stderr, flush=True))
    kind = "interpreted" if interpreted else "compiled, indices checked" if bounds_checked else "compiled"
    print(json.dumps({"code": kind, "total": sum(done.values()), "inputs": done}))


if __name__ == "__main__":
    main()
