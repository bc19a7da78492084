"""What the parts of a bench tell each other beside batches of packets (docs/reference/packets.md).

A message is one ZeroMQ part of little-endian 64-bit words: a header, then a body by its kind. Everything here is
sans-I/O, and `parse` raises NotUnderstoodError for whatever is not such a message, and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emulator.link.state import Ints

if TYPE_CHECKING:  # an end knows no scenario, and would take twice as long to start
    from emulator.scenario.model import Scenario

MARK, VERSION = 0x4B50_5442, 2  # "BTPK"
MAGIC = VERSION << 32 | MARK
ARRIVALS, DEPARTURES, ACKNOWLEDGE, HELLO, WELCOME, REFUSE, WHO, ASK, STATUS, LATENESS, DELIVER = range(11)
H_MAGIC, H_KIND, H_WAY, H_SESSION, H_SEQUENCE, H_ACKNOWLEDGED, H_PACKETS, H_RECORDS = range(8)
HEADER_WORDS = 8
TERMINAL, GATEWAY = 0, 1  # ways: the uplink begins at the terminal, the downlink at the gateway
ROLES = ("terminal", "gateway")
LONGEST_TEXT = 1000
LARGEST_WORDS = 1 << 17


class NotUnderstoodError(ValueError):
    """Bytes that are no message of this format."""


@dataclass(frozen=True)
class Header:
    """way: 0 for the uplink, or the terminal's conversation with the link; 1 for the other.

    packets: how many wire packets the sender has sent in batches of this session before. records: of a batch.
    """

    kind: int
    way: int
    session: int = 0
    sequence: int = 0
    acknowledged: int = 0
    packets: int = 0
    records: int = 0


@dataclass(frozen=True)
class Hello:
    """An end introduces itself. clock: equal for all whose CLOCK_MONOTONIC is the same one; 0 if that is not known.

    agreement: of `agreement_of`, 0 for any.
    """

    clock: int
    agreement: int
    ethernet: int


@dataclass(frozen=True)
class Welcome:
    """The link takes the end on: how large its delay line must be, and within what packets may leave together.

    flush_ns: how long a batch of arrivals may wait for more.
    """

    memory_bytes: int
    flight_packets: int
    ethernet: int
    quantum_ns: int
    flush_ns: int


@dataclass(frozen=True)
class Ask:
    """What the end has counted? asked_ns: on the link's clock."""

    asked_ns: int


@dataclass(frozen=True)
class Status:
    """The end's answer, and what it has counted in this session; times on its own clock.

    taken: read at its port; lost: of these, what the transport had no room for. delivered and the next three: what
    became of the wire packets that came from the link. missed: that the link says to have sent and that never came.
    late: that were due before they came, and the worst of that. port_drops: by the kernel, before they could be read.
    fault: 1 once its interface has gone.
    """

    asked_ns: int
    received_ns: int
    sent_ns: int
    taken_packets: int = 0
    taken_bytes: int = 0
    lost_packets: int = 0
    lost_bytes: int = 0
    delivered_packets: int = 0
    delivered_bytes: int = 0
    malformed_packets: int = 0
    memory_packets: int = 0
    egress_packets: int = 0
    missed_packets: int = 0
    late_packets: int = 0
    late_worst_ns: int = 0
    broken_messages: int = 0
    ingress_wait_worst_ns: int = 0
    port_drops: int = 0
    fault: int = 0


@dataclass(frozen=True)
class Lateness:
    """How many packets left how many µs too late, in this session: (µs, packets) of what has changed."""

    bins: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Text:
    """Why the link refuses an end, for a person."""

    text: str


@dataclass(frozen=True)
class Frame:
    """What the end is to write to its port as it is."""

    frame: bytes


Body = Hello | Welcome | Ask | Status | Lateness | Text | Frame | None
PLAIN: dict[int, type[Hello] | type[Welcome] | type[Ask] | type[Status]] = {
    HELLO: Hello,
    WELCOME: Welcome,
    ASK: Ask,
    STATUS: Status,
}
LIMITS = {  # of what an end believes of the link
    "memory_bytes": (1 << 12, 1 << 32),
    "flight_packets": (1 << 4, 1 << 24),
    "quantum_ns": (0, 1_000_000),
    "flush_ns": (0, 1_000_000),
}


