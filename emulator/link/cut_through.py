"""A super-packet that nothing stands in the way of: all its wire packets take the path in one step.

Where the server is idle, the rate has no limit, the gate is open and nothing is drawn for each packet by itself, they
are served the moment they come, and are due together. What this leaves behind is what one step for each of them would
have left.
"""

from __future__ import annotations

from emulator.link.channel import PASS, see
from emulator.link.compiled import compiled_apart
from emulator.link.flight import flying
from emulator.link.propagate import delay_at
from emulator.link.queue import bin_of
from emulator.link.state import (
    CH_GATE,
    CH_LOSS,
    CH_RATE,
    DROP_FRONT,
    EGRESS_RATE,
    F_BYTES,
    F_DUE,
    F_INDEX,
    F_SUPER,
    F_TAIL,
    FEATURES,
    FRAME,
    FREE,
    GRANT,
    LANE_DELAYS,
    LANE_DISCIPLINE,
    LANE_HEAD,
    LANE_LIMIT_BYTES,
    LANE_OFFERED,
    LANE_SERVED,
    LANE_TAIL,
    LANE_WAITS,
    LANE_WORST,
    LAST_ARRIVAL,
    LAST_DUE,
    LAST_START,
    OFFERED_BYTES,
    OFFERED_PACKETS,
    QUEUED,
    REQUEST,
    SUPER_SEGMENTS,
    TURN,
    WAITING_SINCE,
    WORST_QUEUE,
    LinkState,
)
from emulator.link.wire import all_wire_bytes, wire_bytes


@compiled_apart
def cut_through(link: LinkState, lane: int, now: int, place: int) -> bool:
    """Takes the super-packet at `place`, which came at `now`, through to the air; False: it must go step by step."""
    reg, lanes, flight, entry = link.reg, link.lanes, link.flight, link.supers[place]
    segments, first = entry[SUPER_SEGMENTS], wire_bytes(entry, 0)
    if reg[QUEUED] != 0 or reg[FREE] > now or reg[FEATURES] != 0 or len(link.ledger) > 0:
        return False
    if reg[GRANT] != 0 or reg[FRAME] != 0 or reg[REQUEST] != 0 or len(link.requests) > 0 or reg[EGRESS_RATE] != 0:
        return False
    if lanes[lane, LANE_DISCIPLINE] > DROP_FRONT or 0 < lanes[lane, LANE_LIMIT_BYTES] < first:
        return False
    if flying(reg) + segments > len(flight):
        return False
    see(link, now)
    if reg[CH_RATE] != 0 or reg[CH_LOSS] != 0 or reg[CH_GATE] != PASS:
        return False
    due = max(now + delay_at(link, now), reg[LAST_DUE])
    row = reg[F_TAIL] % len(flight)
    for index in range(segments):
        flight[row, F_DUE] = due
        flight[row, F_SUPER] = place
        flight[row, F_INDEX] = index
        flight[row, F_BYTES] = wire_bytes(entry, index)
        row = row + 1 if row + 1 < len(flight) else 0
    reg[F_TAIL] += segments
    reg[LAST_DUE], reg[FREE], reg[LAST_START], reg[TURN] = due, now, now, lane
    reg[LAST_ARRIVAL], reg[WAITING_SINCE] = now, now
    reg[OFFERED_PACKETS] += segments
    reg[OFFERED_BYTES] += all_wire_bytes(entry)
    reg[WORST_QUEUE] = max(reg[WORST_QUEUE], 1)
    lanes[lane, LANE_WORST] = max(lanes[lane, LANE_WORST], 1)
    for column in (LANE_OFFERED, LANE_SERVED, LANE_HEAD, LANE_TAIL, LANE_WAITS):
        lanes[lane, column] += segments
    lanes[lane, LANE_DELAYS + bin_of(due - now)] += segments
    return True
