"""What the fuzzer begins with: sound inputs of every kind, so that it need not find out the formats by itself."""

from __future__ import annotations

import io
import itertools
import struct

from emulator.control.messages import encode
from emulator.control.topics import TOPICS, encode_message
from emulator.ports import messages
from emulator.ports.syscalls import MOST_CONTROL_WORDS
from emulator.taps import pcapng
from hil_tests.fuzz.links import beginnings
from hil_tests.unit.link.packets import packet


def batch_of(kind: int, way: int, frames: list[bytes]) -> bytes:
    """A message of arrivals or departures; each frame stands for one wire packet."""
    records = [
        struct.pack("<2q", 1000, len(frame)) if kind == messages.ARRIVALS else struct.pack("<3q", 1, len(frame), 5)
        for frame in frames
    ]
    padded = (frame + bytes(-len(frame) % 8) for frame in frames)
    head = messages.build(messages.Header(kind, way, records=len(frames)))
    return head + b"".join(itertools.chain(*zip(records, padded, strict=True)))


def conversations() -> list[bytes]:
    """What the parts of a bench say to each other beside batches."""
    bodies: dict[int, messages.Body] = {
        messages.HELLO: messages.Hello(5, 6, 0),
        messages.WELCOME: messages.Welcome(1 << 20, 1 << 10, 1, 1000, 50_000),
        messages.REFUSE: messages.Text("expected an MTU of 1500, got 1400"),
        messages.WHO: None,
        messages.ASK: messages.Ask(7),
        messages.STATUS: messages.Status(1, 2, 3, taken_packets=4),
        messages.LATENESS: messages.Lateness(((1, 2), (300, 4))),
        messages.DELIVER: messages.Frame(bytes(10) + packet(60, 1)),
    }
    return [messages.build(messages.Header(kind, 0, session=9), body) for kind, body in bodies.items()]


def requests() -> list[bytes]:
    """Sound requests of the control socket, and some with faults."""
    every = (
        {"verb": "state", "at": "2026-01-01T00:00:00Z"},
        {"verb": "outage", "duration_s": 1.5, "direction": "uplink", "at": "next-slot"},
        {"verb": "fade", "fade_db": 3.0, "duration_s": 2, "author": "lab"},
        {"verb": "overlay", "events": [{"kind": "loss", "at_s": 1, "duration_s": 2, "loss": 0.5}]},
        {"verb": "inject", "packets": [packet(60, 1)], "direction": "downlink"},
        {"verb": "limit", "packets": -1, "class": "voice"},
        {"verb": "mark", "label": "x" * 80},
        {"verb": "stop"},
    )
    return [encode({"version": 1, **each}) for each in every]


def telemetry() -> list[bytes]:
    """Telemetry, as the target of that name takes it."""
    made = (encode_message(topic, 1, 2, 3, {"rate_bps": 1, "path": [1, 2]}) for topic in TOPICS)
    return [bytes([len(topic)]) + topic + body for topic, body in made]


def files() -> list[bytes]:
    """Captures, pcapng and pcap."""
    ng = io.BytesIO()
    writer = pcapng.PcapngWriter(ng, ("uplink", "downlink"))
    for number in range(3):
        writer.write(number % 2, 10**18 + number, packet(60, number), "delay 10 ms")
    classic = struct.pack("<IHHIIII", 0xA1B23C4D, 2, 4, 0, 0, 65_535, pcapng.RAW)
    classic += b"".join(struct.pack("<IIII", 1, number, 60, 60) + packet(60, number) for number in range(3))
    told = pcapng.section(("uplink, before the link",), pcapng.ETHERNET, 96, began_utc_ns=10**18)
    return [ng.getvalue(), classic, pcapng.statistics(0, 5, 6, 7), told]


def ancillary() -> list[bytes]:
    """A stamp and what the kernel says of a tagged frame, as the kernel lays them out."""
    stamp = struct.pack("<QiiQQ", 32, 1, 35, 1_700_000_000, 5)
    auxdata = struct.pack("<QiiIIIHHHH", 36, 263, 8, 0x51, 60, 60, 0, 0, 5, 0x88A8) + bytes(4)
    return [stamp, auxdata, stamp + auxdata, bytes(MOST_CONTROL_WORDS * 8)]


def seeds() -> dict[str, list[bytes]]:
    """By target."""
    plain, framed = beginnings(False), beginnings(True)
    kinds = messages.ARRIVALS, messages.DEPARTURES
    return {
        "ip-frames": plain,
        "ethernet-frames": framed,
        "checksums": plain[:12],
        "ancillary": ancillary(),
        "batches": [batch_of(kind, way, (plain, framed)[way][:4]) for kind in kinds for way in (0, 1)],
        "control": requests(),
        "telemetry": telemetry(),
        "conversations": conversations(),
        "captures": files(),
    }
