"""The link's conversation with its two ends: who they are, how their clocks stand, what they have counted."""

from __future__ import annotations

import collections
import contextlib
import secrets
import threading
import time
from collections.abc import Callable

import numpy as np
import zmq

from emulator.errors import EmulationError
from emulator.link.link import Link
from emulator.link.state import Ints
from emulator.ports import link_loop
from emulator.ports.accounts import Account
from emulator.ports.clocks import ClockEstimate, flush_ns, lag_ns
from emulator.ports.link_loop import Peers
from emulator.ports.messages import (
    ASK,
    DELIVER,
    HELLO,
    MARK,
    REFUSE,
    ROLES,
    WELCOME,
    WHO,
    Ask,
    Body,
    Frame,
    Header,
    Hello,
    Lateness,
    NotUnderstoodError,
    Status,
    Text,
    Welcome,
    build,
    clock_identity,
    parse,
)
from emulator.units import NS_PER_MS, NS_PER_S

ASK_NS, FIRST_ASK_NS, FIRST_ASKS = 50 * NS_PER_MS, 5 * NS_PER_MS, 16
SILENCE_NS = 3 * NS_PER_S
ANSWER_NS = 100 * NS_PER_MS  # how long counters wait for the ends; what they told before counts then
LATE_NS = NS_PER_MS  # what comes to an end later than this is worth a warning
IP_HERE, FRAMES_HERE = "IP packets (ports.kind tun)", "Ethernet frames (ports.kind tap or nic)"
OTHER_LAYER = {  # by whether the link carries Ethernet
    True: f"the link carries {FRAMES_HERE}, this end {IP_HERE}: both must be of one layer",
    False: f"the link carries {IP_HERE}, this end {FRAMES_HERE}: both must be of one layer",
}
INTERFACES = ("terminal", "datacenter")


