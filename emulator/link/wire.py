"""Seeing through segmentation offload: the wire packets inside a super-packet, and their headers.

A packet in the byte ring begins with the kernel's 10-byte virtio_net_hdr (include/uapi/linux/virtio_net.h). With
segmentation offload one "packet" of up to 64 KB stands for many wire packets that share their headers; here is what
tells them apart. Nothing that a header claims is believed before it is checked against the bytes that are there.

At layer 2 an Ethernet header with up to two VLAN tags stands between the two. It travels with the packet and does not
count: the length of a packet is that of its IP packet, padding left out, so that a link is as fast at every port.
"""

from __future__ import annotations

import numpy as np

from emulator.link.compiled import compiled
from emulator.link.state import (
    SUPER_HEADER,
    SUPER_L4,
    SUPER_LENGTH,
    SUPER_LINK,
    SUPER_OFFSET,
    SUPER_SEGMENT,
    SUPER_SEGMENTS,
    Bytes,
    Ints,
)
from emulator.link.store import VNET_BYTES

# virtio_net_hdr, byte offsets: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset; 16-bit fields little-endian
VNET_FLAGS, VNET_TYPE, VNET_HEADER, VNET_SEGMENT, VNET_START, VNET_OFFSET = 0, 1, 2, 4, 6, 8
NEEDS_CHECKSUM = 1
GSO_NONE, GSO_TCP4, GSO_TCP6, GSO_UDP, GSO_ECN = 0, 1, 4, 5, 0x80

ETHERNET_HEADER, VLAN_TAG, MOST_TAGS = 14, 4, 2  # IEEE 802.3, 802.1Q, 802.1ad
CUSTOMER_TAG, SERVICE_TAG = 0x8100, 0x88A8
ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
IPV4_MIN, IPV6_HEADER, TCP_MIN, UDP_HEADER = 20, 40, 20, 8
LARGEST_HEADER = 512  # Ethernet, IP with extension headers, TCP with options: what `build_run` has room for
TCP, UDP = 6, 17
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60  # IPv6 extension headers
MOST_EXTENSIONS = 8
FIN_PSH, CWR = 0x09, 0x80
TCP_CHECKSUM, UDP_CHECKSUM = 16, 6  # offset of the checksum in the header


@compiled
def byte(data: Bytes, at: int) -> int:
    """The byte at `at` as a signed 64-bit integer: Numba would make a float of uint64 + int64."""
    return np.int64(data[at])  # type: ignore[return-value]


@compiled
def be16(data: Bytes, at: int) -> int:
    return (byte(data, at) << 8) | byte(data, at + 1)


@compiled
def le16(data: Bytes, at: int) -> int:
    return (byte(data, at + 1) << 8) | byte(data, at)


@compiled
def le32(data: Bytes, at: int) -> int:
    return (le16(data, at + 2) << 16) | le16(data, at)


@compiled
def be32(data: Bytes, at: int) -> int:
    return (be16(data, at) << 16) | be16(data, at + 2)


@compiled
def put_be16(data: Bytes, at: int, value: int) -> None:
    data[at] = (value >> 8) & 255
    data[at + 1] = value & 255


@compiled
def put_le16(data: Bytes, at: int, value: int) -> None:
    data[at] = value & 255
    data[at + 1] = (value >> 8) & 255


@compiled
def ones_sum(data: Bytes, start: int, end: int) -> int:
    """Sum of big-endian 16-bit words, an odd last byte padded, not folded (RFC 1071)."""
    total = 0
    for at in range(start, end - 1, 2):
        total += be16(data, at)
    if (end - start) & 1:
        total += byte(data, end - 1) << 8
    return total