def build(header: Header, body: Body = None) -> bytes:
    """The message."""
    words: Sequence[int] = ()
    tail, records = b"", header.records
    match body:
        case Text(text=text):
            tail = text.encode()[:LONGEST_TEXT]
            words = (len(tail),)
        case Frame(frame=frame):
            tail, words = frame, (len(frame),)
        case Lateness(bins=bins):
            words, records = [word for pair in bins for word in pair], len(bins)
        case Hello() | Welcome() | Ask() | Status():
            words = astuple(body)
    way = (header.session, header.sequence, header.acknowledged, header.packets, records)
    head = np.array([MAGIC, header.kind, header.way, *way, *words], np.int64).astype("<i8").tobytes()
    return head + tail + bytes(-len(tail) % 8)


def parse(message: bytes | memoryview) -> tuple[Header, Body]:
    """Header and body of any message but a batch, of which the header only. Raises NotUnderstoodError."""
    words: Ints = np.frombuffer(message, "<i8", len(message) // 8)
    if len(words) < HEADER_WORDS or len(words) > LARGEST_WORDS:
        raise NotUnderstoodError(f"expected at least {HEADER_WORDS} words, got {len(message)} bytes")
    if words[H_MAGIC] != MAGIC:
        if int(words[H_MAGIC]) & 0xFFFF_FFFF == MARK:
            raise NotUnderstoodError(f"expected version {VERSION}, got {int(words[H_MAGIC]) >> 32}")
        raise NotUnderstoodError("expected the magic number BTPK")
    header = Header(*(int(word) for word in words[H_KIND:HEADER_WORDS]))
    if not LATENESS >= header.kind >= ARRIVALS and header.kind != DELIVER:
        raise NotUnderstoodError(f"unknown kind {header.kind}")
    if header.way not in (0, 1) or header.session < 0 or header.records < 0:
        raise NotUnderstoodError("expected way 0 or 1, and no negative session or records")
    return header, _body(header, words[HEADER_WORDS:], bytes(message[HEADER_WORDS * 8 :]))


def _body(header: Header, words: Ints, data: bytes) -> Body:
    kind = header.kind
    if kind in PLAIN:
        wanted = PLAIN[kind]
        names = [field.name for field in fields(wanted)]
        if len(words) != len(names):
            raise NotUnderstoodError(f"kind {kind}: expected {len(names)} words behind the header, got {len(words)}")
        values = dict(zip(names, (int(word) for word in words), strict=True))
        for name, (least, most) in LIMITS.items():
            if name in values and not least <= values[name] <= most:
                raise NotUnderstoodError(f"{name}: expected {least} to {most}, got {values[name]}")
        if kind == STATUS and min(list(values.values())[3:]) < 0:
            raise NotUnderstoodError("expected counters that are not negative")
        return wanted(**values)
    if kind == LATENESS:
        if len(words) != 2 * header.records:
            raise NotUnderstoodError(f"expected {2 * header.records} words of pairs, got {len(words)}")
        return Lateness(tuple((int(words[at]), int(words[at + 1])) for at in range(0, len(words), 2)))
    if kind in (REFUSE, DELIVER):
        if len(words) < 1 or not 0 <= words[0] <= len(data) - 8:
            raise NotUnderstoodError("expected the length of what follows")
        tail = data[8 : 8 + int(words[0])]
        return Text(tail.decode("utf-8", "replace")[:LONGEST_TEXT]) if kind == REFUSE else Frame(tail)
    return None


def agreement_of(scenario: Scenario) -> int:
    """A number that tells whether two parts have the same idea of the ports: layer, MTU and addresses."""
    ports = scenario.ports
    layer = "tun" if ports.kind == "tun" else "tap"  # one end may be a TAP device, and the other a network card
    agreed = (layer, ports.mtu, str(ports.ipv4_network), str(ports.ipv6_network))
    return int.from_bytes(hashlib.sha256(repr(agreed).encode()).digest()[:7], "big")


def clock_identity() -> int:
    """Equal in processes whose CLOCK_MONOTONIC is the same one: of one boot, in one time namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    space = Path("/proc/self/ns/time")
    told = f"{boot} {space.readlink() if space.exists() else ''}"
    return int.from_bytes(hashlib.sha256(told.encode()).digest()[:7], "big") | 1
