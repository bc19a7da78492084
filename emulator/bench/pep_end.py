"""One end of the performance-enhancing proxy (RFC 3135): takes TCP connections over and carries their bytes on.

    python -I -S pep_end.py OPTIONS(JSON)

A process of its own, on the standard library alone: it starts in milliseconds, and its death is the kernel's to clean
up. Every connection is set to be reset if its socket is closed without ceremony, so a proxy that dies leaves nobody
waiting; one that ends in order is closed in order. Bytes go from socket to socket by splice(2), never through us.

The other side is connected to only once the client is accepted: that is the proxy's gain and its lie.
"""

import contextlib
import json
import mmap
import os
import select
import socket
import struct
import sys

SO_ORIGINAL_DST = IP6T_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33  # asm-generic/socket.h
IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75  # linux/in.h, linux/in6.h
SPLICE_F_MOVE, SPLICE_F_NONBLOCK = 1, 2  # fcntl.h
F_SETPIPE_SZ = 1031  # linux/fcntl.h
PIPE_BYTES = 1 << 18
RESET, CLOSE = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)
STATISTICS = ("accepted", "open", "failed", "bytes_from_terminal", "bytes_to_terminal")  # one int64 each


class Way:
    """Bytes from one socket to the other, by way of a pipe in the kernel."""

    def __init__(self, source: socket.socket, sink: socket.socket, statistic: int) -> None:
        self.source, self.sink, self.statistic = source, sink, statistic
        self.reading, self.writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # an ordinary user's share of pipes may be used up: then it stays small
            socket_fcntl(self.writing, PIPE_BYTES)
        self.held = 0
        self.ended = self.done = False

    def pump(self) -> int:
        """Moves what can be moved now, and returns how much. Raises OSError if a connection is broken."""
        moved, flags = 0, SPLICE_F_MOVE | SPLICE_F_NONBLOCK
        while not self.done:
            before = moved
            if not self.ended:
                with contextlib.suppress(BlockingIOError):
                    taken = os.splice(self.source.fileno(), self.writing, PIPE_BYTES, flags=flags)
                    self.held += taken
                    self.ended = taken == 0
            if self.held:
                with contextlib.suppress(BlockingIOError):
                    given = os.splice(self.reading, self.sink.fileno(), self.held, flags=flags)
                    self.held -= given
                    moved += given
            if self.ended and not self.held:
                self.sink.shutdown(socket.SHUT_WR)
                self.done = True
            if moved == before and not (self.ended and not self.held):
                break
        return moved

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


