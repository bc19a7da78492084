"""One TCP transfer, as processes of their own at the two sides: who connects and who sends are separate choices.

    python -m emulator.testing.bulk listen --port P --send --duration S --out FILE [--connections N]
    python -m emulator.testing.bulk connect --to ADDRESS --port P --receive --out FILE [--connections N]

The terminal connects and the datacenter sends: a download, as through an address translation that lets nothing in.
The receiver counts bytes as the application sees them (goodput), over all connections; the sender records
retransmissions and the smoothed round trip. Both sides are told the same number of connections. The congestion
control is pinned (cubic), because a machine's default may be another one; what is really in use is on file. `listen`
prints `ready PORT` once it listens (port 0 takes a free one). SIGINT and SIGTERM end both sides, and each the other.
"""

from __future__ import annotations

import argparse
import os
import resource
import select
import socket
import struct
import sys
import time
from pathlib import Path

from emulator.testing.stamps import BYTES, CONGESTION, TCP, Recorder, Stop

CHUNK = 64 << 10  # of one connection at a time: they take turns
TICK_NS = 20_000_000
FEW = 50  # connections
LONGEST_WAIT_S = 0.05
CONNECT_LIMIT_S = 10.0
TCP_INFO_BYTES = 104
ROUND_TRIP_US = struct.Struct("@68xI")  # linux/tcp.h, struct tcp_info: tcpi_rtt
RETRANSMITTED = struct.Struct("@100xI")  # tcpi_total_retrans


def transfer(peers: list[socket.socket], *, sends: bool, duration_ns: int, stop: Stop, out: Path) -> None:
    """Send for `duration_ns`, or receive until the other side ends."""
    recorder = Recorder(out)
    try:
        for peer in peers:
            peer.setblocking(False)
        if sends:
            _send(peers, duration_ns, stop, recorder)
        else:
            _receive(peers, stop, recorder)
    finally:
        recorder.close()


def _send(peers: list[socket.socket], duration_ns: int, stop: Stop, recorder: Recorder) -> None:
    recorder.put_name(CONGESTION, _congestion(peers[0]))
    sending = {peer.fileno(): peer for peer in peers}
    poll = select.epoll()
    for descriptor in sending:
        poll.register(descriptor, select.EPOLLOUT)
    chunk = bytes(CHUNK)
    start_ns = now_ns = time.monotonic_ns()
    ticked_ns, tick_ns = 0, TICK_NS * (1 + len(peers) // FEW)  # asking each of a thousand how it is takes a while
    while sending and not stop and now_ns - start_ns < duration_ns:
        for descriptor, _ in poll.poll(LONGEST_WAIT_S):
            try:
                sending[descriptor].send(chunk)
            except BlockingIOError:
                pass
            except OSError:  # reset by the other side: this connection has ended
                poll.unregister(descriptor)
                del sending[descriptor]
        now_ns = time.monotonic_ns()
        if now_ns - ticked_ns >= tick_ns:
            ticked_ns = now_ns
            recorder.put(TCP, now_ns, *_tcp_info(peers))
            recorder.flush_if_due(now_ns)


def _pin(peer: socket.socket, congestion: str) -> None:
    """Sets the congestion control, if one is given and the kernel lets us.

    Of a socket that is not connected yet: where BBR is the default, a connection that began with it stays paced.
    """
    if not congestion:
        return
    try:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
    except OSError as error:
        print(f"bulk: congestion control {congestion}: {error.strerror}; the default is used", file=sys.stderr)


def _congestion(peer: socket.socket) -> str:
    """The congestion control in use."""
    return peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


def _tcp_info(peers: list[socket.socket]) -> tuple[int, int]:
    """(segments sent again on all connections, largest smoothed round trip in µs), 0 from a kernel that is mute."""
    infos = [peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES) for peer in peers]
    infos = [info for info in infos if len(info) == TCP_INFO_BYTES]
    again = sum(RETRANSMITTED.unpack(info)[0] for info in infos)
    return again, max((ROUND_TRIP_US.unpack_from(info)[0] for info in infos), default=0)


