"""Measures a path from outside: a prober and a reflector, each with the kernel's stamps at both ends of each packet.

    python -m emulator.testing.roundtrip reflect --port P [--address A] [--duration S]
    python -m emulator.testing.roundtrip probe --to ADDRESS --port P --interval-ms 2 --duration S --size N --out FILE

    prober    t1 ──▶ t2  reflector      t1, t3: when the kernel handed the packet to the device (SO_TIMESTAMPING)
              t4 ◀── t3                 t2, t4: when the kernel took it from the device (SO_TIMESTAMPNS)

The round trip without the reflector's own time is (t4 − t1) − (t3 − t2): it needs no synchronised clocks. A stamp of
departure is known only once the packet has left, so the reflector tells t3 with one of the next packets, as PTP does.
`reflect` prints `ready PORT` (port 0 takes a free one) and answers with no more bytes than it was sent. SIGINT and
SIGTERM end both in order. Exit status 0, 2 for a wrong command line, 71 for an address or a file that cannot be opened.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import socket
import struct
import sys
import time
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any

from emulator.testing.probe import (
    SO_TIMESTAMPING,
    SO_TIMESTAMPNS,
    TIMESPEC,
    ask_for_transmit_stamps,
    open_receiver,
    wait_until,
)
from emulator.testing.stamps import Stop, wake_precisely

REQUEST = struct.Struct("!4sIq")  # magic, stream, number
REPLY = struct.Struct("!4sI8q")  # and t2, requests of this stream so far, t3 by its own clock, two × (number, t3)
ASKS, ANSWERS = b"BPq1", b"BPa1"
ROW = struct.Struct(
    "=8q"
)  # number, t1, t2, t3, t4, place among the requests that arrived, among the replies, t1 and t3
# from the kernel (bits 0, 1); 0 for what is not known; all stamps CLOCK_REALTIME ns of the machine that took them
FLUSH = -1  # number of a reply that answers nothing and only tells t3
LEAST_BYTES, MOST_BYTES = REPLY.size, 1400
MOST_STREAMS = 64
LAST_WORDS_S = 1.0  # what is under way when the last probe has been sent gets so long, and twice the round trip
IDLE_MS = 20


def kernel_stamp(ancillary: list[tuple[int, int, bytes]], wanted: int) -> int:
    """The stamp in a packet's ancillary data, ns; 0 if there is none."""
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == wanted and len(value) >= TIMESPEC.size:
            seconds, nanoseconds = TIMESPEC.unpack_from(value)
            return int(seconds * 1_000_000_000 + nanoseconds)
    return 0


