"""Hostile batches from fixed seeds, offered to a link and to a delay line; a digest of what they led to.

    python -m hil_tests.unit.ports.batch_cases CASES        prints the digest

Interpreted, NumPy itself would refuse an index beyond the end of an array.
"""

from __future__ import annotations

import hashlib
import random
import sys
from dataclasses import dataclass

import numpy as np

from emulator.link import state
from emulator.link.link import Link, LinkOptions, delay_line
from emulator.link.wire import LARGEST_HEADER
from emulator.ports import batch, messages
from emulator.ports.capture_ring import CaptureRing, new_ring
from emulator.timeline.model import Channel
from hil_tests.unit.link.cases import random_frame
from hil_tests.unit.link.driver import new_link
from hil_tests.unit.link.packets import frame
from hil_tests.unit.link.test_conservation import adds_up

SESSION = 77
FOREVER = 1 << 61
OPTIONS = LinkOptions(queue_packets=100, memory_bytes=1 << 18, flight_packets=1 << 10)


@dataclass
class Ends:
    """The link's process and the far end, without what lies between. offset: the end's clock less the link's."""

    link: Link
    line: Link
    ring: CaptureRing
    offset: int = 0

    @classmethod
    def new(cls, channel: Channel | None = None) -> Ends:
        channel = channel or Channel.constant(0, delay_ns=1000)
        return cls(new_link(channel, OPTIONS), delay_line(OPTIONS), new_ring())

    def offer(self, message: bytes) -> bool:
        arrived, entry = np.zeros(2, np.int64), np.zeros(state.SUPER_COLUMNS, np.int64)
        words, data = batch.as_batch(message)
        accepted = bool(
            batch.is_message(words, len(data), messages.ARRIVALS, 0, SESSION)
            and batch.offer_batch(
                self.link.state, self.ring, words, data, len(data), 0, self.offset, FOREVER, arrived, entry
            )
        )
        assert adds_up(self.link.counters())
        return accepted

    def pack(self, now: int) -> bytes:
        words, data = batch.batch_memory()
        batch.begin(words, messages.DEPARTURES, 0, SESSION, 0, 0, 0)
        head = np.zeros(LARGEST_HEADER + 10, np.uint8)
        return bytes(data[: 8 * int(batch.pack(self.link.state, now, words, data, head, self.offset))])

    def board(self, message: bytes) -> bool:
        words, data = batch.as_batch(message)
        accepted = bool(
            batch.is_message(words, len(data), messages.DEPARTURES, 0, SESSION)
            and batch.board(self.line.state, words, data, len(data), 0, np.zeros(2, np.int64))
        )
        assert adds_up(self.line.counters())
        return accepted

    def outcome(self) -> str:
        return repr((self.line.poll(1 << 60), self.link.counters(), self.line.counters()))


def header(
    kind: int, records: int, *, magic: int = messages.MAGIC, direction: int = 0, session: int = SESSION
) -> bytes:
    return np.array([magic, kind, direction, session, 0, 0, 0, records], "<i8").tobytes()


def record(*words: int, data: bytes) -> bytes:
    return np.array(words, "<i8").tobytes() + data + bytes(-len(data) % 8)


def arrivals(frames: list[bytes], at: int = 0) -> bytes:
    """A batch as a port would send it."""
    body = b"".join(record(at, len(one), data=one) for one in frames)
    return header(messages.ARRIVALS, len(frames)) + body


def spoil(rng: random.Random, message: bytes) -> bytes:
    """The message with some words changed, and perhaps cut."""
    words = np.frombuffer(message, "<i8", len(message) // 8).copy()
    for _ in range(rng.randint(0, 3)):
        extreme = rng.choice([0, -1, 1, 255, 65_536, 2**31, 2**62, -(2**63), 2**63 - 1, rng.getrandbits(63)])
        words[rng.randrange(min(len(words), 40))] = extreme
    return bytes(words.tobytes()[: rng.choice([10**9, rng.randint(0, len(message))])])


def outcome_of(seed: int) -> str:
    rng = random.Random(seed)
    ends = Ends.new()
    for _ in range(rng.randint(1, 3)):
        frames = [rng.choice([random_frame(rng, number), frame(100, number)]) for number in range(rng.randint(0, 5))]
        ends.offer(spoil(rng, arrivals(frames)))
        ends.board(spoil(rng, ends.pack(2000)))
    return ends.outcome()


def digest(cases: int) -> str:
    return hashlib.sha256("\n".join(outcome_of(seed) for seed in range(cases)).encode()).hexdigest()


if __name__ == "__main__":
    print(digest(int(sys.argv[1])))
