"""The ground-station service of a running bench: its schedule opens the bench's link, and shuts it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from emulator.bench.ground_station import GroundStationServer, GroundStationService
from emulator.errors import EmulationError, ScenarioError
from emulator.scenario.model import LONGEST_S, OverlayEvent
from emulator.units import NS_PER_S

if TYPE_CHECKING:
    from emulator.bench.bench import Bench

OWNER = "schedule of contacts"
LOOK_AGAIN_S = 1.0  # the simulated time may be set
NEXT_CONTACTS = 32  # so many of the schedule are on the link at once; those behind them follow
SLACK_NS = NS_PER_S // 2  # the simulated time against that of the packets: less is not a jump


def shut_between(reserved: list[tuple[int, int]], now_ns: int) -> list[OverlayEvent]:
    """What shuts a link outside of its reservations, [begin, end) in ns of the same clock as `now_ns`, from then on."""
    events, free_ns = [], now_ns
    for begin_ns, end_ns in sorted(one for one in reserved if one[1] > now_ns)[:NEXT_CONTACTS]:
        if begin_ns > free_ns:
            events.append(_shut((free_ns - now_ns) / NS_PER_S, (begin_ns - free_ns) / NS_PER_S))
        free_ns = max(free_ns, end_ns)
    from_s = (free_ns - now_ns) / NS_PER_S
    return [*events, _shut(from_s, LONGEST_S - from_s)]


def _shut(at_s: float, duration_s: float) -> OverlayEvent:
    return OverlayEvent(kind="outage", at_s=at_s, duration_s=duration_s, cause="no_satellite")


class Schedule:
    """Keeps the link of `bench` shut but in the contacts that are reserved with `service`; a context."""

    def __init__(self, bench: Bench, service: GroundStationService) -> None:
        self._bench, self._service = bench, service
        self._stopping = threading.Event()
        self._laid: tuple[list[tuple[int, int]], int] = ([], 0)
        self._laying = threading.Lock()
        service.on_change = self.lay
        self._keeper = threading.Thread(target=self._keep, name="schedule", daemon=True)

    def lay(self) -> None:
        """Puts the schedule on the link, in place of what was there. Raises EmulationError."""
        with self._laying:
            reserved, now_ns = self._service.reservations(), self._bench.utc_ns()
            self._bench.steer(OWNER, *shut_between(reserved, now_ns))
            self._laid = reserved, now_ns - self._bench.monotonic_ns()

    def _keep(self) -> None:
        while not self._stopping.wait(LOOK_AGAIN_S):
            offset_ns = self._bench.utc_ns() - self._bench.monotonic_ns()
            if abs(offset_ns - self._laid[1]) > SLACK_NS or len(self._laid[0]) > NEXT_CONTACTS:
                with contextlib.suppress(EmulationError):  # too many changes for now: it is tried again
                    self.lay()

    def __enter__(self) -> Schedule:
        self.lay()
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._keeper.join()
        self._service.on_change = None


@contextlib.contextmanager
def served_schedule(bench: Bench, listener: socket.socket | None = None) -> Iterator[str]:
    """The service over HTTP beside a running bench; its URL. listener: where; default: a free port of 127.0.0.1.

    Raises ScenarioError for a bench without ground stations.
    """
    scenario = bench.scenario
    if scenario.link.profile != "ground_station":
        raise ScenarioError([f"link.profile: expected 'ground_station', got {scenario.link.profile!r}"])
    service = GroundStationService(bench.windows, tuple(one.name for one in scenario.gateways), bench.utc_ns)
    with Schedule(bench, service), GroundStationServer(service, "127.0.0.1", 0, listener) as server:
        yield f"http://{server.host}:{server.port}"
