"""What lasts longer than two seconds shows that it does, on a terminal and nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

SLOW = {
    "a bar": "with progress.progress('planning', 10) as advance:\n    wait(0.3)\n    advance(1)\n    wait(0.3)",
    "a time": "progress.TICK_S = 0.1\nwith progress.elapsing('probing', 9):\n    wait(1.0)",
    "work of unknown length": "with progress.working('drawing'):\n    wait(1.0)",
}
WORDS = {"a bar": b"planning", "a time": b"probing", "work of unknown length": "drawing …".encode()}


def shown(script: str, patience_s: float) -> bytes:
    """What a script writes to a terminal, with that patience."""
    ours, theirs = pty.openpty()
    text = "from threading import Event\nfrom emulator.cli import progress\nwait = Event().wait\n"
    text += f"progress.PATIENCE_S = {patience_s}\n{script}\n"
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([sys.executable, "-c", text], stderr=theirs, stdin=theirs, env=environment) as process:
        os.close(theirs)
        found = b""
        while True:
            try:
                found += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    assert process.returncode == 0, found.decode()
    return found


@pytest.mark.parametrize("what", SLOW)
def test_long_work_is_shown_and_short_work_is_not(what: str) -> None:
    assert WORDS[what] in shown(SLOW[what], 0.0)
    assert shown(SLOW[what], 60) == b""


def test_without_a_terminal_there_is_nothing() -> None:
    script = f"from emulator.cli import progress\nprogress.PATIENCE_S = 0.0\nwait = print\n{SLOW['a bar']}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, stdin=subprocess.DEVNULL)
    assert done.stderr == b""
