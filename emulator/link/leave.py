"""What a run of wire packets looks like as it leaves: whole, or behind headers of its own; marked; spoilt.

The payload stays where it is in the byte ring. A flipped bit is flipped there, too, once the checksum is complete, and
flipped back when the run has left: a double of the packet shares the bytes.
"""

from __future__ import annotations

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.state import (
    MARKED,
    RUN_BODY,
    RUN_BODY_AT,
    RUN_COUNT,
    RUN_FIRST,
    RUN_FLAGS,
    RUN_FLIPPED,
    RUN_HEAD,
    RUN_SUPER,
    SPOILT,
    SPOILT_BIT,
    SUPER_HEADER,
    SUPER_L4,
    SUPER_LENGTH,
    SUPER_LINK,
    SUPER_OFFSET,
    SUPER_SEGMENT,
    SUPER_SEGMENTS,
    Bytes,
    Ints,
    LinkState,
)
from emulator.link.store import VNET_BYTES
from emulator.link.wire import (
    NEEDS_CHECKSUM,
    TCP_CHECKSUM,
    UDP_CHECKSUM,
    UDP_HEADER,
    VNET_FLAGS,
    build_run,
    byte,
    complete_checksum,
    fold,
    ones_sum,
    put_be16,
    set_congestion,
)


@compiled
def dress(link: LinkState, head: Bytes) -> None:
    """Makes the run that the RUN_ registers name ready to leave, virtio_net_hdr first.

    It is the first RUN_HEAD bytes of `head`, (LARGEST_HEADER + VNET_BYTES,) at least, and then RUN_BODY bytes from
    RUN_BODY_AT of the ring. `undress` must follow when they have been written.
    """
    reg = link.reg
    entry = link.supers[reg[RUN_SUPER]]
    if reg[RUN_COUNT] == entry[SUPER_SEGMENTS]:
        reg[RUN_HEAD] = 0
        reg[RUN_BODY_AT] = entry[SUPER_OFFSET]
        reg[RUN_BODY] = VNET_BYTES + entry[SUPER_LENGTH]
    else:
        skipped = entry[SUPER_HEADER] + reg[RUN_FIRST] * entry[SUPER_SEGMENT]
        reg[RUN_BODY] = build_run(link.ring, entry, reg[RUN_FIRST], reg[RUN_COUNT], head)
        reg[RUN_HEAD] = VNET_BYTES + entry[SUPER_HEADER]
        reg[RUN_BODY_AT] = entry[SUPER_OFFSET] + VNET_BYTES + skipped
    if reg[RUN_FLAGS] != 0:
        _damage(reg, link.ring, entry, head)


@compiled_apart
def _damage(reg: Ints, ring: Bytes, entry: Ints, head: Bytes) -> None:
    """Marks the run and flips its bit, as its flags say."""
    offset, ip = entry[SUPER_OFFSET], VNET_BYTES + entry[SUPER_LINK]
    whole = reg[RUN_HEAD] == 0
    if reg[RUN_FLAGS] & MARKED:
        if whole:
            set_congestion(ring, offset + ip)
        else:
            set_congestion(head, ip)
    if reg[RUN_FLAGS] & SPOILT == 0:
        return
    bit = reg[RUN_FLAGS] >> SPOILT_BIT
    at = VNET_BYTES + entry[SUPER_L4] + (bit >> 3)  # from the beginning of the packet as it leaves
    if whole:
        complete_checksum(ring, offset, reg[RUN_BODY])
        at += offset
    else:
        _complete_in_two(reg, ring, entry, head)
        if at < reg[RUN_HEAD]:
            head[at] = byte(head, at) ^ (1 << (bit & 7))
            return
        at += reg[RUN_BODY_AT] - reg[RUN_HEAD]
    ring[at] = byte(ring, at) ^ (1 << (bit & 7))
    reg[RUN_FLIPPED] = (at << 3) + (bit & 7) + 1


@compiled
def _complete_in_two(reg: Ints, ring: Bytes, entry: Ints, head: Bytes) -> None:
    """Completes the checksum that `build_run` left partial: headers in `head`, payload in the ring."""
    l4 = VNET_BYTES + entry[SUPER_L4]
    total = ones_sum(head, l4, reg[RUN_HEAD]) + ones_sum(ring, reg[RUN_BODY_AT], reg[RUN_BODY_AT] + reg[RUN_BODY])
    checksum = ~fold(total) & 0xFFFF
    field = l4 + TCP_CHECKSUM
    if reg[RUN_HEAD] - l4 == UDP_HEADER:
        field = l4 + UDP_CHECKSUM
        if checksum == 0:
            checksum = 0xFFFF
    put_be16(head, field, checksum)
    head[VNET_FLAGS] = byte(head, VNET_FLAGS) & ~NEEDS_CHECKSUM & 255


@compiled
def undress(link: LinkState) -> None:
    """Flips back what `dress` flipped in the ring."""
    reg = link.reg
    if reg[RUN_FLIPPED] != 0:
        at, bit = (reg[RUN_FLIPPED] - 1) >> 3, (reg[RUN_FLIPPED] - 1) & 7
        link.ring[at] = byte(link.ring, at) ^ (1 << bit)
        reg[RUN_FLIPPED] = 0
