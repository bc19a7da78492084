"""A real gpsd on the line of a GNSS stub, asked by a real gpspipe."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.terminal import Terminal, TerminalState
from firmware_stubs.transport import SerialStub

SITE = Terminal(-33.8568, 151.2153, 42.0)
TUNNEL = Terminal(-33.8568, 151.2153, 42.0, without_fix=((0, 1 << 62),))
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


@pytest.fixture
def in_tunnel() -> threading.Event:
    """Whether the receiver is."""
    return threading.Event()


@pytest.fixture(params=["nmea", "ubx", "nmea tcp", "ubx tcp"])
def reports(
    request: pytest.FixtureRequest, tmp_path: Path, in_tunnel: threading.Event
) -> Iterator[Iterator[dict[str, Any]]]:
    """What gpspipe prints of a gpsd on the stub's line.

    gpsd gets its sockets as systemd would hand them over (first its control socket, then the one for clients): they
    listen before it starts, so that nobody has to wait for it.
    """
    gpsd, gpspipe = shutil.which("gpsd", path=PATH), shutil.which("gpspipe", path=PATH)
    assert gpsd
    assert gpspipe

    def state_at(utc_ns: int) -> TerminalState:
        return (TUNNEL if in_tunnel.is_set() else SITE).state(utc_ns)

    kind, _, transport = request.param.partition(" ")
    port_of_stub = "tcp:127.0.0.1:0" if transport else "pty"
    with (
        SerialStub(
            kind,
            state_at,
            port_of_stub,
            directory=tmp_path,
        ) as stub,
        socket.socket(socket.AF_UNIX) as control,
        socket.create_server(("127.0.0.1", 0)) as clients,
    ):
        control.bind(str(tmp_path / "c"))
        control.listen()
        port = clients.getsockname()[1]
        command = (
            f"exec 8<&{control.fileno()} 9<&{clients.fileno()}; exec 3<&8 4<&9 8<&- 9<&-; "
            f"LISTEN_FDS=2 LISTEN_PID=$$ exec {gpsd} -N -n -S {port} {stub.address.replace('tcp:', 'tcp://')}"
        )
        daemon = subprocess.Popen(
            ["/bin/bash", "-c", command],
            pass_fds=[control.fileno(), clients.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        pipe = subprocess.Popen([gpspipe, "-w", f"127.0.0.1:{port}"], stdout=subprocess.PIPE, text=True)
        try:
            assert pipe.stdout is not None
            yield (json.loads(line) for line in pipe.stdout)
        finally:
            for process in (pipe, daemon):
                process.terminate()
                process.wait(30)
            assert pipe.stdout is not None
            pipe.stdout.close()
        assert transport or stub.statistics().received > 0  # the probes that it sends to a serial port, drained


def until_mode(reports: Iterator[dict[str, Any]], mode: int) -> None:
    for report in reports:
        if report["class"] == "TPV" and report["mode"] == mode:
            return
    raise AssertionError("gpspipe has ended")


@pytest.mark.needs("gpsd", "gpspipe")
@pytest.mark.parametrize("reports", ["ubx tcp"], indirect=True)
def test_gpsd_loses_its_fix_in_a_tunnel_and_has_it_again_behind(
    reports: Iterator[dict[str, Any]], in_tunnel: threading.Event
) -> None:
    until_mode(reports, 3)
    in_tunnel.set()
    until_mode(reports, 1)
    in_tunnel.clear()
    until_mode(reports, 3)


@pytest.mark.needs("gpsd", "gpspipe")
def test_gpsd_gets_a_three_dimensional_fix_and_the_satellites(reports: Iterator[dict[str, Any]]) -> None:
    fix: dict[str, Any] = {}
    sky: dict[str, Any] = {}
    reports_before = skies_before = 0
    for report in reports:
        if report["class"] == "TPV":
            reports_before += not fix
            if report["mode"] == 3:
                fix = report
        if report["class"] == "SKY" and report.get("satellites"):
            skies_before += not report["uSat"]
            if report["uSat"]:
                sky = report
        if fix and sky:
            break
    assert fix["lat"] == pytest.approx(SITE.latitude_deg, abs=1e-7)
    assert fix["lon"] == pytest.approx(SITE.longitude_deg, abs=1e-7)
    assert fix["altHAE"] == pytest.approx(SITE.altitude_m, abs=0.05)
    assert fix["time"].endswith(".000Z")
    assert reports_before <= 4  # of two seconds: the first may be one of which gpsd saw the end only
    assert skies_before <= 2  # gpsd may tell of a first second of which it saw the satellites in view only
    assert sky["uSat"] >= 4
    assert sky["pdop"] <= 6