@compiled
def fold(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@compiled
def ip_header_length(data: Bytes, ip: int, length: int) -> int:
    """Length of the IPv4 header or of IPv6's fixed one, −1 if `length` bytes at `ip` do not hold a packet's headers."""
    if length < IPV4_MIN:
        return -1
    version = byte(data, ip) >> 4
    if version == 4:
        header = (byte(data, ip) & 15) * 4
        if header < IPV4_MIN or header > length or be16(data, ip + 2) < header or be16(data, ip + 2) > length:
            return -1
        return header
    if version == 6 and length >= IPV6_HEADER and be16(data, ip + 4) + IPV6_HEADER <= length:
        return IPV6_HEADER
    return -1


@compiled
def ethernet_header_length(data: Bytes, frame: int, length: int) -> int:
    """Length of the Ethernet header at `frame` with at most MOST_TAGS tags, −1 if `length` bytes do not hold it."""
    header = ETHERNET_HEADER
    if length < header:
        return -1
    for _ in range(MOST_TAGS):
        if be16(data, frame + header - 2) not in (CUSTOMER_TAG, SERVICE_TAG):
            break
        header += VLAN_TAG
        if length < header:
            return -1
    return header


@compiled
def ip_length(data: Bytes, ip: int) -> int:
    """What a sound IP header says of its packet's length, itself included."""
    if byte(data, ip) >> 4 == 4:
        return be16(data, ip + 2)
    return IPV6_HEADER + be16(data, ip + 4)


@compiled
def layer_4(data: Bytes, ip: int, length: int) -> tuple[int, int, bool]:
    """Protocol of the sound IP packet of `length` bytes at `ip`, where its layer 4 begins, whether it begins with that.

    IPv6 extension headers are walked. A later fragment goes on in the middle of what the first one began with: behind
    its fragment header comes data, whatever the protocol in it says.
    """
    if byte(data, ip) >> 4 == 4:
        return byte(data, ip + 9), ip + (byte(data, ip) & 15) * 4, be16(data, ip + 6) & 0x1FFF == 0
    protocol = byte(data, ip + 6)
    at = ip + IPV6_HEADER
    for _ in range(MOST_EXTENSIONS):
        if at + 8 > ip + length:
            break
        if protocol == AUTHENTICATION:
            size = (byte(data, at + 1) + 2) * 4
        elif protocol == FRAGMENT:
            size = 8
        elif protocol in (HOP_BY_HOP, ROUTING, DESTINATION):
            size = (byte(data, at + 1) + 1) * 8
        else:
            break
        if at + size > ip + length:
            break
        later = protocol == FRAGMENT and be16(data, at + 2) >> 3 != 0
        protocol = byte(data, at)
        at += size
        if later:
            return protocol, at, False
    return protocol, at, True


@compiled
def dissect(data: Bytes, offset: int, length: int, entry: Ints) -> bool:
    """`dissect_frame` for an IP packet behind its virtio_net_hdr."""
    return dissect_frame(data, offset, length, entry, 0)


@compiled
def dissect_frame(data: Bytes, offset: int, length: int, entry: Ints, ethernet: int) -> bool:
    """Reads the `length` bytes at `offset` (virtio_net_hdr first) into a row of the super-packet table.

    ethernet: whether an Ethernet header comes next. Sets all columns of `entry` but SUPER_LEFT. False: not a packet
    that IP, or Ethernet, could carry. What Ethernet carries beside IP (ARP, say) is a packet as it is.
    """
    frame, size = offset + VNET_BYTES, length - VNET_BYTES
    link = ethernet_header_length(data, frame, size) if ethernet else 0
    if size < 0 or link < 0:
        return False
    ip = frame + link
    kind = byte(data, offset + VNET_TYPE) & ~GSO_ECN
    segment = le16(data, offset + VNET_SEGMENT)
    entry[SUPER_OFFSET] = offset
    entry[SUPER_LENGTH] = size
    entry[SUPER_LINK] = link
    entry[SUPER_L4] = link
    entry[SUPER_HEADER] = 0
    entry[SUPER_SEGMENT] = size - link
    entry[SUPER_SEGMENTS] = 1
    if ethernet and be16(data, ip - 2) not in (ETHERTYPE_IPV4, ETHERTYPE_IPV6):
        return kind == GSO_NONE
    header = ip_header_length(data, ip, size - link)
    if header < 0:
        return False
    version = byte(data, ip) >> 4
    if ethernet:
        if (be16(data, ip - 2) == ETHERTYPE_IPV4) != (version == 4):
            return False
        entry[SUPER_SEGMENT] = ip_length(data, ip)  # short frames are padded
    header += link
    entry[SUPER_L4] = header
    if kind == GSO_NONE:
        if version == 6:
            entry[SUPER_L4] = layer_4(data, ip, ip_length(data, ip))[1] - frame
        return True
    if kind == GSO_UDP:
        least, is_version = UDP_HEADER, True
    else:
        least, is_version = TCP_MIN, (kind == GSO_TCP4 and version == 4) or (kind == GSO_TCP6 and version == 6)
    start = le16(data, offset + VNET_START)
    needs_checksum = byte(data, offset + VNET_FLAGS) & NEEDS_CHECKSUM
    if segment == 0 or not is_version or not needs_checksum or start < header or start + least > size:
        return False
    if version == 4:
        protocol = byte(data, ip + 9)
        if start != header or protocol != (UDP if kind == GSO_UDP else TCP):
            return False
    if kind != GSO_UDP:
        least = (byte(data, frame + start + 12) >> 4) * 4
        if least < TCP_MIN:
            return False
    headers = start + least
    if headers > size or headers > LARGEST_HEADER:
        return False
    entry[SUPER_L4] = start
    entry[SUPER_HEADER] = headers
    if size - headers > segment:
        entry[SUPER_SEGMENT] = segment
        entry[SUPER_SEGMENTS] = (size - headers + segment - 1) // segment
    return True


@compiled
def wire_bytes(entry: Ints, index: int) -> int:
    """IP length of wire packet `index` of a super-packet."""
    if entry[SUPER_SEGMENTS] == 1:
        return entry[SUPER_SEGMENT]
    header, segment = entry[SUPER_HEADER], entry[SUPER_SEGMENT]
    return header - entry[SUPER_LINK] + min(segment, entry[SUPER_LENGTH] - header - index * segment)


@compiled
def all_wire_bytes(entry: Ints) -> int:
    """The same of all its wire packets together."""
    segments = entry[SUPER_SEGMENTS]
    if segments == 1:
        return entry[SUPER_SEGMENT]
    return entry[SUPER_LENGTH] - entry[SUPER_LINK] + (segments - 1) * (entry[SUPER_HEADER] - entry[SUPER_LINK])


@compiled
def build_run(data: Bytes, entry: Ints, first: int, count: int, out: Bytes) -> int:
    """Headers of the super-packet that holds wire packets `first` … `first + count − 1` and no others, into `out`.

    `out` gets virtio_net_hdr and the headers from Ethernet's or IP's to TCP's or UDP's, with the checksum left partial
    for the kernel; the payload is the super-packet's own. Returns the payload's length in bytes.
    """
    offset, l4, headers, segment = entry[SUPER_OFFSET], entry[SUPER_L4], entry[SUPER_HEADER], entry[SUPER_SEGMENT]
    ip, ip_headers = VNET_BYTES + entry[SUPER_LINK], headers - entry[SUPER_LINK]
    for at in range(VNET_BYTES + headers):
        out[at] = data[offset + at]
    skipped = first * segment
    payload = min(count * segment, entry[SUPER_LENGTH] - headers - skipped)
    if payload <= segment:
        out[VNET_TYPE] = GSO_NONE
        put_le16(out, VNET_SEGMENT, 0)
    elif first > 0:
        out[VNET_TYPE] = byte(out, VNET_TYPE) & ~GSO_ECN & 255
    out[VNET_FLAGS] = NEEDS_CHECKSUM
    put_le16(out, VNET_HEADER, headers)
    l4_length = headers - l4 + payload
    if byte(out, ip) >> 4 == 4:
        put_be16(out, ip + 2, ip_headers + payload)
        put_be16(out, ip + 4, (be16(out, ip + 4) + first) & 0xFFFF)
        put_be16(out, ip + 10, 0)
        put_be16(out, ip + 10, ~fold(ones_sum(out, ip, VNET_BYTES + l4)) & 0xFFFF)
        pseudo = ones_sum(out, ip + 12, ip + 20)
    else:
        put_be16(out, ip + 4, ip_headers - IPV6_HEADER + payload)
        pseudo = ones_sum(out, ip + 8, ip + 40)
    at = VNET_BYTES + l4
    if headers - l4 == UDP_HEADER:
        put_be16(out, at + 4, l4_length)
        put_be16(out, at + UDP_CHECKSUM, fold(pseudo + UDP + l4_length))
        put_le16(out, VNET_OFFSET, UDP_CHECKSUM)
        return payload
    sequence = (be32(out, at + 4) + skipped) & 0xFFFFFFFF
    put_be16(out, at + 4, sequence >> 16)
    put_be16(out, at + 6, sequence & 0xFFFF)
    flags = byte(out, at + 13)
    if skipped + payload < entry[SUPER_LENGTH] - headers:
        flags &= ~FIN_PSH
    if first > 0:
        flags &= ~CWR
    out[at + 13] = flags & 255
    put_be16(out, at + TCP_CHECKSUM, fold(pseudo + TCP + l4_length))
    put_le16(out, VNET_OFFSET, TCP_CHECKSUM)
    return payload


@compiled
def complete_checksum(data: Bytes, offset: int, length: int) -> None:
    """Completes the checksum that virtio_net_hdr at `offset` says is partial: what the wire would show."""
    if byte(data, offset + VNET_FLAGS) & NEEDS_CHECKSUM == 0:
        return
    start = offset + VNET_BYTES + le16(data, offset + VNET_START)
    field = start + le16(data, offset + VNET_OFFSET)
    end = offset + length
    data[offset + VNET_FLAGS] = byte(data, offset + VNET_FLAGS) & ~NEEDS_CHECKSUM & 255
    if start >= end or field + 2 > end:
        return
    checksum = ~fold(ones_sum(data, start, end)) & 0xFFFF
    if checksum == 0 and field - start == UDP_CHECKSUM:
        checksum = 0xFFFF  # a UDP checksum of zero would mean none (RFC 768)
    put_be16(data, field, checksum)


@compiled
def congestion_bits(data: Bytes, ip: int) -> int:
    """The two ECN bits of the IP packet at `ip` (RFC 3168): 0 if its sender does not take part, 3 if it is marked."""
    if byte(data, ip) >> 4 == 4:
        return byte(data, ip + 1) & 3
    return (byte(data, ip + 1) >> 4) & 3


@compiled
def set_congestion(data: Bytes, ip: int) -> None:
    """Marks the IP packet at `ip` as having met congestion (CE); IPv4's checksum is mended (RFC 1624)."""
    if byte(data, ip) >> 4 == 4:
        before = be16(data, ip)
        data[ip + 1] = byte(data, ip + 1) | 3
        checksum = (~be16(data, ip + 10) & 0xFFFF) + (~before & 0xFFFF) + be16(data, ip)
        put_be16(data, ip + 10, ~fold(checksum) & 0xFFFF)
    else:
        data[ip + 1] = byte(data, ip + 1) | 0x30
