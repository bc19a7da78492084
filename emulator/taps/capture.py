"""Live captures of a running bench, as a stream of pcapng over ZeroMQ: for `bentpipe capture`, and for any program.

A consumer is a DEALER that connects to the capture socket and sends a request, MessagePack:

    {"version": 1, "directions": ["uplink", "downlink"], "places": ["before", "after"], "snap_bytes": 0}

The bench answers with messages of two frames: `begin` and a map, or `error` and a text; then `data` and bytes, which
put together are a pcapng file, and are empty once a second if there is nothing; at last, after the consumer has sent
`stop` or when the bench ends, `end` and a map {"packets": …, "lost": …}. A consumer that reads too slowly loses
packets, which are counted, and the link never waits for it; one that is gone is forgotten.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgpack
import numpy as np
import zmq

from emulator.errors import EmulationError
from emulator.link import state
from emulator.link.compiled import compiling
from emulator.link.link import Link
from emulator.ports.capture_ring import ASKED_FOR, LOST, OFF, ON, SNAP, CaptureRing, new_ring
from emulator.ports.relay import in_cache
from emulator.taps import render
from emulator.taps.pcapng import ETHERNET, RAW, section, statistics
from emulator.timeline.causes import Cause

log = logging.getLogger("bentpipe.capture")

VERSION = 1
DIRECTIONS, PLACES = ("uplink", "downlink"), ("before", "after")
WHOLE = 1 << 17
MOST_CONSUMERS = 4
OUT_BYTES = 1 << 22
QUEUED_MESSAGES = 16  # of at most OUT_BYTES each wait for a slow consumer
PERIOD_MS = 5
SIGN_OF_LIFE_S = 1.0
LONGEST_REQUEST = 4096


class Source(Protocol):
    """What is captured: the two links, what the loop writes down of them, and the bench's time and path."""

    links: tuple[Link, Link]
    rings: tuple[CaptureRing, CaptureRing]
    lanes: tuple[tuple[str, ...], tuple[str, ...]]

    def offset_ns(self) -> int:
        """Simulated UTC less the packets' clock."""
        ...

    def began_ns(self) -> int:
        """When the bench began, from which overlays and scripts count, on the packets' clock."""
        ...

    def path_at(self, utc_ns: int) -> tuple[str, int]:
        """Who serves at `utc_ns`, and until when."""
        ...


@dataclass
class _Consumer:
    """Who is sent a capture, and what it gets. numbers: pcapng's interface by direction and place, −1: not wanted."""

    identity: bytes
    snap_bytes: int
    numbers: Any
    names: tuple[str, ...]
    packets: int = 0
    lost: int = 0
    lost_before: tuple[int, int] = (0, 0)
    last_s: float = field(default_factory=time.monotonic)


