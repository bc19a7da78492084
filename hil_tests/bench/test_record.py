"""`bentpipe record` measures a bench of known delay, through real programs and real packets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emulator.errors import EmulationError
from emulator.scenario import load_scenario
from emulator.timeline.model import LOSS_ONE
from emulator.timeline.traces.files import read_trace
from emulator.units import NS_PER_MS

CHECKOUT = Path(__file__).parents[2]
DELAY_MS = 30


def bentpipe(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "emulator.cli.main", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip


def shell(folder: Path, command: str, *options: str) -> subprocess.CompletedProcess[str]:
    recorded = f"{sys.executable} -m emulator.cli.main record $BENTPIPE_DATACENTER {command}"
    return bentpipe(
        "shell", "fixed", "--set", f"link.delay_ms={DELAY_MS}", *options, "--", "sh", "-c", recorded, folder=folder
    )


@pytest.mark.needs("tun", "ping")
def test_a_recorded_bench_can_be_a_link_again(tmp_path: Path) -> None:
    done = shell(tmp_path, "--duration 2s --interval 0.1s -o seen.csv")
    assert done.returncode == 0, done.stderr
    line = read_trace(tmp_path / "seen.csv")
    assert len(line.uplink) >= 10
    came = line.uplink.loss < LOSS_ONE
    assert line.uplink.delay_ns[came].min() >= DELAY_MS * NS_PER_MS, "nothing is faster than the link"
    assert np.median(line.uplink.delay_ns[came]) < 2 * DELAY_MS * NS_PER_MS
    (tmp_path / "lab.toml").write_text('[link]\nprofile = "trace"\nfile = "seen.csv"\n')
    assert load_scenario(tmp_path / "lab.toml").link.profile == "trace"
    done = bentpipe("shell", "lab.toml", "--", "sh", "-c", "ping -c 2 $BENTPIPE_DATACENTER", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    least_ms = float(done.stdout.rpartition("min/avg/max/mdev = ")[2].split("/")[0])
    assert least_ms >= 2 * DELAY_MS


@pytest.mark.needs("tun", "ping")
def test_a_path_that_loses_all_is_told(tmp_path: Path) -> None:
    done = shell(tmp_path, "--duration 1s --interval 0.5s -o seen.csv", "--set", "link.loss=1")
    assert done.returncode == EmulationError.exit_status
    assert "nothing came back" in done.stderr
    assert list(tmp_path.iterdir()) == []
