"""Processes at one side of a bench, for tests: with their output, their exit status and a deadline."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from emulator.bench.guardian import descendants
from emulator.errors import ScenarioError

if TYPE_CHECKING:
    from emulator.bench.sides import Side

DEADLINE_S = 30.0
GRACE_S = 2.0  # after SIGTERM
LOOK_S = 0.01
SHOWN_LINES = 40  # of each stream, at the end, in a report


class DeadlineExceeded(TimeoutError):
    """A process that did not do in time what was expected; the message has the end of its output."""


@dataclass(frozen=True)
class Finished:
    """A process that has ended. `status` as subprocess has it: below 0 it died of that signal."""

    command: tuple[str, ...]
    status: int
    stdout: str
    stderr: str
    seconds: float

    def __str__(self) -> str:
        how = f"exit status {self.status}" if self.status >= 0 else f"signal {signal.Signals(-self.status).name}"
        return f"{shlex.join(self.command)}: {how} after {self.seconds:.2f} s{_tails(self.stdout, self.stderr)}"


class Running:
    """A process at a side. As a context it is stopped at the end of the block; the bench's end stops it, too."""

    def __init__(self, side: Side, command: Sequence[str], folder: Path, number: int, options: dict[str, Any]) -> None:
        self.command = tuple(command)
        self._out, self._err = (folder / f"{side.name}-{number}.{stream}" for stream in ("stdout", "stderr"))
        self._began_s = time.monotonic()
        self._finished: Finished | None = None
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = side.popen(
                list(command), stdout=out, stderr=err, stdin=subprocess.DEVNULL, start_new_session=True, **options
            )

    @property
    def stdout(self) -> str:
        """What it has written so far."""
        return self._out.read_text(encoding="utf-8", errors="replace")

    @property
    def stderr(self) -> str:
        return self._err.read_text(encoding="utf-8", errors="replace")

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def expect(self, pattern: str, deadline_s: float = DEADLINE_S) -> re.Match[str]:
        """Waits until either stream holds what the regular expression `pattern` finds.

        Raises DeadlineExceeded; at once if the process has ended without.
        """
        ends_s, pause = time.monotonic() + deadline_s, threading.Event()
        while True:
            over = not self.running
            for text in (self.stdout, self.stderr):
                if found := re.search(pattern, text, re.MULTILINE):
                    return found
            if over or time.monotonic() >= ends_s:
                why = f"ended with status {self._process.returncode}" if over else f"not within {deadline_s:g} s"
                raise DeadlineExceeded(
                    f"{shlex.join(self.command)}: expected {pattern!r} in its output, {why}"
                    f"{_tails(self.stdout, self.stderr)}"
                )
            pause.wait(LOOK_S)

    def wait(self, deadline_s: float = DEADLINE_S) -> Finished:
        """Waits for its end. Raises DeadlineExceeded, and ends it, if that takes longer."""
        try:
            self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            status = self.stop(grace_s=GRACE_S).status
            killed = f"; SIGTERM did not end it within {GRACE_S:g} s, SIGKILL did" if status == -signal.SIGKILL else ""
            raise DeadlineExceeded(
                f"{shlex.join(self.command)}: expected its end within {deadline_s:g} s{killed}"
                f"{_tails(self.stdout, self.stderr)}"
            ) from None
        return self._finish()

    def stop(self, number: signal.Signals = signal.SIGTERM, grace_s: float = GRACE_S) -> Finished:
        """Sends the signal; kills the process and all below it if they have not ended after the grace."""
        if self.running:
            for pid in _children(self._process.pid) if number is signal.SIGINT else (self._process.pid,):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._kill()
        return self._finish()

    def _kill(self) -> None:
        """The guardian stays to the last, and buries what we kill."""
        while self.running:
            for pid in descendants(self._process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)

    def _finish(self) -> Finished:
        if self._finished is None:
            seconds = time.monotonic() - self._began_s
            self._finished = Finished(self.command, self._process.returncode, self.stdout, self.stderr, seconds)
        return self._finished

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class TestSide:
    """One side of the bench as a test sees it: its addresses, and processes there."""

    __test__ = False

    def __init__(self, side: Side, folder: Path) -> None:
        self.side, self._folder = side, folder
        self.processes: list[Running] = []

    @property
    def ipv4(self) -> str:
        """Raises ScenarioError between cards, if the bench's file does not say who is wired to them."""
        if not self.side.ipv4:
            key = f"ports.{self.side.name}_host.ipv4"
            raise ScenarioError([f"{key}: expected the address of who is wired to {self.side.port.name}, got none"])
        return self.side.ipv4

    @property
    def ipv6(self) -> str:
        """Empty where there is no IPv6."""
        return self.side.ipv6

    def start(self, *command: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Running:
        """Starts a process here; $BENTPIPE_TERMINAL and $BENTPIPE_DATACENTER are in its environment.

        Raises CommandNotFoundError or CommandNotExecutableError.
        """
        environment = {**os.environ, **(env or {})}
        options = {"env": environment, "cwd": cwd}
        process = Running(self.side, command, self._folder, len(self.processes), options)
        self.processes.append(process)
        return process

    def run(
        self,
        *command: str,
        deadline_s: float = DEADLINE_S,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Finished:
        """Runs a process here to its end.

        Raises DeadlineExceeded if it takes longer; with `check`, AssertionError if its exit status is not 0.
        """
        __tracebackhide__ = True  # the caller's line is what pytest shows
        finished = self.start(*command, env=env, cwd=cwd).wait(deadline_s)
        if check and finished.status != 0:
            raise AssertionError(str(finished))
        return finished

    def said(self) -> str:
        """What all processes here have written, for a report."""
        parts = [f"$ {shlex.join(each.command)}{_tails(each.stdout, each.stderr)}" for each in self.processes]
        return "\n".join(parts)


def _children(pid: int) -> list[int]:
    """What the guardian started; it does not pass on a Ctrl-C, which a terminal gives to the command itself."""
    return descendants(pid) or [pid]


def _tails(stdout: str, stderr: str) -> str:
    text = ""
    for name, stream in (("stdout", stdout), ("stderr", stderr)):
        lines = stream.splitlines()
        if lines:
            more = f", the last {SHOWN_LINES} of {len(lines)} lines" if len(lines) > SHOWN_LINES else ""
            text += f"\n{name}{more}:\n" + "\n".join(f"  {line}" for line in lines[-SHOWN_LINES:])
    return text
