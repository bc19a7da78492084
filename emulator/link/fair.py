"""FQ-CoDel's scheduler (RFC 8290): a queue for each flow of a lane, served in turns, those first that have just come.

The flows' packets stand in the lane's rows, chained; rows that are free are chained, too. A flow is in one of two lists
or idle: new flows, which get one quantum before they are put behind the old ones. What CoDel does with the packet whose
turn it is, is the caller's matter.
"""

from __future__ import annotations

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.state import (
    CODEL_DROPPING,
    CODEL_FIRST_ABOVE,
    FAIR_FIRST,
    FAIR_FLOW,
    FAIR_FLOWS,
    FAIR_FREE,
    FAIR_NEW_FIRST,
    FAIR_NEW_LAST,
    FAIR_OLD_FIRST,
    FAIR_OLD_LAST,
    FAIR_OLDEST,
    FAIR_QUANTUM,
    FAIR_USED,
    FLOW_BYTES,
    FLOW_CODEL,
    FLOW_DEFICIT,
    FLOW_FIRST,
    FLOW_LAST,
    FLOW_LIST,
    FLOW_NEXT,
    IDLE,
    LANE_HEAD,
    LANE_TAIL,
    NEVER,
    NEW,
    OLD,
    Q_ARRIVAL,
    Q_BYTES,
    Q_NEXT,
    Ints,
)

NOBODY = -1


@compiled_apart
def fair_join(lanes: Ints, flows: Ints, queue: Ints, lane: int, flow_hash: int, arrival: int, length: int) -> int:
    """A packet joins its flow; returns the row for it. The lane's counters are the caller's matter."""
    row = lanes[lane, FAIR_FREE]
    if row == NOBODY:
        row = lanes[lane, FAIR_USED]
        lanes[lane, FAIR_USED] += 1
    else:
        lanes[lane, FAIR_FREE] = queue[lane, row, Q_NEXT]
    if lanes[lane, LANE_HEAD] == lanes[lane, LANE_TAIL]:
        lanes[lane, FAIR_OLDEST] = arrival
    flow = lanes[lane, FAIR_FIRST] + flow_hash % lanes[lane, FAIR_FLOWS]
    queue[lane, row, Q_NEXT] = NOBODY
    if flows[flow, FLOW_FIRST] == NOBODY:
        flows[flow, FLOW_FIRST] = row
    else:
        queue[lane, flows[flow, FLOW_LAST], Q_NEXT] = row
    flows[flow, FLOW_LAST] = row
    flows[flow, FLOW_BYTES] += length
    if flows[flow, FLOW_LIST] == IDLE:
        flows[flow, FLOW_DEFICIT] = lanes[lane, FAIR_QUANTUM]
        _append(lanes, flows, lane, flow, NEW)
    return row


@compiled_apart
def fair_turn(lanes: Ints, flows: Ints, lane: int) -> None:
    """Sets FAIR_FLOW to the flow whose turn it is (RFC 8290 section 4.2); some packet must wait in the lane."""
    while True:
        from_new = lanes[lane, FAIR_NEW_FIRST] != NOBODY
        flow = lanes[lane, FAIR_NEW_FIRST] if from_new else lanes[lane, FAIR_OLD_FIRST]
        if flows[flow, FLOW_DEFICIT] <= 0:
            flows[flow, FLOW_DEFICIT] += lanes[lane, FAIR_QUANTUM]
            _remove_first(lanes, flows, lane, from_new)
            _append(lanes, flows, lane, flow, OLD)
        elif flows[flow, FLOW_FIRST] != NOBODY:
            lanes[lane, FAIR_FLOW] = flow
            return
        else:
            flows[flow, FLOW_CODEL + CODEL_FIRST_ABOVE] = 0
            flows[flow, FLOW_CODEL + CODEL_DROPPING] = 0
            _remove_first(lanes, flows, lane, from_new)
            if from_new and lanes[lane, FAIR_OLD_FIRST] != NOBODY:  # else it could always be new again, and first
                _append(lanes, flows, lane, flow, OLD)
            else:
                flows[flow, FLOW_LIST] = IDLE