def departures(link: socket.socket, magic: bytes) -> list[tuple[int, int, int]]:
    """(stream, number, ns) of what the kernel has stamped on its way out since this was asked last."""
    found: list[tuple[int, int, int]] = []
    while True:
        try:
            data, ancillary, _, _ = link.recvmsg(2048, 256, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except OSError:
            return found
        start = data.rfind(magic)  # the packet comes with the headers of its layers
        stamp = kernel_stamp(ancillary, SO_TIMESTAMPING)
        if start >= 0 and len(data) - start >= REQUEST.size and stamp:
            _, stream, number = REQUEST.unpack_from(data, start)
            found.append((stream, number, stamp))


class Stream:
    """What the reflector knows of one prober."""

    def __init__(self) -> None:
        self.requests = 0
        self.untold: deque[tuple[int, int]] = deque(maxlen=1000)  # (number, t3)
        self.peer: Any = None

    def reply(self, stream: int, number: int, arrived_ns: int) -> bytes:
        told = [self.untold.popleft() if self.untold else (FLUSH, 0) for _ in range(2)]
        return REPLY.pack(ANSWERS, stream, number, arrived_ns, self.requests, time.time_ns(), *told[0], *told[1])


def reflect(port: int, address: str, duration_ns: int | None) -> None:
    """Answers probes until told to end."""
    stop = Stop()
    wake_precisely()
    streams: OrderedDict[int, Stream] = OrderedDict()
    with open_receiver(address, port) as link:
        ask_for_transmit_stamps(link)
        print("ready", link.getsockname()[1], flush=True)
        events = select.poll()
        events.register(link, select.POLLIN)
        ends_ns = None if duration_ns is None else time.monotonic_ns() + duration_ns
        while not stop and (ends_ns is None or time.monotonic_ns() < ends_ns):
            quiet = not events.poll(IDLE_MS)
            for number, sent, stamp in departures(link, ANSWERS):
                if number in streams and sent != FLUSH:
                    streams[number].untold.append((sent, stamp))
            with contextlib.suppress(OSError):  # nothing more to read, or a prober that has gone
                while True:
                    _answer(link, streams)
            if quiet:
                _tell_the_rest(link, streams)


def _answer(link: socket.socket, streams: OrderedDict[int, Stream]) -> None:
    data, ancillary, _, peer = link.recvmsg(2048, 128)
    if len(data) < LEAST_BYTES or not data.startswith(ASKS):
        return
    _, stream, number = REQUEST.unpack_from(data)
    known = streams.setdefault(stream, Stream())
    streams.move_to_end(stream)
    if len(streams) > MOST_STREAMS:
        streams.popitem(last=False)
    known.requests += 1
    known.peer = peer
    reply = known.reply(stream, number, kernel_stamp(ancillary, SO_TIMESTAMPNS) or time.time_ns())
    link.sendto(reply + bytes(len(data) - len(reply)), socket.MSG_DONTWAIT, peer)


def _tell_the_rest(link: socket.socket, streams: OrderedDict[int, Stream]) -> None:
    for number, stream in streams.items():
        while stream.untold:
            reply = stream.reply(number, FLUSH, 0)
            with contextlib.suppress(OSError):
                link.sendto(reply, socket.MSG_DONTWAIT, stream.peer)


class Prober:
    """Sends probes and gathers their stamps. rows: by number, [t1, t2, t3, t4, place there, place here, kernel's]."""

    def __init__(self, link: socket.socket, destination: Any, size: int) -> None:
        self._link, self._destination, self._padding = link, destination, bytes(size - REQUEST.size)
        self._stream = int.from_bytes(os.urandom(4), "big")
        self._replies = 0
        self.rows: dict[int, list[int]] = {}
        self.longest_ns = 0

    def send(self, number: int) -> None:
        row = [time.time_ns(), 0, 0, 0, 0, 0, 0]
        with contextlib.suppress(OSError):  # refused: it was not sent, and is not counted
            self._link.sendto(
                REQUEST.pack(ASKS, self._stream, number) + self._padding, socket.MSG_DONTWAIT, self._destination
            )
            self.rows[number] = row

    def gather(self) -> None:
        """Reads all that has come."""
        for stream, number, stamp in departures(self._link, ASKS):
            if stream == self._stream and number in self.rows:
                self.rows[number][0] = stamp
                self.rows[number][6] |= 1
        with contextlib.suppress(OSError):  # nothing more, or nobody listens there
            while True:
                self._take(*self._link.recvmsg(2048, 128)[:2])

    def _take(self, data: bytes, ancillary: list[tuple[int, int, bytes]]) -> None:
        if len(data) < REPLY.size or not data.startswith(ANSWERS):
            return
        _, stream, number, t2, requests, t3, *told = REPLY.unpack_from(data)
        if stream != self._stream:
            return
        for sent, stamp in zip(told[::2], told[1::2], strict=True):
            if stamp and sent in self.rows:
                self.rows[sent][2] = stamp
                self.rows[sent][6] |= 2
        if number not in self.rows:
            return
        self._replies += 1
        row = self.rows[number]
        if row[3]:  # a copy
            return
        row[1], row[3] = t2, kernel_stamp(ancillary, SO_TIMESTAMPNS) or time.time_ns()
        row[4], row[5] = requests, self._replies
        row[2] = row[2] or t3
        self.longest_ns = max(self.longest_ns, row[3] - row[0])


def probe(address: str, port: int, interval_ns: int, duration_ns: int, size: int, out: Path) -> None:
    """Sends a probe at every `interval_ns`, gathers, and writes a ROW for each into `out` at the end."""
    family, _, _, _, destination = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0]
    stop = Stop()
    wake_precisely()
    with out.open("wb") as file, socket.socket(family, socket.SOCK_DGRAM) as link:
        ask_for_transmit_stamps(link)
        link.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        link.connect(destination)
        link.setblocking(False)
        prober = Prober(link, destination, size)
        start_ns, number = time.monotonic_ns(), 0
        while not stop and number * interval_ns < duration_ns:
            now_ns = wait_until(start_ns + number * interval_ns)
            number = max(number, (now_ns - start_ns) // interval_ns)  # an instant that has passed is left out
            prober.send(number)
            prober.gather()
            number += 1
        _await_the_last(link, prober)
        for sent, row in prober.rows.items():
            file.write(ROW.pack(sent, *row))


def _await_the_last(link: socket.socket, prober: Prober) -> None:
    events = select.poll()
    events.register(link, select.POLLIN)
    ends_ns = time.monotonic_ns() + round(LAST_WORDS_S * 1e9) + 2 * prober.longest_ns
    while time.monotonic_ns() < ends_ns and not all(row[3] and row[6] == 3 for row in prober.rows.values()):
        events.poll(IDLE_MS)
        prober.gather()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emulator.testing.roundtrip", description="round-trip probes")
    verbs = parser.add_subparsers(dest="verb", required=True)
    reflector = verbs.add_parser("reflect")
    reflector.add_argument("--port", type=int, required=True)
    reflector.add_argument("--address", default="", help="default: every address of this side")
    reflector.add_argument("--duration", type=float, metavar="S", help="default: until SIGINT or SIGTERM")
    prober = verbs.add_parser("probe")
    prober.add_argument("--to", required=True, metavar="ADDRESS")
    prober.add_argument("--port", type=int, required=True)
    prober.add_argument("--interval-ms", type=float, default=2.0)
    prober.add_argument("--duration", type=float, required=True, metavar="S")
    prober.add_argument("--size", type=int, default=LEAST_BYTES, metavar="BYTES")
    prober.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    try:
        if chosen.verb == "reflect":
            reflect(chosen.port, chosen.address, None if chosen.duration is None else round(chosen.duration * 1e9))
        elif chosen.interval_ms > 0 and LEAST_BYTES <= chosen.size <= MOST_BYTES:
            probe(
                chosen.to,
                chosen.port,
                round(chosen.interval_ms * 1e6),
                round(chosen.duration * 1e9),
                chosen.size,
                chosen.out,
            )
        else:
            parser.error(f"expected --interval-ms above 0 and --size from {LEAST_BYTES} to {MOST_BYTES}")
    except OSError as error:
        print(error.strerror or error, file=sys.stderr)
        return 71
    return 0


if __name__ == "__main__":
    sys.exit(main())
