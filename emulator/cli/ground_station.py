"""`bentpipe ground-station`: the management interface of a ground-station service, at a local endpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
from pathlib import Path

import click

from emulator.cli.bring_up import tell
from emulator.cli.options import elements_option, scenario_options, start_option
from emulator.scenario import Scenario
from emulator.units import count_of


@click.command("ground-station")
@scenario_options()
@start_option
@elements_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="Port.  [default: a free one, told]")
def ground_station(scenario: Scenario, start_utc_ns: int | None, elements: Path | None, host: str, port: int) -> None:
    """Serve what azure-mgmt-orbital asks of a ground-station service: spacecraft, contact profiles, contacts.

    Contacts are those of SCENARIO's spacecraft and stations; what is scheduled is remembered until Ctrl-C. Give the
    client the URL that is told as its base_url, and an authentication_policy that sends no token: this is plain HTTP.
    """
    from emulator.bench.clock import WorldClock
    from emulator.bench.ground_station import GroundStationServer, GroundStationService
    from emulator.errors import ScenarioError
    from emulator.timeline.build import windows_for

    if scenario.link.profile != "ground_station":
        raise ScenarioError([f"link.profile: expected 'ground_station', got {scenario.link.profile!r}"])
    clock = WorldClock(start_utc_ns)
    windows = windows_for(scenario, elements=elements, epoch_utc_ns=clock.utc_ns())
    stations = tuple(gateway.name for gateway in scenario.gateways)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    with GroundStationServer(GroundStationService(windows, stations, clock.utc_ns), host, port) as server:
        click.echo(f"http://{server.host}:{server.port}")
        tell(f"{count_of(len(stations), 'station')}; Ctrl-C ends it")
        with contextlib.suppress(KeyboardInterrupt):
            stop.wait()
