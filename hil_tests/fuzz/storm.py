"""Mutated inputs in bulk, made and judged in compiled code: hundreds of thousands a second, indices checked.

A frame lies at the very end of its memory, so that a byte read behind it is an index out of bounds.
"""

from __future__ import annotations

import numpy as np

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.flight import flying
from emulator.link.leave import dress
from emulator.link.path import depart, due_run, offer
from emulator.link.state import (
    COPIED_PACKETS,
    DELIVERED_PACKETS,
    ETHERNET,
    LANE_BYTES,
    LANE_HEAD,
    LANE_TAIL,
    OFFERED_PACKETS,
    QUEUED,
    RUN_BODY,
    RUN_BODY_AT,
    RUN_HEAD,
    SUPER_SEGMENTS,
    Bytes,
    Ints,
    LinkState,
)
from emulator.link.wire import byte, complete_checksum, dissect_frame
from emulator.ports.batch import board, is_message, offer_batch
from emulator.ports.capture_ring import CaptureRing
from emulator.ports.frames import put_back_tag, stamp_and_tag
from emulator.ports.messages import ARRIVALS, DEPARTURES, H_MAGIC, H_SESSION, H_WAY, MAGIC
from emulator.ports.syscalls import CONTROL, CONTROL_BYTES, MOST_CONTROL_WORDS

MOST_BYTES = 1 << 14  # of an input
MOST_SEGMENTS = 2_000
STEP_NS = 1_000_000_000
NOW_NS = 1_000_000_000
STEPS = 6  # mutations of one input, at most
DRAWN, DONE = range(2)  # of `place`: the state of the draws, and how many inputs there were
PLACE_WORDS = 2
INTERESTING = np.array([0, 1, 4, 5, 6, 8, 15, 17, 20, 40, 44, 60, 64, 69, 79, 96, 127, 128, 129, 255], np.int64)


@compiled
def draw(place: Ints, below: int) -> int:
    """A number from 0 to below `below`. xorshift, D. Marsaglia, Journal of Statistical Software 8(14), 2003."""
    value = place[DRAWN]
    value ^= (value << 13) & 0x7FFFFFFFFFFFFFFF
    value ^= value >> 7
    value ^= (value << 17) & 0x7FFFFFFFFFFFFFFF
    place[DRAWN] = value
    return (value >> 11) % below


@compiled
def mutated(corpus: Bytes, starts: Ints, out: Bytes, interesting: Ints, place: Ints) -> int:
    """An input of the corpus with some bytes changed, at the end of `out`; returns where it begins."""
    size, pick = len(out), draw(place, len(starts) - 1)
    length = min(size, starts[pick + 1] - starts[pick])
    first = starts[pick]
    fate = draw(place, 8)
    if fate == 0:  # cut off
        length = draw(place, length + 1)
    at = size - length
    for index in range(length):
        out[at + index] = corpus[first + index]
    if length == 0:
        return at
    for _ in range(draw(place, STEPS + 1)):
        where = at + draw(place, min(length, 120) if draw(place, 4) else length)
        kind = draw(place, 4)
        if kind == 0:
            out[where] = draw(place, 256)
        elif kind == 1:
            out[where] = interesting[draw(place, len(interesting))]
        elif kind == 2:
            out[where] = np.int64(out[where]) ^ (1 << draw(place, 8))
        else:  # a piece of another one
            other = draw(place, len(starts) - 1)
            if starts[other + 1] > starts[other]:
                source = starts[other] + draw(place, starts[other + 1] - starts[other])
                for index in range(min(1 + draw(place, 16), size - where, starts[other + 1] - source)):
                    out[where + index] = corpus[source + index]
    return at


