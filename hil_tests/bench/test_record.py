"""`bentpipe record` measures a bench of known delay, through real programs and real packets."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from emulator.errors import EmulationError
from emulator.timeline.model import LOSS_ONE
from emulator.timeline.traces.files import read_trace
from emulator.units import NS_PER_MS
from hil_tests.bench.living import World, new_world

pytestmark = pytest.mark.needs("netns", "tun")
RECORD = f"{sys.executable} -m emulator.cli.main record $BENTPIPE_DATACENTER"
UP_MS, DOWN_MS = 30, 10
KNOWN = ("--set", f"link.uplink.delay_ms={UP_MS}", "--set", f"link.downlink.delay_ms={DOWN_MS}")


@pytest.fixture
def world() -> Iterator[World]:
    with new_world() as one:
        yield one


@pytest.mark.needs("ping")
def test_a_recorded_bench_can_be_a_link_again(world: World, tmp_path: Path) -> None:
    done = world.run(f"{RECORD} --duration 2s --interval 0.1s -o {tmp_path}/seen.csv", *KNOWN)
    assert done.returncode == 0, done.stderr
    line = read_trace(tmp_path / "seen.csv")
    came = line.uplink.loss < LOSS_ONE
    assert came.sum() >= 10
    assert line.uplink.delay_ns[came].min() >= (UP_MS + DOWN_MS) / 2 * NS_PER_MS, "nothing is faster than the link"
    assert np.median(line.uplink.delay_ns[came]) < (UP_MS + DOWN_MS) * NS_PER_MS
    (tmp_path / "lab.toml").write_text('[link]\nprofile = "trace"\nfile = "seen.csv"\n')
    done = world.run("ping -c 2 $BENTPIPE_DATACENTER", scenario=str(tmp_path / "lab.toml"))
    assert done.returncode == 0, done.stderr
    least_ms = float(done.stdout.rpartition("min/avg/max/mdev = ")[2].split("/")[0])
    assert least_ms >= UP_MS + DOWN_MS


@pytest.mark.needs("irtt", "root")  # the server is in the network of the one who starts the bench
def test_irtt_tells_the_directions_apart(world: World, tmp_path: Path) -> None:
    server = world.inside(lambda: subprocess.Popen(["irtt", "server", "-b", "0.0.0.0:2112"], stdout=subprocess.PIPE))
    try:
        assert server.stdout is not None
        assert server.stdout.readline(), "it says that it listens"
        record = f"{RECORD} --with irtt --duration 2s --interval 0.05s -o {tmp_path}/seen.irtt.json"
        done = world.run(record, *KNOWN, "--set", "link.uplink.loss=0.2")
    finally:
        server.terminate()
        server.communicate()
    assert done.returncode == 0, done.stderr
    line = read_trace(tmp_path / "seen.irtt.json")
    assert line.uplink.delay_ns.min() >= UP_MS * NS_PER_MS
    assert DOWN_MS * NS_PER_MS <= np.median(line.downlink.delay_ns) < UP_MS * NS_PER_MS
    assert line.uplink.loss.any()
    assert not line.downlink.loss.any()


@pytest.mark.needs("ping")
def test_a_path_that_loses_all_is_told(world: World, tmp_path: Path) -> None:
    done = world.run(f"{RECORD} --duration 1s --interval 0.5s -o {tmp_path}/seen.csv", *KNOWN, "--set", "link.loss=1")
    assert done.returncode == EmulationError.exit_status
    assert "nothing came back" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.needs("ping")
def test_heavy_probes_find_the_rates_and_light_ones_the_path(world: World, tmp_path: Path) -> None:
    listen = [sys.executable, "-m", "emulator.cli.main", "probe", "--listen", "--port", "7010"]
    far = world.inside(lambda: subprocess.Popen(listen, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    try:
        assert far.stdout is not None
        assert far.stdout.readline(), "it says that it listens"
        keys = "link.uplink.rate_mbps=8", "link.downlink.rate_mbps=5", "link.queue_packets=50"
        rates = [part for key in keys for part in ("--set", key)]
        record = f"{RECORD} --duration 5s --interval 0.05s --heavy 12 -o {tmp_path}/seen.csv"
        done = world.run(record, *KNOWN, *rates)
    finally:
        far.terminate()
        far.communicate()
    assert done.returncode == 0, done.stderr
    assert "uplink under load: " in done.stderr
    assert "downlink under load: " in done.stderr
    line = read_trace(tmp_path / "seen.csv")
    assert line.uplink.rate_bps / 8e6 == pytest.approx(np.ones(len(line.uplink)), rel=0.1)
    assert line.downlink.rate_bps / 5e6 == pytest.approx(np.ones(len(line.downlink)), rel=0.1)
    came = line.uplink.loss < LOSS_ONE
    assert (line.uplink.delay_ns[came][1:] < 1.5 * (UP_MS + DOWN_MS) / 2 * NS_PER_MS).all(), "without the queue"


@pytest.mark.needs("ping")
@pytest.mark.parametrize("tool", ["ping", pytest.param("irtt", marks=pytest.mark.needs("irtt"))])
def test_a_kill_leaves_neither_files_nor_programs(tmp_path: Path, tool: str) -> None:
    address = "127.0.0.1:9" if tool == "irtt" else "127.0.0.1"
    command = [sys.executable, "-m", "emulator.cli.main", "record", address, "--with", tool, "--duration", "60s"]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    child = subprocess.Popen([*command, "-o", str(tmp_path / "seen.csv")], env={**os.environ, "TMPDIR": str(temporary)})
    program = _program_below(child, tool)
    child.kill()
    child.wait()
    with open(program, "rb") as pidfd:  # noqa: PTH123 (a descriptor of a process)
        ended = bool(select.select([pidfd], [], [], 30)[0])
    assert ended, "the program goes on without us"
    assert list(temporary.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]


def _program_below(child: subprocess.Popen[bytes], name: str) -> int:
    """A pidfd of the child's child once that has become the program."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split():
            if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                return os.pidfd_open(int(pid))
    raise AssertionError(f"{name} did not start")
