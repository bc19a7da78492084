"""The measuring processes of a run: probes both ways and one TCP transfer, started, ended and read.

They are processes at the two sides of a bench, in a session of their own: a Ctrl-C at the terminal reaches the run, and
the run ends them in their order, so that what is on its way still arrives.
"""

from __future__ import annotations

import select
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from emulator.child import child_command
from emulator.errors import EmulationError
from emulator.testing.readings import BulkRun, ProbeRun, read_bulk, read_probes
from emulator.testing.record import DIRECTIONS, Direction
from emulator.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from emulator.bench import Bench

START_LIMIT_S = 10.0
END_LIMIT_S = 5.0
SETTLE_S = 0.25
LONGEST_SETTLING = 12  # times SETTLE_S: the fullest queue takes a second or two to empty
PROBE_PORTS = {"uplink": 7001, "downlink": 7002}
TRANSFER_PORT = 7003


class Side(Protocol):
    """What is needed of a side of a bench."""

    name: str
    ipv4: str
    ipv6: str

    def popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[str]: ...


class Session:
    """A context: whatever was started ends with it. `version` is that of IP, for probes and transfer."""

    def __init__(self, terminal: Side, datacenter: Side, *, version: int = 4) -> None:
        self._near: dict[Direction, Side] = {"uplink": terminal, "downlink": datacenter}
        self._far: dict[Direction, Side] = {"uplink": datacenter, "downlink": terminal}
        self._version = version
        self._folder = tempfile.TemporaryDirectory(prefix="bentpipe-")
        self._errors: IO[str] = (self._path("errors")).open("w+", encoding="utf-8")
        self.senders: list[subprocess.Popen[str]] = []
        self._receivers: list[subprocess.Popen[str]] = []
        self.transfers: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (*self.senders, *self.transfers, *self._receivers):
            end(process)
        self._errors.close()
        self._folder.cleanup()

    def start_receivers(self) -> None:
        """The far ends of the probes. Raises EmulationError if one does not start."""
        for direction in DIRECTIONS:
            command = program(
                "probe", "receive", "--port", PROBE_PORTS[direction], "--out", self._path(f"{direction}-rx")
            )
            self._receivers.append(self._start(self._far[direction], command))
        for process in self._receivers:
            self._await_ready(process)

    def start_probes(self, duration_ns: int, interval_ns: int) -> None:
        """Probes in both directions at once."""
        for direction in DIRECTIONS:
            self.senders.append(
                self._start(
                    self._near[direction],
                    program(
                        "probe",
                        "send",
                        "--to",
                        self._address(self._far[direction]),
                        "--port",
                        PROBE_PORTS[direction],
                        "--interval-ms",
                        interval_ns / NS_PER_MS,
                        "--duration",
                        duration_ns / NS_PER_S,
                        "--out",
                        self._path(f"{direction}-tx"),
                    ),
                )
            )

    def start_download(self, duration_ns: int, connections: int = 1) -> None:
        """The terminal connects, and the datacenter sends for `duration_ns`. Raises EmulationError."""
        server = self._start(
            self._near["downlink"],
            program(
                "bulk",
                "listen",
                "--port",
                TRANSFER_PORT,
                "--send",
                "--duration",
                duration_ns / NS_PER_S,
                "--connections",
                connections,
                "--out",
                self._path("bulk-tx"),
            ),
        )
        self.transfers.append(server)
        self._await_ready(server)
        self.transfers.append(
            self._start(
                self._far["downlink"],
                program(
                    "bulk",
                    "connect",
                    "--to",
                    self._address(self._near["downlink"]),
                    "--port",
                    TRANSFER_PORT,
                    "--receive",
                    "--connections",
                    connections,
                    "--out",
                    self._path("bulk-rx"),
                ),
            )
        )

    def finish(self, bench: Bench | None = None) -> tuple[dict[Direction, ProbeRun], BulkRun | None]:
        """Ends all that runs, waits for what is on its way, and reads what was measured.

        The wait is half a second, and longer until the link of `bench`, if given, holds nothing more, within limits.
        """
        for process in (*self.senders, *self.transfers):
            end(process)
        pause = threading.Event()
        for turn in range(LONGEST_SETTLING):
            pause.wait(SETTLE_S)
            if turn and (bench is None or _nothing_held(bench)):
                break
        for process in self._receivers:
            end(process)
        probes = {
            direction: read_probes(self._path(f"{direction}-tx"), self._path(f"{direction}-rx"))
            for direction in (DIRECTIONS if self.senders else ())
        }
        return probes, read_bulk(self._path("bulk-tx"), self._path("bulk-rx")) if self.transfers else None

    def complaints(self) -> list[str]:
        """What the processes wrote on stderr."""
        self._errors.flush()
        return self._path("errors").read_text(encoding="utf-8").splitlines()

    def _path(self, name: str) -> Path:
        return Path(self._folder.name) / name

    def _address(self, side: Side) -> str:
        return side.ipv6 if self._version == 6 else side.ipv4

    def _start(self, side: Side, command: list[str]) -> subprocess.Popen[str]:
        return start(side, command, stderr=self._errors)

    def _await_ready(self, process: subprocess.Popen[str]) -> None:
        if not await_ready(process):
            raise EmulationError(
                f"a measuring process did not start: {'; '.join(self.complaints()) or 'it says nothing'}"
            )


def program(name: str, *arguments: object) -> list[str]:
    """The command line of a program of this package."""
    return child_command(f"emulator.testing.{name}", *arguments)


def start(side: Side, command: list[str], **options: Any) -> subprocess.Popen[str]:
    """A process at a side, in a session of its own."""
    return side.popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def await_ready(process: subprocess.Popen[str]) -> bool:
    """Whether the process said `ready` before it ended or the time was up."""
    return _first_line(process).startswith("ready")


def ready_port(process: subprocess.Popen[str]) -> int | None:
    """The port at which the process said that it is ready; None if it did not."""
    words = _first_line(process).split()
    return int(words[1]) if len(words) == 2 and words[0] == "ready" else None


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], START_LIMIT_S)
    return process.stdout.readline() if readable else ""


def end(process: subprocess.Popen[str]) -> int:
    """SIGTERM, and after a grace SIGKILL; returns the exit status."""
    if process.poll() is None:
        process.terminate()
    try:
        status = process.wait(END_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        status = process.wait()
    if process.stdout is not None:
        process.stdout.close()
    return status


def _nothing_held(bench: Bench) -> bool:
    counters = bench.counters()
    return counters.uplink.held_packets == counters.downlink.held_packets == 0
