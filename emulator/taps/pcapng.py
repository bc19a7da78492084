"""Captures: a pcapng writer with a comment per packet, and a reader of what other tools wrote.

Our own, because libraries write 4,000 to 41,000 packets/s, and read stamps as floats, which cannot hold the nanoseconds
of this century. The formats: draft-ietf-opsawg-pcapng, draft-ietf-opsawg-pcap.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from emulator import __version__
from emulator.errors import EndpointError
from emulator.units import LAST_YEAR, format_utc, parse_utc_ns

SECTION, INTERFACE, STATISTICS, PACKET = 0x0A0D0D0A, 1, 5, 6  # block types
BYTE_ORDER = 0x1A2B3C4D
OPTION_COMMENT, OPTION_NAME, OPTION_APPLICATION, OPTION_RESOLUTION = 1, 2, 4, 9
OPTION_PACKET_ID = 5  # of a packet
OPTION_RECEIVED, OPTION_DROPPED = 4, 5  # of interface statistics
NANOSECONDS = 9  # if_tsresol: 10⁻⁹ s

# link-layer types, from the registry of tcpdump.org
NULL, ETHERNET, RAW, LINUX_SLL, LINUX_SLL2 = 0, 1, 101, 113, 276
RAW_VARIANTS = (RAW, 12, 14, 228, 229)  # raw IP, under its older numbers and as IPv4 or IPv6 alone
ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
VLAN_TAGS = (0x8100, 0x88A8)
LARGEST_BLOCK = 1 << 24
LAST_UTC_NS = parse_utc_ns(f"{LAST_YEAR}-12-31T23:59:59Z")
BEGAN = re.compile(r"bench began at (\S+)")  # a section's comment, in captures of a bench


class Frame(NamedTuple):
    """A captured frame: UTC ns, the IP packet in it, None if it carries something else, and its interface's name.

    number: its packet id (pcapng), by which frames of one stamp have an order; 0 if it has none.
    whole: all that was captured, empty if that is the packet and nothing else. ethernet: whether it begins with an
    Ethernet header. missing_bytes: how much shorter the capture has it than it was on the wire. beside: the names of
    all interfaces that its section of the file has told of.
    """

    utc_ns: int
    packet: bytes | None
    interface: str = ""
    number: int = 0
    whole: bytes = b""
    ethernet: bool = False
    missing_bytes: int = 0
    beside: tuple[str, ...] = ()


def _options(*options: tuple[int, bytes]) -> bytes:
    body = b"".join(struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4) for code, value in options)
    return body + bytes(4)


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def section(
    interfaces: tuple[str, ...], link_type: int = RAW, snap_bytes: int = 0, began_utc_ns: int | None = None
) -> bytes:
    """The blocks that a capture of these interfaces begins with.

    snap_bytes: 0 for whole packets. began_utc_ns: when the bench began that is captured, for `bench_start`.
    """
    head = struct.pack("<IHHq", BYTE_ORDER, 1, 0, -1)
    told = [(OPTION_APPLICATION, f"bentpipe {__version__}".encode())]
    if began_utc_ns is not None:
        told.insert(0, (OPTION_COMMENT, f"bench began at {format_utc(began_utc_ns, 9)}".encode()))
    blocks = [_block(SECTION, head + _options(*told))]
    for name in interfaces:
        options = _options((OPTION_NAME, name.encode()), (OPTION_RESOLUTION, bytes([NANOSECONDS])))
        blocks.append(_block(INTERFACE, struct.pack("<HHI", link_type, 0, snap_bytes) + options))
    return b"".join(blocks)


def statistics(interface: int, utc_ns: int, received: int, dropped: int) -> bytes:
    """The block that tells how many packets of an interface there were, and how many the capture missed."""
    counts = _options((OPTION_RECEIVED, struct.pack("<Q", received)), (OPTION_DROPPED, struct.pack("<Q", dropped)))
    return _block(STATISTICS, struct.pack("<III", interface, utc_ns >> 32, utc_ns & 0xFFFFFFFF) + counts)


class PcapngWriter:
    """Writes packets of one or more named interfaces, with nanosecond stamps. Same calls, same bytes."""

    def __init__(self, file: BinaryIO, interfaces: tuple[str, ...], link_type: int = RAW) -> None:
        self._file = file
        file.write(section(interfaces, link_type))

    def write(self, interface: int, utc_ns: int, packet: bytes, comment: str, wire_bytes: int = 0) -> None:
        """One packet of `interface` (an index into the names), as it was at `utc_ns`; on the wire it was `wire_bytes`.

        wire_bytes: 0 for as long as `packet`.
        """
        wire_bytes = wire_bytes or len(packet)
        head = struct.pack("<IIIII", interface, utc_ns >> 32, utc_ns & 0xFFFFFFFF, len(packet), wire_bytes)
        body = head + packet + bytes(-len(packet) % 4) + _options((OPTION_COMMENT, comment.encode()))
        self._file.write(_block(PACKET, body))


def ip_packet(frame: bytes, link_type: int) -> bytes | None:
    """The IP packet in a frame, without padding behind it; None if there is none."""
    if link_type in RAW_VARIANTS:
        inner = frame
    elif link_type == NULL:
        inner = frame[4:]
    elif link_type in (ETHERNET, LINUX_SLL, LINUX_SLL2):
        at = {ETHERNET: 0, LINUX_SLL: 14, LINUX_SLL2: 0}[link_type]
        inner_at = {ETHERNET: 0, LINUX_SLL: 16, LINUX_SLL2: 20}[link_type]
        if link_type == ETHERNET:
            inner_at = ethernet_header_bytes(frame)
            at = inner_at - 2
        if int.from_bytes(frame[at : at + 2]) not in (ETHERTYPE_IPV4, ETHERTYPE_IPV6):
            return None
        inner = frame[inner_at:]
    else:
        return None
    if len(inner) >= 20 and inner[0] >> 4 == 4:
        return inner[: max(20, int.from_bytes(inner[2:4]))]
    if len(inner) >= 40 and inner[0] >> 4 == 6:
        return inner[: 40 + int.from_bytes(inner[4:6])]
    return None


def ethernet_header_bytes(frame: bytes) -> int:
    """How long the header of an Ethernet frame is, with its VLAN tags; its last two bytes are the type."""
    at = 12
    while len(frame) >= at + 2 and int.from_bytes(frame[at : at + 2]) in VLAN_TAGS:
        at += 4
    return at + 2


def bench_start(path: Path) -> int | None:
    """When the bench began whose capture this is, UTC ns by the capture's stamps; None if it does not say.

    Raises EndpointError for a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(12)
            if len(head) < 12 or head[:4] != SECTION.to_bytes(4, "little"):
                return None
            order = "<" if head[8:] == BYTE_ORDER.to_bytes(4, "little") else ">"
            length = struct.unpack(order + "I", head[4:8])[0]
            body = file.read(max(0, min(LARGEST_BLOCK, length) - len(head)))
    except OSError as error:
        raise EndpointError(f"{path}: {error.strerror or error}") from error
    for code, value in _options_of(body[12:-4], order):
        found = BEGAN.fullmatch(value.decode(errors="replace")) if code == OPTION_COMMENT else None
        if found is not None:
            try:
                return parse_utc_ns(found[1])
            except ValueError:
                return None
    return None


