"""The link as a process of its own: its argument is the directory of the sockets.

It knows neither ports nor plans: arrivals come in over ZeroMQ, departures go out, and what the channel is to be is told
on the control socket. It ends when its standard input does, which only its parent holds open.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zmq

from emulator.errors import EmulationError
from emulator.link import state
from emulator.link.link import Change, Link, unpack_options
from emulator.link.path import next_event
from emulator.link.store import VNET_BYTES
from emulator.link.wire import LARGEST_HEADER
from emulator.ports import batch
from emulator.ports.fabric import CONTROL_SOCKET, HIGH_WATER_BATCHES, SOCKETS, lag_ns
from emulator.ports.mirror import unpack_channel
from emulator.ports.relay import LONGEST_WAIT_NS
from emulator.ports.syscalls import wait_readable
from emulator.timeline.causes import Cause, Gate

STANDARD_INPUT = 0


class LinkProcess:
    """Both directions, their sockets and the loop."""

    def __init__(self, directory: Path) -> None:
        self._context = zmq.Context()
        kinds = (zmq.PULL, zmq.PULL, zmq.PUSH, zmq.PUSH)
        self._sockets = [self._socket(kind, directory / name) for kind, name in zip(kinds, SOCKETS, strict=True)]
        self._control = self._socket(zmq.REP, directory / CONTROL_SOCKET)
        self._links: list[Link | None] = [None, None]
        self._lags = [0, 0]
        self._last = np.zeros((2, 1), np.int64)
        self._entry = np.zeros(state.SUPER_COLUMNS, np.int64)
        self._head = np.zeros(LARGEST_HEADER + VNET_BYTES, np.uint8)
        self._memory = batch.batch_memory()
        self._sequences = [0, 0]
        self._broken_batches = 0

    def _socket(self, kind: int, path: Path) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER_BATCHES)
        socket.setsockopt(zmq.RCVHWM, HIGH_WATER_BATCHES)
        socket.connect(f"ipc://{path}")
        return socket

    def run(self) -> None:
        """Until standard input ends."""
        watched = [socket.getsockopt(zmq.FD) for socket in (*self._sockets[:2], self._control)]
        descriptors = np.array([*watched, STANDARD_INPUT], np.int64)
        events, poll = np.zeros(4, np.int64), np.zeros(6, np.int64)
        while True:
            busy = self._answer()
            for direction, link in enumerate(self._links):
                if link is not None:
                    busy |= self._offer(direction, link)
                    busy |= self._hand_on(direction, link)
            due = min(
                (next_event(link.state) + lag for link, lag in zip(self._links, self._lags, strict=True) if link),
                default=state.NEVER,
            )
            wait = 0 if busy else max(0, min(due - time.monotonic_ns(), LONGEST_WAIT_NS))
            wait_readable(descriptors, events, wait, poll)
            if events[3]:
                return

    def _offer(self, direction: int, link: Link) -> bool:
        for _ in range(4):
            try:
                message = self._sockets[direction].recv(zmq.NOBLOCK)
            except zmq.Again:
                return False
            words, data = batch.as_batch(message)
            if not batch.offer_batch(link.state, words, data, direction, self._last[direction], self._entry):
                self._broken_batches += 1
        return True

    def _hand_on(self, direction: int, link: Link) -> bool:
        """Sends what has been served. While the far end has no room, packets stay in the link, which is bounded."""
        socket = self._sockets[2 + direction]
        words, data = self._memory
        if not int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLOUT:
            return False
        batch.begin(words, batch.DEPARTURES, direction, self._sequences[direction])
        used = batch.pack(link.state, time.monotonic_ns() - self._lags[direction], words, data, self._head)
        if words[batch.H_RECORDS] == 0:
            return False
        socket.send(data[: used * 8].tobytes(), zmq.NOBLOCK)
        self._sequences[direction] += 1
        return True

    def _answer(self) -> bool:
        """Answers one request on the control socket; one that makes no sense gets an error and changes nothing."""
        try:
            request = self._control.recv(zmq.NOBLOCK)
        except zmq.Again:
            return False
        try:
            answer = self._obey(msgpack.unpackb(request))
        except (KeyError, TypeError, ValueError, EmulationError, msgpack.UnpackException) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        self._control.send(msgpack.packb(answer))
        return True

    def _obey(self, request: dict[str, Any]) -> dict[str, Any]:
        verb = request["verb"]
        if verb == "counters":
            links = [self._link(direction) for direction in range(2)]
            return {
                "registers": [link.state.reg.tobytes() for link in links],
                "dropped": [link.state.dropped.tobytes() for link in links],
                "lanes": [link.state.lanes.tobytes() for link in links],
                "broken_batches": self._broken_batches,
                "starved": sum(int(link.state.reg[state.STARVED]) for link in links),
            }
        direction = request["direction"]
        if verb == "setup":
            channel = unpack_channel(request["rows"])
            self._links[direction] = Link(
                channel,
                request["end_ns"],
                seed=request["seed"],
                direction=direction,
                options=unpack_options(request["options"]),
                utc_offset_ns=request["utc_offset_ns"],
            )
            self._lags[direction] = lag_ns(int(channel.delay_ns.min()))
            self._warm_up(direction)
        elif verb == "extend":
            self._link(direction).extend(unpack_channel(request["rows"]), request["end_ns"], request["now_ns"])
        elif verb == "replan":
            rows = unpack_channel(request["rows"])
            self._link(direction).replan(rows, request["end_ns"], request["utc_offset_ns"])
        elif verb == "limit":
            self._link(direction).set_limit(request["lane"], request["packets"], request["queue_bytes"])
        elif verb == "overlay":
            self._link(direction).overlay(
                [
                    Change(**{**change, "gate": Gate(change["gate"]), "cause": Cause(change["cause"])})
                    for change in request["changes"]
                ]
            )
        elif verb == "offset":
            self._link(direction).set_utc_offset(request["utc_offset_ns"])
        else:
            raise ValueError(f"unknown verb {verb!r}")
        return {}

    def _warm_up(self, direction: int) -> None:
        """Compiles what the loop calls, or takes it from the cache, before the first packet comes."""
        link = self._link(direction)
        batch.offer_batch(link.state, *batch.as_batch(bytes(8)), direction, self._last[direction], self._entry)
        self._hand_on(direction, link)
        next_event(link.state)

    def _link(self, direction: int) -> Link:
        link = self._links[direction]
        if link is None:
            raise EmulationError("the link has not been set up")
        return link


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end is ours
    LinkProcess(Path(sys.argv[1])).run()


if __name__ == "__main__":
    main()