def _receive(peers: list[socket.socket], stop: Stop, recorder: Recorder) -> None:
    receiving = {peer.fileno(): peer for peer in peers}
    poll = select.epoll()
    for descriptor in receiving:
        poll.register(descriptor, select.EPOLLIN)
    room = bytearray(CHUNK)
    total = 0
    last_ns = ticked_ns = time.monotonic_ns()
    recorder.put(BYTES, last_ns, total)
    while receiving and not stop:
        ready = poll.poll(LONGEST_WAIT_S)
        now_ns = time.monotonic_ns()
        if now_ns - last_ns >= TICK_NS and last_ns != ticked_ns:
            recorder.put(BYTES, last_ns, total)  # where the silence began, so that it is not smeared over
        for descriptor, _ in ready:
            try:
                received = receiving[descriptor].recv_into(room)
            except BlockingIOError:
                continue
            except OSError:
                received = 0
            if not received:
                poll.unregister(descriptor)
                del receiving[descriptor]
            total += received
            last_ns = now_ns
        if now_ns - ticked_ns >= TICK_NS:
            recorder.put(BYTES, now_ns, total)
            ticked_ns = last_ns = now_ns
        recorder.flush_if_due(now_ns)
    recorder.put(BYTES, time.monotonic_ns(), total)


def listen(port: int, address: str, connections: int, congestion: str, stop: Stop) -> list[socket.socket]:
    """The first `connections` to `port`; those that came if told to end before."""
    dual = not address and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual or ":" in address else socket.AF_INET
    peers: list[socket.socket] = []
    with socket.create_server((address, port), family=family, backlog=connections, dualstack_ipv6=dual) as server:
        _pin(server, congestion)
        print("ready", server.getsockname()[1], flush=True)
        server.settimeout(0.2)
        while len(peers) < connections and not stop:
            try:
                peers.append(server.accept()[0])
            except TimeoutError:
                continue
    return peers


def connect(address: str, port: int, connections: int, congestion: str) -> list[socket.socket]:
    """Connections, all begun at once: one after the other, a thousand would take as many round trips.

    Raises OSError if one of them fails, or if they are not there within CONNECT_LIMIT_S.
    """
    family, _, _, _, resolved = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    peers: list[socket.socket] = []
    try:
        poll = select.epoll()
        waiting = {}
        for _ in range(connections):
            peers.append(socket.socket(family, socket.SOCK_STREAM))
            _pin(peers[-1], congestion)
            peers[-1].setblocking(False)
            peers[-1].connect_ex(resolved)
            waiting[peers[-1].fileno()] = peers[-1]
            poll.register(peers[-1].fileno(), select.EPOLLOUT)
        until = time.monotonic() + CONNECT_LIMIT_S
        while waiting and (left := until - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(left):
                if code := waiting.pop(descriptor).getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(code, os.strerror(code))
                poll.unregister(descriptor)
        if waiting:
            raise TimeoutError(f"{len(waiting)} of {connections} connections did not come about")
    except OSError:
        for peer in peers:
            peer.close()
        raise
    return peers


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emulator.testing.bulk", description="one TCP transfer")
    parser.add_argument("verb", choices=("listen", "connect"))
    parser.add_argument("--to", metavar="ADDRESS", help="with connect")
    parser.add_argument("--address", default="", help="with listen; default: every address of this side")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=1, metavar="N")
    role = parser.add_mutually_exclusive_group(required=True)
    role.add_argument("--send", action="store_true")
    role.add_argument("--receive", action="store_true")
    parser.add_argument("--duration", type=float, default=10.0, metavar="S", help="with --send")
    parser.add_argument("--congestion", default="cubic", help="with --send")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    if (chosen.verb == "connect") != (chosen.to is not None):
        parser.error("--to goes with connect, and connect needs it")
    if chosen.connections < 1:
        parser.error("expected --connections of 1 or more")
    stop = Stop()
    peers: list[socket.socket] = []
    try:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the usual 1,024 are few more than a thousand
        congestion = chosen.congestion if chosen.send else ""
        if chosen.verb == "listen":
            peers = listen(chosen.port, chosen.address, chosen.connections, congestion, stop)
        else:
            peers = connect(chosen.to, chosen.port, chosen.connections, congestion)
        if peers:
            transfer(
                peers,
                sends=chosen.send,
                duration_ns=round(chosen.duration * 1e9),
                stop=stop,
                out=chosen.out,
            )
    except OSError as error:
        print(f"bulk {chosen.verb}: {error}", file=sys.stderr)
        return 71
    finally:
        for peer in peers:
            peer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
