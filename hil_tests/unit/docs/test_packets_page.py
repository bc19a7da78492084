"""The test vectors of docs/reference/packets.md, through the product and through a codec of its own."""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

import numpy as np
import pytest

from emulator.link.link import Link
from emulator.link.wire import LARGEST_HEADER
from emulator.ports import batch, messages
from emulator.ports.capture_ring import new_ring
from emulator.ports.messages import Ask, Header, Hello, Status, Welcome
from emulator.ports.turn import new_scratch
from emulator.timeline.model import Channel
from hil_tests.unit.docs.pages import CHECKOUT, blocks

PAGE = CHECKOUT / "docs" / "reference" / "packets.md"
ARRIVALS, DEPARTURES, UPLINK, DOWNLINK = 0, 1, 0, 1
SESSION = 77
DELAY_NS, RATE_BPS = 20_000_000, 1_000_000  # as the page says of its link
HOUR_NS = 3600 * 10**9


class Record(NamedTuple):
    """`times_ns`: of an arrival its stamp, of a departure when each wire packet is due."""

    times_ns: tuple[int, ...]
    frame: bytes


class Batch(NamedTuple):
    kind: int
    direction: int
    session: int
    sequence: int
    acknowledged: int
    packets: int
    records: tuple[Record, ...]


def encode(message: Batch) -> bytes:
    data = b"BTPK" + struct.pack("<i7q", 2, *message[:6], len(message.records))
    for times_ns, frame in message.records:
        if message.kind == ARRIVALS:
            data += struct.pack("<2q", times_ns[0], len(frame))
        else:
            data += struct.pack(f"<{2 + len(times_ns)}q", len(times_ns), len(frame), *times_ns)
        data += frame + bytes(-len(frame) % 8)
    return data


def decode(data: bytes) -> Batch:
    magic, version, *header, count = struct.unpack_from("<4si7q", data)
    assert (magic, version) == (b"BTPK", 2)
    kind, direction, session, sequence, acknowledged, packets = header
    records, at = [], 64
    for _ in range(count):
        first, length = struct.unpack_from("<2q", data, at)
        times_ns = (first,) if kind == ARRIVALS else struct.unpack_from(f"<{first}q", data, at + 16)
        at += 16 if kind == ARRIVALS else 16 + 8 * first
        records.append(Record(times_ns, data[at : at + length]))
        at += (length + 7) // 8 * 8
    assert at == len(data)
    return Batch(kind, direction, session, sequence, acknowledged, packets, tuple(records))


VECTORS = [
    b"".join(bytes.fromhex(line[:23]) for line in block.text.splitlines()) for block in blocks(PAGE, language="hex")
]


def link(direction: int) -> Link:
    channel = Channel.constant(0, delay_ns=DELAY_NS, rate_bps=RATE_BPS)
    return Link(channel, HOUR_NS, seed=1, direction=direction)


