"""The compiled loop at the link's part of the fabric: arrivals in, the two links, departures out; no GIL.

Batches of known peers are dealt with here; every other message, and each look at the clock, goes to Python. Neither end
ever waits for the other: what finds no room on its way out waits in the link for a while, and is then dropped and
counted.
"""

from __future__ import annotations

from typing import NamedTuple

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.path import next_event
from emulator.link.state import DELIVERED_PACKETS, OFFERED_PACKETS, Bytes, Ints, LinkState
from emulator.ports.batch import begin, drop_overdue, is_message, offer_batch, pack
from emulator.ports.capture_ring import CaptureRing
from emulator.ports.end_loop import (
    ACKNOWLEDGE_BYTES,
    ENDED,
    LONGEST_WAIT_NS,
    LOOK,
    MESSAGE,
    MESSAGES_PER_TURN,
    STOP,
    UNTIL,
    WINDOW_BYTES,
    drop_rest,
)
from emulator.ports.frames import DEVICE
from emulator.ports.messages import (
    ACKNOWLEDGE,
    ARRIVALS,
    DEPARTURES,
    H_ACKNOWLEDGED,
    H_PACKETS,
    H_RECORDS,
    HEADER_WORDS,
)
from emulator.ports.syscalls import POLLIN, monotonic_ns, wait_readable
from emulator.ports.turn import Scratch, take_in
from emulator.ports.zeromq import HOST_UNREACHABLE, SNDMORE, last_error, receive, send

PATIENCE_NS = 50_000_000  # how long after it was due a packet may still wait for room in the transport
SHORTEST_WAIT_NS = 20_000  # while the transport has no room
LARGEST_IDENTITY = 256
UNKNOWN = -(1 << 60)  # the offset of a clock of which nothing is known yet: what comes, comes now

# words shared with Python, the first as at the ends
SIZE, FROM, IDENTITY_BYTES, ASKED, TURNS, BROKEN, LAG_UP, LAG_DOWN, FLUSH, HANDED_ON = range(2, 12)
SHARED_WORDS = 12

# peers: by role, what the loop knows of the end that has it; the first few of its session, the rest of all of them
(
    P_SESSION, P_SOCKET, P_IDENTITY_BYTES, P_SEQUENCE, P_SENT_BYTES, P_ACKNOWLEDGED, P_RECEIVED_BYTES, P_TOLD_BYTES,
    P_RECEIVED_PACKETS, P_SENT_PACKETS, P_MISSED, P_OFFSET, P_KNOWN, P_HEARD, P_GONE,
    P_OFFERED_PACKETS, P_UNDELIVERED,
) = range(17)  # fmt: skip
PEER_COLUMNS = 20
SESSION_COLUMNS = P_OFFERED_PACKETS


class Peers(NamedTuple):
    """Both ends, by role: who has it, and what was counted."""

    table: Ints  # (2, PEER_COLUMNS)
    identities: Bytes  # (2, LARGEST_IDENTITY)
    sender: Bytes  # (LARGEST_IDENTITY,) of the last message
    identity: Bytes  # (LARGEST_IDENTITY,) room for the one that is sent to


class Memory(NamedTuple):
    """Room for a message on its way in and one on its way out, as words and as bytes."""

    into: Ints
    into_data: Bytes
    out: Ints
    out_data: Bytes


@compiled
def role_of(peers: Peers, socket: int, length: int) -> int:
    """The role of who sent the last message, −1 for nobody who has one."""
    for role in range(2):
        peer = peers.table[role]
        if peer[P_SESSION] != 0 and peer[P_SOCKET] == socket and peer[P_IDENTITY_BYTES] == length:
            same = True
            for index in range(length):
                same = same and peers.identities[role, index] == peers.sender[index]
            if same:
                return role
    return -1


@compiled_apart
def send_to(peers: Peers, role: int, sockets: Ints, data: Bytes, length: int) -> bool:
    """Hands `length` bytes on to the end that has a role. False: no room, or it has gone, which is noted."""
    peer = peers.table[role]
    for index in range(peer[P_IDENTITY_BYTES]):
        peers.identity[index] = peers.identities[role, index]
    socket = sockets[peer[P_SOCKET]]
    if send(socket, peers.identity, peer[P_IDENTITY_BYTES], SNDMORE) and send(socket, data, length, 0):
        return True
    if last_error() == HOST_UNREACHABLE:
        peer[P_GONE] = 1
    return False


@compiled_apart
def hand_on(
    link: LinkState, way: int, now: int, lag: int, peers: Peers, sockets: Ints, memory: Memory, head: Bytes
) -> bool:
    """Sends what has been served to the end where it leaves; True if something was sent or dropped."""
    peer = peers.table[1 - way]
    full = peer[P_SENT_BYTES] - peer[P_ACKNOWLEDGED] >= WINDOW_BYTES
    if peer[P_SESSION] != 0 and (full or peer[P_KNOWN] == 0):
        drop_overdue(link, now - lag, now - PATIENCE_NS)
        return False
    out, before = memory.out, link.reg[DELIVERED_PACKETS]
    begin(out, DEPARTURES, way, peer[P_SESSION], peer[P_SEQUENCE], peer[P_RECEIVED_BYTES], peer[P_SENT_PACKETS])
    used = pack(link, now - lag, out, memory.out_data, head, peer[P_OFFSET])
    if out[H_RECORDS] == 0:
        return False
    packets = link.reg[DELIVERED_PACKETS] - before
    if peer[P_SESSION] != 0 and send_to(peers, 1 - way, sockets, memory.out_data, used * 8):
        peer[P_SEQUENCE] += 1
        peer[P_SENT_BYTES] += used * 8
        peer[P_SENT_PACKETS] += packets
        peer[P_TOLD_BYTES] = peer[P_RECEIVED_BYTES]
    else:
        peer[P_UNDELIVERED] += packets
    return True


