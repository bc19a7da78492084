"""Packets from a scapy expression, built once in a process of their own, to be sent as often as anybody likes.

scapy is GPL-2.0 and takes about a second to import: only the child process imports it. The child reads a request as
JSON from stdin and answers as JSON on stdout; bytes of packets are all that comes back.
"""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from emulator.child import child_command
from emulator.errors import EmulationError, EndpointError, ExpressionError, ToolMissingError
from emulator.taps.pcapng import read_capture

Direction = Literal["uplink", "downlink"]
Place = Literal["before", "after"]  # the link

MAX_PACKETS = 1000  # that one expression may stand for: `IP(ttl=(1, 64))` is 64 packets
MAX_PACKET_BYTES = 65_535  # what IPv4's total length can say
MIN_HEADER_BYTES = {4: 20, 6: 40}  # RFC 791, RFC 8200
TIME_LIMIT_S = 30.0
LONGEST_QUOTE = 200
ADDRESS_NAMES = {f"{name}{suffix}" for name in ("terminal", "datacenter", "near", "far") for suffix in ("", "6")}
LINK_LAYERS = ("Ether", "Dot3", "CookedLinux")


@dataclass(frozen=True, slots=True)
class BuiltPacket:
    """An IP or IPv6 packet, and scapy's one-line summary of it."""

    data: bytes
    summary: str


@dataclass(frozen=True, slots=True)
class Addresses:
    """Names that an expression may use. Empty, and unknown, are those of IPv6 where the bench has none, and all of
    them where nobody has told it who is wired to its cards.
    """

    terminal: str
    datacenter: str
    terminal6: str
    datacenter6: str

    def names(self) -> dict[str, str]:
        return {name: address for name, address in asdict(self).items() if address}


