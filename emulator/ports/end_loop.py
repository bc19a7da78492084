"""The compiled loop at one end of the fabric: port → arrivals → link, and link → departures → delay line → port.

    port  ── read, stamped ──▶ a batch ─────▶ ZeroMQ ──▶ the link
          ◀── written when due ── delay line ◀── ZeroMQ ── the link

A batch waits for more packets for a little of the link's delay (FLUSH): their stamps are those of their arrival, and a
message of its own for each would cost more than it carries.
It returns to Python for whatever is not a batch, and when its time is up. While there is no link, what comes in at the
port is dropped and counted: a cable with nothing at its other end stalls nobody.
"""

from __future__ import annotations

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.path import next_event
from emulator.link.state import ETHERNET, OFFERED_PACKETS, Bytes, Ints, LinkState
from emulator.ports.batch import begin, board, collect, count_wire, is_message
from emulator.ports.frames import DEVICE, FAULTS
from emulator.ports.messages import (
    ACKNOWLEDGE,
    ARRIVALS,
    DEPARTURES,
    H_ACKNOWLEDGED,
    H_PACKETS,
    H_RECORDS,
    HEADER_WORDS,
)
from emulator.ports.syscalls import (
    EMPTY_AT,
    EMPTY_SINCE,
    GUESSED,
    LOOKED,
    POLLERR,
    POLLIN,
    PORT_KIND,
    monotonic_ns,
    wait_readable,
)
from emulator.ports.turn import WAKE_EARLY_NS, WRITES_PER_TURN, Scratch, give_out, looked_at, rest_ns
from emulator.ports.zeromq import has_more, receive, send

LONGEST_WAIT_NS = 5_000_000
CHASE_NS = 1_000_000  # a turn costs more than in the relay, and what comes in waits for a batch to fill anyway
READS_PER_BATCH = 128
FULL_BYTES = 1 << 19  # a batch with so much, or so many records, waits no longer for more
MESSAGES_PER_TURN = 4
WINDOW_BYTES = 32 << 20  # what may be on its way unacknowledged: a peer that stands still costs this much memory
ACKNOWLEDGE_BYTES = 1 << 19  # at the latest after so much

MESSAGE, LOOK, ENDED = range(3)  # why a loop returned: a message for Python lies in its memory; its time is up; STOP

# words shared with Python
STOP, UNTIL, SIZE, QUANTUM, SPIN_LONGEST, REST, FLUSH = range(7)
SHARED_WORDS = 8

# what is counted, in a session
(
    E_SESSION, E_SEQUENCE, E_SENT_BYTES, E_ACKNOWLEDGED, E_RECEIVED_BYTES, E_TOLD_BYTES, E_SENT_PACKETS,
    E_TAKEN_PACKETS, E_TAKEN_BYTES, E_LOST_PACKETS, E_LOST_BYTES, E_BOARDED, E_MISSED, E_LATE, E_LATE_WORST,
    E_BROKEN, E_WAIT_WORST, E_FAULT,
    E_USED, E_OPENED,  # the batch that is being filled: its words, 0 for none, and when its first packet came
) = range(20)  # fmt: skip
END_WORDS = 24


@compiled
def drop_rest(socket: int, data: Bytes, scratch: Ints) -> bool:
    """Whether more parts followed, where a message has one; they are gone now."""
    more = False
    while has_more(socket, scratch) and receive(socket, data) >= 0:
        more = True
    return more


@compiled_apart
def flush(
    socket: int, way: int, ends: Ints, out: Ints, out_data: Bytes, total: Ints, entry: Ints, ethernet: int
) -> None:
    """Sends the batch that has been filled; where there is no link, or no room, it is dropped and counted."""
    used, records = ends[E_USED], out[H_RECORDS]
    begin(out, ARRIVALS, way, ends[E_SESSION], ends[E_SEQUENCE], ends[E_RECEIVED_BYTES], ends[E_SENT_PACKETS])
    out[H_RECORDS] = records
    count_wire(out, out_data, entry, total, ethernet)
    ends[E_TAKEN_PACKETS] += total[0]
    ends[E_TAKEN_BYTES] += total[1]
    room = ends[E_SESSION] != 0 and ends[E_SENT_BYTES] - ends[E_ACKNOWLEDGED] < WINDOW_BYTES
    if room and send(socket, out_data, used * 8, 0):
        ends[E_SEQUENCE] += 1
        ends[E_SENT_BYTES] += used * 8
        ends[E_SENT_PACKETS] += total[0]
        ends[E_TOLD_BYTES] = ends[E_RECEIVED_BYTES]
    else:
        ends[E_LOST_PACKETS] += total[0]
        ends[E_LOST_BYTES] += total[1]
    ends[E_USED] = out[H_RECORDS] = 0


