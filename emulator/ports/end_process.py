"""The parent's side of an end of the fabric that is a process of its own (`end_part`)."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
from collections.abc import Mapping
from typing import Any

from emulator.child import child_command
from emulator.errors import EmulationError

GRACE_S = 2.0
LARGEST_TOLD = 1 << 16


class EndProcess:
    """Started at once, in the network namespace in which we are now; it waits for `begin`."""

    def __init__(self, role: str) -> None:
        self.role = role
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(child_command("emulator.ports.end_part"), stdin=theirs.fileno())
        self.totals: dict[str, int] = {}
        self._settings: dict[str, Any] = {"role": role}
        self._descriptors: list[int] = []

    def prepare(self, settings: dict[str, Any], descriptors: Mapping[str, int]) -> None:
        """settings: as `end_part.EndPart` takes them, but for the endpoint; descriptors: `port`, and, if there are any
        (−1: none), `statistics`, by which the port's drops are known, and `stamps`, of its ring of arrivals.
        """
        given = {name: number for name, number in descriptors.items() if number >= 0}
        self._settings |= settings | {"given": list(given)}
        self._descriptors = list(given.values())

    def begin(self, endpoint: str) -> None:
        """Has it carry packets between what it was prepared for and the link at this endpoint."""
        order = json.dumps({**self._settings, "endpoint": endpoint}).encode()
        try:
            socket.send_fds(self._ours, [order], self._descriptors)
        except OSError:
            self.check()
            raise

    def order(self, **order: Any) -> None:
        """Tells it something; nothing if it has gone."""
        with contextlib.suppress(OSError):
            self._ours.send(json.dumps(order).encode(), socket.MSG_DONTWAIT)

    def told(self, wait_s: float = 0.0) -> dict[str, Any] | None:
        """The next thing that it has told; None if there is none in time, or it has gone."""
        if not select.select([self._ours], [], [], wait_s)[0]:
            return None
        with contextlib.suppress(OSError):
            if data := self._ours.recv(LARGEST_TOLD, socket.MSG_DONTWAIT):
                told: dict[str, Any] = json.loads(data)
                return told
        return None

    def check(self) -> None:
        """Raises EmulationError if it has ended."""
        if (status := self.process.poll()) is not None:
            raise EmulationError(f"the {self.role}'s end of the fabric has ended with status {status}")

    def stop(self) -> None:
        """Ends it; `totals` then holds what it has counted. Twice is allowed."""
        if self._ours.fileno() < 0:
            return
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_WR)
        while (told := self.told(GRACE_S)) is not None:
            if told["event"] == "end":
                self.totals = told
                break
        try:
            self.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._ours.close()
