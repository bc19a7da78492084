"""What is fuzzed: each target takes any bytes, and raises only what no bytes may ever cause.

The link's are plain Python when Numba is off (`NUMBA_DISABLE_JIT=1`), so that the fuzzer sees which branches it takes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from emulator.control import messages, model, topics
from emulator.control.messages import MessageError
from emulator.errors import BentpipeError, EmulationError
from emulator.link import path, wire
from emulator.link.flight import flying
from emulator.link.leave import dress
from emulator.link.link import Link
from emulator.link.state import (
    COPIED_PACKETS,
    DELIVERED_PACKETS,
    OFFERED_PACKETS,
    QUEUED,
    RUN_BODY,
    RUN_BODY_AT,
    RUN_HEAD,
    SUPER_COLUMNS,
    SUPER_SEGMENTS,
    Ints,
)
from emulator.link.store import LARGEST_SUPER, VNET_BYTES
from emulator.ports import batch, frames, syscalls
from emulator.ports.capture_ring import new_ring
from emulator.ports.messages import ARRIVALS, DEPARTURES, NotUnderstoodError, parse
from emulator.taps import pcapng
from emulator.taps.consumer import blocks, packet_of
from hil_tests.fuzz.links import NO_OFFLOAD, watchful_link
from hil_tests.unit.link.packets import packet

MOST_SEGMENTS = 40  # of an input of the interpreted path: more are the same again, and slow
SOUND = NO_OFFLOAD + packet(60, 7)
STEP_NS = 1_000_000
NOW_NS = 1_000_000_000

_links: dict[bool, Link] = {}
_fresh: dict[bool, tuple[Link, list[Ints]]] = {}
_clock = [0]
_capture = new_ring()
_head = np.zeros(wire.LARGEST_HEADER + VNET_BYTES, np.uint8)


def ip_frames(data: bytes) -> None:
    """A packet of a TUN device."""
    through(data, False)


def ethernet_frames(data: bytes) -> None:
    """A frame of a TAP device or a network card."""
    through(data, True)


def through(data: bytes, ethernet: bool) -> None:
    """It is dissected where the memory ends, crosses a link that reads all of it, and every packet is accounted for."""
    data = data[:LARGEST_SUPER]
    entry = np.zeros(SUPER_COLUMNS, np.int64)
    body = np.frombuffer(data, np.uint8)
    if wire.dissect_frame(body, 0, len(body), entry, int(ethernet)):
        lengths = [int(wire.wire_bytes(entry, index)) for index in range(min(MOST_SEGMENTS, entry[SUPER_SEGMENTS]))]
        assert all(0 <= length <= 65_535 + 40 for length in lengths), lengths
        if entry[SUPER_SEGMENTS] > MOST_SEGMENTS:
            return
    link = _links.setdefault(ethernet, watchful_link(ethernet))
    state = link.state
    delivered = 0
    for frame in (body, np.frombuffer(SOUND if not ethernet else _framed(SOUND), np.uint8)):
        delivered = state.reg[DELIVERED_PACKETS]
        offset = len(state.ring) - len(frame)
        state.ring[offset:] = frame
        _clock[0] += STEP_NS
        path.offer(state, _clock[0], offset, len(frame))
        while path.due_run(state, _clock[0] + STEP_NS // 2, 0):
            dress(state, _head)
            assert 0 <= state.reg[RUN_HEAD] <= len(_head)
            assert 0 <= state.reg[RUN_BODY_AT] <= state.reg[RUN_BODY_AT] + state.reg[RUN_BODY] <= len(state.ring)
            path.depart(state)
    assert state.reg[DELIVERED_PACKETS] > delivered, "a sound packet was lost behind this one"
    assert adds_up(link) == 0


def adds_up(link: Link) -> int:
    """How many packets a link holds; offered + copied = delivered + dropped + held must be true."""
    reg = link.state.reg
    held = int(reg[QUEUED] + flying(reg))
    seen = reg[DELIVERED_PACKETS] + link.state.dropped.sum() + held
    assert reg[OFFERED_PACKETS] + reg[COPIED_PACKETS] == seen
    return held


def _framed(frame: bytes) -> bytes:
    return frame[:10] + bytes(12) + b"\x08\x00" + frame[10:]


def checksums(data: bytes) -> None:
    """The completion of a checksum stays within the packet."""
    if len(data) < VNET_BYTES:
        return
    body = np.frombuffer(bytearray(data), np.uint8)
    wire.complete_checksum(body, 0, len(body))
    assert len(body) == len(data)


def ancillary(data: bytes) -> None:
    """What the kernel tells of a frame (AF_PACKET), and the tag that is put back."""
    reading = np.zeros(syscalls.READING_WORDS, np.int64)
    told = np.frombuffer(data[: len(data) // 8 * 8], np.int64)[: syscalls.MOST_CONTROL_WORDS]
    reading[syscalls.CONTROL : syscalls.CONTROL + len(told)] = told
    reading[syscalls.CONTROL_BYTES] = len(told) * 8
    _, status, tag, kind = frames.stamp_and_tag(reading)
    assert 0 <= status < 1 << 32
    assert 0 <= tag < 1 << 16
    assert 0 <= kind < 1 << 16
    body = np.frombuffer(bytearray(max(bytes(wire.VLAN_TAG) + data, bytes(26), key=len)), np.uint8)
    frames.put_back_tag(body, 0, kind, tag)


def batches(data: bytes) -> None:
    """What comes over ZeroMQ in place of arrivals or of departures: taken or refused, and all that was taken counts."""
    words, body = batch.as_batch(data)
    entry, arrived, late = np.zeros(SUPER_COLUMNS, np.int64), np.zeros(2, np.int64), np.zeros(2, np.int64)
    size = len(body)
    for way in (0, 1):
        if batch.is_message(words, size, ARRIVALS, way, 0):
            link = anew(bool(way))
            batch.offer_batch(link.state, _capture, words, body, size, way, 0, NOW_NS, arrived, entry)
            adds_up(link)
        if batch.is_message(words, size, DEPARTURES, way, 0):
            line = anew(bool(way))
            batch.board(line.state, words, body, size, NOW_NS, late)
            adds_up(line)


def conversations(data: bytes) -> None:
    """What the parts of a bench say to each other: a header and a body, or an error that says why not."""
    try:
        header, _ = parse(data)
    except NotUnderstoodError as error:
        is_a_line(error)
    else:
        assert header.way in (0, 1)


def anew(ethernet: bool) -> Link:
    """A link that has seen nothing yet; it is made once, and what it has counted is put back."""
    link, kept = _fresh.setdefault(ethernet, (made := watchful_link(ethernet), [each.copy() for each in small(made)]))
    for array, before in zip(small(link), kept, strict=True):
        array[:] = before
    return link


def small(link: Link) -> list[Ints]:
    """What a link remembers, but for the packets themselves."""
    return [link.state.reg, link.state.dropped, link.state.lanes, link.state.flows]


def control(data: bytes) -> None:
    """A request on the control socket: a message or an error that says why not, a command or its faults."""
    try:
        message = messages.decode(data)
    except MessageError as error:
        is_a_line(error)
        return
    verb = message.pop("verb", None)
    message.pop("author", None)
    del message["version"]
    if isinstance(verb, str) and verb in model.COMMANDS:
        try:
            model.parse(verb, message)
        except BentpipeError as error:
            is_a_line(error)


def telemetry(data: bytes) -> None:
    """A message of the telemetry, as a subscriber gets it; the first byte says where the topic ends."""
    at = data[0] if data else 0
    try:
        topics.decode_message([data[1 : 1 + at], data[1 + at :]])
    except MessageError as error:
        is_a_line(error)


def captures(data: bytes) -> None:
    """A capture file, and the blocks of one that come over a socket."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="bentpipe-fuzz-") as file:
        file.write(data)
        file.flush()
        try:
            pcapng.bench_start(Path(file.name))
            for frame in pcapng.read_capture(Path(file.name)):
                assert frame.packet is None or len(frame.packet) <= len(data)
                assert 0 <= frame.utc_ns <= pcapng.LAST_UTC_NS
                assert len(frame.whole) <= len(data)
                assert 0 <= frame.missing_bytes < 1 << 32
        except BentpipeError as error:
            is_a_line(error)
    for link_type in (pcapng.ETHERNET, pcapng.NULL, pcapng.LINUX_SLL, pcapng.LINUX_SLL2, pcapng.RAW):
        pcapng.ip_packet(data, link_type)
    try:
        for block in blocks(data):
            packet_of(block)
    except EmulationError as error:
        is_a_line(error)


def is_a_line(error: Exception) -> None:
    """An error says on one line what was expected, for each fault."""
    assert all(str(error).split("\n"))


ALL = (ip_frames, ethernet_frames, checksums, ancillary, batches, conversations, control, telemetry, captures)
TARGETS: dict[str, Callable[[bytes], None]] = {target.__name__.replace("_", "-"): target for target in ALL}
