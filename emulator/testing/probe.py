"""One-way delay probes, as processes of their own outside the link: small UDP packets on an absolute schedule.

    python -m emulator.testing.probe receive --port P --out FILE [--duration S]
    python -m emulator.testing.probe send --to ADDRESS --port P --interval-ms 2 --duration S --out FILE

Delay is the kernel's receive stamp minus the kernel's transmit stamp. The receive stamp (SO_TIMESTAMPNS) is taken when
the packet comes out of the device at the far side. The transmit stamp (SO_TIMESTAMPING on the error queue) is taken
when it enters the device at the near side; TUN and veth give one. Where a device gives none, the user-space stamp just
before the send stands in, some 10 µs earlier; `readings.ProbeRun.stamp_source` says which. Both are CLOCK_REALTIME of
one kernel: two machines would need synchronised clocks.
`receive` prints `ready PORT` once it listens (port 0 takes a free one). SIGINT and SIGTERM end both, with all that
they have on file. Exit status 0, 2 for a wrong command line, 71 for an address or a file that cannot be opened.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import struct
import sys
import time
from pathlib import Path

from emulator.testing.stamps import (
    MISSED,
    OVERFLOW,
    RECEIVED,
    REFUSED,
    SENT,
    STAMPED,
    Recorder,
    Stop,
    wake_precisely,
)

PACKET = struct.Struct("!4sIqq")  # magic, stream, sequence number, user-space transmit stamp
MAGIC = b"BPpr"

# Linux's numbers (asm-generic/socket.h, linux/net_tstamp.h), which Python does not name.
SO_RXQ_OVFL = 40
SO_TIMESTAMPNS = 35
SO_TIMESTAMPING = 37
TX_SOFTWARE = 1 << 1
REPORT_SOFTWARE = 1 << 4
TIMESPEC = struct.Struct("@ll")
COUNT = struct.Struct("@I")

SPIN_NS = 60_000  # the last stretch before a due time is spun: 3 % of a core at 2 ms
DRAIN_S = 0.004  # the receiver rests so long between two looks: its stamps are the kernel's, and cost no wake-up
RECEIVE_BUFFER_BYTES = 4 << 20


def send(address: str, port: int, interval_ns: int, duration_ns: int, size: int, out: Path) -> None:
    """Send a packet at every `interval_ns` from now on; an instant that has passed unused is left out, not made up."""
    family, _, _, _, destination = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0]
    stop = Stop()
    recorder = Recorder(out)
    wake_precisely()
    stream = int.from_bytes(os.urandom(4), "big")
    padding = bytes(max(0, size - PACKET.size))
    with socket.socket(family, socket.SOCK_DGRAM) as link:
        stamping = ask_for_transmit_stamps(link)
        start_ns = time.monotonic_ns()
        number = 0
        while not stop:
            due_ns = start_ns + number * interval_ns
            if due_ns - start_ns >= duration_ns:
                break
            now_ns = wait_until(due_ns)
            if now_ns - due_ns > interval_ns:  # starved: a burst to catch up would measure itself
                missed = (now_ns - due_ns) // interval_ns
                recorder.put(MISSED, number, missed)
                number += missed
                continue
            stamp_ns = time.time_ns()
            try:
                link.sendto(PACKET.pack(MAGIC, stream, number, stamp_ns) + padding, socket.MSG_DONTWAIT, destination)
                recorder.put(SENT, number, stamp_ns, stream)
            except OSError as error:
                recorder.put(REFUSED, number, error.errno or 0, stream)
            if stamping:
                _record_transmit_stamps(link, recorder)
            recorder.flush_if_due(now_ns)
            number += 1
        if stamping:
            _settle(link, recorder)
    recorder.close()


def _settle(link: socket.socket, recorder: Recorder) -> None:
    """The last stamps: a packet may wait in a queue before the device takes it."""
    poll = select.poll()
    poll.register(link, 0)  # POLLERR is always reported
    while poll.poll(50):
        if not _record_transmit_stamps(link, recorder):
            break


def wait_until(due_ns: int) -> int:
    """Sleep short of `due_ns` and spin the rest; returns the monotonic time at which it ended."""
    now_ns = time.monotonic_ns()
    if due_ns - now_ns > SPIN_NS:
        time.sleep((due_ns - now_ns - SPIN_NS) / 1e9)
        now_ns = time.monotonic_ns()
    while now_ns < due_ns:
        now_ns = time.monotonic_ns()
    return now_ns


def ask_for_transmit_stamps(link: socket.socket) -> bool:
    try:
        link.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, TX_SOFTWARE | REPORT_SOFTWARE)
    except OSError:
        return False
    return True


def _record_transmit_stamps(link: socket.socket, recorder: Recorder) -> int:
    """Read the stamps that are there. Each comes with its packet, which holds the number at its very end."""
    found = 0
    while True:
        try:
            data, ancillary, _, _ = link.recvmsg(2048, 256, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except OSError:
            return found
        found += 1
        start = data.rfind(MAGIC)
        if start < 0 or len(data) - start < PACKET.size:
            continue
        _, stream, number, _ = PACKET.unpack_from(data, start)
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPING and len(value) >= TIMESPEC.size:
                seconds, nanoseconds = TIMESPEC.unpack_from(value)
                if seconds:
                    recorder.put(STAMPED, number, seconds * 1_000_000_000 + nanoseconds, stream)


def receive(port: int, address: str, duration_ns: int | None, out: Path) -> None:
    """Record the kernel's stamp of every probe that arrives at `port`, over IPv4 and IPv6, until told to end."""
    stop = Stop()
    wake_precisely()
    with open_receiver(address, port) as link:
        recorder = Recorder(out)
        print("ready", link.getsockname()[1], flush=True)
        poll = select.poll()
        poll.register(link, select.POLLIN)
        ends_ns = None if duration_ns is None else time.monotonic_ns() + duration_ns
        overflow = 0
        while not stop:
            now_ns = time.monotonic_ns()
            if ends_ns is not None and now_ns >= ends_ns:
                break
            if poll.poll(200):
                overflow = _drain(link, recorder, overflow)
                time.sleep(DRAIN_S)
            recorder.flush_if_due(now_ns)
        _drain(link, recorder, overflow)
    recorder.close()


