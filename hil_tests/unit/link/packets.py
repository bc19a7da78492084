"""Packets for the tests of the link: each tells which one it is, and stands behind its virtio_net_hdr."""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import struct
from dataclasses import dataclass
from typing import Literal

NO_OFFLOAD = bytes(10)
GSO_TYPE = {("tcp", 4): 1, ("tcp", 6): 4, ("udp", 4): 5, ("udp", 6): 5}  # include/uapi/linux/virtio_net.h
PROTOCOL = {"tcp": 6, "udp": 17}
CHECKSUM_OFFSET = {"tcp": 16, "udp": 6}
SOURCE = {4: ipaddress.ip_address("198.18.0.2"), 6: ipaddress.ip_address("2001:2::2")}
TARGET = {4: ipaddress.ip_address("198.18.0.1"), 6: ipaddress.ip_address("2001:2::1")}


def filler(length: int, number: int) -> bytes:
    """`length` bytes that no other `number` has."""
    if length <= 0:
        return b""
    block = hashlib.sha256(number.to_bytes(8, "big")).digest()
    return (number.to_bytes(8, "big") + block * (length // len(block) + 1))[:length]


@functools.lru_cache(maxsize=4096)
def packet(length: int, number: int) -> bytes:
    """An IPv4 packet of `length` (20 to 65,535) bytes; `number` is in its header, and fills its payload."""
    header = struct.pack(">BBHHHBBH", 0x45, 0, length, number & 0xFFFF, 0, 64, 253, 0)
    return header + struct.pack(">II", number >> 16, number & 0xFFFF) + filler(length - 20, number)


def frame(length: int, number: int) -> bytes:
    """The same behind the virtio_net_hdr of a packet that is what it is."""
    return NO_OFFLOAD + packet(length, number)


@dataclass(frozen=True)
class Super:
    """A super-packet as the kernel would hand it over: `segment` payload bytes in each wire packet but the last."""

    protocol: Literal["tcp", "udp"]
    version: Literal[4, 6]
    payload: int
    segment: int
    number: int = 0

    @property
    def header_bytes(self) -> int:
        return (20 if self.version == 4 else 40) + (20 if self.protocol == "tcp" else 8)

    @property
    def wire_packets(self) -> int:
        return max(1, -(-self.payload // self.segment))

    def wire_lengths(self) -> list[int]:
        """IP length of each wire packet."""
        left = [self.payload - index * self.segment for index in range(self.wire_packets)]
        return [self.header_bytes + min(self.segment, payload) for payload in left]

    def frame(self) -> bytes:
        """virtio_net_hdr, IP, TCP or UDP, payload."""
        ip_bytes = 20 if self.version == 4 else 40
        l4 = self._l4()
        addresses = SOURCE[self.version].packed + TARGET[self.version].packed
        partial = fold(ones_sum(addresses) + PROTOCOL[self.protocol] + len(l4))
        at = CHECKSUM_OFFSET[self.protocol]
        l4 = l4[:at] + struct.pack(">H", partial) + l4[at + 2 :]
        if self.version == 4:
            ip = struct.pack(
                ">BBHHHBBH", 0x45, 0, 20 + len(l4), self.number & 0xFFFF, 0, 64, PROTOCOL[self.protocol], 0
            )
        else:
            ip = struct.pack(">IHBB", 0x60000000, len(l4), PROTOCOL[self.protocol], 64)
        kind = GSO_TYPE[self.protocol, self.version]
        return offload_header(kind, self.header_bytes, self.segment, ip_bytes, at) + ip + addresses + l4

    def _l4(self) -> bytes:
        body = filler(self.payload, self.number)
        if self.protocol == "udp":
            return struct.pack(">HHHH", 4000, 5000, 8 + len(body), 0) + body
        return struct.pack(">HHIIBBHHH", 4000, 5000, 1000, 2000, 5 << 4, 0x18, 512, 0, 0) + body


def offload_header(kind: int, headers: int, segment: int, start: int, offset: int, flags: int = 1) -> bytes:
    """A virtio_net_hdr (include/uapi/linux/virtio_net.h)."""
    return struct.pack("<BBHHHH", flags, kind, headers, segment, start, offset)


def ones_sum(data: bytes) -> int:
    """Sum of big-endian 16-bit words (RFC 1071), an odd last byte padded."""
    padded = data + bytes(len(data) & 1)
    return sum(struct.unpack(f">{len(padded) // 2}H", padded))


def fold(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
