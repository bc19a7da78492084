"""Looks at a running bench, and tells what has changed since: states, slots, handovers, outages, drops, lag.

It asks for no more than the counters' snapshot, a few times a second; what changes between two looks is worked out from
the plan and the overlay, exact to the nanosecond.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from emulator.bench.eventlog import EventLog
from emulator.bench.snapshot import Counters, LinkState
from emulator.control.messages import plain
from emulator.link.link import DirectionCounters
from emulator.timeline.causes import Cause, Gate
from emulator.units import NS_PER_S

LOOK_NS = NS_PER_S // 4
LONGEST_LOOK_NS = 10 * NS_PER_S  # of a bench that was stopped for longer only so much is looked at afterwards
LONGEST_BURST_LOOKS = 20
DIRECTIONS = ("uplink", "downlink")

Tell = Callable[[str, int, Mapping[str, Any]], None]
"""Takes topic, monotonic ns and data of what is told and not logged."""


class WatchedBench(Protocol):
    """What the watcher needs of a bench."""

    @property
    def events(self) -> EventLog: ...

    def monotonic_ns(self) -> int: ...

    def instants(self, after_ns: int, until_ns: int) -> list[int]: ...

    def state_at_monotonic_ns(self, monotonic_ns: int, /) -> LinkState: ...

    def slot_at_monotonic_ns(self, monotonic_ns: int, /) -> int | None: ...

    def counters(self) -> Counters: ...


class Watcher:
    """`look`, a few times a second, from one thread. What happens goes to the bench's event log, the rest to `tell`."""

    def __init__(self, bench: WatchedBench, tell: Tell) -> None:
        self._bench, self._tell = bench, tell
        self._seen_ns = bench.monotonic_ns()
        self._state = bench.state_at_monotonic_ns(self._seen_ns)
        self._slot = bench.slot_at_monotonic_ns(self._seen_ns)
        self._shut = dict.fromkeys(DIRECTIONS, (0, Cause.NONE))  # since when, and why; 0: it is open
        self._counters = self._second = bench.counters()
        self._second_ns = self._seen_ns
        self._bursts: dict[tuple[str, Cause], list[int]] = {}  # packets, from when, looks
        self.last: dict[str, Any] = {}

    def begin(self) -> None:
        """Tells how things stand."""
        self._tell("state", self._seen_ns, self._note("state", self._state))
        self._outages(self._seen_ns, self._state)
        self._second_report(self._seen_ns, self._counters)

    def look(self) -> None:
        """Tells what has happened since the look before. Raises EmulationError if the bench has failed."""
        now_ns = self._bench.monotonic_ns()
        for at_ns in self._bench.instants(max(self._seen_ns, now_ns - LONGEST_LOOK_NS), now_ns):
            self._instant(at_ns)
        counters = self._bench.counters()
        self._drops(counters, now_ns)
        if now_ns - self._second_ns >= NS_PER_S - LOOK_NS // 2:
            self._second_report(now_ns, counters)
        self._seen_ns = now_ns

    def finish(self) -> None:
        """Tells what is not over yet."""
        for key in list(self._bursts):
            self._burst_over(key, self._seen_ns)

    def _note(self, topic: str, data: Any) -> Mapping[str, Any]:
        self.last[topic] = plain(data)
        return self.last[topic]  # type: ignore[no-any-return]

    def _instant(self, at_ns: int) -> None:
        before, now, log = self._state, self._bench.state_at_monotonic_ns(at_ns), self._bench.events
        self._state = now
        self._tell("state", at_ns, self._note("state", now))
        slot = self._bench.slot_at_monotonic_ns(at_ns)
        if slot is not None and slot != self._slot:
            log.record("slot", monotonic_ns=at_ns, slot=slot, satellite=now.satellite, gateway=now.gateway)
        self._slot = slot
        if (now.satellite, now.gateway) != (before.satellite, before.gateway):
            came = {"satellite": now.satellite, "gateway": now.gateway}
            went = {"from_satellite": before.satellite, "from_gateway": before.gateway}
            log.record("handover", monotonic_ns=at_ns, **came, **went)
        self._outages(at_ns, now)

    def _outages(self, at_ns: int, state: LinkState) -> None:
        for direction in DIRECTIONS:
            channel = getattr(state, direction)
            since_ns, cause = self._shut[direction]
            shut = channel.gate == Gate.DROP and channel.cause != Cause.HANDOVER
            if since_ns and not (shut and channel.cause == cause):
                lasted: dict[str, Any] = {"begins": False, "lasted_ns": at_ns - since_ns}
                self._bench.events.record("outage", monotonic_ns=at_ns, direction=direction, cause=cause.name, **lasted)
                since_ns = 0
            if shut and not since_ns:
                since_ns, cause = at_ns, channel.cause
                self._bench.events.record(
                    "outage", monotonic_ns=at_ns, direction=direction, cause=cause.name, begins=True
                )
            self._shut[direction] = (since_ns, cause)

    def _drops(self, counters: Counters, now_ns: int) -> None:
        for direction in DIRECTIONS:
            before: DirectionCounters = getattr(self._counters, direction)
            after: DirectionCounters = getattr(counters, direction)
            for cause in after.dropped:
                packets = after.dropped[cause] - before.dropped.get(cause, 0)
                if packets > 0:
                    burst = self._bursts.setdefault((direction, cause), [0, self._seen_ns, 0])
                    burst[0] += packets
                    burst[2] += 1
                    if burst[2] >= LONGEST_BURST_LOOKS:
                        self._burst_over((direction, cause), now_ns)
                elif (direction, cause) in self._bursts:
                    self._burst_over((direction, cause), self._seen_ns)
        self._counters = counters

    def _burst_over(self, key: tuple[str, Cause], until_ns: int) -> None:
        packets, from_ns, _ = self._bursts.pop(key)
        direction, cause = key
        times: dict[str, Any] = {"from_monotonic_ns": from_ns, "until_monotonic_ns": until_ns}
        self._bench.events.record("drops", direction=direction, cause=cause.name, packets=packets, **times)

    def _second_report(self, now_ns: int, counters: Counters) -> None:
        self._tell("counters", now_ns, self._note("counters", {one: getattr(counters, one) for one in DIRECTIONS}))
        late = counters.relay.lateness_us - self._second.relay.lateness_us
        self._tell("lag", now_ns, self._note("lag", lag_of(late, counters)))
        if counters.relay.ends:
            self._tell("ends", now_ns, self._note("ends", {end.role: end for end in counters.relay.ends}))
        self._second, self._second_ns = counters, now_ns


def lag_of(lateness_us: np.ndarray[Any, np.dtype[np.int64]], counters: Counters) -> dict[str, int | None]:
    """Percentiles of a histogram of packets by µs."""
    total = np.cumsum(lateness_us)
    names = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999, "worst_us": 1.0}
    some = bool(len(total)) and total[-1] > 0
    found = {name: int(np.searchsorted(total, share * total[-1])) if some else None for name, share in names.items()}
    relay = counters.relay
    return {**found, "ingress_wait_worst_us": relay.ingress_wait_worst_ns // 1000, "starved": relay.starved}
