"""The compiled loop between two kernel ports and the two links: read, offer, write what is due, wait; no GIL.

    port 0 (terminal)  ── uplink ──▶  port 1 (datacenter)
                       ◀─ downlink ─
    ports 2 and 3: injected packets, into the uplink and the downlink

A thread that sleeps wakes some 10 to 100 µs late: the loop sleeps to shortly before the next due time, as shortly as
its sleeps so far allow, and spins the rest, with short rests (`scheduling`) where it would spin for long.
The work of one turn is bounded, so that neither direction, nor the other threads under real-time priority, starve.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emulator.errors import EmulationError
from emulator.link import state
from emulator.link.compiled import compiled, compiled_apart, compiling
from emulator.link.link import DirectionCounters, Link, direction_counters
from emulator.link.path import next_event
from emulator.link.state import (
    LANE_COLUMNS,
    Ints,
    LinkState,
)
from emulator.ports.capture_ring import CaptureRing, new_ring
from emulator.ports.frames import DEVICE, FAULTS, PACKET
from emulator.ports.lateness import LATENESS_BINS
from emulator.ports.scheduling import (
    REALTIME_REST_NS,
    REALTIME_SPIN_NS,
    REST_NS,
    SPIN_NS,
    fault_in,
    run_in_real_time,
    sleep_exactly,
)
from emulator.ports.stamp_ring import NO_STAMPS
from emulator.ports.syscalls import (
    EMPTY_AT,
    GUESSED,
    LOOKED,
    POLLERR,
    POLLIN,
    monotonic_ns,
    require_compiled,
    wait_readable,
)
from emulator.ports.turn import (
    WAKE_EARLY_NS,
    WRITES_PER_TURN,
    Scratch,
    give_out,
    looked_at,
    new_scratch,
    rest_ns,
    take_in,
    wake_early,
)
from emulator.timeline.model import Channel

if TYPE_CHECKING:
    from emulator.ports.accounts import EndCounters

CHASE_NS = 30_000  # some 25 packets at 10 Gbit/s
LONGEST_WAIT_NS = 5_000_000  # so that requests of the Python side are answered
PATIENCE_S = 5.0  # a turn takes microseconds, and much less than this on the busiest machine
JOIN_S = 0.1
LOOK_S = 0.0005  # how often the Python side looks for an answer

STOP, TURN, ASKED, ANSWERED, FAULT, INGRESS_WAIT_WORST, QUANTUM, SPIN_LONGEST, REST, KIND_0, KIND_1 = range(11)
SHARED_WORDS = 16


@dataclass(frozen=True)
class RelayCounters:
    """A snapshot, taken between two turns of the loop, so that it adds up.

    lateness_us: (LATENESS_BINS,) packets by how many µs after their due time they were written, last bin: or more.
    ingress_wait_worst_ns: the longest that a packet can have waited in the kernel before its arrival was stamped, where
    that was the loop's to do, and not done by the kernel.
    starved: how often the Timeline had ended before the planner went on. broken_batches: between the processes of the
    ZeroMQ fabric, messages that were not understood. ends: what the fabric knows of its two ends; none without it.
    """

    uplink: DirectionCounters
    downlink: DirectionCounters
    lateness_us: Ints
    ingress_wait_worst_ns: int
    turns: int
    starved: int
    broken_batches: int = 0
    ends: tuple[EndCounters, ...] = ()


@compiled_apart
def answer(up: LinkState, down: LinkState, lateness: Ints, shared: Ints, answers: Ints) -> None:
    """Copies the counters for the Python side, between two turns, where they add up."""
    if shared[ASKED] == shared[ANSWERED]:
        return
    size = len(up.reg)
    for index in range(size):
        answers[0, index] = up.reg[index]
        answers[1, index] = down.reg[index]
    for index in range(len(up.dropped)):
        answers[0, size + index] = up.dropped[index]
        answers[1, size + index] = down.dropped[index]
    at = size + len(up.dropped)
    for lane in range(len(up.lanes)):
        for column in range(LANE_COLUMNS):
            answers[0, at + lane * LANE_COLUMNS + column] = up.lanes[lane, column]
    for lane in range(len(down.lanes)):
        for column in range(LANE_COLUMNS):
            answers[1, at + lane * LANE_COLUMNS + column] = down.lanes[lane, column]
    for index in range(len(lateness)):
        answers[2, index] = lateness[index]
    shared[ANSWERED] = shared[ASKED]


@compiled
def relay(
    up: LinkState,
    down: LinkState,
    capture_up: CaptureRing,
    capture_down: CaptureRing,
    ports: Ints,
    shared: Ints,
    lateness: Ints,
    answers: Ints,
    scratch: Scratch,
) -> None:
    """The loop, until shared[STOP] is set. ports: (4,) file descriptors, −1 for none; a port that fails sets FAULT."""
    clock, events, empty_since, reading = scratch.clock, scratch.events, scratch.empty_since, scratch.reading
    empty_since[:] = monotonic_ns(clock)
    rested, early = monotonic_ns(clock), WAKE_EARLY_NS
    while shared[STOP] == 0:
        written = give_out(up, ports[1], shared[QUANTUM], CHASE_NS, lateness, scratch)
        written = max(written, give_out(down, ports[0], shared[QUANTUM], CHASE_NS, lateness, scratch))
        answer(up, down, lateness, shared, answers)
        shared[TURN] += 1
        now = monotonic_ns(clock)
        free = min(next_event(up), next_event(down)) - now
        wait = min(free - early, LONGEST_WAIT_NS)
        sleeps = wait > 0 and written < WRITES_PER_TURN
        if not sleeps:
            wait = rest_ns(now - rested - early, free, shared[SPIN_LONGEST], shared[REST])  # who wakes early spins
        ready = wait_readable(ports, events, wait, scratch.poll)
        woken = reading[LOOKED] = monotonic_ns(clock)
        if wait > 0:
            rested = woken
        if sleeps and woken - now >= wait:  # whether or not something has come meanwhile
            early = wake_early(early, woken - now - wait)
        if ready == 0:
            empty_since[:] = now + wait
        if ready <= 0:
            continue
        # A sleep that was not longer than asked for ended with an arrival; of one more than twice as long, nobody knows
        # when in it the packet came.
        came = woken if woken - now > 2 * wait else max(now, woken - wait)
        for port in range(4):
            taken, kind = 0, shared[KIND_0 + port] if port < 2 else DEVICE
            if events[port] & POLLIN or (kind == PACKET and events[port] & POLLERR):
                link, capture = (up, capture_up) if port % 2 == 0 else (down, capture_down)
                taken = take_in(link, capture, ports[port], kind, port, scratch)
                if reading[GUESSED]:
                    shared[INGRESS_WAIT_WORST] = max(shared[INGRESS_WAIT_WORST], came - empty_since[port])
                if reading[EMPTY_AT]:
                    empty_since[port] = reading[EMPTY_AT]
            else:
                empty_since[port] = looked_at(now, woken)
            if taken == 0 and events[port] & FAULTS[kind]:
                shared[FAULT] |= 1 << port
                ports[port] = -1


def looks(every_s: float) -> range:
    """Looks `every_s` apart, until patience is at an end. They are counted: a process that was stopped for a while, and
    its loop with it, goes on where it was.
    """
    return range(round(PATIENCE_S / every_s))


def came_back(thread: threading.Thread, *, patient: bool) -> bool:
    """Whether a loop's thread ends; patient: it is given time."""
    for _ in looks(JOIN_S) if patient else range(1):
        thread.join(JOIN_S)
        if not thread.is_alive():
            return True
    return False