@compiled_apart
def fair_next(lanes: Ints, flows: Ints, lane: int) -> int:
    """The flow that `fair_turn` would choose now. Changes nothing: who joins before its time may change the choice.

    A flow in debt goes to the end of the old ones with a quantum more, as often as it takes; of those that need the
    fewest rounds for it the first one is next.
    """
    quantum = lanes[lane, FAIR_QUANTUM]
    flow = lanes[lane, FAIR_NEW_FIRST]
    while flow != NOBODY:
        if flows[flow, FLOW_DEFICIT] > 0 and flows[flow, FLOW_FIRST] != NOBODY:
            return flow
        flow = flows[flow, FLOW_NEXT]
    chosen, fewest = NOBODY, NEVER
    for first, behind in ((FAIR_OLD_FIRST, 0), (FAIR_NEW_FIRST, 1)):
        flow = lanes[lane, first]
        while flow != NOBODY:
            deficit = flows[flow, FLOW_DEFICIT]
            rounds = 0 if deficit > 0 else -deficit // quantum + 1 - behind  # the new ones had a quantum on the way
            if flows[flow, FLOW_FIRST] != NOBODY and rounds < fewest:
                chosen, fewest = flow, rounds
            flow = flows[flow, FLOW_NEXT]
    return chosen


@compiled
def fair_take(lanes: Ints, flows: Ints, queue: Ints, lane: int) -> int:
    """Takes the oldest packet of FAIR_FLOW; returns its row, which stays readable until the lane's next `fair_join`."""
    flow = lanes[lane, FAIR_FLOW]
    row = flows[flow, FLOW_FIRST]
    flows[flow, FLOW_FIRST] = queue[lane, row, Q_NEXT]
    flows[flow, FLOW_BYTES] -= queue[lane, row, Q_BYTES]
    queue[lane, row, Q_NEXT] = lanes[lane, FAIR_FREE]
    lanes[lane, FAIR_FREE] = row
    return row


@compiled_apart
def fair_longest(lanes: Ints, flows: Ints, lane: int) -> int:
    """Sets FAIR_FLOW to the flow with the most bytes waiting; returns how many they are."""
    first = lanes[lane, FAIR_FIRST]
    longest = first
    for flow in range(first, first + lanes[lane, FAIR_FLOWS]):
        if flows[flow, FLOW_BYTES] > flows[longest, FLOW_BYTES]:
            longest = flow
    lanes[lane, FAIR_FLOW] = longest
    return flows[longest, FLOW_BYTES]


@compiled_apart
def fair_oldest(lanes: Ints, flows: Ints, queue: Ints, lane: int) -> int:
    """Sets FAIR_FLOW to the flow with the oldest packet, one must wait; returns when that came, and keeps it.

    Until the next time nothing older waits, whatever has come and gone.
    """
    first, oldest = lanes[lane, FAIR_FIRST], NEVER
    for flow in range(first, first + lanes[lane, FAIR_FLOWS]):
        row = flows[flow, FLOW_FIRST]
        if row != NOBODY and queue[lane, row, Q_ARRIVAL] < oldest:
            oldest, lanes[lane, FAIR_FLOW] = queue[lane, row, Q_ARRIVAL], flow
    lanes[lane, FAIR_OLDEST] = oldest
    return oldest


@compiled
def _append(lanes: Ints, flows: Ints, lane: int, flow: int, to: int) -> None:
    first = FAIR_NEW_FIRST if to == NEW else FAIR_OLD_FIRST
    last = FAIR_NEW_LAST if to == NEW else FAIR_OLD_LAST
    flows[flow, FLOW_LIST] = to
    flows[flow, FLOW_NEXT] = NOBODY
    if lanes[lane, first] == NOBODY:
        lanes[lane, first] = flow
    else:
        flows[lanes[lane, last], FLOW_NEXT] = flow
    lanes[lane, last] = flow


@compiled
def _remove_first(lanes: Ints, flows: Ints, lane: int, from_new: bool) -> None:
    first = FAIR_NEW_FIRST if from_new else FAIR_OLD_FIRST
    lanes[lane, first] = flows[lanes[lane, first], FLOW_NEXT]