class CaptureService:
    """Answers on `endpoint` from a thread of its own. Off, it costs the packet loop one comparison a read."""

    def __init__(self, source: Source, endpoint: str, context: zmq.Context[Any]) -> None:
        self._source = source
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.SNDHWM, QUEUED_MESSAGES)
        self._socket.setsockopt(zmq.LINGER, 200)
        self._socket.setsockopt(zmq.MAXMSGSIZE, LONGEST_REQUEST)
        self._socket.bind(endpoint)
        self._consumers: dict[bytes, _Consumer] = {}
        self._read = [0, 0]
        self._out = np.zeros(OUT_BYTES, np.uint8)
        self._reg = np.zeros(8, np.int64)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends every capture, each with its `end`."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()

    # the thread

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                if self._socket.poll(PERIOD_MS if self._consumers else 200):
                    self._answer()
                if self._consumers:
                    self._carry()
            self._carry()
            for consumer in list(self._consumers.values()):
                self._end(consumer)
        except Exception:
            log.exception("captures have ended: their thread failed")
            for consumer in list(self._consumers.values()):
                self._send(consumer.identity, b"error", b"the bench's captures have failed: see what it logged")
                self._forget(consumer.identity)

    def _answer(self) -> None:
        identity, *frames = self._socket.recv_multipart()
        if frames == [b"stop"]:
            if identity in self._consumers:
                self._carry()
                self._end(self._consumers[identity])
            return
        try:
            consumer = self._consumer(identity, msgpack.unpackb(frames[-1]) if frames else None)
        except (TypeError, ValueError, EmulationError, msgpack.UnpackException) as error:
            self._send(identity, b"error", str(error).encode())
            return
        if not self._consumers:
            self._begin()
        for ring in self._source.rings:
            ring.reg[SNAP] = max(ring.reg[SNAP], consumer.snap_bytes)
        consumer.lost_before = self._lost()
        self._consumers[identity] = consumer
        self._send(identity, b"begin", msgpack.packb({"version": VERSION, "interfaces": list(consumer.names)}))
        frames_seen = bool(self._source.links[0].state.reg[state.ETHERNET])
        snap_bytes = 0 if consumer.snap_bytes == WHOLE else consumer.snap_bytes
        began_utc_ns = self._source.began_ns() + self._source.offset_ns()
        head = section(consumer.names, ETHERNET if frames_seen else RAW, snap_bytes, began_utc_ns)
        self._send(identity, b"data", head)

    def _consumer(self, identity: bytes, request: Any) -> _Consumer:
        """Raises ValueError for a request of another shape, EmulationError for one too many."""
        if not isinstance(request, dict) or request.get("version") != VERSION:
            raise ValueError(f"expected a map with version {VERSION}")
        if unknown := sorted(map(str, set(request) - {"version", "directions", "places", "snap_bytes"})):
            raise ValueError(f"{unknown[0][:60]}: expected no such key here")
        directions, places = request.get("directions", list(DIRECTIONS)), request.get("places", ["before"])
        for key, values, known in ("directions", directions, DIRECTIONS), ("places", places, PLACES):
            if not isinstance(values, list) or not values or not all(value in known for value in values):
                raise ValueError(f"{key}: expected a list of {', '.join(known)}, got {str(values)[:60]}")
        snap_bytes = request.get("snap_bytes", 0)
        if not isinstance(snap_bytes, int) or isinstance(snap_bytes, bool) or not 0 <= snap_bytes <= WHOLE:
            raise ValueError(f"snap_bytes: expected 0 to {WHOLE}, got {str(snap_bytes)[:60]}")
        if identity not in self._consumers and len(self._consumers) >= MOST_CONSUMERS:
            raise EmulationError(f"expected at most {MOST_CONSUMERS} captures at once")
        numbers = np.full((2, 2), -1, np.int64)
        names: list[str] = []
        for row, direction in enumerate(DIRECTIONS):
            for column, place in enumerate(PLACES):
                if direction in directions and place in places:
                    numbers[row, column] = len(names)
                    names.append(f"{direction}, {place} the link")
        return _Consumer(identity, snap_bytes or WHOLE, numbers, tuple(names))

    def _begin(self) -> None:
        """Has the loop write down what comes from now on."""
        for number, (link, ring) in enumerate(zip(self._source.links, self._source.rings, strict=True)):
            self._read[number] = int(link.state.reg[state.LEDGER_TAIL])
            ring.reg[SNAP] = 0
            ring.reg[ON] = ASKED_FOR

    def _lost(self) -> tuple[int, int]:
        up, down = self._source.rings
        return int(up.reg[LOST]), int(down.reg[LOST])

    def _carry(self) -> None:
        """Sends every consumer what has met its fate since the last time."""
        offset_ns = self._source.offset_ns()
        for number, (link, ring) in enumerate(zip(self._source.links, self._source.rings, strict=True)):
            ledger, first = link.state.ledger, self._read[number]
            until = int(link.state.reg[state.LEDGER_TAIL])
            if until - first > len(ledger) // 2:  # the loop may overwrite what lies further back while it is read
                skipped = until - len(ledger) // 2 - first
                for consumer in self._consumers.values():
                    consumer.lost += skipped
                render.forget(ledger, first, first + skipped, ring)
                first += skipped
            if until > first:
                for consumer in list(self._consumers.values()):
                    if consumer.numbers[number].max() >= 0:
                        self._send_fates(consumer, number, ledger, first, until, ring, offset_ns)
                render.forget(ledger, first, until, ring)
            self._read[number] = until
        for consumer in list(self._consumers.values()):
            if time.monotonic() - consumer.last_s > SIGN_OF_LIFE_S:
                consumer.last_s = time.monotonic()
                self._send(consumer.identity, b"data", b"")

    def _send_fates(
        self, consumer: _Consumer, number: int, ledger: Any, first: int, until: int, ring: CaptureRing, offset_ns: int
    ) -> None:
        reg = self._reg
        reg[render.EVENT] = first
        while reg[render.EVENT] < until and consumer.identity in self._consumers:
            reg[render.WRITTEN] = reg[render.PACKETS] = 0
            at_ns = int(ledger[int(reg[render.EVENT]) % len(ledger), state.L_AT])
            path, path_until_utc_ns = self._source.path_at(at_ns + offset_ns)
            texts = _texts(DIRECTIONS[number], self._source.lanes[number], path)
            before = int(reg[render.EVENT])
            render.render(
                ledger,
                until,
                ring,
                offset_ns,
                max(path_until_utc_ns - offset_ns, at_ns + 1),
                consumer.numbers[number],
                texts,
                self._out,
                reg,
            )
            if reg[render.EVENT] == before:
                break
            if not reg[render.WRITTEN]:
                continue
            consumer.last_s = time.monotonic()
            if self._send(consumer.identity, b"data", self._out[: int(reg[render.WRITTEN])].tobytes()):
                consumer.packets += int(reg[render.PACKETS])
            else:
                consumer.lost += int(reg[render.PACKETS])

    def _end(self, consumer: _Consumer) -> None:
        """The last of a capture: its statistics, and the count of what it missed."""
        missed = consumer.lost + sum(self._lost()) - sum(consumer.lost_before)
        utc_ns = time.monotonic_ns() + self._source.offset_ns()
        self._send(consumer.identity, b"data", statistics(0, utc_ns, consumer.packets + missed, missed))
        self._send(consumer.identity, b"end", msgpack.packb({"packets": consumer.packets, "lost": missed}))
        self._forget(consumer.identity)

    def _forget(self, identity: bytes) -> None:
        self._consumers.pop(identity, None)
        if not self._consumers:
            for link, ring in zip(self._source.links, self._source.rings, strict=True):
                ring.reg[ON] = OFF
                link.settle()

    def _send(self, identity: bytes, kind: bytes, payload: bytes) -> bool:
        """False if the consumer has no room for it. One that is gone is forgotten."""
        try:
            self._socket.send_multipart([identity, kind, payload], zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError:
            self._forget(identity)
            return False
        return True


def _texts(direction: str, lanes: tuple[str, ...], path: str) -> render.Texts:
    fates = [f"{direction}, delivered after "]
    fates += [f"{direction}, dropped: {cause.name.lower()}" for cause in Cause if cause != Cause.NONE]
    return render.Texts(
        fates=render.text_rows(fates),
        lanes=render.text_rows([f", class {lane}" if len(lanes) > 1 else "" for lane in lanes]),
        fixed=render.text_rows([" ms", ", injected", f", {path}" if path else ""]),
    )


def warm_up(link: Link) -> None:
    """Compiles what a capture needs, if it is not in the cache: a first capture then begins at once."""
    if in_cache(render.render) and in_cache(render.forget):
        return
    with compiling():
        ring, reg = new_ring(), np.zeros(8, np.int64)
        texts, interfaces = _texts("uplink", ("",), ""), np.full(2, -1, np.int64)
        render.render(link.state.ledger, 0, ring, 0, 0, interfaces, texts, np.zeros(1, np.uint8), reg)
        render.forget(link.state.ledger, 0, 0, ring)


def capture_endpoint(runtime_dir: Path) -> str:
    """Where the bench with this runtime directory answers."""
    return f"ipc://{runtime_dir / 'capture.ipc'}"
