"""Nothing of a command outlives the bench, and its end is told as it was. No privilege is needed for any of it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.bench import guardian

PATIENCE_S = 30.0


class Guarded:
    """A guarded command. `life`: the bench's end of the pipe; `alive`: ends when the last of its processes has."""

    def __init__(self, *command: str, **options: Any) -> None:
        listening, self.life = os.pipe()
        self.alive, held = os.pipe()
        arguments = [sys.executable, "-I", "-S", guardian.__file__, "-1", str(listening), *command]
        self.process = subprocess.Popen(
            arguments, pass_fds=(listening, held), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        os.close(listening)
        os.close(held)

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    def end_bench(self) -> None:
        os.close(self.life)
        self.life = -1

    def all_gone(self) -> bool:
        return bool(select.select([self.alive], [], [], PATIENCE_S)[0]) and os.read(self.alive, 1) == b""

    def close(self) -> None:
        if self.life >= 0:
            os.close(self.life)
        self.process.wait(PATIENCE_S)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        os.close(self.alive)


@contextlib.contextmanager
def guarded(*command: str, **options: Any) -> Iterator[Guarded]:
    one = Guarded(*command, **options)
    try:
        yield one
    finally:
        one.close()


@pytest.mark.parametrize("status", [0, 1, 77, 126, 127, 130, 255])
def test_the_status_is_the_commands(status: int) -> None:
    with guarded("sh", "-c", f"exit {status}") as one:
        assert one.wait() == status
        assert one.all_gone()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGHUP, signal.SIGUSR1])
def test_a_death_by_signal_is_a_death_by_that_signal(number: signal.Signals) -> None:
    with guarded("sh", "-c", f"kill -{number.value} $$") as one:
        assert one.wait() == -number


def test_what_cannot_be_executed_is_told_as_shells_do(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program\n")
    (tmp_path / "text").chmod(0o755)
    for command, status, reason in (
        ("/no/such", 127, "No such file"),
        (str(tmp_path / "text"), 126, "Exec format error"),
    ):
        with guarded(command) as one:
            assert one.wait() == status
            assert one.process.stderr is not None
            assert f"bentpipe: {command}: {reason}" in one.process.stderr.read()


FAMILIES = {
    "a command": "echo ready; exec sleep 1000",
    "children and grandchildren": "sh -c 'sleep 1000 & sleep 1000 & wait' & sleep 1000 & echo ready; wait",
    "a daemon with a session of its own": "setsid sh -c 'sleep 1000 & exec sleep 1000' & echo ready; exec sleep 1000",
    "an orphan": "(setsid sleep 1000 &); echo ready; exec sleep 1000",
    "one that ignores what it may": "trap '' TERM INT HUP QUIT USR1 PIPE; echo ready; while :; do sleep 1000; done",
    "one that is stopped": "sleep 1000 & kill -STOP $!; echo ready; kill -STOP $$",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_nobody_outlives_the_bench(family: str) -> None:
    with guarded("sh", "-c", FAMILIES[family]) as one:
        assert one.line() == "ready"
        one.end_bench()
        assert one.all_gone()


@pytest.mark.parametrize("family", ["children and grandchildren", "a daemon with a session of its own", "an orphan"])
def test_nobody_outlives_the_command(family: str) -> None:
    with guarded(
        "sh", "-c", FAMILIES[family].replace("exec sleep 1000", "exit 7").replace("; wait", "; exit 7")
    ) as one:
        assert one.line() == "ready"
        assert one.wait() == 7
        assert one.all_gone()


def test_a_burst_of_forks_is_caught_up_with() -> None:
    """Some are made after the guardian looked and before their parent is killed: they come to it, and are found."""
    tree = "f() { if [ $1 -gt 0 ]; then f $(($1-1)) & f $(($1-1)) & fi; echo ready; exec sleep 1000; }; f 6"
    for grown in (1, 20, 60):
        with guarded("sh", "-c", tree) as one:
            assert [one.line() for _ in range(grown)] == ["ready"] * grown
            one.end_bench()
            assert one.all_gone()


def test_a_killed_guardian_takes_the_command_with_it() -> None:
    with guarded("sh", "-c", "echo ready; exec sleep 1000") as one:
        assert one.line() == "ready"
        one.process.kill()
        assert one.all_gone()


@pytest.mark.parametrize("number", guardian.FORWARDED)
def test_signals_to_the_guardian_reach_the_command(number: signal.Signals) -> None:
    script = f"trap 'echo got; exit 3' {number.name.removeprefix('SIG')}; echo ready; while :; do sleep 0.01; done"
    with guarded("sh", "-c", script) as one:
        assert one.line() == "ready"
        one.process.send_signal(number)
        assert (one.line(), one.wait()) == ("got", 3)


def test_the_keyboards_interrupt_reaches_the_command_once() -> None:
    """It goes to the whole group; the guardian, which is in it too, must not pass it on again, nor end of it."""
    script = "n=0; trap 'n=$((n+1))' INT; trap 'echo $n; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    with guarded("sh", "-c", script, start_new_session=True) as one:
        assert one.line() == "ready"
        os.killpg(one.process.pid, signal.SIGINT)
        one.process.send_signal(signal.SIGTERM)
        assert (one.line(), one.wait()) == ("1", 0)


def test_the_command_starts_with_default_signals_whatever_its_parent_ignores() -> None:
    code = "import signal; print([signal.getsignal(n).name for n in (2, 3, 13, 15, 17)])"

    def ignore() -> None:
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)

    probing = "sh", "-c", "trap - INT; cat /proc/self/status | grep -E 'Sig(Ign|Blk)'"
    with guarded(*probing, preexec_fn=ignore) as one:
        masks = {key: int(value, 16) for key, value in (one.line().split() for _ in range(2))}
    ignored = {key: mask & 0x7FFF_FFFF for key, mask in masks.items()}  # those from 32 on are libc's own and real-time
    assert ignored == {"SigBlk:": 0, "SigIgn:": 0}, code


def test_orphans_are_buried_while_the_command_runs() -> None:
    """A shell that leaves background jobs behind all day must not fill the process table."""
    with guarded(
        "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do (true &) ; done; echo ready; read line", stdin=subprocess.PIPE
    ) as one:
        assert one.line() == "ready"
        deadline = time.monotonic() + PATIENCE_S
        while len(guardian.descendants(one.process.pid)) > 1:
            assert time.monotonic() < deadline, "zombies"
        assert one.process.poll() is None
        assert one.process.stdin is not None
        one.process.stdin.close()


def test_it_starts_on_the_standard_library_alone_and_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "signal.py").write_text("raise SystemExit('the wrong one')")
    with guarded("true", cwd=tmp_path, env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}) as one:
        assert one.wait() == 0


def test_standard_streams_are_the_commands() -> None:
    with guarded("cat", stdin=subprocess.PIPE) as one:
        assert one.process.stdin is not None
        one.process.stdin.write("hello\n")
        one.process.stdin.close()
        assert one.line() == "hello"
        assert one.wait() == 0
