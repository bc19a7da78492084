"""The link's whole state: a few arrays, and the names of their columns and registers.

Compiled code takes arrays and not objects; a tuple of arrays keeps its type in Numba's cache, and runs interpreted as
it is. Rings are addressed by counters that only rise; the place in the ring is the counter modulo its length.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

NEVER = (1 << 62) - 1  # a time that does not come: 146 years after the clock's start

# store: super-packets under way, whole, in the order in which they came. OFFSET is where the virtio_net_hdr begins; all
# lengths count from behind it: LINK is the Ethernet header with its VLAN tags (0 at layer 3), so that IP begins at
# OFFSET + VNET_BYTES + LINK; L4 is where layer 4 begins (LINK if it is not IP), HEADER where its payload does.
# SEGMENT is the payload of each wire packet but the last; of a packet that stands for itself, its length as it counts.
SUPER_OFFSET, SUPER_LENGTH, SUPER_L4, SUPER_HEADER, SUPER_SEGMENT, SUPER_SEGMENTS, SUPER_LEFT, SUPER_LINK = range(8)
SUPER_COLUMNS = 8

# queue: wire packets that wait for service. INDEX is the place within the super-packet, with what is to be done to the
# packet in the bits above it (see MARKED and SPOILT). NEXT: the row behind it in the same flow
Q_ARRIVAL, Q_SUPER, Q_INDEX, Q_BYTES, Q_NUMBER, Q_NEXT = range(6)
Q_COLUMNS = 8
INDEX_MASK = 0xFFFFFFFF
MARKED = 1 << 32  # congestion experienced (RFC 3168)
SPOILT = 1 << 33  # a bit flipped: the one at SPOILT_BIT, counted from the beginning of layer 4
SPOILT_BIT = 40  # where in the word the number of that bit stands

# lanes: a queue for each class of traffic, in order of precedence; the last one takes what no rule fits
(
    LANE_HEAD, LANE_TAIL, LANE_LIMIT, LANE_LIMIT_BYTES, LANE_LIMIT_NS, LANE_DISCIPLINE, LANE_ECN, LANE_BYTES,
    LANE_WORST, LANE_OFFERED, LANE_DROPPED, LANE_MARKED, LANE_WAIT_WORST, LANE_WAIT_SUM, LANE_SERVED,
    AQM_TARGET, AQM_INTERVAL,
    LANE_CODEL, _, _, _, _,  # five columns of CoDel's, in the order of CODEL_FIRST_ABOVE …
    PIE_NEXT, PIE_ODDS, PIE_SUM, PIE_BURST, PIE_DELAY, PIE_DELAY_BEFORE,
    FAIR_FIRST, FAIR_FLOWS, FAIR_QUANTUM, FAIR_FLOW, FAIR_FREE, FAIR_USED,
    FAIR_NEW_FIRST, FAIR_NEW_LAST, FAIR_OLD_FIRST, FAIR_OLD_LAST, FAIR_OLDEST,
) = range(39)  # fmt: skip
LANE_WAITS = 40  # a histogram of what packets have waited, by powers of two of 1,024 ns
LANE_DELAYS = 72  # and of their time from arrival until they are due
HISTOGRAM_BINS = 32
LANE_COLUMNS = 104
DROP_TAIL, DROP_FRONT, CODEL, PIE, FQ_CODEL = range(5)
MOST_LANES = 128

CODEL_FIRST_ABOVE, CODEL_DROP_NEXT, CODEL_COUNT, CODEL_LAST_COUNT, CODEL_DROPPING = range(5)

# flows: the queues of a lane's flows under FQ-CoDel, chained through the rows of the lane; −1 ends a chain
FLOW_FIRST, FLOW_LAST, FLOW_BYTES, FLOW_DEFICIT, FLOW_NEXT, FLOW_LIST, FLOW_CODEL = range(7)
FLOW_COLUMNS = 12
IDLE, NEW, OLD = range(3)

# rules: which packets belong to which lane
# an address stands for an IP VERSION, 0 for any, and the leading BITS of four words of 32
RULE_LANE, RULE_VERSION, RULE_BITS, RULE_ADDRESS = range(4)
RULE_COLUMNS = 8
# which rules fit, a bit for each: rows by protocol, by DSCP, without ports, and by what `bounds` the port is between
MATCH_DSCP, MATCH_NO_PORTS, MATCH_PORTS = 256, 320, 321
RULES_PER_WORD = 62

# flight: wire packets on the air, in the order in which they are due; INDEX as in the queue. A heap of those that have
# been overtaken: of two that are due together the one of the lower ORDER goes first
F_DUE, F_SUPER, F_INDEX, F_BYTES, F_ORDER = range(5)
F_COLUMNS, HEAP_COLUMNS = 4, 5

# rows: the Timeline, in a ring of windows
ROW_START, ROW_DELAY, ROW_SLOPE, ROW_RATE, ROW_LOSS, ROW_JITTER, ROW_CN, ROW_GATE, ROW_CAUSE = range(9)
ROW_COLUMNS = 9

# overlay: timed changes, on the monotonic clock; two sides, of which one is in force
O_START, O_END, O_GATE, O_CAUSE, O_FADE, O_DELAY, O_LOSS, O_JITTER = range(8)
O_COLUMNS = 8
OVERLAY_ROWS = 256

# ledger: what became of each wire packet, where somebody asks for it; a cause of 0 stands for "on the air, due then",
# one of COPY for the same of its double, which is noted first
L_NUMBER, L_CAUSE, L_AT = range(3)
L_COLUMNS = 4
COPY = -1

# features that most links do without, as bits of a register: one look tells that there is nothing to do
HAS_LOSSES, HAS_DAMAGE, HAS_STAGE, HAS_BUCKET, HAS_OPPORTUNITIES, HAS_OVERTAKING = (1 << bit for bit in range(6))

# registers
(
    SEED, DIRECTION, OVERHEAD_BYTES, EGRESS_RATE, JITTER_BIN, EFFICIENCY_ZERO,  # constants of the link
    WRITE, SUPER_HEAD, SUPER_TAIL, QUEUED, F_HEAD, F_TAIL,  # rings
    FREE, RESIDUE, RESIDUE_RATE, LAST_DUE,  # the server and the line
    GENERATION, UTC_OFFSET, ROWS_OLDEST, ROWS_PUBLISHED, ROWS_END, ROW_CURSOR, OVERLAY_VIEW, STARVED,  # the channel
    CH_FROM, CH_UNTIL, CH_GENERATION, CH_RATE, CH_LOSS, CH_GATE, CH_CAUSE, CH_DELAY, CH_SLOPE, CH_ANCHOR, CH_JITTER,
    OFFERED_PACKETS, OFFERED_BYTES, DELIVERED_PACKETS, DELIVERED_BYTES,
    RUN_SUPER, RUN_FIRST, RUN_COUNT, RUN_DUE, RUN_BYTES,  # what `due_run` found
    WORST_QUEUE, LEDGER_TAIL, FRAME, GRANT,
    RUN_FLAGS, RUN_HEAD, RUN_BODY_AT, RUN_BODY, RUN_FLIPPED,  # what `dress` made of it
    FEATURES, LANE_BITS, _, _, _, TURN,  # which lanes have packets, 32 to a word, and the first of them
    MARKED_PACKETS, COPIED_PACKETS, SPOILT_PACKETS, LATE_PACKETS,
    CHAIN_BIN, CHAIN_AT, CHAIN_STATE,
    SPELL_GAP, SPELL_LOSS, SPELL_LONGEST, SPELL_FROM, SPELL_NEXT, SPELL_END,
    SPOIL_ODDS, COPY_ODDS, LATE_ODDS, LATE_NS, JITTER_OVERTAKES, JITTER_AT, JITTER_SHARE,
    BUCKET_RATE, BUCKET_FULL, BUCKET_LEVEL, BUCKET_AT,
    OPPORTUNITY_BYTES, OPPORTUNITY_NEXT, OPPORTUNITY_AT, OPPORTUNITY_LEFT,
    FLOW, STAGE_CODE, STAGE_ADDRESS, STAGE_DATA,
    REQUEST, REQUEST_KEPT,  # what an idle link waits for capacity, and how long it keeps it; ns
    ETHERNET, LONGEST,  # whether frames begin with an Ethernet header; the longest packet that is taken, 0 for any
    HELD_SINCE,  # as `service_start` has found: since when a gate keeps the packet whose turn it is, or NEVER
    LAST_START,  # when the last packet entered service, or was dropped before it could: no arrival may be earlier now
    LAST_ARRIVAL,  # when the last packet came to the queues, whether it found room or not
    WAITING_SINCE,  # when the queues ceased to be empty; of no meaning while they are
    REQUEST_HEAD,  # counts the `requests` that have been used; as many are open as packets wait
    OPPORTUNITY_FOUND,  # as `service_start` has found: the number of the opportunity with which service begins
    F_HEAPED, F_ORDER_FIRST, F_ORDER_LAST,  # how many have been overtaken, and the lowest and highest ORDER so far
) = range(104)  # fmt: skip
REGISTERS = 104

CAUSES = 32


class LinkState(NamedTuple):
    """One direction of the link. All int64 but the bytes."""

    ring: Bytes  # (bytes,) super-packets, each with its 10-byte virtio_net_hdr
    supers: Ints  # (super-packets, SUPER_COLUMNS)
    queue: Ints  # (lanes, wire packets, Q_COLUMNS)
    lanes: Ints  # (lanes, LANE_COLUMNS)
    rules: Ints  # (rules, RULE_COLUMNS)
    matches: Ints  # (MATCH_PORTS + intervals between bounds, words of RULES_PER_WORD rules)
    bounds: Ints  # (ports at which a rule's range begins or ends,) rising
    flight: Ints  # (wire packets, F_COLUMNS)
    overtaken: Ints  # (wire packets, HEAP_COLUMNS) a heap; empty on a link where nobody overtakes
    rows: Ints  # (rows, ROW_COLUMNS)
    overlay: Ints  # (2, OVERLAY_ROWS, O_COLUMNS)
    efficiency: Ints  # (steps of 0.1 dB,) spectral efficiency by C/N; empty: a fade has no effect
    jitter: Ints  # (QUANTILES,)
    dropped: Ints  # (CAUSES,) wire packets
    ledger: Ints  # (events, L_COLUMNS); empty: nothing is noted
    flows: Ints  # (flows of all lanes, FLOW_COLUMNS); none without FQ-CoDel
    chain: Ints  # (states, states + 1) the Markov chain of losses; no states: none
    spells: Ints  # (lengths, 2) odds of a burst's length and all before it, × 2³²; the length, ns; no lengths: none
    doomed: Ints  # numbers of the packets that are lost, rising; empty: none
    bit_errors: Ints  # (bytes,) odds that bit errors cost a packet of so many bytes, × 2³²; empty: none
    normal: Ints  # (QUANTILES,) of a normal distribution, × 2²⁰
    weights: Ints  # what the draws of this time bin and of those before it weigh in the jitter, × 2²⁰; empty: alone
    opportunities: Ints  # delivery opportunities in ns, rising; the last one is the period; empty: none
    requests: Ints  # (packets that may wait,) when capacity was asked for, for one each; empty: not one by one
    words: Ints  # (STAGE_MEMORY,) what a custom stage is told, its memory, and the packet; empty: none
    reg: Ints  # (REGISTERS,)
