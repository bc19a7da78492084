"""`bentpipe` as a process of its own, and what of it can be seen from outside."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from emulator.ports.namespace import Namespace

Result = TypeVar("Result")

REPOSITORY = Path(__file__).parents[2]
LOOK_S = 0.002
PATIENCE_S = 90.0  # a start with nothing compiled yet, on a busy machine


class World:
    """What `bentpipe` takes for the machine: a runtime directory, and where we are root, a network namespace.

    `fifo` is a pipe that all processes of a command hold open if the command says so.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="bp"))
        self.runtime = self.directory / "r"
        self.fifo = self.directory / "alive"
        os.mkfifo(self.fifo)
        self._alive = os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK)
        self._started: list[subprocess.Popen[str]] = []
        self.space = Namespace.create() if os.geteuid() == 0 else None

    def bentpipe(
        self, *arguments: str, environment: dict[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Starts it in a session of its own."""
        ours = {"BENTPIPE_RUNTIME_DIR": str(self.runtime), "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
        pipes = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            **options,
        }
        command = [sys.executable, "-B", "-m", "emulator.cli.main", *arguments]
        started = self.inside(
            lambda: subprocess.Popen(
                command, env={**os.environ, **ours, **(environment or {})}, start_new_session=True, **pipes
            )
        )
        self._started.append(started)
        return started

    def inside(self, work: Callable[[], Result]) -> Result:
        """Does `work` in this world's network."""
        return work() if self.space is None else self.space.run(work)

    def shell(self, command: str, *options: str, scenario: str = "fixed", **more: Any) -> subprocess.Popen[str]:
        """`bentpipe shell` of a sh line that may use $ALIVE, a FIFO: `exec 9>$ALIVE` marks all that it starts."""
        return self.bentpipe(
            "shell", scenario, *options, "--", "sh", "-c", command, environment={"ALIVE": str(self.fifo)}, **more
        )

    def run(self, command: str, *options: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """The same, waited for."""
        return finished(self.shell(command, *options, **more))

    def everybody_is_gone(self) -> bool:
        """Whether every process that holds the FIFO ends in time. Some process must have held it."""
        return bool(select.select([self._alive], [], [], PATIENCE_S)[0]) and os.read(self._alive, 1) == b""

    def leftovers(self) -> list[str]:
        """Runtime directories and interfaces."""
        directories = [path.name for path in self.runtime.iterdir() if path.is_dir()] if self.runtime.exists() else []
        return directories + self.interfaces() + self.rules()

    def interfaces(self) -> list[str]:
        """What benches have put beside the loopback."""
        if self.space is None:
            return []
        return self.inside(lambda: sorted(name for _, name in socket.if_nameindex() if name != "lo"))

    def rules(self) -> list[str]:
        """Routes and rules of nftables: a network without interfaces has none."""
        if self.space is None or self.interfaces():
            return []
        look = "ip route; ip -6 route; ! command -v nft >/dev/null || nft list ruleset"
        ours = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        options: dict[str, Any] = {"env": ours, "capture_output": True, "text": True}
        asked = self.inside(lambda: subprocess.run(["sh", "-c", look], check=True, **options))
        return asked.stdout.splitlines()

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        for pid in processes_with(self.fifo):  # what a failed test has left
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._started:
            if process.stdin is not None and process.stdin.closed:
                process.stdin = None
            process.communicate()
        os.close(self._alive)
        if self.space is not None:
            self.space.close()
        shutil.rmtree(self.directory)


@contextlib.contextmanager
def new_world() -> Iterator[World]:
    world = World()
    try:
        yield world
    finally:
        world.close()


def finished(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Waits for it; its streams are at an end only when all who hold them are."""
    out, err = process.communicate(timeout=PATIENCE_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def line(process: subprocess.Popen[str]) -> str:
    """The next line of its standard output, and not a byte more."""
    assert process.stdout is not None
    descriptor, read = process.stdout.fileno(), b""
    while not read.endswith(b"\n"):
        assert select.select([descriptor], [], [], PATIENCE_S)[0], f"says nothing after {read!r}"
        byte = os.read(descriptor, 1)
        assert byte, f"has ended after {read!r}"
        read += byte
    return read.decode().strip()


def until(reached: Callable[[], object]) -> Any:
    """What `reached` gives as soon as that is something. Whoever spins takes the core of what he waits for."""
    deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while not (found := reached()):
        assert time.monotonic() < deadline
        pause.wait(LOOK_S)
    return found


def processes_with(fifo: Path) -> list[int]:
    """Processes, other than this one, that were told of `fifo`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if f"ALIVE={fifo}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def processes_in(namespace: str) -> list[int]:
    """Who is in a network namespace, by the link target of its /proc/<pid>/ns/net."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if str((entry / "ns" / "net").readlink()) == namespace:
                    found.append(int(entry.name))
    return found


def children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found