@compiled_apart
def storm_frames(
    link: LinkState, corpus: Bytes, starts: Ints, interesting: Ints, out: Bytes, head: Bytes, entry: Ints, place: Ints,
    now: int, inputs: int,
) -> bool:  # fmt: skip
    """Sends mutated frames through the link; False where the sum does not hold or a run does not fit its memory."""
    reg, ring = link.reg, link.ring
    for _ in range(inputs):
        place[DONE] += 1
        now += STEP_NS
        at = mutated(corpus, starts, out, interesting, place)
        length = len(out) - at
        if dissect_frame(out, at, length, entry, reg[ETHERNET]) and entry[SUPER_SEGMENTS] > MOST_SEGMENTS:
            continue
        offset = len(ring) - length
        for index in range(length):
            ring[offset + index] = out[at + index]
        offer(link, now, offset, length)
        while due_run(link, now + STEP_NS // 2, 0):
            dress(link, head)
            if reg[RUN_HEAD] > len(head) or reg[RUN_BODY_AT] < 0 or reg[RUN_BODY] < 0:
                return False
            if reg[RUN_BODY_AT] + reg[RUN_BODY] > len(ring):
                return False
            depart(link)
        dropped = 0
        for cause in range(len(link.dropped)):
            dropped += link.dropped[cause]
        if reg[QUEUED] != 0 or flying(reg) != 0:
            return False
        if reg[OFFERED_PACKETS] + reg[COPIED_PACKETS] != reg[DELIVERED_PACKETS] + dropped:
            return False
        if length >= 10:
            complete_checksum(out, at, length)
    return True


@compiled_apart
def storm_told(
    corpus: Bytes, starts: Ints, interesting: Ints, out: Bytes, reading: Ints, place: Ints, inputs: int
) -> bool:
    """The same with what the kernel tells beside a frame; False where what is read of it is out of its range."""
    for _ in range(inputs):
        place[DONE] += 1
        at = mutated(corpus, starts, out, interesting, place)
        words = min(MOST_CONTROL_WORDS, (len(out) - at) // 8)
        for word in range(words):
            value = 0
            for index in range(8):
                value |= byte(out, at + 8 * word + index) << (8 * index)
            reading[CONTROL + word] = value
        reading[CONTROL_BYTES] = words * 8
        _, status, tag, kind = stamp_and_tag(reading)
        if status >> 32 != 0 or tag >> 16 != 0 or kind >> 16 != 0:
            return False
        put_back_tag(out, 0, kind, tag)
    return True


@compiled_apart
def storm_batches(
    link: LinkState, capture: CaptureRing, kept: Ints, corpus: Bytes, starts: Ints, interesting: Ints, words: Ints,
    out: Bytes, entry: Ints, times: Ints, place: Ints, inputs: int,
) -> bool:  # fmt: skip
    """The same with messages of the ZeroMQ fabric. kept: the registers of a link that has seen nothing.

    words, out: the same memory. times: (2,). The link has one lane, whose only memory are its registers and its rows.
    """
    reg = link.reg
    for _ in range(inputs):
        place[DONE] += 1
        at = mutated(corpus, starts, out, interesting, place)
        size = (len(out) - at) // 8 * 8
        for index in range(size):
            out[index] = out[at + index]
        for index in range(len(reg)):
            reg[index] = kept[index]
        link.lanes[0, LANE_HEAD] = link.lanes[0, LANE_TAIL] = link.lanes[0, LANE_BYTES] = 0
        for cause in range(len(link.dropped)):
            link.dropped[cause] = 0
        times[:] = 0
        if size >= 64 and draw(place, 4):  # most have a header that is believed
            words[H_MAGIC], words[H_SESSION], words[H_WAY] = MAGIC, 0, 0
        if is_message(words, size, ARRIVALS, 0, 0):
            offer_batch(link, capture, words[: size // 8], out[:size], size, 0, 0, NOW_NS, times, entry)
        elif is_message(words, size, DEPARTURES, 0, 0):
            board(link, words[: size // 8], out[:size], size, NOW_NS, times)
        dropped = 0
        for cause in range(len(link.dropped)):
            dropped += link.dropped[cause]
        held = reg[QUEUED] + flying(reg)
        if reg[OFFERED_PACKETS] + reg[COPIED_PACKETS] != reg[DELIVERED_PACKETS] + dropped + held:
            return False
    return True