class Ends:
    """Everything but batches goes through here, from the loop's thread alone, unless it says otherwise.

    into: the links that lead to the terminal and to the gateway. shared: the compiled loop's words. ours: the ends are
    processes of this bench, which cannot do without them. tell: is told of ends that come and go, and of late packets.
    answered: is called when each end has told what it counted since `want_answer`, or took too long for it.
    """

    def __init__(
        self,
        into: tuple[Link, Link],
        shared: Ints,
        *,
        ours: bool,
        agreement: int,
        quantum_ns: int,
        tell: Callable[[str], None],
        answered: Callable[[], None],
    ) -> None:
        self._into, self._shared, self._ours = into, shared, ours
        self._agreement, self._quantum_ns = agreement, quantum_ns
        self._tell, self._answered = tell, answered
        self.sockets: list[zmq.Socket[bytes]] = []
        self.peers = Peers(
            np.zeros((2, link_loop.PEER_COLUMNS), np.int64),
            np.zeros((2, link_loop.LARGEST_IDENTITY), np.uint8),
            np.zeros(link_loop.LARGEST_IDENTITY, np.uint8),
            np.zeros(link_loop.LARGEST_IDENTITY, np.uint8),
        )
        self.accounts = [Account(role, self.peers.table[role]) for role in range(2)]
        self.connected = threading.Event()  # both ends, and the time of each is known
        self.stopping = False
        self._asked_ns, self._asks = [0, 0], [0, 0]
        self._clock = clock_identity()
        self._least_delay_ns = [int(link.planned().delay_ns.min()) for link in reversed(into)]
        self._flush_ns = shared[link_loop.FLUSH] = flush_ns(min(self._least_delay_ns))
        self._late_told = [0, 0]
        self._outbox: collections.deque[tuple[int, bytes]] = collections.deque()
        self._wanted_now = False
        self._question: tuple[int, set[int]] | None = None

    def deliver(self, role: int, frame: bytes) -> None:
        """From any thread: has the end write a frame to its port as it is. Raises EmulationError if it is not there."""
        if not self.accounts[role].connected:
            raise EmulationError(f"the {ROLES[role]}'s end is not connected")
        self._outbox.append((role, frame))
        self._shared[link_loop.ASKED] = 1

    def want_answer(self) -> None:
        """From any thread: asks both ends for what they have counted."""
        self._wanted_now = True
        self._shared[link_loop.ASKED] = 1

    def _answer(self) -> None:
        self._question = None
        self._answered()

    def _send(self, socket: int, identity: bytes, message: bytes) -> None:
        with contextlib.suppress(zmq.ZMQError):  # no room, or nobody there: he will ask again, or not
            self.sockets[socket].send_multipart([identity, message], zmq.NOBLOCK)

    def _send_to(self, role: int, kind: int, body: Body) -> None:
        row = self.peers.table[role]
        identity = self.peers.identities[role, : row[link_loop.P_IDENTITY_BYTES]].tobytes()
        header = Header(
            kind,
            role,
            int(row[link_loop.P_SESSION]),
            acknowledged=int(row[link_loop.P_RECEIVED_BYTES]),
            packets=int(row[link_loop.P_SENT_PACKETS]),
        )
        try:
            self.sockets[row[link_loop.P_SOCKET]].send_multipart([identity, build(header, body)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                row[link_loop.P_GONE] = 1

    def take(self, socket: int, identity: bytes, message: bytes, now: int) -> None:
        """A message that is no batch of a conversation."""
        try:
            header, body = parse(message)
        except NotUnderstoodError as error:
            self._shared[link_loop.BROKEN] += 1
            if len(message) >= 8 and int.from_bytes(message[:4], "little") == MARK:  # another version: it shall be told
                self._send(socket, identity, build(Header(REFUSE, 0), Text(str(error))))
            return
        role = header.way
        row, account = self.peers.table[role], self.accounts[role]
        mine = (
            account.connected
            and row[link_loop.P_SOCKET] == socket
            and self.peers.identities[role, : row[link_loop.P_IDENTITY_BYTES]].tobytes() == identity
        )
        if header.kind == HELLO and isinstance(body, Hello):
            self._welcome(role, socket, identity, body, mine=mine)
        elif not mine or header.session != row[link_loop.P_SESSION]:
            self._shared[link_loop.BROKEN] += 0 if header.session else 1
            self._send(socket, identity, build(Header(WHO, role)))
        elif isinstance(body, Status):
            row[link_loop.P_HEARD] = now
            missed = header.packets - int(row[link_loop.P_RECEIVED_PACKETS])
            row[link_loop.P_MISSED] = max(int(row[link_loop.P_MISSED]), missed)
            row[link_loop.P_ACKNOWLEDGED] = max(int(row[link_loop.P_ACKNOWLEDGED]), header.acknowledged)
            account.status = body
            account.clock.add(body.asked_ns, body.received_ns, body.sent_ns, now)
            self._keep_time(role, now)
            self._heard(role, body)
        elif isinstance(body, Lateness):
            account.note_lateness(body.bins)
        else:
            self._shared[link_loop.BROKEN] += 1

    def _welcome(self, role: int, socket: int, identity: bytes, hello: Hello, *, mine: bool) -> None:
        row, account, link = self.peers.table[role], self.accounts[role], self._into[role]
        refused = ""
        if hello.agreement not in (0, self._agreement):
            refused = "the link's scenario has other ports: MTU and networks must be the same at all parts"
        if bool(hello.ethernet) != link.options.ethernet:
            refused = OTHER_LAYER[link.options.ethernet]
        if refused:
            self._send(socket, identity, build(Header(REFUSE, role), Text(refused)))
            return
        if not mine:
            if account.connected:
                self._send_to(role, REFUSE, Text(f"another {ROLES[role]} has taken this one's place"))
                self._close(role, "another one has taken its place")
            row[: link_loop.SESSION_COLUMNS] = 0
            row[link_loop.P_SOCKET], row[link_loop.P_IDENTITY_BYTES] = socket, len(identity)
            self.peers.identities[role, : len(identity)] = np.frombuffer(identity, np.uint8)
            row[link_loop.P_HEARD] = time.monotonic_ns()
            account.begin(ClockEstimate(shared=hello.clock == self._clock))
            self._asks[role] = self._asked_ns[role] = 0
            self._keep_time(role, time.monotonic_ns())
            row[link_loop.P_SESSION] = 1 + secrets.randbits(61)
            if account.connections > 1 or not self._ours:
                self._tell(f"the {ROLES[role]}'s end is here{' again' if account.connections > 1 else ''}")
        options = link.options
        welcome = Welcome(
            options.memory_bytes, options.flight_packets, int(options.ethernet), self._quantum_ns, self._flush_ns
        )
        self._send_to(role, WELCOME, welcome)

    def _heard(self, role: int, status: Status) -> None:
        if status.fault and self._ours:
            raise EmulationError(f"the bench lost its {INTERFACES[role]}'s interface: was it removed from outside?")
        account = self.accounts[role]
        if all(one.status.asked_ns for one in self.accounts):
            self.connected.set()
        late = account.sums().late
        if status.late_worst_ns > LATE_NS and late > max(2 * self._late_told[role], self._late_told[role] + 100):
            self._late_told[role] = late
            self._tell(
                f"the transport to the {ROLES[role]}'s end takes longer than the link's delay: {late} packets came "
                f"up to {status.late_worst_ns / NS_PER_MS:.1f} ms after they were due"
            )
        if self._question is not None and status.asked_ns >= self._question[0]:
            self._question[1].discard(role)
            if not self._question[1]:
                self._answer()

    def _close(self, role: int, why: str) -> None:
        self.accounts[role].end()
        self.peers.table[role, : link_loop.SESSION_COLUMNS] = 0
        if not self.stopping:
            self._tell(f"the {ROLES[role]}'s end has gone: {why}")

    def look(self, now: int) -> None:
        for role, account in enumerate(self.accounts):
            row = self.peers.table[role]
            if not account.connected:
                continue
            if row[link_loop.P_GONE] or now - row[link_loop.P_HEARD] > SILENCE_NS:
                silent = f"nothing was heard of it for {SILENCE_NS // NS_PER_S} s"
                self._close(role, "its connection is closed" if row[link_loop.P_GONE] else silent)
                continue
            self._keep_time(role, now)
            interval_ns = FIRST_ASK_NS if self._asks[role] < FIRST_ASKS else ASK_NS
            if now - self._asked_ns[role] >= interval_ns:
                self._ask(role)
        while self._outbox:
            role, frame = self._outbox.popleft()
            self._send_to(role, DELIVER, Frame(frame))
        if self._wanted_now:
            self._wanted_now = False
            self._question = time.monotonic_ns(), {role for role in range(2) if self.accounts[role].connected}
            for role in sorted(self._question[1]):
                self._ask(role)
            if not self._question[1]:
                self._answer()
        elif self._question is not None and now - self._question[0] > ANSWER_NS:
            self._answer()

    def _keep_time(self, role: int, now: int) -> None:
        """Tells the loop how far the clock of an end is from ours."""
        clock, row = self.accounts[role].clock, self.peers.table[role]
        row[link_loop.P_OFFSET], row[link_loop.P_KNOWN] = clock.offset_ns(now), clock.known
        self._shared[link_loop.LAG_UP + role] = lag_ns(self._least_delay_ns[role], 2 * clock.error_ns)

    def _ask(self, role: int) -> None:
        self._asked_ns[role] = time.monotonic_ns()
        self._asks[role] += 1
        self._send_to(role, ASK, Ask(self._asked_ns[role]))
