"""The link's part of the ZeroMQ fabric: both links in this process, the ends in others, on this machine or elsewhere.

    terminal's end ◀── departures ──┐                 ┌── departures ──▶ gateway's end
         port      ─── arrivals  ──▶│ uplink, downlink│◀──  arrivals ───     port

The link works out each packet's due time from its arrival stamp; a delay line at the far end holds it until then. So
the transport's own latency is part of the emulated delay, as long as it is the shorter of the two.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from emulator.errors import EmulationError, EndpointError
from emulator.link import state
from emulator.link.compiled import compiling
from emulator.link.link import Link
from emulator.link.state import Ints
from emulator.ports import batch, end_part, link_loop
from emulator.ports.accounts import EndCounters, joined
from emulator.ports.capture_ring import new_ring
from emulator.ports.curve import Gate, check_endpoint, offer
from emulator.ports.end_loop import MESSAGE, STOP, UNTIL, end_loop
from emulator.ports.end_process import EndProcess
from emulator.ports.ends import Ends
from emulator.ports.interrupts import interrupts_wait
from emulator.ports.relay import LOOK_S, RelayCounters, came_back, in_cache, looks, lost_loop
from emulator.ports.scheduling import (
    IO_THREAD,
    fault_in,
    run_in_real_time,
    run_transport_in_real_time,
    sleep_exactly,
)
from emulator.ports.turn import new_scratch
from emulator.ports.zeromq import require_libzmq
from emulator.units import NS_PER_MS

SWITCH_INTERVAL_S = 0.0002  # other Python threads give way to the packets within this time
LOOK_NS = 10 * NS_PER_MS
LONGEST_SILENCE_NS = 500 * NS_PER_MS  # less than what an end takes for a dead link
ANSWER_S = 0.2
SETTLE_S = 0.002  # for what the ends have been asked already, and answer
START_PATIENCE_S = 90.0  # an end may have to compile its loop first
DOMAIN = "packets"
LONGEST_IPC = len("ipc://") + zmq.IPC_PATH_MAX_LEN
SOCKET_NAME = "packets"  # short: the path of a socket has room for 107 bytes, unix(7)
WAITING_MESSAGES = end_part.WAITING_MESSAGES
NUMBERS = itertools.count(1)  # of the fabrics in this process: their threads are known by it


def is_compiled() -> bool:
    """Whether the loops are in the cache."""
    return in_cache(link_loop.link_loop) and in_cache(end_loop)


class _Pulse:
    """Whether the loop still takes turns, looked at every ANSWER_S."""

    def __init__(self, shared: Ints) -> None:
        self._shared, self._turn, self._idle = shared, -1, 0

    def has_stopped(self) -> bool:
        before, self._turn = self._turn, int(self._shared[link_loop.TURNS])
        self._idle = self._idle + 1 if self._turn == before else 0
        return self._idle >= len(looks(ANSWER_S))


class FabricRelay:
    """Stands where `Relay` stands, with the ends elsewhere: whoever introduces himself at `endpoints` as one of them.

    ends: those that are processes of our own, prepared; the bench cannot do without one of them. For tcp:// endpoints
    the directory `keys` holds CURVE keys and the allow-list of the role packets; doors: of `curve.open_doors`.
    agreement: of `messages.agreement_of`. tell: is told of ends that come and go, from the loop's thread.
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
        self._number = next(NUMBERS)
        self._memory = link_loop.Memory(*batch.batch_memory(), *batch.batch_memory())
        self._shared = np.zeros(link_loop.SHARED_WORDS, np.int64)
        self._scratch = new_scratch()
        self._undo = contextlib.ExitStack()
        self._conversation = Ends(
            (downlink, uplink),
            self._shared,
            ours=bool(ends),
            agreement=agreement,
            quantum_ns=quantum_ns,
            tell=tell or (lambda _: None),
            answered=self._note_answer,
        )
        self.accounts = self._conversation.accounts
        self._asking = threading.Lock()
        self._answer: RelayCounters | None = None
        self._answered = threading.Event()
        self._undisturbed_until_ns = 0
        self._thread = threading.Thread(target=self._run, name="fabric", daemon=True)
        self.failure: BaseException | None = None

    # life

    def start(self) -> None:
        """Binds the endpoints, begins to carry packets, and waits for the ends that are ours. Raises EndpointError."""
        require_libzmq()
        self._warm_up()
        with interrupts_wait(), contextlib.ExitStack() as undo:
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            context.set(zmq.THREAD_NAME_PREFIX, self._number)
            undo.callback(context.destroy, linger=0)
            if self._keys is not None:
                undo.enter_context(Gate(context, self._keys, {DOMAIN: ("packets",)}))
            for endpoint in self._wanted:
                self._conversation.sockets.append(self._bind(context, endpoint, undo))
            self._undo = undo.pop_all()
        sockets = self._conversation.sockets
        handles = [socket.underlying for socket in sockets]
        watched = [socket.getsockopt(zmq.FD) for socket in sockets] + list(self._injection)
        self._handles, self._watched = np.array(handles, np.int64), np.array(watched, np.int64)
        self._events, self._poll = np.zeros(len(watched), np.int64), np.zeros(2 + len(watched), np.int64)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self.uplink.settle = self.downlink.settle = self.settle
        self._thread.start()
        for end in self.ends:
            end.begin(self.endpoints[0])
        deadline, pulse = time.monotonic() + START_PATIENCE_S, _Pulse(self._shared)
        while self.ends and not self._conversation.connected.wait(ANSWER_S):
            self._check()
            if pulse.has_stopped():
                self._lose()
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
        """Ends the loop, and the ends that are ours. Raises EmulationError if the loop does not come back."""
        self._conversation.stopping = True
        self._shared[STOP] = 1
        there = self._thread.ident is None or came_back(self._thread, patient=self.failure is None)
        for end in self.ends:
            end.stop()
        if not there:  # the sockets are in its hands
            self._lose()
        self._undo.close()

    @property
    def native_id(self) -> int | None:
        return self._thread.native_id

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def take_priority(self) -> bool:
        """Real-time priority for the loop, its transport and the ends that are ours; False if that is refused."""
        for end in self.ends:
            end.order(realtime=True)
        fault_in((*self.uplink.state, *self.downlink.state))
        run_transport_in_real_time(f"{self._number}/{IO_THREAD}")
        return run_in_real_time(self.native_id or 0)

    def settle(self) -> None:
        """Returns when the loop has finished the turn that it is in. Raises EmulationError if it does not come back."""
        self._check()
        turn, pause = int(self._shared[link_loop.TURNS]), threading.Event()
        for _ in looks(LOOK_S):
            if not self.running or int(self._shared[link_loop.TURNS]) > turn + 1:
                return
            pause.wait(LOOK_S)
        self._lose()

    def _lose(self) -> None:
        """The loop does not come back. Raises EmulationError."""
        self.failure = self.failure or lost_loop(self.uplink, self.downlink)
        self._check()

    def deliver(self, role: int, frame: bytes) -> None:
        """Has the end that has this role write a frame to its port as it is. Raises EmulationError if it is not there.

        role: 0 terminal, 1 gateway.
        """
        self._check()
        self._conversation.deliver(role, frame)

    # the loop

    def _run(self) -> None:
        sleep_exactly()
        try:
            while not self._shared[STOP]:
                self._shared[UNTIL] = max(time.monotonic_ns() + LOOK_NS, self._undisturbed_until_ns)
                if self._loop() == MESSAGE:
                    shared = self._shared
                    identity = self._conversation.peers.sender[: shared[link_loop.IDENTITY_BYTES]].tobytes()
                    message = self._memory.into_data[: shared[link_loop.SIZE]].tobytes()
                    self._conversation.take(int(shared[link_loop.FROM]), identity, message, time.monotonic_ns())
                else:
                    self._shared[link_loop.ASKED] = 0
                    self._conversation.look(time.monotonic_ns())
                    for end in self.ends:
                        end.check()
        except BaseException as error:  # noqa: BLE001 (to whoever asks next)
            self.failure = error
            self._answered.set()

    def _loop(self) -> int:
        return int(
            link_loop.link_loop(
                self.uplink.state, self.downlink.state, *self.captures, self._handles, self._watched,
                self._conversation.peers, self._memory, self._shared, self._events, self._poll, self._scratch,
            )
        )  # fmt: skip

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """For what holds Python's lock for long, as starting a program does: meanwhile the loop does without Python.

        It takes care of its conversation with the ends again afterwards, or after LONGEST_SILENCE_NS. Returns once the
        loop has had the time to begin.
        """
        self._undisturbed_until_ns = self._shared[UNTIL] = time.monotonic_ns() + LONGEST_SILENCE_NS
        time.sleep(SETTLE_S)
        try:
            yield
        finally:
            self._undisturbed_until_ns = self._shared[UNTIL] = 0

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
        self._conversation.want_answer()
        pulse = _Pulse(self._shared)
        while self.running and not self._answered.wait(ANSWER_S):
            if pulse.has_stopped():
                self._lose()
        return self._answer

    def counters_known(self) -> tuple[EndCounters, ...]:
        """What is known of the ends, without asking them."""
        return tuple(account.counters(time.monotonic_ns()) for account in self.accounts)

    def _note_answer(self) -> None:
        self._answer = self._sums()
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
