"""One end of the fabric as a process of its own: it has a port and a ZeroMQ socket, and belongs to who started it.

Its standard input is a socket of its parent's: the first message there says what to do and brings the port's
descriptor; what happens is told back on it; and when it ends, so do we. So the port may lie in any network namespace,
and the ZeroMQ socket in the one in which the process was started.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket as sockets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from zmq.utils.monitor import recv_monitor_message

from emulator.link import state
from emulator.link.compiled import compiling
from emulator.link.link import LinkOptions, delay_line
from emulator.link.state import Ints
from emulator.ports import batch, end_loop
from emulator.ports.curve import secure_client
from emulator.ports.frames import DEVICE
from emulator.ports.lateness import LATENESS_BINS
from emulator.ports.messages import (
    ASK,
    DELIVER,
    HEADER_WORDS,
    HELLO,
    LATENESS,
    REFUSE,
    ROLES,
    STATUS,
    WELCOME,
    WHO,
    Ask,
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
from emulator.ports.scheduling import (
    END_PRIORITY,
    END_REALTIME_REST_NS,
    END_REALTIME_SPIN_NS,
    REST_NS,
    SPIN_NS,
    fault_in,
    run_in_real_time,
    run_transport_in_real_time,
    sleep_exactly,
)
from emulator.ports.stamp_ring import NO_STAMPS
from emulator.ports.stamper import ring_of
from emulator.ports.turn import new_scratch
from emulator.timeline.causes import Cause
from emulator.units import NS_PER_MS, NS_PER_S

LOOK_NS = 20 * NS_PER_MS
HELLO_NS = 200 * NS_PER_MS
HISTOGRAM_NS = 200 * NS_PER_MS
SILENCE_NS = 3 * NS_PER_S
WAITING_MESSAGES = 2048  # in the socket, either way; the window bounds their bytes
HEARTBEAT_MS, HEARTBEAT_LIMIT_MS = 1000, 3000
FIRST_FAULTS = 3  # handshakes that fail before the first that does not: the keys are wrong
LARGEST_ORDER = 1 << 16
MOST_DESCRIPTORS = 4
SMALL_LINE = LinkOptions(memory_bytes=1 << 16, flight_packets=1 << 10)


class EndLoop:
    """The compiled loop with what it works on. Everything is called from one thread."""

    def __init__(self, way: int, descriptor: int, kind: int, stamps: Ints = NO_STAMPS) -> None:
        self.way, self.kind = way, kind
        self.line = delay_line(SMALL_LINE)
        self.ends, self.late = np.zeros(end_loop.END_WORDS, np.int64), np.zeros(2, np.int64)
        self.shared = np.zeros(end_loop.SHARED_WORDS, np.int64)
        self.shared[end_loop.SPIN_LONGEST], self.shared[end_loop.REST] = SPIN_NS, REST_NS
        self.port = np.array([descriptor, -1], np.int64)
        self.into, self.into_data = batch.batch_memory()
        self._out, self._out_data = batch.batch_memory()
        self._note, self._note_data = batch.batch_memory(HEADER_WORDS)
        self.lateness = np.zeros(LATENESS_BINS, np.int64)
        self._total, self._events = np.zeros(2, np.int64), np.zeros(2, np.int64)
        self._poll, self._scratch = np.zeros(4, np.int64), new_scratch(stamps)

    def run(self, socket: int) -> int:
        return int(
            end_loop.end_loop(
                self.line.state, socket, self.way, self.port, self.kind, self.ends, self.late, self.shared,
                self.into, self.into_data, self._out, self._out_data, self._note, self._note_data, self.lateness,
                self._total, self._events, self._poll, self._scratch,
            )
        )  # fmt: skip


def warm_up() -> None:
    """Compiles the loop, or takes it from the cache."""
    loop = EndLoop(0, -1, DEVICE)
    loop.shared[end_loop.STOP] = 1
    with compiling():
        loop.run(0)


class EndPart:
    """The end that `settings` describes: role, endpoint, kind, agreement, ethernet, and whose drops are counted:
    interface, or the index of a network card; for tcp:// also keys and name. given: descriptors by name, as
    `EndProcess.prepare` has them.
    """

    def __init__(self, settings: dict[str, Any], given: dict[str, int], parent: sockets.socket) -> None:
        self._settings, self._parent = settings, parent
        self._drops = drops_of(settings, given["port"], given.get("statistics", -1))
        self._way = ROLES.index(settings["role"])
        stamps = NO_STAMPS
        with contextlib.suppress(OSError):  # then arrivals are the loop's
            stamps = ring_of(given["stamps"]) if "stamps" in given else NO_STAMPS
        self._loop = EndLoop(self._way, given["port"], settings["kind"], stamps)
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._connect()
        self._loop.port[1] = self._socket.getsockopt(zmq.FD)
        self._session, self._linked, self._sessions = 0, False, 0
        self._heard_ns = self._hello_ns = self._histogram_ns = 0
        self._told_lateness = np.zeros(LATENESS_BINS, np.int64)
        self._port_drops, self._drops_before = 0, 0
        self._handshake_faults = 0
        self._closed = dict.fromkeys(("taken", "lost", "delivered", "dropped", "late"), 0)
        self._ended = self._realtime = False

    def _connect(self) -> zmq.Socket[bytes]:
        endpoint = self._settings["endpoint"]
        made = self._context.socket(zmq.DEALER)
        made.setsockopt(zmq.ROUTING_ID, b"\1" + secrets.token_bytes(15))
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.SNDHWM, WAITING_MESSAGES),
            (zmq.RCVHWM, WAITING_MESSAGES),
            (zmq.MAXMSGSIZE, batch.BATCH_WORDS * 8),
            (zmq.IMMEDIATE, 1),
            (zmq.RECONNECT_IVL, 50),
            (zmq.RECONNECT_IVL_MAX, 500),
            (zmq.HEARTBEAT_IVL, HEARTBEAT_MS),
            (zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_LIMIT_MS),
        ):
            made.setsockopt(option, value)
        if self._settings.get("keys"):
            secure_client(made, Path(self._settings["keys"]), self._settings["name"])
        faults = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        self._monitor = made.get_monitor_socket(faults | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
        made.connect(endpoint)
        return made

    # life

    def run(self) -> None:
        """Until the parent lets go, or the link refuses us."""
        sleep_exactly()
        loop = self._loop
        while not self._ended:
            loop.shared[end_loop.UNTIL] = time.monotonic_ns() + LOOK_NS
            if loop.run(self._socket.underlying) == end_loop.MESSAGE:
                self._take(loop.into_data[: loop.shared[end_loop.SIZE]].tobytes(), time.monotonic_ns())
            else:
                self._look(time.monotonic_ns())
        self._tell({"event": "end", **self.totals()})

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close()
        self._context.destroy(linger=0)

    def _tell(self, told: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._parent.send(json.dumps(told).encode(), sockets.MSG_DONTWAIT)

    def _fail(self, text: str) -> None:
        self._tell({"event": "failed", "text": text})
        self._ended = True

    def _look(self, now: int) -> None:
        self._obey()
        self._watch_handshakes()
        if self._linked and now - self._heard_ns > SILENCE_NS:
            self._linked, self._loop.ends[end_loop.E_SESSION] = False, 0
            self._tell({"event": "lost", "text": f"nothing heard from the link for {SILENCE_NS // NS_PER_S} s"})
        if not self._linked and now - self._hello_ns > HELLO_NS:
            self._hello_ns = now
            body = Hello(clock_identity(), self._settings["agreement"], self._settings["ethernet"])
            self._send(build(Header(HELLO, self._way, self._session), body))
        if self._loop.ends[end_loop.E_FAULT] == 1:
            self._loop.ends[end_loop.E_FAULT] = 2
            self._tell({"event": "fault"})
        self._port_drops = self._drops()

    def _obey(self) -> None:
        """What the parent wants."""
        with contextlib.suppress(BlockingIOError):
            while True:
                order = self._parent.recv(LARGEST_ORDER, sockets.MSG_DONTWAIT)
                if not order:
                    self._ended = True
                    return
                if json.loads(order).get("realtime") and run_in_real_time(0, END_PRIORITY):
                    shared = self._loop.shared
                    shared[end_loop.SPIN_LONGEST], shared[end_loop.REST] = END_REALTIME_SPIN_NS, END_REALTIME_REST_NS
                    run_transport_in_real_time()
                    fault_in(self._loop.line.state)
                    self._realtime = True

    def _watch_handshakes(self) -> None:
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            if self._sessions:
                continue
            who = self._settings.get("name", "")
            if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._fail(f"refused: the key of {who!r} is on no allow-list for the role packets")
            self._handshake_faults += 1
            if self._handshake_faults >= FIRST_FAULTS:
                self._fail("the handshake fails: is server.key that of the link, and does it have CURVE keys at all?")

    # the conversation

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(zmq.Again):
            self._socket.send(message, zmq.NOBLOCK)

    def _take(self, message: bytes, now: int) -> None:
        try:
            header, body = parse(message)
        except NotUnderstoodError as error:
            self._loop.ends[end_loop.E_BROKEN] += 1
            if not self._sessions:
                self._fail(f"the link speaks another format: {error}")
            return
        if header.way != self._way and header.kind in (WELCOME, REFUSE, WHO, ASK, DELIVER):
            self._loop.ends[end_loop.E_BROKEN] += 1
        elif header.kind == WELCOME and isinstance(body, Welcome):
            self._begin(header.session, body, now)
        elif header.kind == REFUSE and isinstance(body, Text):
            self._fail(body.text)
        elif header.kind == WHO:
            if self._linked:
                self._tell({"event": "lost", "text": "the link does not know us any more"})
            self._linked, self._loop.ends[end_loop.E_SESSION], self._hello_ns = False, 0, 0
            self._look(now)
        elif self._linked and header.session == self._session:
            self._heard_ns = now
            if header.kind == ASK and isinstance(body, Ask):
                self._answer(header, body, now)
            elif header.kind == DELIVER and isinstance(body, Frame) and self._loop.port[0] >= 0:
                with contextlib.suppress(OSError):
                    os.write(int(self._loop.port[0]), body.frame)

    def _begin(self, session: int, welcome: Welcome, now: int) -> None:
        """A conversation begins, or goes on where a break has interrupted it."""
        if welcome.ethernet != self._settings["ethernet"]:
            self._fail("the link's ports are of another layer")
            return
        loop, self._heard_ns = self._loop, now
        if session != self._session:
            self._close_session()
            loop.ends[:], loop.late[:], loop.lateness[:] = 0, 0, 0
            self._told_lateness[:] = 0
            self._drops_before = self._port_drops
            loop.line = delay_line(
                LinkOptions(
                    memory_bytes=welcome.memory_bytes,
                    flight_packets=welcome.flight_packets,
                    ethernet=bool(welcome.ethernet),
                )
            )
            if self._realtime:
                fault_in(loop.line.state)
        loop.shared[end_loop.QUANTUM], loop.shared[end_loop.FLUSH] = welcome.quantum_ns, welcome.flush_ns
        loop.ends[end_loop.E_SESSION] = self._session = session
        if not self._linked:
            self._linked, self._sessions = True, self._sessions + 1
            self._tell({"event": "linked", "session": session, "times": self._sessions})

    def _answer(self, header: Header, ask: Ask, now: int) -> None:
        ends, line, late = self._loop.ends, self._loop.line.state, self._loop.late
        missed = header.packets - int(ends[end_loop.E_BOARDED])  # what came before this question, in order, has come
        ends[end_loop.E_MISSED] = max(int(ends[end_loop.E_MISSED]), missed)
        ends[end_loop.E_ACKNOWLEDGED] = max(int(ends[end_loop.E_ACKNOWLEDGED]), header.acknowledged)
        received = int(ends[end_loop.E_RECEIVED_BYTES])
        told = Header(STATUS, self._way, self._session, 0, received, int(ends[end_loop.E_SENT_PACKETS]))
        status = Status(
            asked_ns=ask.asked_ns,
            received_ns=now,
            sent_ns=0,
            taken_packets=int(ends[end_loop.E_TAKEN_PACKETS]),
            taken_bytes=int(ends[end_loop.E_TAKEN_BYTES]),
            lost_packets=int(ends[end_loop.E_LOST_PACKETS]),
            lost_bytes=int(ends[end_loop.E_LOST_BYTES]),
            delivered_packets=int(line.reg[state.DELIVERED_PACKETS]),
            delivered_bytes=int(line.reg[state.DELIVERED_BYTES]),
            malformed_packets=int(line.dropped[Cause.MALFORMED]),
            memory_packets=int(line.dropped[Cause.MEMORY]),
            egress_packets=int(line.dropped[Cause.EGRESS]),
            missed_packets=int(ends[end_loop.E_MISSED]),
            late_packets=int(late[0]),
            late_worst_ns=int(late[1]),
            broken_messages=int(ends[end_loop.E_BROKEN]),
            ingress_wait_worst_ns=int(ends[end_loop.E_WAIT_WORST]),
            port_drops=max(0, self._port_drops - self._drops_before),
            fault=int(ends[end_loop.E_FAULT] != 0),
        )
        self._send_histogram(now)
        values = {**status.__dict__, "sent_ns": time.monotonic_ns()}
        self._send(build(told, Status(**values)))
        ends[end_loop.E_TOLD_BYTES] = received

    def _send_histogram(self, now: int) -> None:
        changed = np.flatnonzero(self._loop.lateness != self._told_lateness)
        if len(changed) and now - self._histogram_ns > HISTOGRAM_NS:
            self._histogram_ns = now
            bins = tuple((int(one), int(self._loop.lateness[one])) for one in changed)
            self._send(build(Header(LATENESS, self._way, self._session), Lateness(bins)))
            self._told_lateness[:] = self._loop.lateness

    # what was counted

    def _close_session(self) -> None:
        self._closed = {name: count for name, count in self.totals().items() if name in self._closed}

    def totals(self) -> dict[str, int]:
        """Since the process began, whatever became of the link meanwhile."""
        ends, line = self._loop.ends, self._loop.line.counters()
        now = {
            "taken": int(ends[end_loop.E_TAKEN_PACKETS]),
            "lost": int(ends[end_loop.E_LOST_PACKETS]),
            "delivered": line.delivered_packets,
            "dropped": line.dropped_packets + line.held_packets + int(ends[end_loop.E_MISSED]),
            "late": int(self._loop.late[0]),
        }
        return {**{name: count + self._closed[name] for name, count in now.items()}, "sessions": self._sessions}


def drops_of(settings: dict[str, Any], descriptor: int, statistics: int) -> Callable[[], int]:
    """What tells how many packets the kernel has dropped at the port before they could be read."""
    if statistics < 0:
        return lambda: 0
    if settings["kind"] == DEVICE:
        return lambda: transmit_drops(statistics, settings["interface"])
    from emulator.ports.nic import CardDrops

    port, netlink = sockets.socket(fileno=os.dup(descriptor)), sockets.socket(fileno=statistics)
    card = CardDrops(port, netlink, settings["index"])
    return lambda: card.look().transmit


def transmit_drops(statistics: int, interface: str) -> int:
    """What the kernel dropped before it could be read, from an open /proc/net/dev."""
    for line in os.pread(statistics, 1 << 16, 0).decode().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == interface:
            return int(numbers.split()[11])
    return 0


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # for the parent, whose end is ours
        signal.signal(number, signal.SIG_IGN)
    with sockets.socket(fileno=os.dup(sys.stdin.fileno())) as parent:
        order, descriptors, _, _ = sockets.recv_fds(parent, LARGEST_ORDER, MOST_DESCRIPTORS)
        if not order:
            return
        settings = json.loads(order)
        part = EndPart(settings, dict(zip(settings["given"], descriptors, strict=True)), parent)
        try:
            part.run()
        finally:
            part.close()


if __name__ == "__main__":
    main()
