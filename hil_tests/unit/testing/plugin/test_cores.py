"""The budget of cores holds among processes, and who dies gives back what it held."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from emulator.errors import EmulationError
from emulator.testing.plugin.cores import core, default_budget

HOLDER = """
import sys
from pathlib import Path
from emulator.testing.plugin.cores import core
with core(2, directory=Path(sys.argv[1])) as number:
    print(number, flush=True)
    sys.stdin.read()
"""


def holder(directory: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() in "01"
    return process


def test_a_killed_holder_gives_its_core_back_and_nobody_gets_a_third_of_two(tmp_path: Path) -> None:
    holders = [holder(tmp_path), holder(tmp_path)]
    try:
        with pytest.raises(EmulationError, match=str(holders[0].pid)), core(2, directory=tmp_path, longest_wait_s=0):
            pass
        os.kill(holders[1].pid, signal.SIGKILL)
        holders[1].wait()
        with core(2, directory=tmp_path, longest_wait_s=0) as number:
            assert number == 1
    finally:
        for process in holders:
            process.kill()
            process.communicate()


def test_who_waits_gets_the_core_that_comes_free(tmp_path: Path) -> None:
    got = threading.Event()

    def wait() -> None:
        with core(1, directory=tmp_path):
            got.set()

    with core(1, directory=tmp_path):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not got.is_set()
    waiting.join(20)
    assert got.is_set()


def test_a_budget_leaves_one_core_to_the_traffic() -> None:
    assert 1 <= default_budget() <= max(1, len(os.sched_getaffinity(0)) - 1)
