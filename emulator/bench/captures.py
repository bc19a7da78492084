"""Captures of a running bench: its links, clock and path as `emulator.taps.capture` wants to see them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import zmq

from emulator.errors import EndpointError
from emulator.link.link import Link
from emulator.ports.fabric import FabricRelay
from emulator.ports.interrupts import interrupts_wait
from emulator.ports.relay import Relay
from emulator.taps.capture import CaptureService, capture_endpoint, warm_up

if TYPE_CHECKING:
    from emulator.bench.bench import Bench


class CapturedBench:
    """A bench as the source of captures: over either fabric the links are in this process."""

    def __init__(self, bench: Bench, relay: Relay | FabricRelay) -> None:
        self._bench = bench
        self.links: tuple[Link, Link] = (relay.uplink, relay.downlink)
        self.rings = relay.captures
        self.lanes = bench.scenario.class_names("uplink"), bench.scenario.class_names("downlink")

    def offset_ns(self) -> int:
        now_ns = time.monotonic_ns()
        return self._bench.utc_of_monotonic_ns(now_ns) - now_ns

    def began_ns(self) -> int:
        return self._bench.started_monotonic_ns

    def path_at(self, utc_ns: int) -> tuple[str, int]:
        """Satellite and gateway at `utc_ns`, and until when they are known to serve."""
        timeline = self._bench.timeline_at(utc_ns)
        path = timeline.path
        row = path.row_at(utc_ns)
        until = int(path.start_ns[row + 1]) if row + 1 < len(path) else timeline.end_ns
        satellite, gateway = int(path.satellite[row]), int(path.gateway[row])
        names = [timeline.satellites[satellite]] if satellite >= 0 else []
        names += [timeline.gateways[gateway]] if gateway >= 0 else []
        return " and ".join(names), until


@contextlib.contextmanager
def serving_captures(bench: Bench) -> Iterator[None]:
    """While this lasts, `bentpipe capture` finds the bench."""
    source = CapturedBench(bench, bench.packet_loop)
    warm_up(source.links[0])
    endpoint = capture_endpoint(bench.runtime_dir)
    with contextlib.ExitStack() as stack:
        with interrupts_wait():
            context = stack.enter_context(zmq.Context())
            try:
                service = CaptureService(source, endpoint, context)
            except zmq.ZMQError as error:
                raise EndpointError(
                    f"{endpoint}: cannot make the capture socket: {error.strerror}; "
                    "set BENTPIPE_RUNTIME_DIR to another, shorter directory"
                ) from error
            stack.callback(service.stop)
            service.start()
        yield