def is_for(message: bytes, kind: int, direction: int) -> bool:
    return bool(batch.is_message(batch.as_batch(message)[0], len(message) // 8 * 8, kind, direction, SESSION))


def offer(one: Link, message: bytes, direction: int) -> bool:
    words, data = batch.as_batch(message)
    scratch = new_scratch()
    return is_for(message, ARRIVALS, direction) and bool(
        batch.offer_batch(
            one.state, new_ring(), words, data, len(data), direction, 0, HOUR_NS, scratch.arrived, scratch.entry
        )
    )


def pack(one: Link, now_ns: int, direction: int, sequence: int, packets: int) -> bytes:
    words, data = batch.batch_memory()
    batch.begin(words, DEPARTURES, direction, SESSION, sequence, 0, packets)
    used = batch.pack(one.state, now_ns, words, data, np.zeros(LARGEST_HEADER + 10, np.uint8), 0)
    return data[: used * 8].tobytes()


def board(line: Link, message: bytes, direction: int) -> bool:
    words, data = batch.as_batch(message)
    late = np.zeros(2, np.int64)
    return is_for(message, DEPARTURES, direction) and bool(batch.board(line.state, words, data, len(data), 0, late))


def test_the_page_has_both_kinds_both_directions_and_a_super_packet() -> None:
    seen = [decode(vector)[:2] for vector in VECTORS[:4]]
    assert seen == [(ARRIVALS, UPLINK), (ARRIVALS, DOWNLINK), (DEPARTURES, DOWNLINK), (DEPARTURES, DOWNLINK)]


@pytest.mark.parametrize("number", range(4))
def test_what_is_decoded_encodes_to_the_same_bytes(number: int) -> None:
    assert encode(decode(VECTORS[number])) == VECTORS[number]


@pytest.mark.parametrize(
    ("number", "header", "body"),
    [
        (4, Header(messages.HELLO, 0), Hello(0, 0, 0)),
        (5, Header(messages.WELCOME, 0, SESSION), Welcome(1 << 24, 1 << 16, 0, 0, 150_000)),
        (6, Header(messages.ASK, 0, SESSION, 0, 4096, 3), Ask(10**9)),
        (
            7,
            Header(messages.STATUS, 0, SESSION, 0, 2048, 12),
            Status(
                asked_ns=10**9,
                received_ns=5 * 10**9,
                sent_ns=5 * 10**9 + 20_000,
                taken_packets=12,
                taken_bytes=14_000,
                delivered_packets=2,
                delivered_bytes=96,
                ingress_wait_worst_ns=25_000,
            ),
        ),
    ],
)
def test_a_conversation_reads_and_writes_as_the_page_has_it(number: int, header: Header, body: messages.Body) -> None:
    assert messages.parse(VECTORS[number]) == (header, body)
    assert messages.build(header, body) == VECTORS[number]


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
    assert pack(one, 1_000_500_000, DOWNLINK, 0, 0) == VECTORS[2]
    assert pack(one, 1_001_000_000, DOWNLINK, 1, 2) == VECTORS[3]


def test_the_far_end_delivers_the_departures_when_they_are_due() -> None:
    line = link(DOWNLINK)
    for vector in VECTORS[2:4]:
        assert board(line, vector, DOWNLINK)
    due_ns = [due for vector in VECTORS[2:4] for record in decode(vector).records for due in record.times_ns]
    assert line.poll(due_ns[0] - 1) == []
    deliveries = line.poll(HOUR_NS)
    assert [delivery.due_ns for delivery in deliveries] == due_ns
    assert [delivery.packet[40:] for delivery in deliveries] == [b"01234567", b"89abcdef", b"ghij"]


@pytest.mark.needs("compiled")
def test_a_port_makes_the_arrival_of_what_it_reads() -> None:
    (record,) = decode(VECTORS[0]).records
    words, data = batch.batch_memory()
    batch.begin(words, ARRIVALS, UPLINK, SESSION, 7, 4096, 12)
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with reader, writer:
        os.set_blocking(reader.fileno(), False)
        writer.send(record.frame)
        used = batch.collect(reader.fileno(), words, data, messages.HEADER_WORDS, 16, new_scratch())
    made = decode(data[: used * 8].tobytes())
    assert made.records[0].frame == record.frame
    assert encode(made._replace(records=(record,))) == VECTORS[0]


@pytest.mark.parametrize("number", range(4))
def test_what_is_cut_short_or_of_another_kind_is_refused(number: int) -> None:
    message = VECTORS[number]
    kind, direction = decode(message)[:2]

    def taken(data: bytes, where: int = direction) -> bool:
        return offer(link(where), data, where) if kind == ARRIVALS else board(link(where), data, where)

    assert taken(message)
    assert not taken(message, 1 - direction)
    for end in range(0, len(message), 8):
        assert not taken(message[:end])
    for word, value in ((0, 1 << 41), (1, 1 - kind), (3, 78), (7, 257), (7, -1), (9, 1 << 40), (9, -1)):
        changed = bytearray(message)
        struct.pack_into("<q", changed, 8 * word, value)
        assert not taken(bytes(changed))
