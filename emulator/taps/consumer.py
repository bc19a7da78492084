"""The other end of a capture: asks a running bench, takes its stream apart, chooses, and writes files in turn."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import struct
import time
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgpack
import zmq

from emulator.errors import BenchNotFoundError, EmulationError, EndpointError, ExpressionError, ToolMissingError
from emulator.ports.interrupts import interrupts_wait
from emulator.taps.capture import VERSION, capture_endpoint
from emulator.taps.pcapng import ETHERNET, PACKET

ANSWER_LIMIT_S = 5.0
SILENCE_LIMIT_S = 5.0  # the bench gives a sign of life every second
DLT_RAW, DLT_EN10MB = 12, 1  # libpcap's own numbers for raw IP and Ethernet
PACKET_AT = 28  # of an enhanced packet block


class CaptureStream:
    """A context: the capture of a running bench, from the first packet after it was entered.

    Iterating gives bytes, whole pcapng blocks; put together they are a capture file. Ends when the bench ends, or after
    `stop`. `packets` and `lost` are known then. Raises BenchNotFoundError if the bench offers no captures,
    EmulationError if it refuses, or vanishes.
    """

    def __init__(
        self, runtime_dir: Path, *, directions: Sequence[str], places: Sequence[str], snap_bytes: int = 0
    ) -> None:
        self._endpoint = capture_endpoint(runtime_dir)
        self._path = runtime_dir / "capture.ipc"
        self._request = {
            "version": VERSION,
            "directions": list(directions),
            "places": list(places),
            "snap_bytes": snap_bytes,
        }
        self.packets = self.lost = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if not self._path.exists():
            raise BenchNotFoundError("captures are offered where the link is: by `bentpipe run` or `bentpipe link`")
        with contextlib.ExitStack() as stack:
            with interrupts_wait():
                context = stack.enter_context(zmq.Context())
                self._socket: zmq.Socket[bytes] = stack.enter_context(context.socket(zmq.DEALER))
            self._socket.setsockopt(zmq.LINGER, 200)
            self._socket.connect(self._endpoint)
            self._socket.send(msgpack.packb(self._request))
            kind, payload = self._receive(ANSWER_LIMIT_S)
            if kind == b"error":
                raise EmulationError(f"capture: {payload.decode()}")
            self.interfaces: tuple[str, ...] = tuple(msgpack.unpackb(payload)["interfaces"])
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def stop(self) -> None:
        """Asks for the end; what is under way to us still comes."""
        self._socket.send(b"stop")

    def __iter__(self) -> Iterator[bytes]:
        while True:
            kind, payload = self._receive(SILENCE_LIMIT_S)
            if kind == b"error":
                raise EmulationError(f"capture: {payload.decode()}")
            if kind == b"end":
                told = msgpack.unpackb(payload)
                self.packets, self.lost = int(told["packets"]), int(told["lost"])
                return
            yield payload

    def _receive(self, limit_s: float) -> tuple[bytes, bytes]:
        if not self._socket.poll(round(limit_s * 1000)):
            raise EmulationError(f"the bench has not been heard of for {limit_s:g} s: is it still running?")
        kind, payload = self._socket.recv_multipart()
        return kind, payload


LEAST_BLOCK = 12  # its kind, and its length at both ends


def blocks(data: bytes) -> Iterator[bytes]:
    """The blocks of a piece of the stream. Raises EmulationError where one is shorter than any, or longer than that."""
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if not LEAST_BLOCK <= length <= len(data) - at:
            raise EmulationError(f"capture: expected blocks that fit their message, got one of {length} bytes")
        yield data[at : at + length]
        at += length


def packet_of(block: bytes) -> bytes | None:
    """The packet in a block; None if it is another kind of block."""
    if int.from_bytes(block[:4], "little") != PACKET:
        return None
    return block[PACKET_AT : PACKET_AT + int.from_bytes(block[20:24], "little")]


def choose_blocks(data: bytes, wanted: PacketFilter | None, most: int | None) -> tuple[bytes, int]:
    """Of a piece of the stream what `wanted` accepts, at most `most` packets; and how many these are."""
    pieces, packets = [], 0
    for block in blocks(data):
        packet = packet_of(block)
        if packet is not None:
            fits = wanted is None or wanted.accepts(packet, int.from_bytes(block[24:28], "little"))
            if not fits or packets == most:
                continue
            packets += 1
        pieces.append(block)
    return b"".join(pieces), packets


class PacketFilter:
    """A capture filter in the language of tcpdump, by libpcap.

    Raises ToolMissingError without libpcap, ExpressionError for what it does not understand.
    """

    class _Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_uint), ("instructions", ctypes.c_void_p)]

    def __init__(self, expression: str, link_type: int) -> None:
        try:
            self._libpcap = ctypes.CDLL(ctypes.util.find_library("pcap") or "libpcap.so.0.8")
        except OSError as error:
            raise ToolMissingError("--filter needs libpcap: install libpcap0.8, or tcpdump, which brings it") from error
        self._libpcap.pcap_open_dead.restype = ctypes.c_void_p
        self._libpcap.pcap_geterr.restype = ctypes.c_char_p
        self._libpcap.pcap_geterr.argtypes = [ctypes.c_void_p]
        self._program = self._Program()
        handle = self._libpcap.pcap_open_dead(DLT_EN10MB if link_type == ETHERNET else DLT_RAW, 65_535)
        compiled = self._libpcap.pcap_compile(
            ctypes.c_void_p(handle), ctypes.byref(self._program), expression.encode(), 1, ctypes.c_uint(0xFFFFFFFF)
        )
        if compiled != 0:
            reason = (self._libpcap.pcap_geterr(handle) or b"").decode(errors="replace")
            raise ExpressionError(f"--filter {expression!r}: {reason}")

    def accepts(self, packet: bytes, wire_bytes: int) -> bool:
        header = struct.pack("<qqII", 0, 0, len(packet), wire_bytes)
        return bool(self._libpcap.pcap_offline_filter(ctypes.byref(self._program), header, packet))


class RotatingFiles:
    """Capture files in turn: NAME-00001.pcapng, NAME-00002.pcapng …, each whole by itself.

    most_bytes, most_s: when the next one begins, 0 for never. keep: how many stay, 0 for all. With neither a size nor a
    time there is one file, with the name as it is. Raises EndpointError naming the file, as on a full disk; what had
    been written can be read.
    """

    def __init__(self, path: Path, *, most_bytes: int = 0, most_s: float = 0.0, keep: int = 0) -> None:
        self._path, self._most_bytes, self._most_s, self._keep = path, most_bytes, most_s, keep
        self._head = b""
        self._file: FileIO | None = None
        self._begun_s = 0.0
        self._written = 0
        self.paths: list[Path] = []
        self._number = 0

    def begin(self, head: bytes) -> None:
        """head: the section and interface blocks that every file begins with."""
        self._head = head
        self._next()

    def write(self, data: bytes) -> None:
        full = self._most_bytes and self._written + len(data) > self._most_bytes and self._written > len(self._head)
        old = self._most_s and time.monotonic() - self._begun_s >= self._most_s
        if full or old:
            self._next()
        self._put(data)

    def _next(self) -> None:
        self.close()
        self._number += 1
        path = self._path
        if self._most_bytes or self._most_s:
            path = path.with_name(f"{path.stem}-{self._number:05d}{path.suffix or '.pcapng'}")
        try:
            self._file = path.open("wb", buffering=0)  # so that nothing is left to be written at the end
        except OSError as error:
            raise EndpointError(f"{path}: {error.strerror}") from error
        self.paths.append(path)
        self._begun_s, self._written = time.monotonic(), 0
        while self._keep and len(self.paths) > self._keep:
            self.paths.pop(0).unlink(missing_ok=True)
        self._put(self._head)

    def _put(self, data: bytes) -> None:
        assert self._file is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._written)  # whole blocks only
            self.close()
            raise EndpointError(f"{self.paths[-1]}: {error.strerror}") from error
        self._written += len(data)

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def link_type_of(head: bytes) -> int:
    """The link-layer type of the first interface in a capture's head."""
    interface: Any = list(blocks(head))[1]
    return int.from_bytes(interface[8:10], "little")
