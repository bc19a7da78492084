"""The loop closed: a real rotctl moves the antenna, stub or hardware on a serial line, and the packets feel it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import serial

from emulator.bench import Bench
from emulator.bench.loop import AntennaLoop
from emulator.errors import ScenarioError
from emulator.radio.modcod import best_modcod
from emulator.scenario import load_scenario
from emulator.terminal import Antenna, Mount, Terminal
from emulator.timeline.causes import Cause, Gate
from firmware_stubs.registry import Hardware
from firmware_stubs.transport import SerialStub
from hil_tests.clients.openamip_peers import AntennaUnit

PATIENCE_S = 60
FAST = ("azimuth_rate_deg_s=1000", "elevation_rate_deg_s=1000")
SETTINGS = (
    "terminal.antenna.beam_width_deg=2",
    "terminal.antenna.acquisition_s=0.2",
    "terminal.antenna.port=tcp:127.0.0.1:0",
    "link.uplink.loss=0",
    "link.downlink.loss=0",
    *(f"terminal.antenna.mount.{key}" for key in FAST),
)

pytestmark = pytest.mark.needs("netns", "tun", "rotctl")


@contextlib.contextmanager
def bench_with(firmware: str, tmp_path: Path, *more: str) -> Iterator[Bench]:
    """A geostationary link with a steered antenna; `hardware`: a controller on a serial port that is none of ours."""
    settings = [*SETTINGS, *more]
    with contextlib.ExitStack() as running:
        if firmware == "hardware":
            antenna = Antenna(Mount(azimuth_rate_deg_s=1000, elevation_rate_deg_s=1000))
            port = str(tmp_path / "ttyUSB0")
            state_at = Terminal(0, 0, 0).state
            running.enter_context(SerialStub("easycomm2", state_at, port, hardware=Hardware(antenna=antenna)))
            settings.append(f'terminal.antenna.firmware={{ serial = "{port}", baud = 19200 }}')
        yield running.enter_context(Bench(load_scenario("geo_dvbs2", settings)))


def loop_of(bench: Bench) -> AntennaLoop:
    assert bench.antenna is not None
    return bench.antenna


def rotctl(bench: Bench, *command: object) -> None:
    """What a person types."""
    program = shutil.which("rotctl")
    assert program
    address = loop_of(bench).address.removeprefix("tcp:")
    subprocess.run(
        [program, "-m", "2", "-r", address, *map(str, command)], check=True, timeout=PATIENCE_S, capture_output=True
    )


def until(done: Callable[[], bool]) -> None:
    give_up, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while not done():
        assert time.monotonic() < give_up
        pause.wait(0.01)


def dropped_of(bench: Bench, packets: int) -> tuple[int, int]:
    """Sends packets down the link; (delivered, lost to a fade) of them."""
    before = bench.counters().downlink

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(packets):
                sender.sendto(bytes(100), (bench.terminal.ipv4, 9))

    bench.datacenter.namespace.run(send)
    until(lambda: bench.counters().downlink.offered_packets >= before.offered_packets + packets)
    until(lambda: bench.counters().downlink.held_packets == 0)
    after = bench.counters().downlink
    lost = after.dropped.get(Cause.FADE, 0) - before.dropped.get(Cause.FADE, 0)
    return after.delivered_packets - before.delivered_packets, lost


@pytest.mark.parametrize("firmware", ["stub", "hardware"])
def test_rotctl_takes_the_traffic_away_and_brings_it_back(firmware: str, tmp_path: Path) -> None:
    with bench_with(firmware, tmp_path, "terminal.antenna.tracking=none") as bench:
        loop, sky = loop_of(bench), bench.state()
        assert sky.azimuth_deg is not None
        assert sky.elevation_deg is not None
        assert sky.downlink.gate is Gate.DROP  # parked: it looks at nothing
        assert dropped_of(bench, 20) == (0, 20)

        rotctl(bench, "P", sky.azimuth_deg, sky.elevation_deg)
        until(lambda: loop.state.locked)
        clear = bench.state()
        assert clear.downlink.gate is Gate.PASS
        assert dropped_of(bench, 20) == (20, 0)

        rotctl(bench, "P", sky.azimuth_deg, sky.elevation_deg + 1.1)  # 3.6 dB: the MODCOD gives way, the link holds
        until(lambda: loop.state.receive_loss_db > 3)
        faded, state = bench.state(), loop.state
        assert state.beacon_db is not None
        best, held = best_modcod(state.beacon_db), best_modcod(state.beacon_db + state.receive_loss_db)
        assert best is not None
        assert held is not None
        assert best.efficiency < held.efficiency
        share = best.efficiency / held.efficiency
        assert faded.downlink.rate_bps == pytest.approx(clear.downlink.rate_bps * share, rel=0.05)
        assert dropped_of(bench, 20) == (20, 0)

        rotctl(bench, "P", sky.azimuth_deg, sky.elevation_deg + 5)
        until(lambda: not loop.state.locked)
        assert bench.state().uplink.cause is Cause.FADE
        assert dropped_of(bench, 20) == (0, 20)

        rotctl(bench, "P", sky.azimuth_deg, sky.elevation_deg)
        until(lambda: loop.state.locked)
        assert bench.state().downlink == clear.downlink
        assert dropped_of(bench, 20) == (20, 0)

        rotctl(bench, "K")
        until(lambda: not loop.state.locked)
        assert dropped_of(bench, 20) == (0, 20)


@pytest.mark.parametrize("firmware", ["stub", "hardware"])
def test_a_controller_that_sees_the_beacon_alone_climbs_to_the_satellite(firmware: str, tmp_path: Path) -> None:
    """Step tracking, as controllers do it: a step that is heard better is kept. It knows nothing of the emulator."""
    line = str(tmp_path / "ttyAGC0")
    with bench_with(
        firmware, tmp_path, "terminal.antenna.tracking=none", f"terminal.antenna.beacon_port={line}"
    ) as bench:
        loop, sky = loop_of(bench), bench.state()
        assert sky.azimuth_deg is not None
        assert sky.elevation_deg is not None
        host, port = loop.address.removeprefix("tcp:").split(":")
        with (
            serial.Serial(loop.beacon_address, 9600, timeout=PATIENCE_S) as receiver,
            socket.create_connection((host, int(port))) as controller,
            controller.makefile("rw") as door,
        ):

            def heard(azimuth_deg: float, elevation_deg: float) -> tuple[float, bool]:
                """The level there: of the first report that began when the antenna had arrived."""
                door.write(f"P {azimuth_deg:.2f} {elevation_deg:.2f}\n")
                door.flush()
                assert door.readline() == "RPRT 0\n"
                until(lambda: loop.reported == pytest.approx((azimuth_deg, elevation_deg), abs=0.11))
                receiver.reset_input_buffer()
                receiver.readline()
                _, level, volts, locked = receiver.readline().decode("ascii").partition("*")[0].split(",")
                assert float(volts) == pytest.approx(0.2 * (float(level) + 20), abs=0.01)
                return float(level), locked == "1"

            here = [sky.azimuth_deg + 1.2, sky.elevation_deg - 0.9]  # some 4 dB of the main lobe
            best = first = heard(*here)[0]
            for step_deg in (0.6, 0.3):
                for axis in (0, 1):
                    for sign in (-1, 1):
                        while True:
                            there = list(here)
                            there[axis] += sign * step_deg
                            level, _ = heard(*there)
                            if level <= best:
                                break
                            here, best = there, level
            until(lambda: heard(*here)[1])
        assert best > first + 2
        assert loop.state.off_deg is not None
        assert loop.state.off_deg < 0.4


def test_tracking_finds_the_satellite_yields_to_others_and_takes_over_again(tmp_path: Path) -> None:
    with bench_with("stub", tmp_path) as bench:
        loop = loop_of(bench)
        until(lambda: loop.state.locked)
        assert loop.state.off_deg == pytest.approx(0, abs=0.1)
        rotctl(bench, "P", 10, 20)
        until(lambda: not loop.state.locked)
        assert loop.taken_over
        rotctl(bench, "R", 1)
        until(lambda: loop.state.locked)
        assert dropped_of(bench, 20) == (20, 0)


def test_what_stands_in_the_way_is_a_fade_and_dead_motors_let_the_satellite_go(tmp_path: Path) -> None:
    roll = tmp_path / "roll.csv"
    roll.write_text("t_s,roll_deg,pitch_deg,heading_deg\n0,0,0,0\n4,0,0,0\n24,60,0,0\n")
    mast = "terminal.antenna.blockages=[{ azimuth_from_deg = 0, azimuth_to_deg = 359.9, loss_db = 2.5 }]"
    dead = 'terminal.antenna.faults=[{ kind = "motor", at_s = 4, duration_s = 600 }]'
    with bench_with("stub", tmp_path, mast, dead, f"terminal.antenna.attitude={roll}") as bench:
        loop = loop_of(bench)
        until(lambda: loop.state.locked)
        assert loop.state.blocked_db == 2.5
        assert 2.5 <= loop.state.receive_loss_db < 5
        until(lambda: loop.state.receive_loss_db > 5)  # the ship rolls on under it
        until(lambda: not loop.state.locked)
        assert bench.state().downlink.gate is Gate.DROP


@pytest.mark.parametrize("firmware", ["stub", "hardware"])
def test_an_antenna_that_a_modem_commands_lets_the_traffic_through_when_it_says_so(
    firmware: str, tmp_path: Path
) -> None:
    """OpenAMIP: it finds the satellite by itself, and says that the modem may transmit."""
    more = ["terminal.antenna.protocol=openamip"]
    antenna: AntennaUnit | None = None
    with contextlib.ExitStack() as running:
        if firmware == "hardware":  # over TCP, and none of ours
            antenna = running.enter_context(AntennaUnit())
            antenna.status = ("1", "1")
            more.append(f'terminal.antenna.firmware={{ serial = "{antenna.url}" }}')
        bench = running.enter_context(Bench(load_scenario("geo_dvbs2", [*SETTINGS, *more])))
        until(lambda: loop_of(bench).state.locked)
        assert dropped_of(bench, 20) == (20, 0)
        heard = {oddity.kind for _, oddity in loop_of(bench).line.oddities}
        assert heard <= {"silence"}  # of a machine that stood still for a while
        if antenna is not None:
            assert antenna.heard[0] == ["S", "10.000", "90.000", "0.000"]
            antenna.until(lambda heard: ["L", "1", "1"] in heard)
            antenna.status = ("1", "0")  # a wave
            until(lambda: not loop_of(bench).state.locked)
            assert dropped_of(bench, 20) == (0, 20)


def test_a_link_without_a_sky_has_nothing_to_point_at() -> None:
    scenario = load_scenario(
        "fixed",
        ["terminal.latitude_deg=0", "terminal.longitude_deg=0", "terminal.antenna.beam_width_deg=2"],
    )
    with pytest.raises(ScenarioError, match=r"terminal\.antenna: expected a link with a sky"), Bench(scenario):
        pass
