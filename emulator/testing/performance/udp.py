"""Small UDP packets at a stated rate, and who counts them: processes of their own at the two sides.

    python udp.py send --to ADDRESS --port P --rate PACKETS_PER_S --duration S [--size BYTES] [--realtime]
    python udp.py receive --port P

The sender takes a batch to the kernel every millisecond (sendmmsg: each packet is one of its own, without segmentation
offload). The receiver says `ready`, counts until SIGTERM, and looks last of all how many packets its socket had no
room for: these have crossed the link. Both print their counts as JSON. Standard library alone, for a fast start.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

TICK_NS = 1_000_000
CATCH_UP_NS = 20_000_000  # a sender that did not run for longer leaves out the rest: a flood would be another test
BATCH = 1024
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
RECEIVE_BUFFER_BYTES = 64 << 20
AMPLE_BYTES = 8 << 20  # with that much room the receiver may look once a millisecond
REST_S = 0.001
MSG_DONTWAIT = 0x40
FIFO_PRIORITY = 13  # above the packet loops: a sender that waits for them would send in bursts


class Vector(ctypes.Structure):
    """struct iovec"""

    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Header(ctypes.Structure):
    """struct msghdr"""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("vector", ctypes.POINTER(Vector)),
        ("vectors", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class Message(ctypes.Structure):
    """struct mmsghdr"""

    _fields_ = [("header", Header), ("length", ctypes.c_uint)]


_libc = ctypes.CDLL(None, use_errno=True)


class Batch:
    """BATCH messages that share one buffer: what is in them does not matter."""

    def __init__(self, size: int) -> None:
        self._room = ctypes.create_string_buffer(size)
        self._vector = Vector(ctypes.addressof(self._room), size)
        self._messages = (Message * BATCH)()
        for message in self._messages:
            message.header.vector = ctypes.pointer(self._vector)
            message.header.vectors = 1

    def send(self, descriptor: int, count: int) -> int:
        return self._done(_libc.sendmmsg(descriptor, self._messages, min(count, BATCH), MSG_DONTWAIT))

    def receive(self, descriptor: int) -> int:
        return self._done(_libc.recvmmsg(descriptor, self._messages, BATCH, MSG_DONTWAIT, None))

    @staticmethod
    def _done(status: int) -> int:
        """How many; 0 if the socket is not ready. Raises OSError."""
        if status >= 0:
            return int(status)
        code = ctypes.get_errno()
        if code in (11, 4):  # EAGAIN, EINTR
            return 0
        raise OSError(code, os.strerror(code))


def send(address: str, port: int, rate: float, duration_s: float, size: int) -> dict[str, float]:
    batch = Batch(size)
    duration_ns = round(duration_s * 1e9)
    sent = left_out = waited = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.connect((address, port))
        poll = select.poll()
        poll.register(link, select.POLLOUT)
        start_ns = tick_ns = time.monotonic_ns()
        while True:
            elapsed_ns = min(time.monotonic_ns() - start_ns, duration_ns)
            due = int(elapsed_ns * rate / 1e9) - sent - left_out
            over = due - int(CATCH_UP_NS * rate / 1e9)
            if over > 0:
                left_out += over
                due -= over
            while due > 0:
                done = batch.send(link.fileno(), due)
                if not done:
                    waited += 1
                    poll.poll(10)
                sent += done
                due -= done
            if elapsed_ns >= duration_ns:
                break
            tick_ns = max(tick_ns + TICK_NS, time.monotonic_ns() - TICK_NS)
            time.sleep(max(0, tick_ns - time.monotonic_ns()) / 1e9)
        took_ns = time.monotonic_ns() - start_ns
    return {"sent": sent, "left_out": left_out, "waited": waited, "seconds": took_ns / 1e9}


def receive(port: int) -> dict[str, float]:
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    signal.signal(signal.SIGINT, lambda number, _: ended.append(number))
    batch = Batch(2048)
    received = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        room = widen(link)
        link.bind(("", port))
        print("ready", flush=True)
        poll = select.poll()
        poll.register(link, select.POLLIN)
        while not ended:
            with contextlib.suppress(InterruptedError):
                poll.poll(100)
            while count := batch.receive(link.fileno()):
                received += count
            if room >= AMPLE_BYTES:
                time.sleep(REST_S)
        while count := batch.receive(link.fileno()):
            received += count
        return {"received": received, "no_room": refused(port), "buffer_bytes": room}


def widen(link: socket.socket) -> int:
    """A large receive buffer if we may have one, else the largest; returns its size."""
    try:
        link.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except OSError:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    return link.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def refused(port: int) -> int:
    """Packets that came to the socket of `port` and found no room."""
    for line in Path("/proc/self/net/udp").read_text().splitlines()[1:]:
        columns = line.split()
        if int(columns[1].rpartition(":")[2], 16) == port:
            return int(columns[-1])
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="udp.py", description="small UDP packets at a stated rate")
    verbs = parser.add_subparsers(dest="verb", required=True)
    sender = verbs.add_parser("send")
    sender.add_argument("--to", required=True, metavar="ADDRESS")
    sender.add_argument("--port", type=int, required=True)
    sender.add_argument("--rate", type=float, required=True, metavar="PACKETS_PER_S")
    sender.add_argument("--duration", type=float, required=True, metavar="S")
    sender.add_argument("--size", type=int, default=64, metavar="BYTES", help="of payload")
    sender.add_argument("--realtime", action="store_true", help="run at real-time priority, where that is granted")
    receiver = verbs.add_parser("receive")
    receiver.add_argument("--port", type=int, required=True)
    chosen = parser.parse_args()
    try:
        if chosen.verb == "send":
            if chosen.realtime:
                with contextlib.suppress(PermissionError):
                    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(FIFO_PRIORITY))
            counts = send(chosen.to, chosen.port, chosen.rate, chosen.duration, chosen.size)
        else:
            counts = receive(chosen.port)
    except OSError as error:
        print(f"udp {chosen.verb}: {error}", file=sys.stderr)
        return 71
    print(json.dumps(counts), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
