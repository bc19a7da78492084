"""A bench in this process, with programs and sockets at its sides, for tests of what surrounds the link."""

from __future__ import annotations

import contextlib
import functools
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

from emulator.bench import Bench
from emulator.bench.sides import Side
from emulator.ports.namespace import Namespace
from emulator.scenario import load_scenario

PATIENCE_S = 60.0


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
