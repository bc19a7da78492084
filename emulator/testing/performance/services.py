"""What a bench offers beside carrying packets, under load: a full capture, an injection at the greatest rate."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import time
from dataclasses import asdict
from typing import Any

from emulator.bench.captures import serving_captures
from emulator.child import child_command
from emulator.errors import EmulationError
from emulator.testing.performance.loads import Window, tcp
from emulator.testing.performance.places import Record, Settings, link

START_LIMIT_S = 30.0
PACKETS_AT_ONCE = 100  # of a control request


def captured_gigabit(settings: Settings, warnings: list[str]) -> Record:
    """TCP at 1 Gbit/s while all of it, both ways, is captured by a process of its own into nothing."""
    with (
        link(settings, rate_mbps=1000.0, queue_packets=settings.gigabit_queue_packets, warnings=warnings) as watch,
        serving_captures(watch.bench),
    ):
        command = ("capture", "--bench", os.getpid(), "--at", "both", "-w", "/dev/null", "--json")
        consumer = subprocess.Popen(
            child_command("emulator.cli.main", *command), stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
        )
        try:
            begun_s = time.monotonic()
            while not any(ring.reg[0] for ring in watch.bench.packet_loop.captures):
                if consumer.poll() is not None or time.monotonic() - begun_s > START_LIMIT_S:
                    raise EmulationError("bentpipe capture did not begin")
                time.sleep(0.01)
            carried = tcp(
                settings.tool,
                watch.bench.terminal,
                watch.bench.datacenter,
                ramp_s=settings.ramp_s,
                seconds=settings.seconds,
                window=Window(watch.look, watch.look),
            )
            consumer.send_signal(signal.SIGINT)
            told: dict[str, Any] = json.loads(consumer.communicate(timeout=START_LIMIT_S)[0])
        finally:
            consumer.kill()
            consumer.wait()
    seen, crossed = told["packets"] + told["lost"], watch.seen()
    dropped = {way: crossed[way]["dropped_packets"] for way in ("uplink", "downlink")}
    return {
        **asdict(carried),
        "link": crossed,
        "captured": told,
        "lost_share": told["lost"] / max(1, seen),
        "link_lost": sum(count for causes in dropped.values() for cause, count in causes.items() if cause != "queue"),
    }


def injected(settings: Settings, warnings: list[str]) -> Record:
    """Prepared packets by the control socket, a hundred a request, for as long as a limit is tried."""
    from emulator.control.client import ControlClient
    from emulator.control.session import session

    with link(settings, warnings=warnings) as watch, session(watch.bench):
        packet = _datagram(watch.bench.terminal.ipv4, watch.bench.datacenter.ipv4)
        child = [packet] * PACKETS_AT_ONCE
        with ControlClient(watch.bench.runtime_dir / "control.ipc") as client:
            before = watch.bench.counters().uplink.offered_packets
            begun_s, sent = time.monotonic(), 0
            while (took_s := time.monotonic() - begun_s) < settings.limit_seconds:
                client.inject("uplink", child)
                sent += PACKETS_AT_ONCE
        offered = watch.bench.counters().uplink.offered_packets - before
        return {"packets_per_s": sent / took_s, "sent": sent, "lost": sent - offered}


def _datagram(source: str, target: str) -> bytes:
    """64 bytes of IPv4 and UDP to the discard port."""
    import socket

    udp = struct.pack(">HHHH", 9, 9, 44, 0) + bytes(36)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 64, 0, 0, 64, 17, 0) + socket.inet_aton(source) + socket.inet_aton(target)
    total = sum(struct.unpack(">10H", head))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return head[:10] + struct.pack(">H", checksum) + head[12:] + udp
