"""A bench in this process, with programs and sockets at its sides, for tests of what surrounds the link."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from emulator.bench import Bench
from emulator.bench.sides import Side
from emulator.ports.namespace import Namespace
from emulator.scenario import load_scenario
from hil_tests.bench.living import until

PATIENCE_S = 60.0
APACHE_MODULES = "/usr/lib/apache2/modules"


@contextlib.contextmanager
def running(scenario: str, *overrides: str, **options: Any) -> Iterator[Bench]:
    """The bench, its warnings in `bench.warnings`."""
    with Bench(load_scenario(scenario, overrides), **options) as bench:
        yield bench


def run(side: Side, *command: str) -> subprocess.CompletedProcess[str]:
    """A command at one side, waited for."""
    process = side.popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    out, _ = process.communicate(timeout=PATIENCE_S)
    return subprocess.CompletedProcess(command, process.returncode, out, "")


def in_space(space: Namespace, *command: str) -> subprocess.CompletedProcess[str]:
    """The same in a namespace that need not be a side."""
    return space.run(
        lambda: subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=PATIENCE_S
        )
    )


def connected(
    near: Side, far: Side, kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET, port: int = 0
) -> tuple[socket.socket, socket.socket]:
    """A connection from a socket at `near` to one at `far`, the latter as accepted."""
    server = far.namespace.run(functools.partial(socket.socket, family, kind))
    with server:
        server.bind((far.ipv4 if family == socket.AF_INET else far.ipv6, port))
        server.listen()
        server.settimeout(PATIENCE_S)
        client = near.namespace.run(functools.partial(socket.socket, family, kind))
        client.settimeout(PATIENCE_S)
        client.connect(server.getsockname()[:2])
        accepted, _ = server.accept()
    accepted.settimeout(PATIENCE_S)
    return client, accepted


def receive(end: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes, or fewer if the connection ends before."""
    data = b""
    while len(data) < count and (chunk := end.recv(count - len(data))):
        data += chunk
    return data


def within(patience_s: float, reached: Callable[[], object], *, every_s: float) -> None:
    """Looks at a steady pace until `reached` says so."""
    pause, began = threading.Event(), time.monotonic()
    looks = 0
    while not reached():
        looks += 1
        assert time.monotonic() < began + patience_s
        pause.wait(max(0.0, began + looks * every_s - time.monotonic()))


@contextlib.contextmanager
def web_server(side: Side, port: int, files: Mapping[str, bytes], *lines: str) -> Iterator[None]:
    """Apache with these files, at a side; `lines` go into its configuration, `{folder}` standing for its folder."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)  # it serves as somebody who may nothing
        for name, data in files.items():
            (folder / name).write_bytes(data)
        modules = ("mpm_event", "authz_core", "env", "ratelimit", "socache_shmcb", "ssl", "http2")
        load = [f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so" for name in modules]
        main = [f"ServerName {side.ipv4}", f"DocumentRoot {folder}", f"Listen {side.ipv4}:{port}"]
        main += [f"DefaultRuntimeDir {folder}", f"PidFile {folder}/pid", "ErrorLog /dev/null", "User nobody"]
        text = "\n".join([*load, *main, "Group nogroup", *lines]).replace("{folder}", made)
        (folder / "configuration").write_text(f"{text}\n")
        side.popen(["apache2", "-D", "FOREGROUND", "-d", made, "-f", f"{made}/configuration"])

        def answers() -> bool:
            with side.namespace.run(socket.socket) as knock:
                return knock.connect_ex((side.ipv4, port)) == 0

        until(answers)
        yield


def keep(name: str, **measured: Any) -> None:
    """What a run has measured, for tools/field_plots.py, if $BENTPIPE_MEASURED names a folder to put it in."""
    if folder := os.environ.get("BENTPIPE_MEASURED"):
        Path(folder, f"{name}.json").write_text(json.dumps(measured))
