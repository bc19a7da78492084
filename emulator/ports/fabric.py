"""The link's part of the ZeroMQ fabric: both links in this process, the ends in others, on this machine or elsewhere.

    terminal's end ◀── departures ──┐                 ┌── departures ──▶ gateway's end
         port      ─── arrivals  ──▶│ uplink, downlink│◀──  arrivals ───     port

The link works out each packet's due time from its arrival stamp; a delay line at the far end holds it until then. So
the transport's own latency is part of the emulated delay, as long as it is the shorter of the two.
"""

from __future__ import annotations

import collections
import contextlib
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from emulator.errors import EmulationError, EndpointError
from emulator.link import state
from emulator.link.compiled import compiling
from emulator.link.link import Link
from emulator.ports import batch, end_part, link_loop
from emulator.ports.accounts import Account, EndCounters, joined
from emulator.ports.capture_ring import new_ring
from emulator.ports.clocks import ClockEstimate, flush_ns, lag_ns
from emulator.ports.curve import Gate, check_endpoint, offer
from emulator.ports.end_loop import MESSAGE, STOP, UNTIL, end_loop
from emulator.ports.end_process import EndProcess
from emulator.ports.interrupts import interrupts_wait
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
from emulator.ports.relay import RelayCounters, in_cache
from emulator.ports.scheduling import run_in_real_time, sleep_exactly
from emulator.ports.turn import new_scratch
from emulator.ports.zeromq import require_libzmq
from emulator.units import NS_PER_MS, NS_PER_S

SWITCH_INTERVAL_S = 0.0002  # other Python threads give way to the packets within this time
LOOK_NS = 10 * NS_PER_MS
ASK_NS, FIRST_ASK_NS, FIRST_ASKS = 50 * NS_PER_MS, 5 * NS_PER_MS, 16
SILENCE_NS = 3 * NS_PER_S
ANSWER_NS = 100 * NS_PER_MS  # how long counters wait for the ends; what they told before counts then
START_PATIENCE_S = 90.0  # an end may have to compile its loop first
DOMAIN = "packets"
LONGEST_IPC = len("ipc://") + zmq.IPC_PATH_MAX_LEN
SOCKET_NAME = "packets"  # short: the path of a socket has room for 107 bytes, unix(7)
LATE_NS = NS_PER_MS  # what comes to an end later than this is worth a warning
WAITING_MESSAGES = end_part.WAITING_MESSAGES


def is_compiled() -> bool:
    """Whether the loops are in the cache."""
    return in_cache(link_loop.link_loop) and in_cache(end_loop)


