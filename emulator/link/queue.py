"""The queues: wire packets wait here for service, a lane for each class, each with limits and a discipline.

    drop-tail    a packet that finds the lane full is dropped
    drop-front   the oldest packet of a full lane is dropped, and the new one joins: the wait stays the same, and the
                 sender learns of the loss a queue's length earlier
    CoDel        packets that waited longer than a target for an interval are dropped as they leave, ever more often
    PIE          packets are dropped as they come, so often that the wait nears a target
    FQ-CoDel     a queue for each flow, served in turns, each with CoDel; a full lane drops from its longest flow

A lane may have a limit in packets, in bytes and in time: what has waited longer when its turn comes is dropped; where
a gate keeps it, see `held`. With ECN, CoDel, PIE and FQ-CoDel mark what they would drop, if its sender takes part
(RFC 3168).

A lane stands before every lane behind it: while a packet waits in it, those do not move.
"""

from __future__ import annotations

from emulator.link.codel import codel_drops
from emulator.link.compiled import bit_length, compiled, compiled_apart
from emulator.link.fair import fair_join, fair_longest, fair_next, fair_take, fair_turn
from emulator.link.ledger import note
from emulator.link.pie import ENTERS_MARKED, GOES, pie_admits, pie_update
from emulator.link.state import (
    AQM_INTERVAL,
    AQM_TARGET,
    CODEL,
    DROP_FRONT,
    FAIR_FLOW,
    FEATURES,
    FLOW,
    FLOW_BYTES,
    FLOW_CODEL,
    FLOW_DEFICIT,
    FLOW_FIRST,
    FQ_CODEL,
    HAS_BUCKET,
    HISTOGRAM_BINS,
    LANE_BITS,
    LANE_BYTES,
    LANE_CODEL,
    LANE_DISCIPLINE,
    LANE_DROPPED,
    LANE_ECN,
    LANE_HEAD,
    LANE_LIMIT,
    LANE_LIMIT_BYTES,
    LANE_LIMIT_NS,
    LANE_MARKED,
    LANE_OFFERED,
    LANE_TAIL,
    LANE_WORST,
    LAST_ARRIVAL,
    MARKED,
    MARKED_PACKETS,
    OFFERED_PACKETS,
    PIE,
    PIE_DELAY,
    Q_ARRIVAL,
    Q_BYTES,
    Q_INDEX,
    Q_NUMBER,
    Q_SUPER,
    QUEUED,
    REQUEST_HEAD,
    SUPER_L4,
    SUPER_LINK,
    SUPER_OFFSET,
    TURN,
    WAITING_SINCE,
    WORST_QUEUE,
    Ints,
    LinkState,
)
from emulator.link.store import VNET_BYTES, release
from emulator.link.wire import congestion_bits
from emulator.timeline.causes import Cause

QUEUE, AQM = int(Cause.QUEUE), int(Cause.AQM)
MOST_AT_ONCE = 64  # RFC 8290 section 4.1: a full lane drops half of its longest flow, but not more packets than that