def lost_loop(*links: Link) -> EmulationError:
    """What there is to say of a loop over `links` that does not come back."""
    stages = sorted({link.options.stage.name for link in links if link.options.stage is not None})
    why = f": {' or '.join(stages)}, the stage, may never return" if stages else ""
    return EmulationError(f"the packet loop has not come back for {PATIENCE_S:g} s{why}")


def in_cache(function: object) -> bool:
    """Whether a compiled function is in the cache, in the version of these sources."""
    path = getattr(getattr(function, "_cache", None), "cache_path", None)
    name = getattr(function, "__name__", "")
    return path is not None and any(Path(path).glob(f"*.{name}-*.nbi"))


def is_compiled() -> bool:
    """Whether the loop is in the cache; if not, `warm_up` takes some 15 s, once for each place of the sources."""
    return in_cache(relay)


def warm_up() -> None:
    """Compiles the loop, or takes it from the cache, so that starting one takes no time."""
    links = [Link(Channel.constant(0, delay_ns=0), 1, seed=0, direction=number) for number in range(2)]
    loop = Relay(links[0], links[1], -1, -1, (-1, -1))
    with compiling():
        loop.run_once()


class Relay:
    """Runs the compiled loop between two descriptors (virtio_net_hdr) and two links in a thread of its own.

    injection: two descriptors from which injected packets are read, for the uplink and the downlink. kinds: of the two
    ports, DEVICE or PACKET (`frames`); stamps: their rings (`stamp_ring`).
    """

    def __init__(
        self,
        uplink: Link,
        downlink: Link,
        terminal: int,
        datacenter: int,
        injection: tuple[int, int],
        *,
        kinds: tuple[int, int] = (DEVICE, DEVICE),
        stamps: tuple[Ints, Ints] = (NO_STAMPS, NO_STAMPS),
        quantum_ns: int = 0,
    ) -> None:
        self.uplink, self.downlink = uplink, downlink
        self._ports = np.array([terminal, datacenter, *injection], np.int64)
        self._shared = np.zeros(SHARED_WORDS, np.int64)
        self._lanes = len(uplink.state.lanes), len(downlink.state.lanes)
        answer_words = state.REGISTERS + state.CAUSES + LANE_COLUMNS * max(self._lanes)
        self._answers = np.zeros((3, max(LATENESS_BINS, answer_words)), np.int64)
        self._lateness = np.zeros(LATENESS_BINS, np.int64)
        self._scratch = new_scratch(*stamps)
        self.captures = new_ring(), new_ring()
        self._shared[QUANTUM] = quantum_ns
        self._shared[KIND_0], self._shared[KIND_1] = kinds
        self._shared[SPIN_LONGEST], self._shared[REST] = SPIN_NS, REST_NS
        self._asking = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Compiles the loop, or takes it from the cache, and starts it. Raises EmulationError if interpreted."""
        require_compiled()
        with compiling():
            self.run_once()
        self._shared[STOP] = 0
        self._thread.start()
        self.uplink.settle = self.downlink.settle = self.settle

    def run_once(self) -> None:
        """Calls the loop and has it return at once: what is left of that is the compiled code."""
        self._shared[STOP] = 1
        self._loop()

    def _loop(self) -> None:
        relay(
            self.uplink.state,
            self.downlink.state,
            *self.captures,
            self._ports,
            self._shared,
            self._lateness,
            self._answers,
            self._scratch,
        )

    def take_priority(self) -> bool:
        """Real-time priority for the loop; False if that is refused."""
        fault_in((*self.uplink.state, *self.downlink.state))
        if not run_in_real_time(self.native_id or 0):
            return False
        self._shared[SPIN_LONGEST], self._shared[REST] = REALTIME_SPIN_NS, REALTIME_REST_NS
        return True

    def _run(self) -> None:
        sleep_exactly()
        try:
            self._loop()
        except BaseException as error:  # noqa: BLE001 (shown to whoever asks next)
            self.failure = error

    @property
    def native_id(self) -> int | None:
        """The loop's thread, as the kernel knows it."""
        return self._thread.native_id

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ends the loop and waits for it. Raises EmulationError if it does not come back: then it is left to itself."""
        self._shared[STOP] = 1
        if self._thread.ident is not None and not came_back(self._thread, patient=self.failure is None):
            self._ports[:] = -1  # should it ever
            self.failure = self.failure or lost_loop(self.uplink, self.downlink)
            self._check()

    def undisturbed(self) -> contextlib.AbstractContextManager[None]:
        """As that of the fabric's: this loop does without Python at all times."""
        return contextlib.nullcontext()

    def settle(self) -> None:
        """Returns when the loop has finished the turn that it is in. Raises EmulationError if it does not come back."""
        self._check()
        turn = int(self._shared[TURN])
        self._wait_until(lambda: int(self._shared[TURN]) > turn + 1)

    def _wait_until(self, answered: Callable[[], bool]) -> None:
        """Waits for the loop's answer, or for its end. Raises EmulationError if neither comes."""
        pause = threading.Event()
        for _ in looks(LOOK_S):
            if answered() or not self.running:
                return
            pause.wait(LOOK_S)
        self.failure = self.failure or lost_loop(self.uplink, self.downlink)
        self._check()

    def counters(self) -> RelayCounters:
        """A snapshot that adds up. Raises EmulationError if the loop has failed, or does not answer."""
        with self._asking:
            self._check()
            self._shared[ASKED] += 1
            self._wait_until(lambda: bool(self._shared[ANSWERED] == self._shared[ASKED]))
            if not self.running:  # stopped: nobody changes the arrays any more
                answer(self.uplink.state, self.downlink.state, self._lateness, self._shared, self._answers)
            self._check()
            return RelayCounters(
                uplink=direction_counters(*self._split(0)),
                downlink=direction_counters(*self._split(1)),
                lateness_us=self._answers[2, :LATENESS_BINS].copy(),
                ingress_wait_worst_ns=int(self._shared[INGRESS_WAIT_WORST]),
                turns=int(self._shared[TURN]),
                starved=int(self._answers[0, state.STARVED] + self._answers[1, state.STARVED]),
            )

    def _split(self, number: int) -> tuple[Ints, Ints, Ints]:
        """Copies of the registers, the drop counts and the lanes of a link."""
        row, lanes = self._answers[number], self._lanes[number]
        dropped_at, lanes_at = state.REGISTERS, state.REGISTERS + state.CAUSES
        return (
            row[:dropped_at].copy(),
            row[dropped_at:lanes_at].copy(),
            row[lanes_at : lanes_at + lanes * LANE_COLUMNS].copy().reshape(lanes, LANE_COLUMNS),
        )

    def _check(self) -> None:
        if isinstance(self.failure, EmulationError):
            raise EmulationError(str(self.failure)) from self.failure
        if self.failure is not None:
            raise EmulationError(f"the packet loop failed: {self.failure}") from self.failure
        if failed := int(self._shared[FAULT]):
            names = ("terminal's interface", "datacenter's interface", "uplink injection", "downlink injection")
            gone = ", ".join(name for bit, name in enumerate(names) if failed >> bit & 1)
            raise EmulationError(f"the bench lost its {gone}: was it removed from outside?")