def build(
    expression: str,
    direction: Direction,
    addresses: Addresses,
    *,
    parameters: Mapping[str, int | str] | None = None,
    max_bytes: int = MAX_PACKET_BYTES,
    time_limit_s: float = TIME_LIMIT_S,
) -> list[BuiltPacket]:
    """The packets that a scapy expression stands for, e.g. `IP(dst=datacenter)/UDP(dport=9)/b"hello"`.

    A source or destination that the expression leaves open is that of the direction's ends. parameters: more names
    that it may use. Raises ExpressionError
    quoting the expression (not Python, not IP, larger than `max_bytes`, too many, too slow), ToolMissingError without
    scapy. Checksums and lengths are scapy's, or whatever the expression says: a broken packet may be what is wanted.
    """
    names = {**ends(addresses, direction), **addresses.names(), **(parameters or {})}
    request = json.dumps({"expression": expression, "direction": direction, "names": names, "max_bytes": max_bytes})
    try:
        child = subprocess.run(
            child_command("emulator.taps.inject"),
            input=request,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=time_limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ExpressionError(f"{quoted(expression)}: took longer than {time_limit_s:g} s to build") from error
    except OSError as error:
        raise EmulationError(f"cannot start {sys.executable} to build a packet: {error.strerror}") from error
    try:
        answer = json.loads(child.stdout)
    except ValueError as error:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        ended = f"its process ended with status {child.returncode}: {last}"
        raise ExpressionError(f"{quoted(expression)}: {ended}") from error
    if "missing" in answer:
        raise ToolMissingError(f"scapy builds the packets: not installed ({answer['missing']}): pip install scapy")
    if "refused" in answer:
        raise ExpressionError(f"{quoted(expression)}: {answer['refused']}")
    return [BuiltPacket(bytes.fromhex(packet["data"]), packet["summary"]) for packet in answer["packets"]]


def read_packets(path: Path, *, max_bytes: int = MAX_PACKET_BYTES) -> tuple[list[BuiltPacket], list[int]]:
    """The IP packets of a pcap or pcapng file, and when each came after the first, ns, never going back.

    Raises EndpointError for a file that is no capture, or holds no IP packet, or one longer than `max_bytes`.
    """
    packets: list[BuiltPacket] = []
    offsets_ns: list[int] = []
    first_ns, last_ns = 0, 0
    for number, frame in enumerate(read_capture(path), 1):
        if frame.packet is None:
            continue
        if len(frame.packet) > max_bytes:
            raise EndpointError(f"{path}: frame {number}: expected at most {max_bytes} bytes, got {len(frame.packet)}")
        if not packets:
            first_ns = frame.utc_ns
        last_ns = max(last_ns, frame.utc_ns - first_ns)
        packets.append(BuiltPacket(frame.packet, f"frame {number}, {len(frame.packet)} bytes"))
        offsets_ns.append(last_ns)
    if not packets:
        raise EndpointError(f"{path}: expected a capture with IP packets, found none")
    return packets, offsets_ns


def ends(addresses: Addresses, direction: Direction) -> dict[str, str]:
    """`near`, where what goes in a direction comes from, and `far`, where it goes; …6 where there is IPv6."""
    up = direction == "uplink"
    pairs = {
        "": (addresses.terminal, addresses.datacenter),
        "6": (addresses.terminal6, addresses.datacenter6),
    }
    named = {}
    for suffix, (terminal, datacenter) in pairs.items():
        named[f"near{suffix}"], named[f"far{suffix}"] = (terminal, datacenter) if up else (datacenter, terminal)
    return {name: address for name, address in named.items() if address}


def corrupted(packet: bytes, bits: int, draw: random.Random) -> bytes:
    """The packet with `bits` bits of it flipped behind its IP header; checksums stay as they were."""
    header = (packet[0] & 15) * 4 if packet[0] >> 4 == 4 else MIN_HEADER_BYTES[6]
    first = min(header, len(packet) - 1) * 8
    broken = bytearray(packet)
    for place in draw.sample(range(first, len(packet) * 8), min(bits, len(packet) * 8 - first)):
        broken[place // 8] ^= 1 << (place % 8)
    return bytes(broken)


def quoted(expression: str) -> str:
    """The expression on one line and bounded, for messages."""
    line = " ".join(expression.split())
    return line if len(line) <= LONGEST_QUOTE else line[: LONGEST_QUOTE - 1] + "…"


class _RefusedError(Exception):
    """The expression was evaluated, and what it gave cannot be sent."""


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """In the child: evaluates the expression with scapy's names."""
    try:
        import scapy.all as scapy
    except ImportError as error:
        return {"missing": str(error)}
    names = vars(scapy) | request["names"]
    try:
        # The user's own expression in the user's own process: no more than `python -c` would let them do.
        value = eval(compile(request["expression"].strip(), "<expression>", "eval"), names)
        ends = request["names"].get("terminal"), request["names"].get("datacenter")
        ends6 = request["names"].get("terminal6"), request["names"].get("datacenter6")
        if request["direction"] == "downlink":
            ends, ends6 = ends[::-1], ends6[::-1]
        packets = list(_built(value, {scapy.IP: ends, scapy.IPv6: ends6}, request["max_bytes"]))
    except _RefusedError as error:
        return {"refused": str(error)}
    except NameError as error:
        unknown = ": this bench knows no such address" if error.name in ADDRESS_NAMES else ""
        return {"refused": f"NameError: {error}{unknown}"}
    except SyntaxError as error:
        return {"refused": f"not a Python expression: {error.msg}"}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever an expression may raise is told to its author
        text = " ".join(str(error).split())[:LONGEST_QUOTE]
        return {"refused": f"{type(error).__name__}: {text}" if text else type(error).__name__}
    return {"packets": packets}


def _built(value: Any, ends: Mapping[type, tuple[str | None, str | None]], max_bytes: int) -> Iterator[dict[str, str]]:
    count = 0
    for packet in _single(value, ends):
        try:
            data = bytes(packet)
        except struct.error as error:  # a length of more than 16 bits, for one
            raise _RefusedError(f"a field cannot hold its value ({error})") from error
        if len(data) > max_bytes:
            raise _RefusedError(f"expected at most {max_bytes} bytes, got {len(data)}")
        if len(data) < MIN_HEADER_BYTES.get(data[0] >> 4, len(data) + 1):
            raise _RefusedError("expected an IP or IPv6 header, the version or the header's length is another")
        count += 1
        if count > MAX_PACKETS:
            raise _RefusedError(f"expected at most {MAX_PACKETS} packets")
        yield {"data": data.hex(), "summary": packet.summary()}
    if count == 0:
        raise _RefusedError("expected a packet, got an empty list")


def _single(value: Any, ends: Mapping[type, tuple[str | None, str | None]]) -> Iterator[Any]:
    """The packets of one packet with value sets, or of a list of packets, each with its open addresses filled in."""
    if isinstance(value, (str, bytes, dict)) or not hasattr(value, "__iter__"):
        raise _RefusedError(f"expected an IP or IPv6 packet, got {type(value).__name__}")
    if not hasattr(value, "fields"):
        for item in value:
            yield from _single(item, ends)
        return
    kind = type(value)
    if kind not in ends:
        advice = ": the link carries IP, leave the link layer out" if kind.__name__ in LINK_LAYERS else ""
        raise _RefusedError(f"expected an IP or IPv6 packet, got {kind.__name__}{advice}")
    for field, address in zip(("src", "dst"), ends[kind], strict=True):
        if field not in value.fields:
            if address is None:
                family = "IPv6" if kind.__name__ == "IPv6" else "IPv4"
                raise _RefusedError(f"{field}: expected an address, as this bench has no {family} of its own")
            setattr(value, field, address)
    yield from value


def main() -> None:
    """The child. What the expression prints goes to stderr: stdout is the answer's."""
    answers = os.dup(1)
    os.dup2(2, 1)
    answer = _answer(json.load(sys.stdin))
    with open(answers, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor, not a path
        json.dump(answer, stream)


if __name__ == "__main__":
    main()
