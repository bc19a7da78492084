"""`bentpipe stub dish`: a Starlink dish alone. Its pings meet the planned link of the scenario; nothing is carried."""

from __future__ import annotations

import ipaddress
import json
import sys
import threading
import time
from collections.abc import Callable

import click

from emulator.bench.dish import dish_of, slot_end_ns
from emulator.errors import EndpointError
from emulator.scenario import Scenario
from emulator.terminal.dish import Sky
from emulator.terminal.pings import Direction, pings
from emulator.timeline.build import windows_for
from emulator.timeline.model import ChannelState, Timeline
from emulator.units import NS_PER_S, format_utc
from firmware_stubs.registry import NETWORK_KINDS

LOOK_S = 0.2
WINDOW_NS = 60 * NS_PER_S


class PlannedLink:
    """The link of a scenario as it is planned: no overlay, no jitter, no queue."""

    def __init__(self, scenario: Scenario, start_ns: int) -> None:
        self._scenario = scenario
        self._windows = windows_for(scenario, epoch_utc_ns=start_ns)
        self._timeline: Timeline | None = None

    def timeline(self, utc_ns: int) -> Timeline:
        """The window of `utc_ns`, planned if need be."""
        if self._timeline is None or not self._timeline.start_ns <= utc_ns < self._timeline.end_ns:
            begin_ns = utc_ns - utc_ns % NS_PER_S
            self._timeline = self._windows.window(begin_ns, begin_ns + WINDOW_NS)
        return self._timeline

    def sky(self, utc_ns: int) -> Sky:
        """Who serves at `utc_ns`."""
        timeline = self.timeline(utc_ns)
        path, row = timeline.path, timeline.path.row_at(utc_ns)
        satellite, gateway = int(path.satellite[row]), int(path.gateway[row])
        if satellite < 0:
            return Sky()
        return Sky(
            timeline.satellites[satellite],
            timeline.gateways[gateway] if gateway >= 0 else "",
            float(path.azimuth_deg[row]),
            float(path.elevation_deg[row]),
            slot_end_ns(self._scenario, utc_ns),
        )


def serve_dish(port: str, scenario: Scenario, start_utc_ns: int | None, *, as_json: bool) -> None:
    """Serves the scenario's dish at `port` (HOST:PORT) until a signal ends the process."""
    host, number = address_of(port)
    began_ns, zero_ns = time.time_ns(), time.monotonic_ns()
    start_ns = began_ns if start_utc_ns is None else start_utc_ns

    def utc_ns() -> int:
        return start_ns + time.monotonic_ns() - zero_ns

    link, dish = PlannedLink(scenario, start_ns), dish_of(scenario, start_ns)
    seen_ns = utc_ns()
    link.timeline(seen_ns)
    server = NETWORK_KINDS["dish"].serve(dish, host, number, utc_ns)
    try:
        address, web = _join(host, server.port), _join(host, server.web_port)
        facts = {"port": address, "web": web, "kind": "dish", "start_utc": format_utc(start_ns)}
        click.echo(json.dumps(facts) if as_json else address)
        sys.stdout.flush()
        click.echo(f"Starlink dish, gRPC at {address}, gRPC-Web at {web}; Ctrl-C ends it", err=True)
        pause = threading.Event()
        while not pause.wait(LOOK_S):
            now_ns = utc_ns()
            found = list(pings(planned(link.timeline(seen_ns)), scenario.seed, seen_ns, now_ns))
            sky = link.sky(now_ns)
            with dish.lock:
                dish.observe(found, 0, 0, sky, now_ns)
            seen_ns = now_ns
            server.follow()
    finally:
        server.stop()


def planned(timeline: Timeline) -> Callable[[Direction, int], ChannelState]:
    """The channels of a window, by direction and UTC."""
    channels = {"uplink": timeline.uplink, "downlink": timeline.downlink}
    return lambda direction, at_ns: channels[direction].at(at_ns)


def address_of(port: str) -> tuple[str, int]:
    """`127.0.0.1:9200`, or with `tcp:` before it. Raises EndpointError for what other machines could reach."""
    host, _, number = port.removeprefix("tcp:").rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback or not (number.isascii() and number.isdigit()) or int(number) > 65_534:
        raise EndpointError(
            f"{port}: expected a loopback address and a port, such as 127.0.0.1:9200 (port 0: free ones)"
        )
    return host, int(number)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