@compiled
def link_loop(
    up: LinkState,
    down: LinkState,
    capture_up: CaptureRing,
    capture_down: CaptureRing,
    sockets: Ints,
    watched: Ints,
    peers: Peers,
    memory: Memory,
    shared: Ints,
    events: Ints,
    poll: Ints,
    scratch: Scratch,
) -> int:
    """Until there is something for Python: MESSAGE (of `sender`, in `into`), LOOK or ENDED.

    sockets: handles; watched: their descriptors, and behind them those of the injectors into uplink and downlink.
    """
    clock, into, into_data = scratch.clock, memory.into, memory.into_data
    while shared[STOP] == 0:
        busy = False
        for index in range(len(sockets)):
            for _ in range(MESSAGES_PER_TURN):
                length = receive(sockets[index], peers.sender)
                if length < 0:
                    break
                size = receive(sockets[index], into_data)
                busy = True
                if drop_rest(sockets[index], into_data, clock) or size > len(into_data) or length > LARGEST_IDENTITY:
                    shared[BROKEN] += 1
                    continue
                size, role = size // 8 * 8, role_of(peers, index, length)
                peer = peers.table[max(0, role)]
                now = monotonic_ns(clock)
                if role >= 0 and is_message(into, size, ARRIVALS, role, peer[P_SESSION]):
                    link, capture = (up, capture_up) if role == 0 else (down, capture_down)
                    peer[P_HEARD], before = now, link.reg[OFFERED_PACKETS]
                    peer[P_RECEIVED_BYTES] += size
                    peer[P_ACKNOWLEDGED] = max(peer[P_ACKNOWLEDGED], into[H_ACKNOWLEDGED])
                    peer[P_MISSED] += max(0, into[H_PACKETS] - peer[P_MISSED] - peer[P_RECEIVED_PACKETS])
                    offset = peer[P_OFFSET] if peer[P_KNOWN] else UNKNOWN
                    if not offer_batch(
                        link, capture, into, into_data, size, role, offset, now, scratch.arrived, scratch.entry
                    ):
                        shared[BROKEN] += 1
                    offered = link.reg[OFFERED_PACKETS] - before
                    peer[P_RECEIVED_PACKETS] += offered
                    peer[P_OFFERED_PACKETS] += offered
                elif role >= 0 and is_message(into, size, ACKNOWLEDGE, role, peer[P_SESSION]):
                    peer[P_HEARD] = now
                    peer[P_ACKNOWLEDGED] = max(peer[P_ACKNOWLEDGED], into[H_ACKNOWLEDGED])
                else:
                    shared[SIZE], shared[FROM], shared[IDENTITY_BYTES] = size, index, length
                    return MESSAGE
        for way in range(2):
            if events[len(sockets) + way] & POLLIN:
                link, capture = (up, capture_up) if way == 0 else (down, capture_down)
                take_in(link, capture, watched[len(sockets) + way], DEVICE, 2 + way, scratch)
                events[len(sockets) + way] = 0
        now = monotonic_ns(clock)
        if now - shared[HANDED_ON] >= shared[FLUSH]:  # as at the ends: a message may wait for more
            shared[HANDED_ON] = now
            if hand_on(up, 0, now, shared[LAG_UP], peers, sockets, memory, scratch.head):
                busy = True
            if hand_on(down, 1, now, shared[LAG_DOWN], peers, sockets, memory, scratch.head):
                busy = True
        for role in range(2):
            peer = peers.table[role]
            if peer[P_SESSION] != 0 and peer[P_RECEIVED_BYTES] - peer[P_TOLD_BYTES] >= ACKNOWLEDGE_BYTES:
                begin(memory.out, ACKNOWLEDGE, role, peer[P_SESSION], 0, peer[P_RECEIVED_BYTES], 0)
                if send_to(peers, role, sockets, memory.out_data, HEADER_WORDS * 8):
                    peer[P_TOLD_BYTES] = peer[P_RECEIVED_BYTES]
                    busy = True
        shared[TURNS] += 1
        if now >= shared[UNTIL] or shared[ASKED] != 0:
            return LOOK
        due = min(next_event(up) + shared[LAG_UP], next_event(down) + shared[LAG_DOWN]) - now
        due = max(due, shared[HANDED_ON] + shared[FLUSH] - now)
        wait = 0 if busy else max(SHORTEST_WAIT_NS, min(due, LONGEST_WAIT_NS))
        wait_readable(watched, events, wait, poll)
    return ENDED
