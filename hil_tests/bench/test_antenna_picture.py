"""A minute of iperf3 while rotctl drives the antenna: throughput falls with the MODCOD, stops, and returns. Drawn."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from emulator.bench import Bench
from emulator.bench.loop import AntennaLoop
from emulator.scenario import load_scenario
from emulator.terminal import Antenna, Mount, Terminal
from firmware_stubs.registry import Hardware
from firmware_stubs.transport import SerialStub

PATIENCE_S = 60
SECONDS, BIN_S = 60, 0.1
MOVES = ((12.0, 1.2), (20.0, 0.0), (28.0, 5.0), (40.0, 0.0))  # s, degrees off: driven by rotctl
SETTINGS = (
    "terminal.antenna.beam_width_deg=2",
    "terminal.antenna.tracking=none",
    "terminal.antenna.acquisition_s=5",
    "terminal.antenna.port=tcp:127.0.0.1:0",
)

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(400),  # a minute of traffic, its beginning, and the packet path's compilation before it
    pytest.mark.needs("netns", "tun", "rotctl", "iperf3"),
]


def rotctl(loop: AntennaLoop, *command: object) -> None:
    address = loop.address.removeprefix("tcp:")
    subprocess.run(["rotctl", "-m", "2", "-r", address, *map(str, command)], check=True, timeout=PATIENCE_S)


def test_throughput_falls_and_returns(tmp_path: Path) -> None:
    antenna, port = Antenna(Mount()), str(tmp_path / "ttyUSB0")  # a Yaesu G-5500, behind a serial port
    firmware = f'terminal.antenna.firmware={{ serial = "{port}", baud = 19200 }}'
    rows: list[tuple[float, float, float, float, bool]] = []
    with (
        SerialStub("easycomm2", Terminal(0, 0, 0).state, port, hardware=Hardware(antenna=antenna)),
        Bench(load_scenario("geo_dvbs2", [*SETTINGS, firmware])) as bench,
    ):
        loop, sky = bench.antenna, bench.state()
        assert loop is not None
        assert sky.azimuth_deg is not None
        assert sky.elevation_deg is not None
        pause = threading.Event()
        rotctl(loop, "P", sky.azimuth_deg, sky.elevation_deg)
        while not loop.state.locked:
            pause.wait(0.1)
        server = bench.datacenter.popen(["iperf3", "-s", "-1"], stdout=subprocess.DEVNULL)
        pause.wait(1.0)
        flow = ["-R", "-u", "-b", "35M", "-l", "1200", "-t", str(SECONDS + 10)]
        command = ["iperf3", "-c", bench.datacenter.ipv4, *flow]
        client = bench.terminal.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        pause.wait(4.0)
        started, moves, before = time.monotonic(), list(MOVES), bench.counters().downlink.delivered_bytes
        while (t := time.monotonic() - started) < SECONDS:
            if moves and t >= moves[0][0]:
                _, off_deg = moves.pop(0)
                rotctl(loop, "P", sky.azimuth_deg, sky.elevation_deg + off_deg)
            pause.wait(BIN_S)
            now, at = bench.counters().downlink.delivered_bytes, time.monotonic() - started
            state, rate = loop.state, bench.state().downlink
            planned = rate.rate_bps if rate.gate.name == "PASS" else 0
            rows.append((at, 8 * (now - before) / (at - t) / 1e6, planned / 1e6, state.off_deg or 0, state.locked))
            before = now
        trace, oddities = list(loop.trace), list(loop.line.oddities)
        client.kill()
        server.kill()
    table = np.array(rows, np.float64)
    at_s, mbps, off = table[:, 0], table[:, 1], table[:, 3]

    def during(first_s: float, last_s: float) -> float:
        return float(mbps[(at_s > first_s) & (at_s < last_s)].mean())

    clear, faded = during(5, 11), during(15, 19)
    assert {oddity.kind for _, oddity in oddities} <= {"silence"}  # of a machine that stood still for a while
    assert clear > 20
    assert 0.2 * clear < faded < 0.9 * clear
    assert during(32, 39) < 0.01 * clear
    assert off.max() == pytest.approx(5, abs=0.1)
    assert during(50, 59) > 0.9 * clear
    reactions_ms = [
        (one.applied_ns - one.heard_ns) / 1e6
        for earlier, one in zip(trace, trace[1:], strict=False)
        if one.heard_ns and one.heard_ns != earlier.heard_ns and one.applied_ns != earlier.applied_ns
    ]
    p50, p99 = np.percentile(reactions_ms, [50, 99])
    print(
        f"clear {clear:.1f} Mbit/s, 1.2° off {faded:.1f}, 5° off {during(32, 39):.2f}, back {during(50, 59):.1f}; "
        f"from a report's last byte to the link p50 {p50:.1f} ms, p99 {p99:.1f} ms of {len(reactions_ms)}"
    )
    assert p50 < 45  # what is on the link takes effect 5 ms later: felt within 50 ms of the report's last byte
    draw(table, Path(os.environ.get("BENTPIPE_PICTURES", tmp_path)) / "antenna_loop.png")


def draw(table: np.ndarray[tuple[int, int], np.dtype[np.float64]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    at_s, mbps, planned, off, locked = table.T
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(9, 5), height_ratios=(2, 1), layout="constrained")
    above.fill_between(at_s, 0, mbps, step="pre", color="#4c8fbd", alpha=0.6, label="delivered, 0.1 s bins")
    above.step(at_s, planned, where="pre", color="#1b3a57", linewidth=1, label="what the MODCOD carries")
    above.set_ylabel("downlink, Mbit/s")
    above.set_ylim(0)
    above.legend(loc="lower right", fontsize=8)
    above.set_title("rotctl drives the antenna 1.2° and 5° off a geostationary satellite; beam 2° wide", fontsize=10)
    below.plot(at_s, off, color="#b5502c", label="off the satellite")
    below.fill_between(at_s, 0, 5.5, where=locked < 0.5, color="#999999", alpha=0.35, step="mid", label="no lock")
    below.set_ylabel("degrees")
    below.set_xlabel("seconds")
    below.set_xlim(0, at_s[-1])
    below.set_ylim(0, 5.5)
    below.legend(loc="upper right", fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
