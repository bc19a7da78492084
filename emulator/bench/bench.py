"""`Bench`: assembles ports, links, terminal and clock; starts them in order, and takes all of it down again."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from emulator.bench.clock import WorldClock
from emulator.bench.course import Course
from emulator.bench.eventlog import EventLog
from emulator.bench.fabrics import Fabric, Listening, make_relay, remote_sides, require_divisible
from emulator.bench.instants import instants
from emulator.bench.network import Surroundings
from emulator.bench.opening import SharedSides, open_ends
from emulator.bench.operator import Operator
from emulator.bench.overlay import LEAD_NS, Overlay
from emulator.bench.place import Whereabouts
from emulator.bench.planner import Planner
from emulator.bench.privilege import ensure_network_privilege, has_machine_network
from emulator.bench.punctuality import Punctuality
from emulator.bench.release import release
from emulator.bench.runtime import MARK, RuntimeDirectory, remove_leftovers
from emulator.bench.sides import Side, ethernet_header
from emulator.bench.snapshot import Counters, LinkState, facts_of, with_port_drops
from emulator.errors import EmulationError
from emulator.link.compiled import cache_warning, compiling
from emulator.link.link import Link
from emulator.link.store import VNET_BYTES
from emulator.ports.assembly import Direction, link_options
from emulator.ports.fabric import FabricRelay
from emulator.ports.relay import Relay, warm_up
from emulator.scenario.model import OverlayEvent, Scenario
from emulator.taps.inject import Place
from emulator.timeline.build import windows_for
from emulator.timeline.model import ChannelState, Timeline, Windows
from emulator.units import NS_PER_S

if TYPE_CHECKING:
    from emulator.bench.devices import BenchDevices
    from emulator.bench.dish import BenchDish
    from emulator.bench.loop import AntennaLoop
    from emulator.ports.access import AccessNetwork

HOUSEKEEPING_S = 0.5
INJECTION_PATIENCE_S = 2.0


class Bench:
    """A running emulation; use it as a context. It carries packets from the moment that the context is entered.

    isolate: the datacenter's side gets a network namespace of its own, and not the machine's. An ordinary user is
    always isolated. start_utc_ns: the simulated UTC at the start; default: now. fabric: `direct`, or `zmq`: each end is
    a process of its own, over ZeroMQ. listening: the ends are parts of their own, and come from elsewhere. windows: a
    planner to use instead of the scenario's. on_warning: is told each of `warnings`, from whichever thread it comes.
    log: a file for the events, beside that in the runtime directory.
    within: where the sides are, if this is a further path of another bench.
    `operator` changes the link while it runs, `events` is the log.
    Raises the errors of `emulator.errors`; nothing is left behind then.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        start_utc_ns: int | None = None,
        isolate: bool = True,
        fabric: Fabric = "direct",
        realtime: bool = False,
        elements: Path | None = None,
        windows: Windows | None = None,
        on_warning: Callable[[str], None] | None = None,
        log: Path | None = None,
        within: SharedSides | None = None,
        listening: Listening | None = None,
    ) -> None:
        self.scenario, self.place = scenario, Whereabouts(scenario)
        self._events: EventLog | None = None
        self.warnings: list[str] = []
        self._listener = on_warning
        self.start_utc_ns, self._isolate, self._fabric, self._realtime = start_utc_ns, isolate, fabric, realtime
        self._within, self._listening = within, listening
        self.elements, self._windows, self._log = elements, windows, log
        self._stack = contextlib.ExitStack()
        self._stopping = threading.Event()
        self._failure: EmulationError | None = None
        self.antenna: AntennaLoop | None = None
        self.devices: BenchDevices | None = None
        self.dish: BenchDish | None = None

    # life

    def __enter__(self) -> Self:
        if self._listening is None:
            ensure_network_privilege()
            if not self._isolate and self.scenario.ports.kind != "nic" and not has_machine_network():
                self._isolate = True
                self._warn("an ordinary user has no part in the machine's own network: the bench is isolated")
        with self._stack:
            self._start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        remove_leftovers()
        if self._fabric == "direct" and self._listening is None:
            warm_up()  # compiling may take half a minute, and the sky must not wait for it
        if warning := cache_warning():
            self._warn(warning)
        self._clock = WorldClock(self.start_utc_ns)
        start_ns = self._clock.utc_ns()
        windows = self._windows or windows_for(self.scenario, elements=self.elements, epoch_utc_ns=start_ns)
        self._planner = Planner(windows, start_ns - start_ns % NS_PER_S)
        for note in windows.notes:
            self._warn(note)
        self._runtime = RuntimeDirectory()
        self._stack.callback(self._runtime.close)
        self._events = EventLog(self._clock, self._runtime.path, also=self._log)
        self._stack.callback(self.events.close)
        self._open_sides()
        self._open_links()
        with compiling():
            self.state_at(start_ns)  # who asks for it later shall not have to compile it, and lose a signal in doing so
        self._stack.callback(self._relay.stop)
        self._relay.start()
        if self._realtime and not self._relay.take_priority():
            self._warn("real-time priority was refused: the packet loop runs at ordinary priority")
        self._begin()
        self._overlay.add(self.scenario.overlay, self.started_monotonic_ns)
        keeper = threading.Thread(target=self._keep, name="housekeeping", daemon=True)
        keeper.start()
        self._stack.callback(keeper.join)
        self._stack.callback(self._stopping.set)
        self._stack.callback(self.operator.finish)
        self.events.record("start", scenario=self.scenario.name, seed=self.scenario.seed, fabric=self._fabric)
        self._stack.callback(self.events.record, "end")
        self._attach()
        self.network = self._stack.enter_context(Surroundings(self, self._warn))
        self._stack.callback(delattr, self, "network")  # it holds us: a bench that is over shall go without a search
        if self._within is None:  # a further path is found by the bench that it belongs to
            self._runtime.describe(facts_of(self, start_ns, self._fabric))
        for side in (self.terminal, self.datacenter):  # their processes end first, while the link still carries packets
            self._stack.callback(side.close)

    def _attach(self) -> None:
        """The terminal's hardware, if the scenario has any."""
        if self.scenario.terminal is not None and self.scenario.terminal.antenna is not None:
            from emulator.bench.loop import AntennaLoop

            self.antenna = self._stack.enter_context(AntennaLoop(self))
        if self.scenario.devices:
            from emulator.bench.devices import BenchDevices

            self.devices = self._stack.enter_context(BenchDevices(self))

    def _begin(self) -> None:
        """The simulated time begins now, when the link carries packets, and the overlay's times count from now."""
        if self.start_utc_ns is not None:
            begin_ns = self.start_utc_ns if self._within is None else self._within.utc_ns()
            self._clock.set(time.monotonic_ns(), begin_ns)
            for link in self._links.values():
                link.set_utc_offset(self._clock.offset_ns)
        self.started_monotonic_ns = time.monotonic_ns()
        utc_ns = self._clock.utc_ns()
        self.place.begin(utc_ns)
        if utc_ns >= self._planner.first.end_ns:  # the start took longer than the first window lasts
            self._planner.keep_ahead(utc_ns, self._links["uplink"], self._links["downlink"])

    def _warn(self, line: str) -> None:
        self.warnings.append(line)
        if self._events is not None:
            self._events.record("warning", text=line)
        if self._listener is not None:
            self._listener(line)

    def _open_sides(self) -> None:
        self.terminal: Side
        self.datacenter: Side
        self.access: AccessNetwork | None = None
        self.marking, self._longest_packet = {MARK: self._runtime.token}, 0
        if self._listening is not None:
            require_divisible(self.scenario)
            self.terminal, self.datacenter = remote_sides(self.scenario, self._remote_drops)
            if self.scenario.ports.kind != "tun":  # an end may be a network card that takes longer packets
                self._longest_packet = self.scenario.ports.mtu
            return
        how: Any = {"isolate": self._isolate, "within": self._within, "warn": self._warn, "fail": self._fail}
        ends = open_ends(self.scenario, self._runtime, self._stack, **how)
        self.terminal, self.datacenter, self.access = ends.terminal, ends.datacenter, ends.access
        self.marking = ends.marking
        self._longest_packet = ends.longest_packet

    def _remote_drops(self, role: int) -> int:
        return self._relay.accounts[role].sums().port_drops if isinstance(self._relay, FabricRelay) else 0

    def _fail(self, error: EmulationError) -> None:
        self._failure = error

    def _open_links(self) -> None:
        first = self._planner.first
        self._links: dict[Direction, Link] = {}
        for number, direction in enumerate[Direction](("uplink", "downlink")):
            channel = getattr(first, direction)
            options = link_options(self.scenario, direction, int(channel.delay_ns.max()))
            self._links[direction] = Link(
                channel,
                first.end_ns,
                seed=self.scenario.seed,
                direction=number,
                utc_offset_ns=self._clock.offset_ns,
                options=replace(options, longest_packet=self._longest_packet),
            )
        self._overlay = Overlay(self._links["uplink"], self._links["downlink"])
        self._course = Course(self._clock, self._planner, self._links, self._overlay.gate, self._stopping)
        self.operator = Operator(
            self.scenario, self._clock, self._course, self._overlay, self._links, self.events, self._stopping
        )
        self._injectors: dict[Direction, socket.socket] = {}
        readers = []
        for direction in self._links:
            reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            reader.setblocking(False)
            writer.settimeout(INJECTION_PATIENCE_S)
            readers.append(self._stack.enter_context(reader).fileno())
            self._injectors[direction] = self._stack.enter_context(writer)
        self._relay: Relay | FabricRelay = make_relay(
            self.scenario,
            self._fabric,
            self._listening,
            (self._links["uplink"], self._links["downlink"]),
            (self.terminal, self.datacenter),
            (readers[0], readers[1]),
            directory=self._runtime.path,
            stack=self._stack,
            tell=self._warn,
        )
        for side in (self.terminal, self.datacenter):
            side.undisturbed = self._relay.undisturbed
        self._stack.callback(release, (self._links["uplink"], self._links["downlink"]), self._relay)

    def _keep(self) -> None:
        """Housekeeping: plans ahead, and follows the world's clock."""
        try:
            self._keep_house()
        except EmulationError as error:  # the packet loop's
            self._fail(error)
        except Exception as error:  # noqa: BLE001 (shown to whoever asks for the counters next)
            self._fail(EmulationError(f"planning the link failed: {error}"))

    def _keep_house(self) -> None:
        punctuality = Punctuality(self._warn, f"{HOUSEKEEPING_S:g} s")
        while not self._stopping.wait(HOUSEKEEPING_S):
            relay = self._relay.counters()
            punctuality.look(relay.lateness_us, relay.turns)
            step = self._course.follow()
            if step is not None:
                self._warn(f"the machine's clock was set by {step / NS_PER_S:+.3f} s: the sky follows")
            self._course.keep_ahead()

    # what can be asked

    @property
    def runtime_dir(self) -> Path:
        return self._runtime.path

    @property
    def packet_loop(self) -> Relay | FabricRelay:
        """What carries the packets."""
        return self._relay

    @property
    def isolated(self) -> bool:
        return self._isolate

    @property
    def memory_bytes(self) -> int:
        """The most that the two delay lines and their tables can take."""
        return sum(array.nbytes for link in self._links.values() for array in link.state)

    @property
    def events(self) -> EventLog:
        """What has happened. Raises EmulationError before the bench runs."""
        if self._events is None:
            raise EmulationError("the bench does not run yet")
        return self._events

    def utc_ns(self) -> int:
        """Simulated UTC now."""
        return self._clock.utc_ns()

    def utc_of_monotonic_ns(self, monotonic_ns: int) -> int:
        return self._clock.utc_of_monotonic_ns(monotonic_ns)

    def monotonic_ns(self) -> int:
        """The packets' clock now."""
        return time.monotonic_ns()

    @property
    def standing(self) -> bool:
        """Whether the Timeline stands still, by an operator's order."""
        return self._clock.standing

    @property
    def windows(self) -> Windows:
        """The plan in force."""
        return self._course.windows

    def timeline_at(self, utc_ns: int) -> Timeline:
        """The planned window that holds `utc_ns`."""
        return self._planner.timeline_at(utc_ns)

    def state(self) -> LinkState:
        """The link now."""
        return self.state_at_monotonic_ns(time.monotonic_ns())

    def state_at(self, utc_ns: int) -> LinkState:
        """The link at a simulated UTC, from the start of the bench to what is planned ahead."""
        return self._state(utc_ns, self._clock.monotonic_of_utc_ns(utc_ns))

    def state_at_monotonic_ns(self, monotonic_ns: int) -> LinkState:
        """The same at a time of the packets' clock."""
        return self._state(self._clock.utc_of_monotonic_ns(monotonic_ns), monotonic_ns)

    def _state(self, utc_ns: int, monotonic_ns: int) -> LinkState:
        return LinkState.of(
            self._planner.timeline_at(utc_ns),
            utc_ns,
            next_handover_ns=self._planner.next_handover_ns(utc_ns),
            uplink=self._links["uplink"].channel_at(monotonic_ns),
            downlink=self._links["downlink"].channel_at(monotonic_ns),
            antenna=self.antenna.at(utc_ns) if self.antenna is not None else None,
            dish=self.dish.doing if self.dish is not None else "",
        )

    def instants(self, after_ns: int, until_ns: int) -> list[int]:
        """The times of the packets' clock, in (after_ns, until_ns], at which the link changed."""
        return instants(self._clock, self._planner, self._overlay, after_ns, until_ns)

    def slot_at_monotonic_ns(self, monotonic_ns: int) -> int | None:
        """The number of the scheduling slot; None on a link without slots."""
        utc_ns = self._clock.utc_of_monotonic_ns(monotonic_ns)
        path = self._planner.timeline_at(utc_ns).path
        return int(path.slot[path.row_at(utc_ns)]) if self.windows.slotted else None

    def channel_at(self, direction: Direction, utc_ns: int, *, jitter: bool = False) -> ChannelState:
        """One direction at a simulated UTC, as in `state_at`; with `jitter`, as a packet of that instant meets it."""
        return self._links[direction].channel_at(self._clock.monotonic_of_utc_ns(utc_ns), jitter=jitter)

    def counters(self) -> Counters:
        """A snapshot. Raises EmulationError if the packet loop or the planning has failed."""
        if self._failure is not None:
            raise self._failure
        relay = self._relay.counters()
        return Counters(
            uplink=with_port_drops(relay.uplink, self.terminal.port),
            downlink=with_port_drops(relay.downlink, self.datacenter.port),
            relay=relay,
        )

    # what can be done

    def apply(self, event: OverlayEvent) -> int:
        """Puts a timed change on the link, its times counted from now. Returns the monotonic ns of its beginning."""
        zero = time.monotonic_ns() + LEAD_NS
        self._overlay.add([event], zero)
        return zero + round(event.at_s * NS_PER_S)

    def steer(self, owner: str, *events: OverlayEvent) -> None:
        """As `apply`, in place of what the same `owner` put on the link before; without events, that ends now.

        Raises EmulationError as `apply` does.
        """
        self._overlay.put(owner, events, time.monotonic_ns() + LEAD_NS)

    def inject(self, direction: Direction, packet: bytes, place: Place = "before") -> None:
        """An IP packet enters the link as if the application had sent it, and is counted as offered; or, `after` the
        link, it arrives at the far side as if it had crossed it, and is counted nowhere.

        Raises EmulationError if the packet loop, or the kernel, does not take it.
        """
        ends = (self.terminal.port, self.datacenter.port)[:: 1 if direction == "uplink" else -1]
        frame = bytes(VNET_BYTES) + ethernet_header(ends, packet) + packet
        try:
            if place == "after" and isinstance(self._relay, FabricRelay) and self._listening is not None:
                self._relay.deliver(1 if direction == "uplink" else 0, frame)
            elif place == "after":
                os.write(ends[1].descriptor, frame)
            else:
                self._injectors[direction].send(frame)
        except OSError as error:
            raise EmulationError(f"{len(packet)} bytes {place} the {direction} are not taken: {error}") from error
