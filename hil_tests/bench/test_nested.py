"""Ten links of 10 ms in a row, live: what mahimahi's nested shells show, here with ten packet loops on real time."""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import time
from collections.abc import Callable

import pytest

from emulator.link.link import Link
from emulator.ports.relay import Relay
from emulator.timeline.model import Channel
from hil_tests.unit.link.packets import frame
from hil_tests.unit.ports.carriers import END_NS, PATIENCE_S, SMALL

MS = 1_000_000
LINKS, PINGS = 10, 30


@pytest.mark.long
@pytest.mark.needs("compiled")
def test_ten_links_of_ten_ms_in_a_row_take_two_hundred_there_and_back(
    record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Never less; how much more, on this machine at this time, is reported (quiet: 200 to 204)."""
    with contextlib.ExitStack() as stack:
        joints = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(LINKS + 1)]
        for joint in joints:
            for end in joint:
                stack.enter_context(end)
                end.setblocking(False)
        near, far = joints[0][0], joints[-1][1]
        near.settimeout(PATIENCE_S)
        far.settimeout(PATIENCE_S)
        relays = []
        for (_, before), (behind, _) in zip(joints, joints[1:], strict=False):
            channel = Channel.constant(0, delay_ns=10 * MS)
            up, down = (Link(channel, END_NS, seed=1, direction=way, options=SMALL) for way in range(2))
            relay = Relay(up, down, before.fileno(), behind.fileno(), (-1, -1))
            stack.callback(relay.stop)
            relay.start()
            relays.append(relay)
        trips_ms = []
        for number in range(PINGS):
            sent_ns = time.monotonic_ns()
            near.send(frame(100, number))
            far.send(far.recv(1 << 17))
            assert near.recv(1 << 17) == frame(100, number)
            trips_ms.append((time.monotonic_ns() - sent_ns) / MS)
        for relay in relays:
            counters = relay.counters()
            assert counters.uplink.delivered_packets == counters.downlink.delivered_packets == PINGS
    assert min(trips_ms) >= 2 * LINKS * 10
    found = {"least": min(trips_ms), "median": statistics.median(trips_ms), "worst": max(trips_ms)}
    record_property("round_trip_ms", json.dumps(found))
    with capsys.disabled():
        print(f"\nround trip through {LINKS} links of 10 ms: {found}")
