"""The dish of a running bench: fed from the live link, found at its address from the terminal's side, and obeyed.

A thread looks at the link five times a second and tells the dish what its packets got; what the dish does to the link
(boot, search, stow, sleep) goes back onto it as an outage of the overlay, at once when a client ordered it.
"""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from emulator.errors import EmulationError, ScenarioError
from emulator.ports.assembly import Direction, link_options
from emulator.ports.namespace import Namespace
from emulator.scenario.links import StarlinkLink
from emulator.scenario.model import OverlayEvent
from emulator.terminal import Terminal
from emulator.terminal.dish import NO_END, DishTerminal, Sky
from emulator.terminal.dish_record import OutageCause
from emulator.terminal.pings import WAYS, QueueLoad, pings
from emulator.timeline.causes import Cause
from emulator.units import NS_PER_S
from firmware_stubs.registry import NETWORK_KINDS, NetworkServer

if TYPE_CHECKING:
    from emulator.bench.bench import Bench
    from emulator.link.link import DirectionCounters
    from emulator.scenario.model import Scenario

LOOK_NS = NS_PER_S // 5
LONGEST_LOOK_NS = 2 * NS_PER_S  # of a bench that was stopped for longer only so much is looked at afterwards
OWNER = "dish"
FOR_EVER_S = 1e9  # 31 years: until the dish says otherwise
SLOT_NS = 15 * NS_PER_S
WORDS = {
    None: "tracking",
    OutageCause.BOOTING: "booting",
    OutageCause.NO_SCHEDULE: "searching",
    OutageCause.STOWED: "stowed",
    OutageCause.SLEEPING: "sleeping",
    OutageCause.OBSTRUCTED: "obstructed",
    OutageCause.THERMAL_SHUTDOWN: "overheated",
    OutageCause.NO_DOWNLINK: "faulty",
}

log = logging.getLogger("bentpipe.dish")


def dish_of(scenario: Scenario, start_ns: int) -> DishTerminal:
    """The dish that a scenario describes. One without a site has no position, and says so to its clients."""
    try:
        site = Terminal.from_scenario(scenario, start_ns)
    except ScenarioError:
        site = None
    return DishTerminal(scenario.dish, site, start_ns)


def slot_end_ns(scenario: Scenario, utc_ns: int) -> int | None:
    """When the scheduling slot of `utc_ns` ends; None where the link has no slots."""
    if not isinstance(scenario.link, StarlinkLink):
        return None
    phase_ns = round(scenario.link.slot_phase_s * NS_PER_S)
    return utc_ns + SLOT_NS - (utc_ns - phase_ns) % SLOT_NS


