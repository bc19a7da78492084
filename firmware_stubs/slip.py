"""IP over a serial line: RFC 1055 (SLIP), for terminals whose data path is the serial line.

Sans-I/O but for the packets' side: `Framing` makes packets of bytes and the other way round; `SlipStub` is what a bench
puts at the end of the line. A frame that is longer than a packet may be, or no IP packet, is thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator

from firmware_stubs.registry import PacketPort

END, ESC, ESC_END, ESC_ESC = 0xC0, 0xDB, 0xDC, 0xDD  # RFC 1055
LONGEST = 4096  # bytes of a packet; RFC 1055 advises 1006
SAID_AT_ONCE = 4096  # bytes; a serial line takes no more in a while
_ESCAPES = {ESC_END: END, ESC_ESC: ESC}


def frame(packet: bytes) -> bytes:
    """A packet as it goes on the line: an END before it flushes what noise has left there."""
    escaped = packet.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
    return b"\xc0" + escaped + b"\xc0"


class Framing:
    """Packets out of bytes in pieces of any size. `refused` counts frames that were too long."""

    def __init__(self) -> None:
        self._frame = bytearray()
        self._escaped = self._overlong = False
        self.refused = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The packets that end in `data`; empty ones are none."""
        for byte in data:
            if byte == END:
                if self._overlong:
                    self.refused += 1
                elif self._frame:
                    yield bytes(self._frame)
                self._frame.clear()
                self._escaped = self._overlong = False
            elif byte == ESC and not self._escaped:
                self._escaped = True
            elif len(self._frame) >= LONGEST:
                self._overlong = True
            else:
                # RFC 1055 leaves a wrong escape open: its implementation takes the byte as it is
                self._frame.append(_ESCAPES.get(byte, byte) if self._escaped else byte)
                self._escaped = False


def is_ip(packet: bytes) -> bool:
    """Whether the kernel may see it."""
    return len(packet) >= 20 and packet[0] >> 4 in (4, 6)


class SlipStub:
    """The far end of the line: what comes is handed to `packets`, what that has goes out. Nothing waits here."""

    def __init__(self, packets: PacketPort) -> None:
        self._packets, self._framing = packets, Framing()
        self.wake_fd = packets.fd  # readable: there is something to say

    def receive(self, data: bytes, now_ns: int) -> None:
        for packet in self._framing.feed(data):
            if is_ip(packet):
                self._packets.write(packet)

    def poll(self, now_ns: int) -> bytes:
        said = bytearray()
        while len(said) < SAID_AT_ONCE and (packet := self._packets.read()):
            said += frame(packet)
        return bytes(said)

    def next_event_ns(self) -> int | None:
        return None
