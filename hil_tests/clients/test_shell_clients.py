"""Real clients through a Starlink link, by `bentpipe shell`: what a network engineer types first, on both fabrics."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCENARIO = Path(__file__).parents[2] / "configs" / "starlink_2025.toml"
START = "2026-01-01T00:00:13Z"  # a second into a slot: the first 13 s of each run cross no boundary
FILE_BYTES = 100_000_000
LIMIT_S = 120
LOSSLESS = [
    word
    for way in ("uplink", "downlink")
    for word in ("--set", f"link.{way}.loss=0", "--set", f"link.{way}.bursts.loss=0")
]

Shell = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.needs("netns", "tun")


@pytest.fixture(params=["direct", "zmq"])
def shell(request: pytest.FixtureRequest) -> Shell:
    """`shell(command, server)` runs `command` (sh) at the terminal's side of an isolated bench, `server` opposite."""

    def run(command: str, server: str = "", *options: str) -> subprocess.CompletedProcess[str]:
        served = ["--datacenter-cmd", server] if server else []
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "emulator.cli.main",
                "shell",
                str(SCENARIO),
                "--isolate",
                "--start",
                START,
                "--fabric",
                request.param,
                *served,
                *options,
                "--",
                "sh",
                "-c",
                command,
            ],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return run


def iperf(result: subprocess.CompletedProcess[str]) -> dict[str, float]:
    assert result.returncode == 0, result.stderr + result.stdout
    end: dict[str, dict[str, float]] = json.loads(result.stdout)["end"]
    return end.get("sum_received") or end["sum"]


def command_line(version: int, *options: str) -> str:
    address = "$BENTPIPE_DATACENTER" if version == 4 else "$BENTPIPE_DATACENTER6"
    return f"iperf3 --json -{version} -c {address} -t 2 {' '.join(options)}"


@pytest.mark.needs("ping")
@pytest.mark.parametrize("version", [4, 6])
def test_ping_measures_the_delay_of_the_plan(shell: Shell, version: int) -> None:
    address = "$BENTPIPE_DATACENTER" if version == 4 else "$BENTPIPE_DATACENTER6"
    result = shell(f"ping -{version} -c 10 -i 0.1 {address}", "", *LOSSLESS)
    assert result.returncode == 0, result.stderr
    assert " 0% packet loss" in result.stdout
    times = [float(time) for time in re.findall(r"time=([\d.]+)", result.stdout)]
    plan = subprocess.run(
        [sys.executable, "-m", "emulator.cli.main", "plan", str(SCENARIO), "--start", START, "--duration", "4s"],
        capture_output=True,
        text=True,
        check=True,
        timeout=LIMIT_S,
    )
    rows = [line.split(",") for line in plan.stdout.splitlines()[1:]]
    floor_ms = min(float(row[6]) + float(row[7]) for row in rows)
    assert min(times) >= floor_ms  # jitter, queue and lateness only ever add


@pytest.mark.needs("iperf3")
@pytest.mark.parametrize(
    ("shell", "version", "direction"),
    [("direct", 4, ""), ("direct", 6, ""), ("direct", 4, "-R"), ("direct", 6, "-R"), ("zmq", 4, ""), ("zmq", 6, "-R")],
    indirect=["shell"],
)
def test_tcp_flows_both_ways(shell: Shell, version: int, direction: str) -> None:
    received = iperf(shell(command_line(version, "-C cubic", direction), "iperf3 -s -1"))
    limit = 700e6 if direction else 30e6  # p100 of the rate and its wobble, with room: nothing outruns the link
    assert 0.3e6 < received["bits_per_second"] < limit


@pytest.mark.needs("iperf3")
@pytest.mark.parametrize(  # so slow that the receiver's buffer holds a quarter of a second, should it not be let run
    ("shell", "version", "direction", "rate"),
    [
        ("direct", 4, "", 2),
        ("direct", 6, "", 2),
        ("direct", 4, "-R", 5),
        ("direct", 6, "-R", 5),
        ("zmq", 6, "", 2),
        ("zmq", 4, "-R", 5),
    ],
    indirect=["shell"],
)
def test_udp_below_the_rate_arrives(shell: Shell, version: int, direction: str, rate: int) -> None:
    result = shell(
        command_line(version, "-u", f"-b {rate}M", direction),
        "iperf3 -s -1",
        *LOSSLESS,
    )
    received = iperf(result)
    assert received["lost_percent"] == 0
    assert received["bits_per_second"] == pytest.approx(rate * 1e6, rel=0.1)


@pytest.mark.needs("irtt")
def test_irtt_sees_an_uplink_slower_than_the_downlink(shell: Shell) -> None:
    result = shell("irtt client -i 10ms -d 2s -o - -Q $BENTPIPE_DATACENTER", "exec irtt server")
    assert result.returncode == 0, result.stderr
    stats = json.loads(result.stdout)["stats"]
    assert stats["packets_received"] >= 0.95 * stats["packets_sent"]
    assert stats["send_delay"]["median"] > stats["receive_delay"]["median"] > 3e6  # ns; each above its geometry


@pytest.mark.needs("curl")
def test_a_file_of_100_mb_arrives_whole(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(1 << 20) * (FILE_BYTES >> 20) + os.urandom(FILE_BYTES & ((1 << 20) - 1)))
    want = hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()
    server = f"exec {sys.executable} -m http.server --directory {tmp_path} 8000"
    result = shell("curl --silent --show-error --fail http://$BENTPIPE_DATACENTER:8000/file | sha256sum", server)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[0] == want