class Pair:
    """A client's connection and ours in its place."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.ways = (Way(client, server, 3), Way(server, client, 4))
        self.connected = False

    def close(self) -> None:
        """In order if both ways have ended, else by a reset."""
        orderly = all(way.done for way in self.ways)
        for way in self.ways:
            way.close()
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSE if orderly else RESET)
            end.close()


def socket_fcntl(descriptor: int, size: int) -> None:
    import fcntl

    fcntl.fcntl(descriptor, F_SETPIPE_SZ, size)


class End:
    """Options: port, mark, transparent (TPROXY, else redirected), spoof (families whose client's address is kept),
    congestion_control, buffer_bytes, statistics (a file).
    """

    def __init__(self, options: dict) -> None:  # type: ignore[type-arg]
        self.options = options
        self.epoll = select.epoll()
        self.pairs: dict[int, Pair] = {}
        self.listeners: dict[int, socket.socket] = {}
        with open(options["statistics"], "r+b") as file:  # noqa: PTH123
            self.shared = mmap.mmap(file.fileno(), 8 * len(STATISTICS))
        self.counts = [0] * len(STATISTICS)
        for family in (socket.AF_INET, socket.AF_INET6):
            self.listen(family)

    def listen(self, family: int) -> None:
        try:
            listener = socket.socket(family, socket.SOCK_STREAM)
        except OSError:  # no IPv6 here
            return
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        with socket.socket(family, socket.SOCK_STREAM) as trial:  # does the kernel know it all?
            self.tune(trial)
        if self.options["transparent"]:
            be_transparent(listener, family)
            self.tune(listener)  # what is accepted inherits it
        listener.bind(("" if family == socket.AF_INET else "::", self.options["port"]))
        listener.listen(4096)
        listener.setblocking(False)
        self.listeners[listener.fileno()] = listener
        self.epoll.register(listener.fileno(), select.EPOLLIN)

    def tune(self, end: socket.socket) -> None:
        """For the long way between the two ends; an ordinary user's buffers are the kernel's to size."""
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, self.options["congestion_control"].encode())
        for option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
            with contextlib.suppress(PermissionError):
                end.setsockopt(socket.SOL_SOCKET, option, self.options["buffer_bytes"] // 2)  # the kernel doubles it

    def run(self) -> None:
        while True:
            for descriptor, _ in self.epoll.poll():
                if descriptor in self.listeners:
                    self.accept(self.listeners[descriptor])
                elif descriptor in self.pairs:
                    self.serve(self.pairs[descriptor])
            struct.pack_into(f"{len(STATISTICS)}q", self.shared, 0, *self.counts)

    def accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # none left to accept, or it has gone already
            while True:
                client, peer = listener.accept()
                self.counts[0] += 1
                try:
                    self.take(client, peer)
                except OSError:
                    self.counts[2] += 1
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    client.close()

    def take(self, client: socket.socket, peer: tuple) -> None:  # type: ignore[type-arg]
        family = client.family
        wanted = client.getsockname()[:2] if self.options["transparent"] else original_destination(client)
        server = socket.socket(family, socket.SOCK_STREAM)
        try:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.options["mark"])
            if family in self.options["spoof"]:
                be_transparent(server, family)
                server.bind((peer[0], 0))
            if not self.options["transparent"]:
                self.tune(server)
            for end in (client, server):
                end.setblocking(False)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(BlockingIOError):
                server.connect(wanted)
        except OSError:
            server.close()
            raise
        pair = Pair(client, server)
        self.counts[1] += 1
        for end in (client, server):
            self.pairs[end.fileno()] = pair
            self.epoll.register(end.fileno(), select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)

    def serve(self, pair: Pair) -> None:
        try:
            if not pair.connected:
                failed = pair.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if failed:
                    self.counts[2] += 1
                    raise OSError(failed, os.strerror(failed))
                try:
                    pair.server.getpeername()
                except OSError:  # still connecting; a client that gives up meanwhile is found out afterwards
                    return
                pair.connected = True
            for way in pair.ways:
                self.counts[way.statistic] += way.pump()
            if not all(way.done for way in pair.ways):
                return
        except OSError:
            pass
        self.counts[1] -= 1
        for end in (pair.client, pair.server):
            self.epoll.unregister(end.fileno())
            del self.pairs[end.fileno()]
        pair.close()


def be_transparent(end: socket.socket, family: int) -> None:
    """It may have an address that is not this machine's."""
    if family == socket.AF_INET:
        end.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
    else:
        end.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)


def original_destination(client: socket.socket) -> tuple[str, int]:
    """Where a redirected connection was going."""
    if client.family == socket.AF_INET:
        answer = client.getsockopt(socket.IPPROTO_IP, SO_ORIGINAL_DST, 16)
        return socket.inet_ntop(socket.AF_INET, answer[4:8]), int.from_bytes(answer[2:4], "big")
    answer = client.getsockopt(socket.IPPROTO_IPV6, IP6T_SO_ORIGINAL_DST, 28)
    return socket.inet_ntop(socket.AF_INET6, answer[8:24]), int.from_bytes(answer[2:4], "big")


def main() -> None:
    try:
        end = End(json.loads(sys.argv[1]))
    except OSError as error:
        sys.exit(f"{error.strerror or error}")
    print("ready", flush=True)
    end.run()


if __name__ == "__main__":
    main()
