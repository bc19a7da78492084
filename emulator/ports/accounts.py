"""What the link knows of each end of the fabric, added up over all its conversations, so that the sums always hold.

    offered = read at one end's port = dropped on the way to the link + offered to it + still on the way
    handed on = delivered at the other end + dropped there, or on the way there + still on the way or waiting there

An end that dies takes with it what it held: that is dropped with cause TRANSPORT. So is what it had delivered since it
last told: at most what it carries between two questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from emulator.link.link import DirectionCounters
from emulator.link.state import Ints
from emulator.ports.clocks import ClockEstimate, ClockState
from emulator.ports.lateness import LATENESS_BINS
from emulator.ports.link_loop import (
    P_MISSED,
    P_RECEIVED_PACKETS,
    P_SENT_PACKETS,
    P_SESSION,
    P_UNDELIVERED,
)
from emulator.ports.messages import ROLES, Status
from emulator.timeline.causes import Cause

NOTHING = Status(0, 0, 0)


@dataclass(frozen=True)
class EndCounters:
    """An end, as the link knows it. role: terminal or gateway. connections: how often it has come.

    lost_packets: for want of room or of a link; died_packets: with an end, or on a connection, that went away; all of
    these are dropped with cause TRANSPORT. late_packets: came to the end after they were due, as the transport took
    longer than the link's delay; late_worst_ns: the worst of that.
    """

    role: str
    connected: bool
    connections: int
    clock: ClockState
    lost_packets: int
    died_packets: int
    late_packets: int
    late_worst_ns: int
    broken_messages: int


@dataclass
class Sums:
    """Over the conversations that are over."""

    lost: int = 0
    lost_bytes: int = 0
    delivered: int = 0
    delivered_bytes: int = 0
    malformed: int = 0
    memory: int = 0
    egress: int = 0
    missed_in: int = 0
    missed_out: int = 0
    died_in: int = 0
    died_out: int = 0
    late: int = 0
    late_worst_ns: int = 0
    broken: int = 0
    port_drops: int = 0
    wait_worst_ns: int = 0


class Account:
    """Of the end that has one of the roles. row: of `Peers.table`, which the compiled loop counts in."""

    def __init__(self, role: int, row: Ints) -> None:
        self.role, self.row = role, row
        self.clock = ClockEstimate()
        self.status = NOTHING
        self.connections = 0
        self._before = Sums()
        self._lateness_before = np.zeros(LATENESS_BINS, np.int64)
        self._lateness = np.zeros(LATENESS_BINS, np.int64)

    @property
    def connected(self) -> bool:
        return bool(self.row[P_SESSION])

    @property
    def on_its_way_in(self) -> int:
        """Wire packets that the end has read, and that have not come to the link."""
        status, row = self.status, self.row
        if not self.connected:
            return 0
        return max(0, status.taken_packets - status.lost_packets - int(row[P_RECEIVED_PACKETS] + row[P_MISSED]))

    @property
    def on_its_way_out(self) -> int:
        """Wire packets that the link has handed on, and whose end it does not know."""
        status = self.status
        if not self.connected:
            return 0
        over = status.delivered_packets + status.malformed_packets + status.memory_packets + status.egress_packets
        return max(0, int(self.row[P_SENT_PACKETS]) - over - status.missed_packets)

    def begin(self, clock: ClockEstimate) -> None:
        """A conversation begins; the loop's row has been made ready."""
        self.connections += 1
        self.clock, self.status = clock, NOTHING

    def note_lateness(self, bins: Sequence[tuple[int, int]]) -> None:
        for place, packets in bins:
            if 0 <= place < LATENESS_BINS and packets >= 0:
                self._lateness[place] = packets

    def end(self) -> None:
        """It is over: what was on its way is lost. To be called before the loop's row is cleared."""
        self._before = self.sums(over=True)
        self._lateness_before += self._lateness
        self._lateness[:] = 0
        self.status = NOTHING

    def sums(self, *, over: bool = False) -> Sums:
        """Of all conversations; over: as if the present one were over."""
        status, before, row = self.status, self._before, self.row
        gone_in, gone_out = (self.on_its_way_in, self.on_its_way_out) if over else (0, 0)
        return Sums(
            lost=before.lost + status.lost_packets,
            lost_bytes=before.lost_bytes + status.lost_bytes,
            delivered=before.delivered + status.delivered_packets,
            delivered_bytes=before.delivered_bytes + status.delivered_bytes,
            malformed=before.malformed + status.malformed_packets,
            memory=before.memory + status.memory_packets,
            egress=before.egress + status.egress_packets,
            missed_in=before.missed_in + (int(row[P_MISSED]) if self.connected else 0),
            missed_out=before.missed_out + status.missed_packets,
            died_in=before.died_in + gone_in,
            died_out=before.died_out + gone_out,
            late=before.late + status.late_packets,
            late_worst_ns=max(before.late_worst_ns, status.late_worst_ns),
            broken=before.broken + status.broken_messages,
            port_drops=before.port_drops + status.port_drops,
            wait_worst_ns=max(before.wait_worst_ns, status.ingress_wait_worst_ns),
        )

    @property
    def lateness_us(self) -> Ints:
        return self._lateness_before + self._lateness

    def counters(self, now_ns: int) -> EndCounters:
        sums = self.sums()
        return EndCounters(
            role=ROLES[self.role],
            connected=self.connected,
            connections=self.connections,
            clock=self.clock.state(now_ns),
            lost_packets=sums.lost,
            died_packets=sums.missed_in + sums.missed_out + sums.died_in + sums.died_out + int(self.row[P_UNDELIVERED]),
            late_packets=sums.late,
            late_worst_ns=sums.late_worst_ns,
            broken_messages=sums.broken,
        )


def joined(link: DirectionCounters, entry: Account, leaving: Account) -> DirectionCounters:
    """One direction's counters from its three parts: the end where it begins, the link, and the end where it leaves."""
    near, far = entry.sums(), leaving.sums()
    before_link = near.lost + near.missed_in + near.died_in
    behind_link = far.missed_out + far.died_out + int(leaving.row[P_UNDELIVERED])
    dropped = dict(link.dropped)
    for cause, count in (
        (Cause.MALFORMED, far.malformed),
        (Cause.MEMORY, far.memory),
        (Cause.EGRESS, far.egress),
        (Cause.TRANSPORT, before_link + behind_link),
    ):
        if count:
            dropped[cause] = dropped.get(cause, 0) + count
    return replace(
        link,
        offered_packets=link.offered_packets + before_link + entry.on_its_way_in,
        offered_bytes=link.offered_bytes + near.lost_bytes,
        delivered_packets=far.delivered,
        delivered_bytes=far.delivered_bytes,
        flying_packets=entry.on_its_way_in + link.flying_packets + leaving.on_its_way_out,
        dropped=dropped,
    )
