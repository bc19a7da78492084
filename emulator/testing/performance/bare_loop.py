"""The loop with no stage: what remains when nothing is emulated but a fixed delay. A baseline, not a part of the path.

Super-packets stay whole, are not looked at, and leave a fixed time after they came. Every byte is copied by the same
four system calls' worth of kernel code as in the packet path: what is slower than this is the emulation's own cost, and
what is slower in this than in kernel forwarding is the price of doing it in a process at all.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import numpy as np

from emulator.bench.sides import Addresses, Side, plan_addresses, side_environment
from emulator.link.compiled import compiled_apart
from emulator.link.state import Bytes, Ints
from emulator.link.store import LARGEST_SUPER
from emulator.ports.lateness import LATENESS_BINS
from emulator.ports.namespace import Namespace
from emulator.ports.relay import LONGEST_WAIT_NS
from emulator.ports.scheduling import (
    REALTIME_REST_NS,
    REALTIME_SPIN_NS,
    REST_NS,
    SPIN_NS,
    run_in_real_time,
    sleep_exactly,
)
from emulator.ports.syscalls import monotonic_ns, read_into, wait_readable, write_two
from emulator.ports.tun import TunPort
from emulator.ports.turn import READS_PER_TURN, WAKE_EARLY_NS, WRITES_PER_TURN
from emulator.scenario.model import Scenario

NEVER = 1 << 62
DUE, OFFSET, LENGTH = range(3)
STOP, DELAY, SPIN_LONGEST, REST, LOST = range(5)
HEAD, TAIL, WRITE = range(3)


@compiled_apart
def take(descriptor: int, ring: Bytes, table: Ints, place: Ints, shared: Ints, clock: Ints) -> int:
    """Reads what waits into the ring, at most READS_PER_TURN; what finds no room is lost and counted."""
    for count in range(READS_PER_TURN):
        if place[HEAD] == place[TAIL]:
            place[WRITE] = 0  # empty: start again where the cache is warm
        at = place[WRITE] if place[WRITE] + LARGEST_SUPER <= len(ring) else 0
        length = read_into(descriptor, ring, at, LARGEST_SUPER)
        if length <= 0:
            return count
        if place[HEAD] < place[TAIL]:
            oldest = table[place[HEAD] % len(table), OFFSET]
            behind = at < place[WRITE] or at <= oldest
            if place[TAIL] - place[HEAD] == len(table) or (behind and at + LARGEST_SUPER > oldest):
                shared[LOST] += 1
                continue
        row = table[place[TAIL] % len(table)]
        row[DUE], row[OFFSET], row[LENGTH] = monotonic_ns(clock) + shared[DELAY], at, length
        place[TAIL] += 1
        place[WRITE] = at + (length + 63) // 64 * 64
    return READS_PER_TURN


@compiled_apart
def give(
    descriptor: int, ring: Bytes, table: Ints, place: Ints, lateness: Ints, clock: Ints, head: Bytes, vector: Ints
) -> int:
    """Writes what is due, at most WRITES_PER_TURN."""
    for count in range(WRITES_PER_TURN):
        if place[HEAD] == place[TAIL]:
            return count
        row = table[place[HEAD] % len(table)]
        late = monotonic_ns(clock) - row[DUE]
        if late < 0:
            return count
        lateness[min(LATENESS_BINS - 1, late // 1000)] += 1
        write_two(descriptor, head, 0, ring, row[OFFSET], row[LENGTH], vector)
        place[HEAD] += 1
    return WRITES_PER_TURN


@compiled_apart
def carry(
    ports: Ints,
    rings: tuple[Bytes, Bytes],
    tables: tuple[Ints, Ints],
    places: tuple[Ints, Ints],
    shared: Ints,
    lateness: Ints,
    scratch: tuple[Ints, Ints, Ints, Bytes, Ints],
) -> None:
    """The loop, until shared[STOP] is set; ports: (2,) descriptors, each the entry of one direction."""
    clock, events, poll, head, vector = scratch
    rested = monotonic_ns(clock)
    while shared[STOP] == 0:
        written = give(ports[1], rings[0], tables[0], places[0], lateness, clock, head, vector)
        written = max(written, give(ports[0], rings[1], tables[1], places[1], lateness, clock, head, vector))
        now = monotonic_ns(clock)
        due = NEVER
        if places[0][HEAD] < places[0][TAIL]:
            due = tables[0][places[0][HEAD] % len(tables[0]), DUE]
        if places[1][HEAD] < places[1][TAIL]:
            due = min(due, tables[1][places[1][HEAD] % len(tables[1]), DUE])
        wait = due - now - WAKE_EARLY_NS
        if wait <= 0 or written == WRITES_PER_TURN:
            wait = shared[REST] if now - rested > shared[SPIN_LONGEST] else 0
        if wait > 0:
            rested = now
        if wait_readable(ports, events, min(wait, LONGEST_WAIT_NS), poll) > 0:
            if events[0]:
                take(ports[0], rings[0], tables[0], places[0], shared, clock)
            if events[1]:
                take(ports[1], rings[1], tables[1], places[1], shared, clock)


class BareLoop:
    """A context: two sides as those of a bench, and between them the loop with no stage.

    ring_bytes, table_packets: room for what is under way, per direction. Raises the errors of a bench's start.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        delay_ns: int,
        realtime: bool = False,
        ring_bytes: int = 1 << 26,
        table_packets: int = 1 << 16,
    ) -> None:
        self._scenario, self._realtime = scenario, realtime
        self.lateness_us = np.zeros(LATENESS_BINS, np.int64)
        self._shared = np.array(
            [0, delay_ns, REALTIME_SPIN_NS if realtime else SPIN_NS, REALTIME_REST_NS if realtime else REST_NS, 0],
            np.int64,
        )
        self._rings = (np.zeros(ring_bytes, np.uint8), np.zeros(ring_bytes, np.uint8))
        self._tables = (np.zeros((table_packets, 3), np.int64), np.zeros((table_packets, 3), np.int64))
        self._places = (np.zeros(3, np.int64), np.zeros(3, np.int64))
        self._opened: list[Side | TunPort | Namespace] = []
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    @property
    def lost(self) -> int:
        """Super-packets that found no room."""
        return int(self._shared[LOST])

    def __enter__(self) -> Self:
        try:
            self.terminal, self.datacenter = self._open()
            self._shared[STOP] = 1
            self._loop(np.array([-1, -1], np.int64))  # compiled before the first packet comes
            self._shared[STOP] = 0
            self._thread.start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _open(self) -> tuple[Side, Side]:
        ports = self._scenario.ports
        addresses = plan_addresses(ports, 0, ipv6=False)
        environment = side_environment(addresses, "")
        return self._side("terminal", addresses, environment), self._side("datacenter", addresses, environment)

    def _side(self, name: str, addresses: Addresses, environment: Mapping[str, str]) -> Side:
        namespace = Namespace.create()
        self._opened.append(namespace)
        ports = self._scenario.ports
        device = TunPort(
            namespace, ports.terminal_interface, mtu=ports.mtu, queue_packets=ports.tx_queue_packets, stamped=False
        )
        self._opened.append(device)
        address = addresses.terminal4 if name == "terminal" else addresses.datacenter4
        device.add_address(address, default_route=True)
        side = Side(name, namespace, device, str(address.ip), "", environment, own_namespace=True)
        self._opened.append(side)
        return side

    def _run(self) -> None:
        sleep_exactly()
        if self._realtime:
            run_in_real_time(0)
        self._loop(np.array([self.terminal.port.descriptor, self.datacenter.port.descriptor], np.int64))

    def _loop(self, ports: Ints) -> None:
        scratch = (
            np.zeros(2, np.int64),
            np.zeros(2, np.int64),
            np.zeros(4, np.int64),
            np.zeros(16, np.uint8),
            np.zeros(4, np.int64),
        )
        carry(ports, self._rings, self._tables, self._places, self._shared, self.lateness_us, scratch)

    def _close(self) -> None:
        for opened in self._opened:
            if isinstance(opened, Side):
                opened.close()
        self._shared[STOP] = 1
        if self._thread.ident is not None:
            self._thread.join()
        for opened in reversed(self._opened):
            if isinstance(opened, (TunPort, Namespace)):
                opened.close()
        self._opened.clear()