def open_receiver(address: str, port: int) -> socket.socket:
    """A UDP socket with the kernel's receive stamps, on `address` or on every address of both families."""
    if address:
        family, _, _, _, local = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0]
    else:
        family, local = (socket.AF_INET6, ("::", port)) if socket.has_dualstack_ipv6() else (socket.AF_INET, ("", port))
    link = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6 and not address:
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        link.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        link.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        link.bind(local)
    except OSError:
        link.close()
        raise
    link.setblocking(False)
    return link


def _drain(link: socket.socket, recorder: Recorder, overflow: int) -> int:
    """Record all that waits in the socket; returns the count of packets that the socket dropped so far."""
    while True:
        try:
            data, ancillary, _, _ = link.recvmsg(2048, 128)
        except BlockingIOError:
            return overflow
        stamp_ns = 0
        for level, kind, value in ancillary:
            if level != socket.SOL_SOCKET:
                continue
            if kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = TIMESPEC.unpack_from(value)
                stamp_ns = seconds * 1_000_000_000 + nanoseconds
            elif kind == SO_RXQ_OVFL and COUNT.unpack_from(value)[0] != overflow:
                overflow = COUNT.unpack_from(value)[0]
                recorder.put(OVERFLOW, overflow)
        if len(data) >= PACKET.size and data.startswith(MAGIC):
            _, stream, number, _ = PACKET.unpack_from(data)
            recorder.put(RECEIVED, number, stamp_ns or time.time_ns(), stream)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emulator.testing.probe", description="one-way delay probes")
    verbs = parser.add_subparsers(dest="verb", required=True)
    sender = verbs.add_parser("send")
    sender.add_argument("--to", required=True, metavar="ADDRESS")
    sender.add_argument("--port", type=int, required=True)
    sender.add_argument("--interval-ms", type=float, default=2.0)
    sender.add_argument("--duration", type=float, required=True, metavar="S")
    sender.add_argument("--size", type=int, default=PACKET.size, metavar="BYTES", help="of payload, at least 24")
    sender.add_argument("--out", type=Path, required=True)
    receiver = verbs.add_parser("receive")
    receiver.add_argument("--port", type=int, required=True)
    receiver.add_argument("--address", default="", help="default: every address of this side")
    receiver.add_argument("--duration", type=float, metavar="S", help="default: until SIGINT or SIGTERM")
    receiver.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    if chosen.verb == "send" and not (chosen.interval_ms > 0 and PACKET.size <= chosen.size <= 1400):
        parser.error(f"expected --interval-ms above 0 and --size from {PACKET.size} to 1400")
    try:
        if chosen.verb == "send":
            send(
                chosen.to,
                chosen.port,
                round(chosen.interval_ms * 1e6),
                round(chosen.duration * 1e9),
                chosen.size,
                chosen.out,
            )
        else:
            duration_ns = None if chosen.duration is None else round(chosen.duration * 1e9)
            receive(chosen.port, chosen.address, duration_ns, chosen.out)
    except OSError as error:
        print(f"probe {chosen.verb}: {error}", file=sys.stderr)
        return 71
    return 0


if __name__ == "__main__":
    sys.exit(main())