@compiled
def admit(link: LinkState, lane: int, arrival: int, place: int, index: int, length: int) -> bool:
    """Wire packet `index` of the super-packet at `place` joins a lane at `arrival`; False: dropped, and counted.

    Its number counts the packets offered, dropped or not: one drop more does not shift the draws of all that follow.
    """
    reg, lanes, queue = link.reg, link.lanes, link.queue
    waiting = reg[QUEUED]
    reg[LAST_ARRIVAL] = arrival
    lanes[lane, LANE_OFFERED] += 1
    discipline = lanes[lane, LANE_DISCIPLINE]
    if discipline == DROP_FRONT:
        while is_full(link, lane, length) and lanes[lane, LANE_HEAD] < lanes[lane, LANE_TAIL]:
            drop_head(link, lane, QUEUE, arrival)
    cause = 0
    if discipline != FQ_CODEL and is_full(link, lane, length):
        cause = QUEUE
    elif discipline == PIE:
        verdict = pie_admits(reg, lanes, lane, reg[OFFERED_PACKETS], arrival, takes_marks(link, place))
        if verdict == GOES:
            cause = AQM
        elif verdict == ENTERS_MARKED:
            count_mark(link, lane)
            index |= MARKED
    if cause != 0:
        link.dropped[cause] += 1
        lanes[lane, LANE_DROPPED] += 1
        note(link, reg[OFFERED_PACKETS], cause, arrival)
        return False
    if discipline == FQ_CODEL:
        row = fair_join(lanes, link.flows, queue, lane, reg[FLOW], arrival, length)
    else:
        row = lanes[lane, LANE_TAIL] % queue.shape[1]
    queue[lane, row, Q_ARRIVAL] = arrival
    queue[lane, row, Q_SUPER] = place
    queue[lane, row, Q_INDEX] = index
    queue[lane, row, Q_BYTES] = length
    queue[lane, row, Q_NUMBER] = reg[OFFERED_PACKETS]
    lanes[lane, LANE_TAIL] += 1
    lanes[lane, LANE_BYTES] += length
    reg[LANE_BITS + (lane >> 5)] |= 1 << (lane & 31)
    reg[TURN] = min(reg[TURN], lane) if reg[QUEUED] > 0 else lane
    if waiting == 0:
        reg[WAITING_SINCE] = arrival
    if len(link.requests) > 0:  # behind all that are open: who took another's place has its request, and needs none
        link.requests[(reg[REQUEST_HEAD] + waiting) % len(link.requests)] = arrival
    reg[QUEUED] += 1
    if discipline == FQ_CODEL and is_full(link, lane, 0):
        most = fair_longest(lanes, link.flows, lane)
        for _ in range(MOST_AT_ONCE):
            drop_head(link, lane, QUEUE, arrival)
            if not link.flows[lanes[lane, FAIR_FLOW], FLOW_BYTES] * 2 > most:
                break
    lanes[lane, LANE_WORST] = max(lanes[lane, LANE_WORST], lanes[lane, LANE_TAIL] - lanes[lane, LANE_HEAD])
    reg[WORST_QUEUE] = max(reg[WORST_QUEUE], reg[QUEUED])
    return True


@compiled
def is_full(link: LinkState, lane: int, length: int) -> bool:
    """Whether a packet of `length` bytes does not fit any more; of 0 bytes: whether there is too much already."""
    lanes = link.lanes
    more = 1 if length > 0 else 0
    if lanes[lane, LANE_TAIL] - lanes[lane, LANE_HEAD] + more > lanes[lane, LANE_LIMIT]:
        return True
    return 0 < lanes[lane, LANE_LIMIT_BYTES] < lanes[lane, LANE_BYTES] + length


@compiled
def head_row(link: LinkState, lane: int) -> int:
    """The row of the packet whose turn it is in a lane; under FQ-CoDel, after `fair_turn`."""
    if link.lanes[lane, LANE_DISCIPLINE] == FQ_CODEL:
        return link.flows[link.lanes[lane, FAIR_FLOW], FLOW_FIRST]
    return link.lanes[lane, LANE_HEAD] % link.queue.shape[1]


@compiled
def take_head(link: LinkState, lane: int) -> int:
    """Takes that packet out of its lane; returns its row, which stays readable until the lane's next `admit`."""
    reg, lanes = link.reg, link.lanes
    if lanes[lane, LANE_DISCIPLINE] == FQ_CODEL:
        row = fair_take(lanes, link.flows, link.queue, lane)
    else:
        row = lanes[lane, LANE_HEAD] % link.queue.shape[1]
    lanes[lane, LANE_HEAD] += 1
    lanes[lane, LANE_BYTES] -= link.queue[lane, row, Q_BYTES]
    reg[QUEUED] -= 1
    if lanes[lane, LANE_HEAD] == lanes[lane, LANE_TAIL]:
        reg[LANE_BITS + (lane >> 5)] &= ~(1 << (lane & 31))
        if reg[QUEUED] > 0:
            find_turn(reg)
    return row


@compiled
def drop_head(link: LinkState, lane: int, cause: int, at: int) -> None:
    """Drops that packet at `at`."""
    row = take_head(link, lane)
    link.dropped[cause] += 1
    link.lanes[lane, LANE_DROPPED] += 1
    note(link, link.queue[lane, row, Q_NUMBER], cause, at)
    release(link, link.queue[lane, row, Q_SUPER], 1)


