"""`bentpipe record` measures a bench of known delay, through real programs and real packets."""

from __future__ import annotations

import subprocess
import sys
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


@pytest.mark.needs("irtt")
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
