"""The test vectors of docs/reference/packets.md, through the product and through a codec of its own."""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

import numpy as np
import pytest

from emulator.link.link import Link
from emulator.link.state import SUPER_COLUMNS
from emulator.link.wire import LARGEST_HEADER
from emulator.ports import batch
from emulator.ports.syscalls import READING_WORDS
from emulator.timeline.model import Channel
from hil_tests.unit.docs.pages import CHECKOUT, blocks

PAGE = CHECKOUT / "docs" / "reference" / "packets.md"
ARRIVALS, DEPARTURES, UPLINK, DOWNLINK = 0, 1, 0, 1
DELAY_NS, RATE_BPS = 20_000_000, 1_000_000  # as the page says of its link
HOUR_NS = 3600 * 10**9


class Record(NamedTuple):
    """`times_ns`: of an arrival its stamp, of a departure when each wire packet is due."""

    times_ns: tuple[int, ...]
    frame: bytes


class Batch(NamedTuple):
    kind: int
    direction: int
    sequence: int
    records: tuple[Record, ...]


def encode(message: Batch) -> bytes:
    data = b"BTPK" + struct.pack("<i4q", 1, *message[:3], len(message.records))
    for times_ns, frame in message.records:
        if message.kind == ARRIVALS:
            data += struct.pack("<2q", times_ns[0], len(frame))
        else:
            data += struct.pack(f"<{2 + len(times_ns)}q", len(times_ns), len(frame), *times_ns)
        data += frame + bytes(-len(frame) % 8)
    return data


def decode(data: bytes) -> Batch:
    magic, version, kind, direction, sequence, count = struct.unpack_from("<4si4q", data)
    assert (magic, version) == (b"BTPK", 1)
    records, at = [], 40
    for _ in range(count):
        first, length = struct.unpack_from("<2q", data, at)
        times_ns = (first,) if kind == ARRIVALS else struct.unpack_from(f"<{first}q", data, at + 16)
        at += 16 if kind == ARRIVALS else 16 + 8 * first
        records.append(Record(times_ns, data[at : at + length]))
        at += (length + 7) // 8 * 8
    assert at == len(data)
    return Batch(kind, direction, sequence, tuple(records))


VECTORS = [
    b"".join(bytes.fromhex(line[:23]) for line in block.text.splitlines()) for block in blocks(PAGE, language="hex")
]


def link(direction: int) -> Link:
    channel = Channel.constant(0, delay_ns=DELAY_NS, rate_bps=RATE_BPS)
    return Link(channel, HOUR_NS, seed=1, direction=direction)


def offer(one: Link, message: bytes, direction: int) -> bool:
    last, entry = np.zeros(1, np.int64), np.zeros(SUPER_COLUMNS, np.int64)
    return bool(batch.offer_batch(one.state, *batch.as_batch(message), direction, last, entry))


def pack(one: Link, now_ns: int, direction: int, sequence: int) -> bytes:
    words, data = batch.batch_memory()
    batch.begin(words, batch.DEPARTURES, direction, sequence)
    used = batch.pack(one.state, now_ns, words, data, np.zeros(LARGEST_HEADER + 10, np.uint8))
    return data[: used * 8].tobytes()


def test_the_page_has_both_kinds_both_directions_and_a_super_packet() -> None:
    seen = [decode(vector)[:2] for vector in VECTORS]
    assert seen == [(ARRIVALS, UPLINK), (ARRIVALS, DOWNLINK), (DEPARTURES, DOWNLINK), (DEPARTURES, DOWNLINK)]


@pytest.mark.parametrize("number", range(4))
def test_what_is_decoded_encodes_to_the_same_bytes(number: int) -> None:
    assert encode(decode(VECTORS[number])) == VECTORS[number]


def test_the_link_takes_the_arrival_and_delivers_its_packet() -> None:
    one = link(UPLINK)
    assert offer(one, VECTORS[0], UPLINK)
    (arrival,) = decode(VECTORS[0]).records
    (delivery,) = one.poll(HOUR_NS)
    assert delivery.packet == arrival.frame[10:]
    assert delivery.due_ns == arrival.times_ns[0] + 33 * 8000 + DELAY_NS  # 8 bits at 1 Mbit/s are 8,000 ns
    assert delivery.packet.endswith(b"hello")


def test_the_link_makes_of_the_arrival_the_departures_that_the_page_shows() -> None:
    one = link(DOWNLINK)
    assert offer(one, VECTORS[1], DOWNLINK)
    assert pack(one, 1_000_500_000, DOWNLINK, 0) == VECTORS[2]
    assert pack(one, 1_001_000_000, DOWNLINK, 1) == VECTORS[3]


def test_the_far_end_delivers_the_departures_when_they_are_due() -> None:
    line = link(DOWNLINK)
    for vector in VECTORS[2:]:
        assert batch.board(line.state, *batch.as_batch(vector), DOWNLINK)
    due_ns = [due for vector in VECTORS[2:] for record in decode(vector).records for due in record.times_ns]
    assert line.poll(due_ns[0] - 1) == []
    deliveries = line.poll(HOUR_NS)
    assert [delivery.due_ns for delivery in deliveries] == due_ns
    assert [delivery.packet[40:] for delivery in deliveries] == [b"01234567", b"89abcdef", b"ghij"]


@pytest.mark.needs("compiled")
def test_a_port_makes_the_arrival_of_what_it_reads() -> None:
    (record,) = decode(VECTORS[0]).records
    words, data = batch.batch_memory()
    batch.begin(words, batch.ARRIVALS, UPLINK, 7)
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with reader, writer:
        os.set_blocking(reader.fileno(), False)
        writer.send(record.frame)
        used = batch.collect(reader.fileno(), words, data, batch.HEADER_WORDS, 16, np.zeros(READING_WORDS, np.int64))
    made = decode(data[: used * 8].tobytes())
    assert made.records[0].frame == record.frame
    assert encode(made._replace(records=(record,))) == VECTORS[0]


@pytest.mark.parametrize("number", range(4))
def test_what_is_cut_short_or_of_another_kind_is_refused(number: int) -> None:
    message = VECTORS[number]
    kind, direction = decode(message)[:2]

    def taken(data: bytes, where: int = direction) -> bool:
        one = link(where)
        if kind == ARRIVALS:
            return offer(one, data, where)
        return bool(batch.board(one.state, *batch.as_batch(data), where))

    assert taken(message)
    assert not taken(message, 1 - direction)
    for end in range(0, len(message), 8):
        assert not taken(message[:end])
    for word, value in ((0, 1 << 41), (1, 1 - kind), (4, 257), (4, -1), (6, 1 << 40), (6, -1)):
        changed = bytearray(message)
        struct.pack_into("<q", changed, 8 * word, value)
        assert not taken(bytes(changed))