@compiled
def end_loop(
    line: LinkState,
    socket: int,
    way: int,
    port: Ints,
    kind: int,
    ends: Ints,
    late: Ints,
    shared: Ints,
    into: Ints,
    into_data: Bytes,
    out: Ints,
    out_data: Bytes,
    note: Ints,
    note_data: Bytes,
    lateness: Ints,
    total: Ints,
    events: Ints,
    poll: Ints,
    scratch: Scratch,
) -> int:
    """Until there is something for Python: MESSAGE (SIZE bytes of it in `into`), LOOK or ENDED.

    way: of what comes in at the port. port: (2,) its descriptor, −1 once it has gone, and the socket's own. into, out:
    memory for a batch each, as words and as bytes; note: the same for a header alone.
    """
    clock, empty_since, reading = scratch.clock, scratch.empty_since, scratch.reading
    rested = monotonic_ns(clock)
    while shared[STOP] == 0:
        busy = False
        for _ in range(MESSAGES_PER_TURN):
            size = receive(socket, into_data)
            if size < 0:
                break
            busy = True
            if drop_rest(socket, into_data, clock) or size > len(into_data):
                ends[E_BROKEN] += 1
                continue
            size = size // 8 * 8
            if ends[E_SESSION] != 0 and is_message(into, size, DEPARTURES, 1 - way, ends[E_SESSION]):
                ends[E_RECEIVED_BYTES] += size
                ends[E_ACKNOWLEDGED] = max(ends[E_ACKNOWLEDGED], into[H_ACKNOWLEDGED])
                ends[E_MISSED] += max(0, into[H_PACKETS] - ends[E_MISSED] - ends[E_BOARDED])
                before = line.reg[OFFERED_PACKETS]
                if not board(line, into, into_data, size, monotonic_ns(clock), late):
                    ends[E_BROKEN] += 1
                ends[E_BOARDED] += line.reg[OFFERED_PACKETS] - before
            elif ends[E_SESSION] != 0 and is_message(into, size, ACKNOWLEDGE, way, ends[E_SESSION]):
                ends[E_ACKNOWLEDGED] = max(ends[E_ACKNOWLEDGED], into[H_ACKNOWLEDGED])
            else:
                shared[SIZE] = size
                return MESSAGE
        if ends[E_RECEIVED_BYTES] - ends[E_TOLD_BYTES] >= ACKNOWLEDGE_BYTES:
            begin(note, ACKNOWLEDGE, way, ends[E_SESSION], 0, ends[E_RECEIVED_BYTES], 0)
            if send(socket, note_data, HEADER_WORDS * 8, 0):
                ends[E_TOLD_BYTES] = ends[E_RECEIVED_BYTES]
                busy = True
        written = give_out(line, port[0], shared[QUANTUM], CHASE_NS, lateness, scratch)
        now = monotonic_ns(clock)
        if ends[E_USED] != 0:
            full = out[H_RECORDS] >= READS_PER_BATCH or ends[E_USED] * 8 >= FULL_BYTES
            if full or now - ends[E_OPENED] >= shared[FLUSH]:
                flush(socket, way, ends, out, out_data, total, scratch.entry, line.reg[ETHERNET])
                busy = True
        if now >= shared[UNTIL]:
            return LOOK
        free = next_event(line) - now
        wait = min(free - WAKE_EARLY_NS, LONGEST_WAIT_NS)
        if wait <= 0 or written == WRITES_PER_TURN:
            wait = rest_ns(now - rested, free, shared[SPIN_LONGEST], shared[REST])
        if busy:
            wait = 0
        if ends[E_USED] != 0:
            wait = max(0, min(wait, ends[E_OPENED] + shared[FLUSH] - now))
        ready = wait_readable(port, events, wait, poll)
        woken = reading[LOOKED] = monotonic_ns(clock)
        if wait > 0:
            rested = woken
        if ready == 0:
            empty_since[0] = now + wait
        if ready <= 0:
            continue
        if not events[0] & POLLIN and not (kind != DEVICE and events[0] & POLLERR):
            empty_since[0] = looked_at(now, woken)
            if events[0] & FAULTS[kind]:
                ends[E_FAULT], port[0] = 1, -1
            continue
        came = woken if woken - now > 2 * wait else max(now, woken - wait)  # as in the relay
        reading[PORT_KIND], reading[EMPTY_SINCE] = kind, empty_since[0]
        if ends[E_USED] == 0:
            ends[E_USED], ends[E_OPENED], out[H_RECORDS] = HEADER_WORDS, woken, 0
        before = out[H_RECORDS]
        ends[E_USED] = collect(port[0], out, out_data, ends[E_USED], READS_PER_BATCH, scratch)
        if reading[GUESSED]:
            ends[E_WAIT_WORST] = max(ends[E_WAIT_WORST], came - empty_since[0])
        taken = out[H_RECORDS] - before
        if reading[EMPTY_AT]:
            empty_since[0] = reading[EMPTY_AT]
        if taken == 0 and events[0] & FAULTS[kind]:
            ends[E_FAULT], port[0] = 1, -1
        if out[H_RECORDS] == 0:
            ends[E_USED] = 0
    return ENDED
