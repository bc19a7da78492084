"""`bentpipe enter` reaches the sides of a bench that another process runs, and says so where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BENTPIPE = [sys.executable, "-m", "emulator.cli.main"]
LIMIT_S = 60

pytestmark = pytest.mark.needs("netns", "tun")


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of our own for running benches, so that those of others are not ours to find."""
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


@pytest.fixture
def bench(runtime: Path) -> Iterator[subprocess.Popen[str]]:
    """A bench that carries packets, in a process of its own."""
    process = subprocess.Popen(
        [*BENTPIPE, "run", "fixed", "--isolate"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    assert any("bentpipe enter" in line for line in process.stderr), "the bench ended before it carried packets"
    yield process
    process.terminate()
    process.communicate(timeout=LIMIT_S)


def enter(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*BENTPIPE, "enter", *words], capture_output=True, text=True, timeout=LIMIT_S, check=False)


@pytest.mark.needs("ip")
def test_each_side_has_its_interface_and_the_status_is_the_commands(bench: subprocess.Popen[str]) -> None:
    for side, name in (("terminal", "ut0"), ("datacenter", "bp0")):
        result = enter("--at", side, "--bench", str(bench.pid), "--", "sh", "-c", "ip -json link; exit 7")
        assert result.returncode == 7, result.stderr
        assert {link["ifname"] for link in json.loads(result.stdout)} == {"lo", name}


@pytest.mark.needs("ping")
def test_what_runs_there_crosses_the_link(bench: subprocess.Popen[str]) -> None:
    result = enter("--", "sh", "-c", "ping -c 1 $BENTPIPE_DATACENTER")
    assert " 0% packet loss" in result.stdout, result.stderr


@pytest.mark.usefixtures("runtime")
def test_without_a_bench_it_says_so() -> None:
    result = enter("--", "true")
    assert result.returncode == 69
    assert result.stderr.startswith("bentpipe: no bench is running")


def test_a_command_that_does_not_exist_is_named(bench: subprocess.Popen[str]) -> None:
    assert bench.poll() is None
    result = enter("--", "no-such-command")
    assert (result.returncode, result.stderr) == (127, "bentpipe: no-such-command: command not found\n")


def test_a_part_has_no_side_but_its_own(runtime: Path) -> None:
    words = [*BENTPIPE, "terminal", "fixed", "--link", f"ipc://{runtime}/link"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as part:
        assert part.stderr is not None
        assert any("bentpipe enter" in line for line in part.stderr)
        assert enter("--", "true").returncode == 0
        refused = enter("--at", "datacenter", "--", "true")
        part.terminate()
    assert refused.returncode == 2
    assert "--at datacenter: this side of the bench is not in reach from here" in refused.stderr
