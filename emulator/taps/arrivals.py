"""From a capture to what arrives at a link: the frames in the order of their stamps, each with its way and its bytes.

A capture of a bench says itself which way each packet went; what it has behind the link as well as before is no second
arrival. In any other, what comes from an address of the terminal's
side goes up, and all else comes down; what is not IP goes the way of the IP packets from the same Ethernet address.
"""

from __future__ import annotations

import heapq
import ipaddress
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from emulator.errors import EndpointError
from emulator.link.store import LARGEST_SUPER, VNET_BYTES
from emulator.taps.pcapng import Frame, ethernet_header_bytes, read_capture
from emulator.units import NS_PER_S

ORDER_NS, ORDER_FRAMES = 5 * NS_PER_S, 1 << 17
BEFORE, AFTER = ((f"uplink, {place} the link", f"downlink, {place} the link") for place in ("before", "after"))
WAYS = {name: way for names in (BEFORE, AFTER) for way, name in enumerate(names)}
"""The interfaces of a bench's capture, and the directions that they stand for."""
ETHERTYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
ARP, ARP_IPV4, ARP_SENDER = b"\x08\x06", b"\x08\x00", slice(14, 18)  # RFC 826, for IPv4 over Ethernet
LONGEST = LARGEST_SUPER - VNET_BYTES

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Arrival(NamedTuple):
    """A frame on its way: UTC ns, 0 up or 1 down, what the link is offered, and the bytes that the capture has of it.

    Where the capture was cut, `offered` is as long as the frame was, with zeros at its end. number: on the link of the
    bench that was captured, from 1; 0 if that is not known.
    """

    utc_ns: int
    way: int
    offered: bytes
    captured: bytes
    number: int = 0


class Arrivals:
    """The frames of the capture `source`, once. `skipped` and `cut` count those left out, and those that are not whole;
    `ends_early`: the file ends in the middle of one more, which is left out.

    terminals: addresses at the terminal's side; none: the source of the first IP packet. ethernet: the link carries
    Ethernet frames; `ethernet` says then whether the capture has them: if not, IP packets are offered. Frames are put
    into the order of their stamps (see `_in_order`).
    Raises EndpointError for a file that is no capture or has nothing in it for the link.
    """

    def __init__(self, source: Path, *, terminals: Sequence[Address], ethernet: bool) -> None:
        self.skipped = self.cut = self._headless = 0
        self._source = source
        self.ends_early = False
        frames = read_capture(source, self._end_early)
        first = next(frames, None)
        self.ethernet = ethernet and first is not None and first.ethernet
        every = itertools.chain(() if first is None else (first,), frames)
        self._frames = _in_order(frame for frame in every if not _came_before(frame))
        self._upward = {address.packed for address in terminals}
        self._asked, self._heard = tuple(terminals), set[bytes]()
        self._by_address = False
        self._ways: dict[bytes, int] = {}

    def __iter__(self) -> Iterator[Arrival]:
        none = True
        for frame in self._known():
            offered = self._offered(frame)
            if not offered:
                self.skipped += 1
                self._headless += frame.missing_bytes > 0
                continue
            none = False
            captured = offered
            missing = self._missing(frame, offered)
            if missing > 0:
                self.cut += 1
                offered += bytes(missing)
            if self.ethernet and len(offered) > LONGEST:
                offered = b""  # as a port hands over what is longer than any frame
            number = frame.number if frame.interface in WAYS else 0
            yield Arrival(frame.utc_ns, self._way(frame), offered, captured, number)
        if none:
            cut = f", and {self._headless} that were cut too short" if self._headless else ""
            raise EndpointError(f"{self._source}: expected a capture with IP packets, found none{cut}")

    def _end_early(self) -> None:
        self.ends_early = True

    @property
    def unheard(self) -> tuple[Address, ...]:
        """Those of `terminals` from which nothing has come; none where the capture itself says which way each went."""
        return tuple(one for one in self._asked if one.packed not in self._heard) if self._by_address else ()

    def _known(self) -> Iterator[Frame]:
        """The frames, once it is known who the terminal is; frames in front of its first packet wait for that."""
        leading = list[Frame]()
        for frame in self._frames:
            if frame.packet is None and frame.interface not in WAYS and not self._upward and not self._ways:
                leading.append(frame)
                continue
            if frame.packet is not None and not self._upward:
                self._upward.add(source_of(frame.packet))
                if frame.ethernet:
                    self._ways[frame.whole[6:12]] = 0
            yield from leading
            leading.clear()
            yield frame
        self.skipped += len(leading)
        self._headless += sum(frame.missing_bytes > 0 for frame in leading)

    def _offered(self, frame: Frame) -> bytes:
        """What the link carries of it as it was captured; nothing of what it does not carry."""
        if not self.ethernet:
            # what is no packet, in a capture of a bench, was malformed there too
            return frame.packet or (b"" if frame.ethernet or frame.interface not in WAYS else frame.whole)
        if frame.ethernet:
            return frame.whole
        return bytes(12) + ETHERTYPES[frame.packet[0] >> 4] + frame.packet if frame.packet else b""

    def _missing(self, frame: Frame, offered: bytes) -> int:
        """How many bytes the capture has left out of what the link is offered."""
        if frame.missing_bytes == 0 or (frame.packet is not None and len(frame.packet) >= ip_bytes(frame.packet)):
            return 0
        if self.ethernet or frame.packet is None:
            return min(frame.missing_bytes, max(0, LONGEST - len(offered)))
        return ip_bytes(frame.packet) - len(frame.packet)

    def _way(self, frame: Frame) -> int:
        if frame.interface in WAYS:
            return WAYS[frame.interface]
        sender = frame.whole[6:12] if frame.ethernet else b""
        if frame.packet is not None:
            source, self._by_address = source_of(frame.packet), True
            way = int(source not in self._upward)
            if way == 0:
                self._heard.add(source)
            if sender:
                self._ways[sender] = way
            return way
        at = ethernet_header_bytes(frame.whole)
        if frame.whole[at - 2 : at] == ARP and frame.whole[at + 2 : at + 4] == ARP_IPV4:
            asking = frame.whole[at:][ARP_SENDER]
            if asking in self._upward:
                return 0
        return self._ways.get(sender, 1)


def source_of(packet: bytes) -> bytes:
    """The source address of an IP packet, packed."""
    return packet[12:16] if packet[0] >> 4 == 4 else packet[8:24]


def ip_bytes(packet: bytes) -> int:
    """How long an IP packet is by its header."""
    if packet[0] >> 4 == 4:
        return int.from_bytes(packet[2:4])
    return 40 + int.from_bytes(packet[4:6])


def _came_before(frame: Frame) -> bool:
    """Whether the frame stands behind the link, in a capture that has before the link what went the same way."""
    return frame.interface in AFTER and BEFORE[WAYS[frame.interface]] in frame.beside


def _in_order(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Frames by their stamps and numbers, of a file that has some earlier ones behind later ones.

    A capture of a bench has them in the order in which their fates were known. What comes later than ORDER_NS, or
    behind ORDER_FRAMES others, stays where it is.
    """
    waiting: list[tuple[int, int, int, Frame]] = []
    newest_ns = 0
    for place, frame in enumerate(frames):
        heapq.heappush(waiting, (frame.utc_ns, frame.number, place, frame))
        newest_ns = max(newest_ns, frame.utc_ns)
        while waiting[0][0] < newest_ns - ORDER_NS or len(waiting) > ORDER_FRAMES:
            yield heapq.heappop(waiting)[3]
    while waiting:
        yield heapq.heappop(waiting)[3]
