"""Reads one frame from a port, whatever kind it is, and says when it arrived.

    DEVICE   TUN, TAP or a socket of our own: read(2) gives virtio_net_hdr and packet; where the kernel has noted the
             arrival at the device, that is in the port's ring of stamps (`stamp_ring`)
    PACKET   an AF_PACKET socket on a network card: the kernel stamped the arrival (SO_TIMESTAMPNS), and took the outer
             VLAN tag off (PACKET_AUXDATA): it is put back where it stood on the wire

A card's stamp is on the world's clock. Its age at the time of reading is what counts: that is subtracted from the
packets' clock, and bounded by when the port was last seen empty, so that a step of the world's clock in between bends
nothing.
"""

from __future__ import annotations

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.state import Bytes, Ints
from emulator.link.store import LARGEST_SUPER, VNET_BYTES
from emulator.link.wire import (
    CUSTOMER_TAG,
    NEEDS_CHECKSUM,
    VLAN_TAG,
    VNET_FLAGS,
    VNET_HEADER,
    VNET_START,
    VNET_TYPE,
    byte,
    le16,
    put_be16,
    put_le16,
)
from emulator.ports.stamp_ring import CAME, seen_empty, stamp_of
from emulator.ports.syscalls import (
    CONTROL,
    CONTROL_BYTES,
    EMPTY_AT,
    EMPTY_SINCE,
    FRAME_ARRIVAL,
    FRAME_OFFSET,
    GUESSED,
    LOOKED,
    MESSAGE_FLAGS,
    MSG_TRUNC,
    NS_PER_S,
    POLLERR,
    POLLHUP,
    POLLNVAL,
    PORT_KIND,
    monotonic_ns,
    read_into,
    realtime_ns,
    receive_message,
)

DEVICE, PACKET = 0, 1
FAULTS = POLLERR | POLLHUP | POLLNVAL, POLLNVAL  # by kind, poll events after which nothing comes: a card may come back

SOL_SOCKET, SCM_TIMESTAMPNS = 1, 35  # asm-generic/socket.h
SOL_PACKET, PACKET_AUXDATA = 263, 8  # linux/socket.h, linux/if_packet.h
TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID = 1 << 4, 1 << 6  # linux/if_packet.h
MACS_BYTES = 12
STAMP_MARGIN_NS = 2_000_000  # from the stamp to the socket's queue: softirq, on a busy machine
DEVICE_MARGIN_NS = 10_000_000  # between looking and noting the time of it: a thread that is pre-empted there
CONTROL_HEADER_WORDS = 2  # struct cmsghdr: length, then level and type
STAMP_BYTES, AUXDATA_BYTES = 32, 36  # such a message with its header: struct timespec, struct tpacket_auxdata


@compiled_apart
def read_frame(descriptor: int, data: Bytes, at: int, reading: Ints, stamps: Ints) -> int:
    """Reads a frame to `at` or a little behind it, of LARGEST_SUPER bytes at most; its length, or −1 if there is none.

    reading: (READING_WORDS,); PORT_KIND and EMPTY_SINCE (monotonic ns) are the port's, LOOKED is the last look at the
    clock. FRAME_OFFSET gets where the frame begins in `data`, FRAME_ARRIVAL when it arrived (monotonic ns), EMPTY_AT
    when there was none; GUESSED counts those of which nobody but this function can say when. stamps: the port's ring.
    A frame that is too long comes back empty, which the link counts as malformed.
    """
    reading[FRAME_OFFSET] = at
    if reading[PORT_KIND] == DEVICE:
        came = stamps[CAME]
        length = read_into(descriptor, data, at, LARGEST_SUPER)
        if length <= 0:
            seen_empty(stamps, came)
            reading[EMPTY_AT] = reading[LOOKED]
            return length
        now = reading[LOOKED] = monotonic_ns(reading)
        not_before = max(1, reading[EMPTY_SINCE] - DEVICE_MARGIN_NS)
        stamp = stamp_of(stamps, data, at + VNET_BYTES, length - VNET_BYTES, not_before)
        known = 0 < stamp <= now
        reading[FRAME_ARRIVAL] = stamp if known else now
        reading[GUESSED] += 0 if known else 1
        return length
    length = receive_message(descriptor, data, at + VLAN_TAG, LARGEST_SUPER - VLAN_TAG, reading)
    if length <= 0:
        reading[EMPTY_AT] = reading[LOOKED]
        return length
    reading[FRAME_OFFSET] = at + VLAN_TAG
    stamp, status, tag, kind_of_tag = stamp_and_tag(reading)
    reading[FRAME_ARRIVAL] = arrival_of(stamp, reading)
    if reading[MESSAGE_FLAGS] & MSG_TRUNC or length < VNET_BYTES + MACS_BYTES:
        return VNET_BYTES
    if status & TP_STATUS_VLAN_VALID:
        put_back_tag(data, at, kind_of_tag if status & TP_STATUS_VLAN_TPID_VALID else CUSTOMER_TAG, tag)
        reading[FRAME_OFFSET] = at
        length += VLAN_TAG
    return length


@compiled
def stamp_and_tag(reading: Ints) -> tuple[int, int, int, int]:
    """(stamp on the world's clock or 0, tp_status, VLAN tag, its kind) from the ancillary data of `receive_message`."""
    stamp, status, tag, kind_of_tag = 0, 0, 0, 0
    at, end = CONTROL, CONTROL + reading[CONTROL_BYTES] // 8
    while at + CONTROL_HEADER_WORDS < end:
        length = reading[at]
        level, kind = reading[at + 1] & 0xFFFFFFFF, reading[at + 1] >> 32
        first = at + CONTROL_HEADER_WORDS
        if length < CONTROL_HEADER_WORDS * 8 or length > (end - at) * 8:
            break
        if level == SOL_SOCKET and kind == SCM_TIMESTAMPNS and length >= STAMP_BYTES:
            stamp = reading[first] * NS_PER_S + reading[first + 1]
        elif level == SOL_PACKET and kind == PACKET_AUXDATA and length >= AUXDATA_BYTES:
            status = reading[first] & 0xFFFFFFFF
            tag, kind_of_tag = reading[first + 2] & 0xFFFF, (reading[first + 2] >> 16) & 0xFFFF
        at += (length + 7) // 8
    return stamp, status, tag, kind_of_tag


@compiled
def arrival_of(stamp: int, reading: Ints) -> int:
    """The stamp on the packets' clock; now, if there is none or it is not from between EMPTY_SINCE and now."""
    world, now = realtime_ns(reading), monotonic_ns(reading)
    reading[LOOKED] = now
    if stamp == 0:
        return now
    age = max(0, world - stamp)
    return now - age if now - age >= reading[EMPTY_SINCE] - STAMP_MARGIN_NS else now


@compiled
def put_back_tag(data: Bytes, at: int, kind_of_tag: int, tag: int) -> None:
    """The frame that begins at `at` + VLAN_TAG gets its outer tag back, and begins at `at`."""
    for index in range(at, at + VNET_BYTES + MACS_BYTES):
        data[index] = data[index + VLAN_TAG]
    put_be16(data, at + VNET_BYTES + MACS_BYTES, kind_of_tag)
    put_be16(data, at + VNET_BYTES + MACS_BYTES + 2, tag)
    if byte(data, at + VNET_FLAGS) & NEEDS_CHECKSUM or byte(data, at + VNET_TYPE):
        put_le16(data, at + VNET_START, le16(data, at + VNET_START) + VLAN_TAG)
        put_le16(data, at + VNET_HEADER, le16(data, at + VNET_HEADER) + VLAN_TAG)
