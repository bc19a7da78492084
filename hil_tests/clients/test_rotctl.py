"""A real rotctl drives the antenna controllers: each model over its own line, and beside a real rotctld."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from emulator.terminal import Antenna, Mount, Terminal
from emulator.units import NS_PER_S, parse_utc_ns
from firmware_stubs.registry import Hardware
from firmware_stubs.transport import SerialStub

SITE = Terminal(-33.8568, 151.2153, 42.0)
PATIENCE_S = 60
MODELS = {"easycomm2": 202, "easycomm3": 204, "gs232b": 603, "rotctld": 2}
ON_THE_NETWORK = ["easycomm2 tcp", "easycomm3 tcp", "gs232b tcp"]  # where rotctl speaks the serial ones, too

pytestmark = pytest.mark.needs("rotctl")


@dataclass
class Rig:
    """A controller with its antenna, in a time that the test sets, and rotctl before it."""

    kind: str
    antenna: Antenna
    stub: SerialStub
    now_ns: int

    def rotctl(self, *command: str) -> list[str]:
        """What rotctl prints, its complaints included: its exit status tells nothing.

        Most commands are not answered: asking for the position behind them tells that they were heard.
        """
        program = shutil.which("rotctl")
        assert program
        address = self.stub.address.removeprefix("tcp:")
        arguments = [program, "-m", str(MODELS[self.kind]), "-r", address, *command, "p"]
        result = subprocess.run(
            arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE_S,
            stdin=subprocess.DEVNULL,
        )
        return result.stdout.splitlines()

    def position(self) -> tuple[float, float]:
        azimuth, elevation = (float(line) for line in self.rotctl() if line)
        return azimuth, elevation

    def waits(self, seconds: float) -> None:
        self.now_ns += int(seconds * NS_PER_S)


@pytest.fixture(params=MODELS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    antenna = Antenna(Mount(park_azimuth_deg=10, park_elevation_deg=80))
    kind, _, transport = request.param.partition(" ")
    port = "tcp:127.0.0.1:0" if transport or kind == "rotctld" else str(tmp_path / "rotator")
    stub = SerialStub(kind, SITE.state, port, hardware=Hardware(antenna=antenna), utc_ns=lambda: made.now_ns)
    made = Rig(kind, antenna, stub, parse_utc_ns("2026-03-01T12:00:00Z"))
    with stub:
        yield made


@pytest.mark.parametrize("rig", [*MODELS, *ON_THE_NETWORK], indirect=True)
def test_it_reads_back_while_slewing_and_after(rig: Rig) -> None:
    assert rig.position() == (10, 80)
    rig.rotctl("P", "134", "40")
    assert rig.antenna.pose(rig.now_ns).moving
    rig.waits(10)
    assert rig.position() == pytest.approx((72, 53), abs=0.5)  # 6.2 and 2.7 degrees per second
    rig.waits(10)
    assert rig.position() == (134, 40)
    assert not rig.antenna.pose(rig.now_ns).moving


def test_it_stops_half_way(rig: Rig) -> None:
    rig.rotctl("P", "134", "40")
    rig.waits(5)
    rig.rotctl("S")
    rig.waits(100)
    assert rig.position() == pytest.approx((41, 66.5), abs=0.51)


def test_it_parks(rig: Rig) -> None:
    rig.rotctl("P", "134", "40")
    rig.waits(100)
    if rig.kind == "gs232b":  # neither the controller nor its client has a command for it
        assert "Feature not available" in rig.rotctl("K")
        return
    rig.rotctl("K")
    rig.waits(100)
    assert rig.position() == (10, 80)


def test_it_turns_until_the_limit(rig: Rig) -> None:
    rig.rotctl("M", "16", "100")
    rig.waits(10)
    azimuth, elevation = rig.position()
    assert azimuth > 70
    assert elevation == 80
    rig.waits(1000)
    assert rig.position() == (450, 80)


def test_a_position_beyond_the_limits_is_refused(rig: Rig) -> None:
    assert "Invalid parameter" in rig.rotctl("P", "500", "40")
    rig.waits(100)
    assert rig.position() == (10, 80)


def test_the_command_serves_a_controller_with_the_mount_that_it_is_told() -> None:
    options = ["--port", "tcp:127.0.0.1:0", "--antenna", "park_azimuth_deg=30", "--antenna", "park_elevation_deg=20"]
    process = subprocess.Popen(
        [sys.executable, "-m", "emulator.cli.main", "stub", "rotctld", *options],
        cwd=Path(__file__).parents[2],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip().removeprefix("tcp:")
        told = subprocess.run(["rotctl", "-m", "2", "-r", address, "p"], capture_output=True, text=True, check=True)
        assert told.stdout.split() == ["30.00", "20.00"]
    finally:
        process.terminate()
        assert process.communicate(timeout=PATIENCE_S)[1].endswith("unheard 0, dropped 0\n")
    assert process.returncode == 143


@pytest.mark.needs("rotctld")
@pytest.mark.parametrize("rig", ["rotctld"], indirect=True)
@pytest.mark.parametrize(
    "line",
    [
        "P 10.0 20.0",
        "P abc def",
        "P 500 20",
        "+P 1 2",
        ";P 1 2",
        "+P 999 1",
        "S",
        "K",
        "+K",
        "\\stop",
        "R 1",
        "R x",
        "M 2 10",
        "M 3 10",
        "SSS",
        "S;S",
        "V SPEED 3",
        "#comment",
        "Z",
        "\\foo",
        "q",
    ],
)
def test_it_answers_as_a_real_rotctld_does(rig: Rig, line: str, real: int) -> None:
    port = int(rig.stub.address.rsplit(":", 1)[1])
    assert said(port, line) == said(real, line)


def said(port: int, line: str) -> bytes:
    """Everything that is answered to `line`, and to a command that is always answered after it."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client, client.makefile("rb") as file:
        client.sendall(f"{line}\n\\stop\n\\stop\n".encode())
        client.shutdown(socket.SHUT_WR)
        return file.read()


@pytest.fixture(scope="module")
def real() -> Iterator[int]:
    """The port of a real rotctld with its dummy rotator."""
    program = shutil.which("rotctld")
    assert program
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    daemon = subprocess.Popen(
        [program, "-m", "1", "-T", "127.0.0.1", "-t", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), PATIENCE_S).close()
                break
            except ConnectionRefusedError:
                assert daemon.poll() is None
        yield port
    finally:
        daemon.kill()
        daemon.wait()