class FabricRelay:
    """Stands where `Relay` stands, with the ends elsewhere: whoever introduces himself at `endpoints` as one of them.

    ends: those that are processes of our own, prepared; without them the bench ends too. For tcp:// endpoints the
    directory `keys` holds CURVE keys and the allow-list of the role packets; doors: of `curve.open_doors`. agreement:
    of `messages.agreement_of`. tell: is told of ends that come and go, from the loop's thread.
    """

    def __init__(
        self,
        uplink: Link,
        downlink: Link,
        injection: tuple[int, int],
        *,
        endpoints: Sequence[str],
        ends: Sequence[EndProcess] = (),
        keys: Path | None = None,
        doors: Mapping[str, int] | None = None,
        agreement: int = 0,
        quantum_ns: int = 0,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        for endpoint in endpoints:
            check_endpoint(endpoint, keys)
        self.uplink, self.downlink = uplink, downlink
        self.captures = new_ring(), new_ring()
        self.endpoints: list[str] = []
        self._wanted, self._keys, self._doors = tuple(endpoints), keys, doors or {}
        self.ends, self._injection = tuple(ends), injection
        self._agreement, self._quantum_ns = agreement, quantum_ns
        self._tell = tell or (lambda _: None)
        self._peers = link_loop.Peers(
            np.zeros((2, link_loop.PEER_COLUMNS), np.int64),
            np.zeros((2, link_loop.LARGEST_IDENTITY), np.uint8),
            np.zeros(link_loop.LARGEST_IDENTITY, np.uint8),
            np.zeros(link_loop.LARGEST_IDENTITY, np.uint8),
        )
        self._memory = link_loop.Memory(*batch.batch_memory(), *batch.batch_memory())
        self._shared = np.zeros(link_loop.SHARED_WORDS, np.int64)
        self._scratch = new_scratch()
        self._sockets: list[zmq.Socket[bytes]] = []
        self._undo = contextlib.ExitStack()
        self.accounts = [Account(role, self._peers.table[role]) for role in range(2)]
        self._asked_ns, self._asks = [0, 0], [0, 0]
        self._clock = clock_identity()
        self._least_delay_ns = [int(link.planned().delay_ns.min()) for link in (uplink, downlink)]
        self._flush_ns = self._shared[link_loop.FLUSH] = flush_ns(min(self._least_delay_ns))
        self._late_told = [0, 0]
        self._outbox: collections.deque[tuple[int, bytes]] = collections.deque()
        self._asking = threading.Lock()
        self._wanted_now = False
        self._question: tuple[int, set[int]] | None = None
        self._answer: RelayCounters | None = None
        self._answered = threading.Event()
        self._connected = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="fabric", daemon=True)
        self.failure: BaseException | None = None

    # life

    def start(self) -> None:
        """Binds the endpoints, begins to carry packets, and waits for the ends that are ours. Raises EndpointError."""
        require_libzmq()
        self._warm_up()
        with interrupts_wait(), contextlib.ExitStack() as undo:
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            undo.callback(context.destroy, linger=0)
            if self._keys is not None:
                undo.enter_context(Gate(context, self._keys, {DOMAIN: ("packets",)}))
            for endpoint in self._wanted:
                self._sockets.append(self._bind(context, endpoint, undo))
            self._undo = undo.pop_all()
        handles = [socket.underlying for socket in self._sockets]
        watched = [socket.getsockopt(zmq.FD) for socket in self._sockets] + list(self._injection)
        self._handles, self._watched = np.array(handles, np.int64), np.array(watched, np.int64)
        self._events, self._poll = np.zeros(len(watched), np.int64), np.zeros(2 + len(watched), np.int64)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self.uplink.settle = self.downlink.settle = self.settle
        self._thread.start()
        for end in self.ends:
            end.begin(self.endpoints[0])
        deadline = time.monotonic() + START_PATIENCE_S
        while self.ends and not self._connected.wait(0.05):
            self._check()
            if time.monotonic() > deadline:
                raise EmulationError("the ends of the fabric do not answer")

    def _warm_up(self) -> None:
        """Compiles, or takes from the cache, what both parts call, before anybody waits for it."""
        if not in_cache(end_loop):
            end_part.warm_up()
        with compiling():
            self._shared[STOP] = 1
            none = np.zeros(0, np.int64)
            self._handles, self._watched = none, np.full(2, -1, np.int64)
            self._events, self._poll = np.zeros(2, np.int64), np.zeros(4, np.int64)
            self._loop()
            self._shared[STOP] = 0

    def _bind(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, undo: contextlib.ExitStack
    ) -> zmq.Socket[bytes]:
        socket = context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.SNDHWM, WAITING_MESSAGES),
            (zmq.RCVHWM, WAITING_MESSAGES),
            (zmq.MAXMSGSIZE, batch.BATCH_WORDS * 8),
            (zmq.ROUTER_MANDATORY, 1),
            (zmq.ROUTER_HANDOVER, 1),
            (zmq.HEARTBEAT_IVL, end_part.HEARTBEAT_MS),
            (zmq.HEARTBEAT_TIMEOUT, end_part.HEARTBEAT_LIMIT_MS),
        ):
            socket.setsockopt(option, value)
        how: Any = {"what": "fabric's socket", "keys": self._keys, "domain": DOMAIN, "doors": self._doors, "undo": undo}
        try:
            self.endpoints.append(offer(socket, endpoint, **how))
        except EndpointError as error:
            if endpoint.startswith("ipc://") and len(endpoint) > LONGEST_IPC:
                raise EndpointError(f"{error}; set BENTPIPE_RUNTIME_DIR to another, shorter directory") from error
            raise
        return socket

    def stop(self) -> None:
        """Ends the loop, and the ends that are ours."""
        self._stopping = True
        self._shared[STOP] = 1
        if self._thread.ident is not None:
            self._thread.join()
        for end in self.ends:
            end.stop()
        self._undo.close()

    @property
    def native_id(self) -> int | None:
        return self._thread.native_id

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def take_priority(self) -> bool:
        """Real-time priority for the loop and for the ends that are ours; False if that is refused."""
        for end in self.ends:
            end.order(realtime=True)
        return run_in_real_time(self.native_id or 0)

    def settle(self) -> None:
        """Returns when the loop has finished the turn that it is in."""
        turn, pause = int(self._shared[link_loop.TURNS]), threading.Event()
        while self.running and int(self._shared[link_loop.TURNS]) <= turn + 1:
            pause.wait(0.0005)

    def deliver(self, role: int, frame: bytes) -> None:
        """Has the end that has this role write a frame to its port as it is. Raises EmulationError if it is not there.

        role: 0 terminal, 1 gateway.
        """
        self._check()
        if not self.accounts[role].connected:
            raise EmulationError(f"the {ROLES[role]}'s end is not connected")
        self._outbox.append((role, frame))
        self._shared[link_loop.ASKED] = 1

    # the loop

    def _run(self) -> None:
        sleep_exactly()
        try:
            while not self._shared[STOP]:
                self._shared[UNTIL] = time.monotonic_ns() + LOOK_NS
                if self._loop() == MESSAGE:
                    shared = self._shared
                    identity = self._peers.sender[: shared[link_loop.IDENTITY_BYTES]].tobytes()
                    message = self._memory.into_data[: shared[link_loop.SIZE]].tobytes()
                    self._take(int(shared[link_loop.FROM]), identity, message, time.monotonic_ns())
                else:
                    self._shared[link_loop.ASKED] = 0
                    self._look(time.monotonic_ns())
        except BaseException as error:  # noqa: BLE001 (to whoever asks next)
            self.failure = error
            self._answered.set()

    def _loop(self) -> int:
        return int(
            link_loop.link_loop(
                self.uplink.state, self.downlink.state, *self.captures, self._handles, self._watched, self._peers,
                self._memory, self._shared, self._events, self._poll, self._scratch,
            )
        )  # fmt: skip

    def _send(self, socket: int, identity: bytes, message: bytes) -> None:
        with contextlib.suppress(zmq.ZMQError):  # no room, or nobody there: he will ask again, or not
            self._sockets[socket].send_multipart([identity, message], zmq.NOBLOCK)

    def _send_to(self, role: int, kind: int, body: Body) -> None:
        row = self._peers.table[role]
        identity = self._peers.identities[role, : row[link_loop.P_IDENTITY_BYTES]].tobytes()
        header = Header(
            kind,
            role,
            int(row[link_loop.P_SESSION]),
            acknowledged=int(row[link_loop.P_RECEIVED_BYTES]),
            packets=int(row[link_loop.P_SENT_PACKETS]),
        )
        try:
            self._sockets[row[link_loop.P_SOCKET]].send_multipart([identity, build(header, body)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                row[link_loop.P_GONE] = 1

    def _take(self, socket: int, identity: bytes, message: bytes, now: int) -> None:
        """A message that is no batch of a conversation."""
        try:
            header, body = parse(message)
        except NotUnderstoodError as error:
            self._shared[link_loop.BROKEN] += 1
            if len(message) >= 8 and int.from_bytes(message[:4], "little") == MARK:  # another version: it shall be told
                self._send(socket, identity, build(Header(REFUSE, 0), Text(str(error))))
            return
        role = header.way
        row, account = self._peers.table[role], self.accounts[role]
        mine = (
            account.connected
            and row[link_loop.P_SOCKET] == socket
            and self._peers.identities[role, : row[link_loop.P_IDENTITY_BYTES]].tobytes() == identity
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
        row, account, link = self._peers.table[role], self.accounts[role], (self.downlink, self.uplink)[role]
        refused = ""
        if hello.agreement not in (0, self._agreement):
            refused = "the link's scenario has other ports: kind, MTU and networks must be the same at all parts"
        if bool(hello.ethernet) != link.options.ethernet:
            refused = "the link's scenario has another kind of ports"
        if refused:
            self._send(socket, identity, build(Header(REFUSE, role), Text(refused)))
            return
        if not mine:
            if account.connected:
                self._send_to(role, REFUSE, Text(f"another {ROLES[role]} has taken this one's place"))
                self._close(role, "another one has taken its place")
            row[: link_loop.SESSION_COLUMNS] = 0
            row[link_loop.P_SOCKET], row[link_loop.P_IDENTITY_BYTES] = socket, len(identity)
            self._peers.identities[role, : len(identity)] = np.frombuffer(identity, np.uint8)
            row[link_loop.P_HEARD] = time.monotonic_ns()
            account.begin(ClockEstimate(shared=hello.clock == self._clock))
            self._asks[role] = self._asked_ns[role] = 0
            self._keep_time(role, time.monotonic_ns())
            row[link_loop.P_SESSION] = 1 + secrets.randbits(61)
            if account.connections > 1 or not self.ends:
                self._tell(f"the {ROLES[role]}'s end is here{' again' if account.connections > 1 else ''}")
        options = link.options
        welcome = Welcome(
            options.memory_bytes, options.flight_packets, int(options.ethernet), self._quantum_ns, self._flush_ns
        )
        self._send_to(role, WELCOME, welcome)

    def _heard(self, role: int, status: Status) -> None:
        if status.fault and self.ends:
            raise EmulationError(f"the bench lost its {INTERFACES[role]}'s interface: was it removed from outside?")
        account = self.accounts[role]
        if all(one.status.asked_ns for one in self.accounts):
            self._connected.set()
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
                self._reply()

    def _close(self, role: int, why: str) -> None:
        self.accounts[role].end()
        self._peers.table[role, : link_loop.SESSION_COLUMNS] = 0
        if not self._stopping:
            self._tell(f"the {ROLES[role]}'s end has gone: {why}")

    def _look(self, now: int) -> None:
        for role, account in enumerate(self.accounts):
            row = self._peers.table[role]
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
                self._reply()
        elif self._question is not None and now - self._question[0] > ANSWER_NS:
            self._reply()
        for end in self.ends:
            end.check()

    def _keep_time(self, role: int, now: int) -> None:
        """Tells the loop how far the clock of an end is from ours."""
        clock, row = self.accounts[role].clock, self._peers.table[role]
        row[link_loop.P_OFFSET], row[link_loop.P_KNOWN] = clock.offset_ns(now), clock.known
        self._shared[link_loop.LAG_UP + role] = lag_ns(self._least_delay_ns[role], 2 * clock.error_ns)

    def _ask(self, role: int) -> None:
        self._asked_ns[role] = time.monotonic_ns()
        self._asks[role] += 1
        self._send_to(role, ASK, Ask(self._asked_ns[role]))

    # questions

    def _check(self) -> None:
        if isinstance(self.failure, EmulationError):
            raise EmulationError(str(self.failure)) from self.failure
        if self.failure is not None:
            raise EmulationError(f"the packet loop failed: {self.failure}") from self.failure

    def counters(self) -> RelayCounters:
        """A snapshot that adds up; what is between the parts counts as held. Raises EmulationError if one failed."""
        with self._asking:
            self._check()
            if not self.running:
                return self._sums()
            answer = self._asked()
            self._check()
            return answer or self._sums()

    def _asked(self) -> RelayCounters | None:
        """What the loop answers, when the ends have told it; None if it has ended."""
        self._answered.clear()
        self._answer = None
        self._wanted_now = True
        self._shared[link_loop.ASKED] = 1
        while self.running and not self._answered.wait(0.2):
            pass
        return self._answer

    def counters_known(self) -> tuple[EndCounters, ...]:
        """What is known of the ends, without asking them."""
        return tuple(account.counters(time.monotonic_ns()) for account in self.accounts)

    def _reply(self) -> None:
        self._answer, self._question = self._sums(), None
        self._answered.set()

    def _sums(self) -> RelayCounters:
        terminal, gateway = self.accounts
        sums = [account.sums() for account in self.accounts]
        links = self.uplink, self.downlink
        return RelayCounters(
            uplink=joined(self.uplink.counters(), terminal, gateway),
            downlink=joined(self.downlink.counters(), gateway, terminal),
            lateness_us=terminal.lateness_us + gateway.lateness_us,
            ingress_wait_worst_ns=max(one.wait_worst_ns for one in sums),
            turns=int(self._shared[link_loop.TURNS]),
            starved=sum(int(link.state.reg[state.STARVED]) for link in links),
            broken_batches=int(self._shared[link_loop.BROKEN]) + sum(one.broken for one in sums),
            ends=self.counters_known(),
        )


INTERFACES = ("terminal", "datacenter")
