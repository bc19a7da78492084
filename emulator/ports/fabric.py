"""The ZeroMQ fabric: the same link in a process of its own, the packets carried to it and back in batches.

    ports ─ arrivals, stamped ─▶ link process ─ departures, with due times ─▶ delay line ─▶ ports

The link works out each packet's due time from its arrival stamp; the delay line at the far end holds it until then. So
the transport's own latency is part of the emulated delay, as long as it is the shorter of the two.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgpack
import numpy as np
import zmq

from emulator.child import child_command
from emulator.errors import EmulationError, EndpointError
from emulator.link import state
from emulator.link.compiled import compiling
from emulator.link.link import DirectionCounters, direction_counters
from emulator.link.path import next_event
from emulator.ports import batch
from emulator.ports.frames import DEVICE, FAULTS
from emulator.ports.mirror import MirroredLink
from emulator.ports.relay import LONGEST_WAIT_NS, WAKE_EARLY_NS, RelayCounters, in_cache
from emulator.ports.scheduling import run_in_real_time, sleep_exactly
from emulator.ports.syscalls import EMPTY_SINCE, POLLERR, POLLIN, PORT_KIND, require_compiled, wait_readable
from emulator.ports.turn import LATENESS_BINS, READS_PER_TURN, WRITES_PER_TURN, give_out, new_scratch
from emulator.timeline.causes import Cause
from emulator.units import NS_PER_MS, NS_PER_US

Result = TypeVar("Result")

HIGH_WATER_BATCHES = 256  # of at most 1 MiB: what may wait in one direction before packets are dropped, and counted
CONTROL_PATIENCE_MS = 60_000  # the link process may have to compile the packet path first
SWITCH_INTERVAL_S = 0.0002  # other Python threads give way to the packets within this time
LAG_NS = 500 * NS_PER_US  # the link works this far behind the clock, so that what is still on its way to it is in time
SOCKETS = ("in-up", "in-down", "out-up", "out-down")  # short: the path of a socket has room for 107 bytes, unix(7)
CONTROL_SOCKET = "link"
PATIENCE_MS = 200  # between two looks at whether the link process lives


def is_compiled() -> bool:
    """Whether both processes will find the packet path in the cache."""
    return all(in_cache(function) for function in (batch.collect, batch.board, batch.offer_batch, batch.pack))


class FabricRelay:
    """Stands where `Relay` stands, with the link in a second process; `directory` holds the ipc:// sockets."""

    def __init__(
        self,
        uplink: MirroredLink,
        downlink: MirroredLink,
        terminal: int,
        datacenter: int,
        injection: tuple[int, int],
        *,
        directory: Path,
        kinds: tuple[int, int] = (DEVICE, DEVICE),
        quantum_ns: int = 0,
    ) -> None:
        self._lines = (uplink, downlink)
        self._entries = ((terminal, injection[0]), (datacenter, injection[1]))  # by direction: port, injector
        self._exits = (datacenter, terminal)
        self._kinds = (kinds[0], DEVICE, kinds[1], DEVICE)  # of the entries, in the order in which they are watched
        self._names = ("terminal's interface", "datacenter's interface", "uplink injection", "downlink injection")
        self._directory, self._quantum_ns = directory, quantum_ns
        self._lateness = np.zeros(LATENESS_BINS, np.int64)
        self._taken = np.zeros((2, 2), np.int64)  # by direction: wire packets and bytes read at the port
        self._lost = np.zeros((2, 2), np.int64)  # and of these, what the transport had no room for
        self._empty_since = np.zeros(4, np.int64)  # by port, as in `Scratch`
        self._slept_ns = self._wait_worst_ns = 0
        self._turns = 0
        self._broken_batches = 0
        self._turn = threading.Lock()
        self._asking = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="fabric", daemon=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._sockets: list[zmq.Socket[bytes]] = []
        self.failure: BaseException | None = None

    # life

    def start(self) -> None:
        """Starts the link process, hands it the channel, and begins to carry packets."""
        require_compiled()
        with compiling():
            self._warm_up()
        self._context = zmq.Context()
        for kind, name in zip((zmq.PUSH, zmq.PUSH, zmq.PULL, zmq.PULL), SOCKETS, strict=True):
            self._sockets.append(self._socket(kind, name))
        self._control = self._socket(zmq.REQ, CONTROL_SOCKET)
        self._control.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        self._control.setsockopt(zmq.SNDTIMEO, PATIENCE_MS)
        self._control.setsockopt(zmq.REQ_RELAXED, 1)  # a question that was interrupted must not bar the next one,
        self._control.setsockopt(zmq.REQ_CORRELATE, 1)  # nor its answer be taken for the next one's
        self._process = subprocess.Popen(
            child_command("emulator.ports.link_process", self._directory), stdin=subprocess.PIPE
        )
        for line in self._lines:
            line.connect(self._tell)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._thread.start()

    def _socket(self, kind: int, name: str) -> zmq.Socket[bytes]:
        assert self._context is not None
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER_BATCHES)
        socket.setsockopt(zmq.RCVHWM, HIGH_WATER_BATCHES)
        try:
            socket.bind(f"ipc://{self._directory / name}")
        except zmq.ZMQError as error:
            socket.close()
            raise EndpointError(
                f"{self._directory / name}: {error.strerror}; set BENTPIPE_RUNTIME_DIR to another, shorter directory"
            ) from error
        return socket

    def _warm_up(self) -> None:
        """Compiles, or takes from the cache, what the loop calls; the link process then finds it in the cache."""
        scratch, (words, data) = new_scratch(), batch.batch_memory()
        total, entry = np.zeros(2, np.int64), scratch.entry
        batch.begin(words, batch.ARRIVALS, 0, 0)
        batch.collect(-1, words, data, batch.HEADER_WORDS, 1, scratch.reading)
        batch.count_wire(words, data, entry, total, 0)
        batch.board(self._lines[0].state, *batch.as_batch(bytes(8)), 0)
        give_out(self._lines[0].state, -1, 0, self._lateness, scratch)
        next_event(self._lines[0].state)

    def stop(self) -> None:
        """Ends the loop and the link process."""
        self._stopping = True
        if self._thread.ident is not None:
            self._thread.join()
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()  # its end is the link process's end
            try:
                self._process.wait(2.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._context is not None:
            self._context.destroy(linger=0)

    @property
    def native_id(self) -> int | None:
        return self._thread.native_id

    def take_priority(self) -> bool:
        """Real-time priority for the loop; False if that is refused."""
        return run_in_real_time(self.native_id or 0)

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    # the loop

    def _run(self) -> None:
        sleep_exactly()
        try:
            self._carry()
        except BaseException as error:  # noqa: BLE001 (to whoever asks next)
            self.failure = error

    def _carry(self) -> None:
        scratch, memory = new_scratch(), batch.batch_memory()
        entries = [descriptor for direction in self._entries for descriptor in direction]
        watched = np.array([*entries, *(socket.getsockopt(zmq.FD) for socket in self._sockets[2:])], np.int64)
        events, poll = np.zeros(len(watched), np.int64), np.zeros(2 + len(watched), np.int64)
        sequences = [0, 0]
        self._empty_since[:] = time.monotonic_ns()
        while not self._stopping:
            with self._turn:
                busy = False
                for direction in range(2):
                    busy |= self._take_in(direction, events, sequences, memory, scratch)
                for direction in range(2):
                    busy |= self._take_back(direction)
                    written = give_out(
                        self._lines[direction].state, self._exits[direction], self._quantum_ns, self._lateness, scratch
                    )
                    busy |= written == WRITES_PER_TURN
                self._turns += 1
            due, now = min(next_event(line.state) for line in self._lines), time.monotonic_ns()
            wait = 0 if busy else max(0, min(due - now - WAKE_EARLY_NS, LONGEST_WAIT_NS))
            ready, woken = wait_readable(watched, events, wait, poll), time.monotonic_ns()
            if ready >= 0:
                self._empty_since[(events[:4] & (POLLIN | POLLERR)) == 0] = woken if ready else now + wait
            self._slept_ns = min(woken - now, wait) if woken - now <= 2 * wait else 0  # as in the relay
            for index in range(4):
                if events[index] & FAULTS[self._kinds[index]] and not events[index] & POLLIN:
                    self._miss(index)

    def _take_in(self, direction: int, events: Any, sequences: list[int], memory: Any, scratch: Any) -> bool:
        """Reads what waits at a direction's port and injector, and sends it to the link."""
        if not (events[2 * direction] | events[2 * direction + 1]) & (POLLIN | POLLERR):
            return False
        words, data = memory
        batch.begin(words, batch.ARRIVALS, direction, sequences[direction])
        used = batch.HEADER_WORDS
        for index, descriptor in enumerate(self._entries[direction], 2 * direction):
            read_ns, records, kind = time.monotonic_ns(), int(words[batch.H_RECORDS]), self._kinds[index]
            if events[index] & POLLIN and kind == DEVICE:  # a sleep not longer than asked for ended with an arrival
                waited_ns = read_ns - self._slept_ns - int(self._empty_since[index])
                self._wait_worst_ns = max(self._wait_worst_ns, waited_ns)
            scratch.reading[PORT_KIND], scratch.reading[EMPTY_SINCE] = kind, self._empty_since[index]
            before, used = used, batch.collect(descriptor, words, data, used, READS_PER_TURN, scratch.reading)
            if words[batch.H_RECORDS] - records < READS_PER_TURN:
                self._empty_since[index] = read_ns
            if used == before and events[index] & FAULTS[kind]:
                self._miss(index)
        if words[batch.H_RECORDS] == 0:
            return False
        total = np.zeros(2, np.int64)
        batch.count_wire(words, data, scratch.entry, total, int(self._lines[direction].options.ethernet))
        self._taken[direction] += total
        try:
            self._sockets[direction].send(data[: used * 8].tobytes(), zmq.NOBLOCK)
            sequences[direction] += 1
        except zmq.Again:
            self._lost[direction] += total
        return True

    def _miss(self, index: int) -> NoReturn:
        """Entry `index` has gone: a port or an injector of a direction."""
        name = self._names[(0, 2, 1, 3)[index]]
        raise EmulationError(f"the bench lost its {name}: was it removed from outside?")

    def _take_back(self, direction: int) -> bool:
        """Takes what has crossed the link on board the delay line."""
        socket, line = self._sockets[2 + direction], self._lines[direction].state
        for _ in range(4):
            try:
                message = socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return False
            if not batch.board(line, *batch.as_batch(message), direction):
                self._broken_batches += 1
        return True

    # questions

    def _tell(self, message: dict[str, Any]) -> Any:
        """A request to the link process and its answer. Raises EmulationError if it is gone or refuses."""
        with self._asking:
            self._check()
            packed = msgpack.packb(message)
            self._patiently(lambda: self._control.send(packed))
            answer = msgpack.unpackb(self._patiently(self._control.recv))
        if "error" in answer:
            raise EmulationError(f"the link process refused {message['verb']}: {answer['error']}")
        return answer

    def _patiently(self, step: Callable[[], Result]) -> Result:
        """What `step` gives, for as long as the link process lives; until it has connected, even sending must wait."""
        for _ in range(CONTROL_PATIENCE_MS // PATIENCE_MS):
            try:
                return step()
            except zmq.Again:
                self._check()
            except zmq.ZMQError as error:
                raise EmulationError(f"the link process cannot be reached: {error}") from error
        raise EmulationError("the link process does not answer")

    def _check(self) -> None:
        if self.failure is not None:
            raise EmulationError(f"the packet loop failed: {self.failure}") from self.failure
        if self._process is not None and (status := self._process.poll()) is not None and not self._stopping:
            raise EmulationError(f"the link process has ended with status {status}")

    def counters(self) -> RelayCounters:
        """A snapshot; what is between the processes counts as held. Raises EmulationError if either end has failed."""
        with self._turn:
            ends = [line.counters() for line in self._lines]
        answer = self._tell({"verb": "counters"})
        with self._turn:
            taken, lost = self._taken.copy(), self._lost.copy()
        sums = []
        for direction, end in enumerate(ends):
            registers = np.frombuffer(answer["registers"][direction], np.int64)
            lanes = np.frombuffer(answer["lanes"][direction], np.int64).reshape(-1, state.LANE_COLUMNS)
            middle = direction_counters(registers, np.frombuffer(answer["dropped"][direction], np.int64), lanes)
            sums.append(joined(end, middle, taken[direction], lost[direction]))
        return RelayCounters(
            uplink=sums[0],
            downlink=sums[1],
            lateness_us=self._lateness.copy(),
            ingress_wait_worst_ns=self._wait_worst_ns,
            turns=self._turns,
            starved=int(answer["starved"]),
            broken_batches=self._broken_batches + int(answer["broken_batches"]),
        )


def joined(end: DirectionCounters, middle: DirectionCounters, taken: Any, lost: Any) -> DirectionCounters:
    """One direction's counters from its three parts: the entry port, the link, and the delay line at the exit.

    `end` was read first, `middle` then, `taken` last, so that what is on its way between two parts is never negative.
    """
    dropped = dict(middle.dropped)
    for cause, count in (*end.dropped.items(), (Cause.TRANSPORT, int(lost[0]))):
        if count:
            dropped[cause] = dropped.get(cause, 0) + count
    to_link = int(taken[0]) - int(lost[0]) - middle.offered_packets
    to_end = middle.delivered_packets - end.offered_packets
    return replace(
        middle,
        offered_packets=int(taken[0]),
        offered_bytes=int(taken[1]),
        delivered_packets=end.delivered_packets,
        delivered_bytes=end.delivered_bytes,
        flying_packets=to_link + middle.flying_packets + to_end + end.flying_packets,
        dropped=dropped,
    )


def lag_ns(delay_ns: int) -> int:
    """How far behind the clock the link may work without its packets coming late."""
    return max(0, min(LAG_NS, (delay_ns - NS_PER_MS) // 2))
