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

# queue: wire packets that wait for service
Q_ARRIVAL, Q_SUPER, Q_INDEX, Q_BYTES, Q_NUMBER = range(5)
Q_COLUMNS = 8

# lanes: a queue for each class of traffic, in order of precedence; the last one takes what no rule fits
(
    LANE_HEAD, LANE_TAIL, LANE_LIMIT, LANE_LIMIT_BYTES, LANE_DISCIPLINE, LANE_BYTES, LANE_WORST, LANE_OFFERED,
    LANE_DROPPED,
    CODEL_TARGET, CODEL_INTERVAL, CODEL_FIRST_ABOVE, CODEL_DROP_NEXT, CODEL_COUNT, CODEL_LAST_COUNT, CODEL_DROPPING,
) = range(16)  # fmt: skip
LANE_COLUMNS = 16
DROP_TAIL, DROP_FRONT, CODEL = range(3)

# rules: which packets belong to which lane; −1 fits everything
RULE_LANE, RULE_PROTOCOL, RULE_DSCP, RULE_PORT_FIRST, RULE_PORT_LAST = range(5)
RULE_COLUMNS = 8

# flight: wire packets on the air, in the order in which they are due
F_DUE, F_SUPER, F_INDEX, F_BYTES = range(4)
F_COLUMNS = 4

# rows: the Timeline, in a ring of windows
ROW_START, ROW_DELAY, ROW_SLOPE, ROW_RATE, ROW_LOSS, ROW_JITTER, ROW_CN, ROW_GATE, ROW_CAUSE = range(9)
ROW_COLUMNS = 9

# overlay: timed changes, on the monotonic clock; two sides, of which one is in force
O_START, O_END, O_GATE, O_CAUSE, O_FADE, O_DELAY, O_LOSS, O_JITTER = range(8)
O_COLUMNS = 8
OVERLAY_ROWS = 256

# ledger: what became of each wire packet, where somebody asks for it; a cause of 0 stands for "on the air, due then"
L_NUMBER, L_CAUSE, L_AT = range(3)
L_COLUMNS = 4

# registers
(
    SEED, DIRECTION, OVERHEAD_BYTES, EGRESS_RATE, JITTER_BIN, EFFICIENCY_ZERO,  # constants of the link
    WRITE, SUPER_HEAD, SUPER_TAIL, QUEUED, F_HEAD, F_TAIL,  # rings
    FREE, RESIDUE, RESIDUE_RATE, LAST_DUE,  # the server and the line
    GENERATION, UTC_OFFSET, ROWS_OLDEST, ROWS_PUBLISHED, ROWS_END, ROW_CURSOR, OVERLAY_VIEW, STARVED,  # the channel
    CH_FROM, CH_UNTIL, CH_GENERATION, CH_RATE, CH_LOSS, CH_GATE, CH_CAUSE, CH_DELAY, CH_SLOPE, CH_ANCHOR, CH_JITTER,
    OFFERED_PACKETS, OFFERED_BYTES, DELIVERED_PACKETS, DELIVERED_BYTES,
    RUN_SUPER, RUN_FIRST, RUN_COUNT, RUN_DUE, RUN_BYTES,  # what `due_run` found
    WORST_QUEUE, LEDGER_TAIL,
    CHAIN_BIN, CHAIN_AT, CHAIN_STATE,
    FRAME, GRANT,
    REQUEST, REQUEST_KEPT,  # what an idle link waits for capacity, and how long it keeps it; ns
    ETHERNET, LONGEST,  # whether frames begin with an Ethernet header; the longest packet that is taken, 0 for any
) = range(55)  # fmt: skip
REGISTERS = 64

CAUSES = 32


class LinkState(NamedTuple):
    """One direction of the link. All int64 but the bytes."""

    ring: Bytes  # (bytes,) super-packets, each with its 10-byte virtio_net_hdr
    supers: Ints  # (super-packets, SUPER_COLUMNS)
    queue: Ints  # (lanes, wire packets, Q_COLUMNS)
    lanes: Ints  # (lanes, LANE_COLUMNS)
    rules: Ints  # (rules, RULE_COLUMNS)
    flight: Ints  # (wire packets, F_COLUMNS)
    rows: Ints  # (rows, ROW_COLUMNS)
    overlay: Ints  # (2, OVERLAY_ROWS, O_COLUMNS)
    efficiency: Ints  # (steps of 0.1 dB,) spectral efficiency by C/N; empty: a fade has no effect
    jitter: Ints  # (QUANTILES,)
    dropped: Ints  # (CAUSES,) wire packets
    ledger: Ints  # (events, L_COLUMNS); empty: nothing is noted
    chain: Ints  # (states, states + 1) the Markov chain of losses; no states: none
    reg: Ints  # (REGISTERS,)
