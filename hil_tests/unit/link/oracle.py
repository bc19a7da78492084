"""What a link must do, said a second time and as plainly as can be: fractions, lists, no rings and no caches.

Three things are integers by definition, here as there: a service that ends within a nanosecond ends at its beginning
(what is cut off is carried to the next packet if that follows at once and at the same rate); a propagation delay is
rounded down to the nanosecond; so is the time that a packet takes on the line behind the link.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from emulator.link.link import Change, LinkOptions
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import LOSS_ONE, Channel

S = 1_000_000_000
LOSS_DRAW, JITTER_DRAW = 1, 2


class Fate(NamedTuple):
    """What becomes of a packet: due, or dropped for a cause, or neither: held for ever."""

    due_ns: int | None
    cause: Cause


class Air(NamedTuple):
    """The channel at an instant."""

    rate_bps: int
    loss: Fraction
    gate: Gate
    cause: Cause
    delay_ns: int


def murmur3(data: bytes) -> int:
    """MurmurHash3_x86_32 with seed 0 of whole words (Austin Appleby, smhasher)."""
    state = 0
    for (word,) in struct.iter_unpack("<I", data):
        word = word * 0xCC9E2D51 % 2**32
        word = (word << 15 | word >> 17) % 2**32
        state ^= word * 0x1B873593 % 2**32
        state = (state << 13 | state >> 19) % 2**32
        state = (state * 5 + 0xE6546B64) % 2**32
    state ^= len(data)
    state = (state ^ state >> 16) * 0x85EBCA6B % 2**32
    state = (state ^ state >> 13) * 0xC2B2AE35 % 2**32
    return state ^ state >> 16


def draw(seed: int, direction: int, purpose: int, counter: int) -> int:
    return murmur3(struct.pack("<QIQ", seed, direction << 16 | purpose, counter))


@functools.cache
def exponential(share: int) -> int:
    """The middle of share `share` of 1024 of an exponential distribution, its mean 2²⁰."""
    return round(-math.log((2 * (1023 - share) + 1) / 2048) * 2**20)


@dataclass(frozen=True)
class Reference:
    """One direction of a link."""

    channel: Channel
    options: LinkOptions
    changes: Sequence[Change] = ()
    seed: int = 1
    direction: int = 0
    utc_offset_ns: int = 0

    def fates(self, arrivals: Sequence[tuple[int, int]]) -> list[Fate]:
        """The fate of packets of (arrival ns, IP bytes), in order of arrival."""
        fates: list[Fate] = []
        starts: list[float] = []  # of service
        finish, finish_rate, last_due = Fraction(-(10**18)), -1, -(10**18)
        for number, (arrival, size) in enumerate(arrivals, 1):
            if sum(start > arrival for start in starts) >= self.options.queue_packets:
                fates.append(Fate(None, Cause.QUEUE))
                continue
            begin = max(arrival, math.floor(finish))
            if begin == math.floor(finish) and self.air(begin).rate_bps == finish_rate:
                now = finish
            else:
                now = Fraction(begin)
            opens = self.opens(begin)
            starts.append(math.inf if opens is None else opens)
            if opens is None:
                finish = Fraction(10**30)
                fates.append(Fate(None, Cause.NONE))
                continue
            finish, finish_rate, cause = self.serve(Fraction(opens) if opens > begin else now, size)
            sent = math.floor(finish)
            if not cause and draw(self.seed, self.direction, LOSS_DRAW, number) < self.air(sent).loss * LOSS_ONE:
                cause = Cause.LOSS
            if cause:
                fates.append(Fate(None, cause))
                continue
            egress = self.options.egress_rate_bps
            due = max(sent + self.air(sent).delay_ns, last_due + (size * 8 * S // egress if egress else 0))
            fates.append(Fate(due, Cause.NONE))
            last_due = due
        return fates

    def opens(self, at: int) -> int | None:
        """The first moment from `at` on at which the gate does not hold; None if it always will."""
        while self.air(at).gate == Gate.HOLD:
            following = self.next_break(at)
            if following is None:
                return None
            at = following
        return at

    def serve(self, now: Fraction, size: int) -> tuple[Fraction, int, Cause]:
        """When a service that begins at `now` ends, at which rate, and why the packet is lost, if it is."""
        bits = Fraction((size + self.options.overhead_bytes) * 8)
        cause = Cause.NONE
        while True:
            air = self.air(math.floor(now))
            cause = cause or (air.cause if air.gate == Gate.DROP else Cause.NONE)
            if air.rate_bps == 0:
                return now, 0, cause
            finish = now + bits * S / air.rate_bps
            following = self.next_break(math.floor(now))
            if following is None or math.floor(finish) <= following:
                return finish, air.rate_bps, cause
            bits -= (following - now) * air.rate_bps / S
            now = Fraction(following)

    def breaks(self) -> list[int]:
        rows = [int(start) - self.utc_offset_ns for start in self.channel.start_ns]
        return rows + [edge for change in self.changes for edge in (change.start_ns, change.end_ns)]

    def next_break(self, at: int) -> int | None:
        return min((edge for edge in self.breaks() if edge > at), default=None)

    def air(self, at: int) -> Air:
        rows = self.channel
        row = max((index for index in range(len(rows)) if rows.start_ns[index] <= at + self.utc_offset_ns), default=0)
        elapsed = max(0, at + self.utc_offset_ns - int(rows.start_ns[row]))
        delay = int(rows.delay_ns[row]) + math.floor(Fraction(int(rows.delay_slope_ns_per_s[row]) * elapsed, S))
        rate, arrives = int(rows.rate_bps[row]), 1 - Fraction(int(rows.loss[row]), LOSS_ONE)
        gate, cause, fade = Gate(int(rows.gate[row])), Cause(int(rows.cause[row])), 0
        for change in self.changes:
            if change.start_ns <= at < change.end_ns:
                fade += change.fade_centidb
                delay += change.extra_delay_ns
                arrives *= 1 - Fraction(round(change.loss * LOSS_ONE), LOSS_ONE)
                if change.gate > gate:
                    gate, cause = change.gate, change.cause
        if fade and self.options.efficiency is not None:
            clear, faded = (self.efficiency(int(rows.cn_centidb[row]) - less) for less in (0, fade))
            if not clear or not faded:
                gate, cause = (gate, cause) if gate == Gate.DROP else (Gate.DROP, Cause.FADE)
            elif rate:
                rate = max(1, rate * faded // clear)
        return Air(rate, 1 - arrives, gate, cause, max(0, delay) + self.jitter(at, int(rows.jitter_ns[row])))

    def efficiency(self, cn_centidb: int) -> int:
        table = self.options.efficiency
        assert table is not None
        return int(table[min(max(0, cn_centidb // 10 + self.options.efficiency_zero), len(table) - 1)])

    def jitter(self, at: int, mean_ns: int) -> int:
        time_bin = (at + self.utc_offset_ns) // self.options.jitter_bin_ns
        return mean_ns * exponential(draw(self.seed, self.direction, JITTER_DRAW, time_bin % 2**64) % 1024) // 2**20
