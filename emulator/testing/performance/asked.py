"""The terminal's stubs beside the packets: a dish, a GNSS receiver and an antenna's controller, asked as programs ask.

They run where they run in a bench, in its own process, beside the packet loop. Who asks the dish and the receiver is a
process at the terminal's side (`poller.py`), who asks the controller a thread of the bench's, as for a closed loop.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from emulator.bench import Bench
from emulator.bench.dish import BenchDish
from emulator.errors import EmulationError
from emulator.terminal import Terminal
from emulator.testing.performance.places import Record
from emulator.testing.session import await_ready, end, start
from emulator.units import NS_PER_MS, NS_PER_S
from firmware_stubs.registry import Hardware, controller_line, stub_on

POLLER = str(Path(__file__).with_name("poller.py"))
ANTENNA_POLL_NS = 50 * NS_PER_MS  # terminal.antenna.poll_ms, as it is by default
SITE = Terminal(35.3, 25.1, 100.0)
END_LIMIT_S = 20.0

Beside = Callable[[Bench, list[str]], AbstractContextManager[Record]]
"""Something that runs beside a load; what it yields is complete when it is over."""


@contextlib.contextmanager
def nothing(bench: Bench, warnings: list[str]) -> Iterator[Record]:
    """Nobody is asked anything."""
    yield {}


@contextlib.contextmanager
def stubs_asked(bench: Bench, warnings: list[str]) -> Iterator[Record]:
    """How many answers each stub gave. Raises EmulationError if one gave none. Without grpcio there is no dish."""
    answers: Record = {}
    with contextlib.ExitStack() as running:
        wanted = []
        if importlib.util.find_spec("grpc") is None:
            warnings.append("stubs: without grpcio there is no dish among them: pip install 'bentpipe[dish]'")
        else:
            dish = running.enter_context(BenchDish(bench))
            wanted = ["--dish", f"{dish.host}:{dish.port}"]
        lines = {}
        for kind in ("nmea", "easycomm2"):
            stub = stub_on(
                kind, SITE.state, "pty", hardware=Hardware(), utc_ns=bench.utc_ns, directory=bench.runtime_dir
            )
            stub.start()
            running.callback(stub.stop)
            lines[kind] = stub.address
        controller = running.enter_context(
            controller_line(
                "easycomm2",
                lines["easycomm2"],
                None,
                poll_ns=ANTENNA_POLL_NS,
                silence_ns=NS_PER_S,
                on_report=lambda report, heard_ns: None,
                on_tick=lambda: None,
                utc_ns=bench.utc_ns,
            )
        )
        poller = start(bench.terminal, [sys.executable, "-P", POLLER, "--line", lines["nmea"], *wanted])
        running.callback(end, poller)
        if not await_ready(poller):
            raise EmulationError(f"who asks the stubs did not start (status {end(poller)})")
        yield answers
        poller.terminate()
        try:
            answers |= json.loads(poller.communicate(timeout=END_LIMIT_S)[0])
        except (ValueError, subprocess.TimeoutExpired) as error:
            raise EmulationError("who asks the stubs did not tell what they answered") from error
        answers["antenna"] = controller.reports
    silent = [name for name, count in answers.items() if not count]
    if silent:
        raise EmulationError(f"of the stubs that were asked, {' and '.join(silent)} did not answer")