def read_capture(path: Path, cut_short: Callable[[], object] = lambda: None) -> Iterator[Frame]:
    """The frames of a pcap or pcapng file, as they stand in it, stamps exact to the ns that the file has.

    A file that ends in the middle of a frame, as after a crash of the tool that wrote it, ends with the frame before,
    and `cut_short` is called.
    Raises EndpointError naming the file, if it is no capture or is damaged, or has a stamp beyond LAST_UTC_NS.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            try:
                whole = yield from _read_pcapng(file) if magic == SECTION.to_bytes(4, "little") else _read_pcap(file)
                if not whole:
                    cut_short()
            except (struct.error, ValueError) as error:
                raise EndpointError(f"{path}: expected a pcap or pcapng capture: {error}") from error
    except OSError as error:
        if isinstance(error, EndpointError):
            raise
        raise EndpointError(f"{path}: {error.strerror or error}") from error


def _read_pcap(file: BinaryIO) -> Generator[Frame, None, bool]:
    """draft-ietf-opsawg-pcap: a header, then records of 16 bytes and data. Returns whether all were whole."""
    header = file.read(24)
    for order in "<", ">":
        magic = struct.unpack(order + "I", header[:4])[0] if len(header) == 24 else 0
        if magic in (0xA1B2C3D4, 0xA1B23C4D):
            break
    else:
        raise ValueError("its first bytes are those of no capture")
    unit_ns = 1000 if magic == 0xA1B2C3D4 else 1
    link_type = struct.unpack(order + "I", header[20:])[0] & 0x0FFFFFFF  # the high bits tell of frame check sequences
    while len(record := file.read(16)) == 16:
        seconds, fraction, captured, wire = struct.unpack(order + "IIII", record)
        data = _bounded(file, captured)
        if len(data) < captured:
            return False
        yield _frame(seconds * 1_000_000_000 + fraction * unit_ns, data, link_type, wire)
    return not record


def _read_pcapng(file: BinaryIO) -> Generator[Frame, None, bool]:
    """Returns whether all blocks were whole."""
    order = "<"
    interfaces: list[tuple[int, int, str]] = []
    names: tuple[str, ...] = ()
    while len(head := file.read(8)) == 8:
        kind = struct.unpack(order + "I", head[:4])[0]
        if kind == SECTION:
            mark = file.read(4)
            order = "<" if mark == BYTE_ORDER.to_bytes(4, "little") else ">"
            if mark not in (BYTE_ORDER.to_bytes(4, "little"), BYTE_ORDER.to_bytes(4, "big")):
                raise ValueError("a section without a byte order")
            interfaces, names = [], ()
            head += mark
        length = struct.unpack(order + "I", head[4:8])[0]
        if length < 12 or length % 4:
            raise ValueError(f"a block of {length} bytes")
        body = _bounded(file, length - len(head))
        if len(body) < length - len(head):
            return False
        if kind == INTERFACE:
            options = dict(_options_of(body[8:-4], order))
            name = options.get(OPTION_NAME, b"").decode(errors="replace")
            interfaces.append((struct.unpack(order + "H", body[:2])[0], _ticks_per_s(options), name))
            names += (name,)
        elif kind == PACKET:
            number, high, low, captured, wire = struct.unpack(order + "IIIII", body[:20])
            if number >= len(interfaces) or captured > len(body) - 24:
                raise ValueError("a packet that does not fit its block or its section")
            link_type, ticks_per_s, name = interfaces[number]
            stamp = (high << 32 | low) * 1_000_000_000 // ticks_per_s
            options = dict(_options_of(body[20 + (captured + 3) // 4 * 4 : -4], order))
            packet_id = int.from_bytes(options.get(OPTION_PACKET_ID, b""), "little" if order == "<" else "big")
            frame = _frame(stamp, body[20 : 20 + captured], link_type, wire, name, packet_id)
            yield frame._replace(beside=names)
    return not head


def _frame(utc_ns: int, data: bytes, link_type: int, wire_bytes: int, interface: str = "", number: int = 0) -> Frame:
    if utc_ns > LAST_UTC_NS:
        raise ValueError(f"a stamp of {utc_ns} ns since 1970, where the last year is {LAST_YEAR}")
    packet = ip_packet(data, link_type)
    whole = b"" if packet is not None and len(packet) == len(data) else data
    return Frame(
        utc_ns, packet, interface, number, whole, link_type == ETHERNET, missing_bytes=max(0, wire_bytes - len(data))
    )


def _options_of(options: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """(code, value) of each option of a block."""
    at = 0
    while at + 4 <= len(options):
        code, length = struct.unpack(order + "HH", options[at : at + 4])
        yield code, options[at + 4 : at + 4 + length]
        at += 4 + (length + 3) // 4 * 4


def _ticks_per_s(options: dict[int, bytes]) -> int:
    """What an interface's stamps count, from its if_tsresol; microseconds if it has none."""
    resolution = options.get(OPTION_RESOLUTION, b"")
    if len(resolution) != 1:
        return 1_000_000
    return 1 << (resolution[0] & 0x7F) if resolution[0] & 0x80 else int(10 ** resolution[0])


def _bounded(file: BinaryIO, length: int) -> bytes:
    if length > LARGEST_BLOCK:
        raise ValueError(f"a block of {length} bytes, where at most {LARGEST_BLOCK} are believed")
    return file.read(length)