class BenchDish:
    """Serves the dish of `bench`, which runs, for as long as the context lasts. `dish.lock` guards `dish`.

    It is at `host`:`port` of the terminal's side, gRPC-Web on the next port, as the hardware is.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        # A dish's clock does not step when the machine's is set: its uptime and its samples would.
        self._start_utc_ns, self._start_ns = bench.utc_ns(), time.monotonic_ns()
        self.dish = dish_of(bench.scenario, self._start_utc_ns)
        self.host, self.port = NETWORK_KINDS["dish"].host, NETWORK_KINDS["dish"].port
        self._server: NetworkServer | None = None
        self._stopping = threading.Event()
        self._steering = threading.Lock()
        self._down_until_ns: int | None = None
        self._seen_ns = self._start_utc_ns
        self._cycle_ns = {way: cycle_wait_ns(bench.scenario, way) for way in WAYS}
        counters = bench.counters()
        self._before = counters.uplink, counters.downlink
        self._thread = threading.Thread(target=self._run, name="dish", daemon=True)

    def now_ns(self) -> int:
        """The dish's own UTC."""
        return self._start_utc_ns + time.monotonic_ns() - self._start_ns

    @property
    def doing(self) -> str:
        """What the dish does, in a word: tracking, or why it does not, as booting, stowed, obstructed."""
        return WORDS[self.dish.own_cause]

    def start(self) -> Self:
        """Gives the dish its address and opens its ports. Raises EndpointError, ModuleNotFoundError."""
        place = self._bench.terminal.namespace
        if not self._bench.terminal.own_namespace:
            raise EmulationError("the dish: expected the terminal's side in a network namespace of its own")
        _give_address(place, self.host)
        self._server = NETWORK_KINDS["dish"].serve(
            self.dish, self.host, self.port, self.now_ns, place=place.run, commanded=self._steer
        )
        try:
            self._steer()
            self._thread.start()
            self._bench.dish = self
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Closes the ports; what the dish did to the link stays. Twice is allowed."""
        self._stopping.set()
        if self._bench.dish is self:
            self._bench.dish = None
        if self._thread.is_alive():
            self._thread.join()
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._until_next_s()):
                self._look()
                if self._server is not None:
                    self._server.follow()
        except EmulationError as error:  # the bench has failed, and tells it to whoever runs it
            log.warning("the dish stops: %s", error)
        except Exception:
            log.exception("the dish failed")

    def _until_next_s(self) -> float:
        """Looks are aligned with the dish's seconds, so that each second holds as many."""
        since_ns = (self.now_ns() - self.dish.booted_ns) % LOOK_NS
        return (LOOK_NS - since_ns) / NS_PER_S

    def _look(self) -> None:
        bench = self._bench
        utc_ns = bench.utc_ns()
        counters = bench.counters()
        state = bench.state()
        after = counters.uplink, counters.downlink
        up = queue_load(self._before[0], after[0], state.uplink.rate_bps, self._cycle_ns["uplink"])
        down = queue_load(self._before[1], after[1], state.downlink.rate_bps, self._cycle_ns["downlink"])
        since_ns = max(min(self._seen_ns, utc_ns), utc_ns - LONGEST_LOOK_NS)
        channel = lambda direction, at_ns: bench.channel_at(direction, at_ns, jitter=True)  # noqa: E731
        found = list(pings(channel, bench.scenario.seed, since_ns, utc_ns, up, down))
        sky = Sky(
            state.satellite, state.gateway, state.azimuth_deg, state.elevation_deg, slot_end_ns(bench.scenario, utc_ns)
        )
        delivered = [now.delivered_bytes - then.delivered_bytes for then, now in zip(self._before, after, strict=True)]
        self._seen_ns, self._before = utc_ns, after
        with self.dish.lock:
            self.dish.observe(found, delivered[0], delivered[1], sky, self.now_ns())
            self._steer()

    def _steer(self) -> None:
        """Does to the link what the dish does, if that has changed."""
        with self.dish.lock, self._steering:
            until_ns = self.dish.down_until_ns
            if until_ns == self._down_until_ns:
                return
            events = []
            if until_ns is not None:
                lasts_s = FOR_EVER_S if until_ns >= NO_END else (until_ns - self.now_ns()) / NS_PER_S
                events = [OverlayEvent(kind="outage", at_s=0, duration_s=max(lasts_s, 1e-3))]
            self._bench.steer(OWNER, *events)
            self._down_until_ns = until_ns

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def cycle_wait_ns(scenario: Scenario, direction: Direction) -> int:
    """What a packet waits for the end of its frame, and one that is alone for its grant: half of each, in the mean."""
    options = link_options(scenario, direction, 0)
    return (options.frame_ns + options.grant_ns) // 2


def queue_load(before: DirectionCounters, after: DirectionCounters, rate_bps: int, cycle_ns: int = 0) -> QueueLoad:
    """What packets met at a direction's queue between two looks: the wait that it stands for now, and its drops.

    `cycle_ns`: what they wait for frames and grants.
    """
    offered = after.offered_packets - before.offered_packets
    if offered <= 0 or rate_bps <= 0:
        return QueueLoad(cycle_ns)
    mean_bits = 8 * (after.offered_bytes - before.offered_bytes) / offered
    dropped = after.dropped.get(Cause.QUEUE, 0) - before.dropped.get(Cause.QUEUE, 0)
    wait_ns = round(after.queued_packets * mean_bits / rate_bps * NS_PER_S)
    return QueueLoad(wait_ns + cycle_ns, min(1.0, max(0, dropped) / offered))


def _give_address(namespace: Namespace, host: str) -> None:
    """The dish's address, on the loopback of a namespace of ours."""

    def give() -> None:
        from pyroute2 import IPRoute

        with IPRoute() as netlink:
            netlink.addr("replace", index=1, address=host, prefixlen=32)

    namespace.run(give)
