"""The byte ring: each super-packet is kept once, whole, until the last of its wire packets has left or is lost."""

from __future__ import annotations

from emulator.link.compiled import compiled
from emulator.link.state import (
    SUPER_HEAD,
    SUPER_LEFT,
    SUPER_OFFSET,
    SUPER_TAIL,
    WRITE,
    LinkState,
)

ALIGNMENT = 64  # a super-packet starts on a cache line of its own
VNET_BYTES = 10  # virtio_net_hdr without num_buffers
LARGEST_SUPER = 65_535 + VNET_BYTES + 14 + 8  # the longest IP packet, with room for Ethernet and two VLAN tags


@compiled
def reserve(link: LinkState, length: int) -> int:
    """Offset of `length` free bytes in one piece, or −1 if the memory is full. Nothing is taken before `keep`."""
    reg = link.reg
    capacity = len(link.ring)
    if reg[SUPER_TAIL] - reg[SUPER_HEAD] >= len(link.supers) - 1:
        return -1
    if reg[SUPER_HEAD] == reg[SUPER_TAIL]:
        reg[WRITE] = 0  # empty: start again where the cache is warm
        return 0 if length <= capacity else -1
    write = reg[WRITE]
    oldest = link.supers[reg[SUPER_HEAD] % len(link.supers), SUPER_OFFSET]
    if write > oldest:
        if capacity - write >= length:
            return write
        return 0 if oldest > length else -1
    return write if oldest - write > length else -1


@compiled
def keep(link: LinkState, offset: int, length: int, wire_packets: int) -> int:
    """Takes the bytes at `offset` (from `reserve`) for a super-packet; returns its place in the table."""
    reg = link.reg
    place = reg[SUPER_TAIL] % len(link.supers)
    link.supers[place, SUPER_OFFSET] = offset
    link.supers[place, SUPER_LEFT] = wire_packets
    reg[WRITE] = (offset + length + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    reg[SUPER_TAIL] += 1
    return place


@compiled
def release(link: LinkState, place: int, wire_packets: int) -> None:
    """`wire_packets` of the super-packet at `place` need its bytes no longer; the oldest free ones are given back."""
    reg, supers = link.reg, link.supers
    supers[place, SUPER_LEFT] -= wire_packets
    while reg[SUPER_HEAD] < reg[SUPER_TAIL] and supers[reg[SUPER_HEAD] % len(supers), SUPER_LEFT] == 0:
        reg[SUPER_HEAD] += 1