@compiled
def takes_marks(link: LinkState, place: int) -> bool:
    """Whether the sender of the super-packet at `place` takes part in ECN."""
    entry = link.supers[place]
    if entry[SUPER_L4] == entry[SUPER_LINK]:
        return False  # not IP
    return congestion_bits(link.ring, entry[SUPER_OFFSET] + VNET_BYTES + entry[SUPER_LINK]) != 0


@compiled
def count_mark(link: LinkState, lane: int) -> None:
    link.lanes[lane, LANE_MARKED] += 1
    link.reg[MARKED_PACKETS] += 1


@compiled_apart
def next_bytes(link: LinkState) -> int:
    """The bytes of the packet that would be served next, if its time had come; one must wait. Changes nothing."""
    lane = link.reg[TURN]
    if link.lanes[lane, LANE_DISCIPLINE] == FQ_CODEL:
        return link.queue[lane, link.flows[fair_next(link.lanes, link.flows, lane), FLOW_FIRST], Q_BYTES]
    return link.queue[lane, link.lanes[lane, LANE_HEAD] % link.queue.shape[1], Q_BYTES]


@compiled
def find_turn(reg: Ints) -> None:
    """Sets TURN to the lane whose turn it is; some packet must wait.

    All that wait have arrived: whatever could be served before an arrival has been served before it was admitted.
    """
    word = 0
    while reg[LANE_BITS + word] == 0:
        word += 1
    bits = reg[LANE_BITS + word]
    reg[TURN] = (word << 5) + bit_length(bits & -bits) - 1


@compiled
def count_time(lanes: Ints, lane: int, column: int, time: int) -> None:
    """Counts a time, ns, in one of a lane's histograms."""
    lanes[lane, column + bin_of(time)] += 1


@compiled
def bin_of(time: int) -> int:
    """The bin of a time, ns, in a lane's histograms."""
    return min(HISTOGRAM_BINS - 1, bit_length(time >> 10))


@compiled
def thin_out(link: LinkState, lane: int, now: int) -> bool:
    """Lets the lane's discipline drop packets that would be served at `now`.

    False if it is not clear yet who is served then: none is left in the lane, or the next one needs other tokens.
    """
    lanes = link.lanes
    discipline = lanes[lane, LANE_DISCIPLINE]
    longest = lanes[lane, LANE_LIMIT_NS]
    if discipline <= DROP_FRONT and longest == 0:
        return True
    while lanes[lane, LANE_HEAD] < lanes[lane, LANE_TAIL]:
        if discipline == PIE:
            pie_update(lanes, lane, now)
        table, line, column = lanes, lane, LANE_CODEL
        behind = lanes[lane, LANE_BYTES]
        if discipline == FQ_CODEL:
            fair_turn(lanes, link.flows, lane)
            table, line, column = link.flows, lanes[lane, FAIR_FLOW], FLOW_CODEL
            behind = link.flows[line, FLOW_BYTES]
        row = head_row(link, lane)
        length = link.queue[lane, row, Q_BYTES]
        waited = now - link.queue[lane, row, Q_ARRIVAL]
        cause = 0
        if 0 < longest < waited:
            cause = QUEUE
        elif discipline == PIE:
            lanes[lane, PIE_DELAY] = waited
        elif discipline >= CODEL:
            target, interval = lanes[lane, AQM_TARGET], lanes[lane, AQM_INTERVAL]
            if codel_drops(table, line, column, behind - length, waited, now, target, interval):
                if lanes[lane, LANE_ECN] != 0 and takes_marks(link, link.queue[lane, row, Q_SUPER]):
                    link.queue[lane, row, Q_INDEX] |= MARKED
                    count_mark(link, lane)
                else:
                    cause = AQM
        if cause == 0:
            if discipline == FQ_CODEL:
                link.flows[lanes[lane, FAIR_FLOW], FLOW_DEFICIT] -= length
            return True
        drop_head(link, lane, cause, now)
        if link.reg[FEATURES] & HAS_BUCKET:
            return False
    return False
