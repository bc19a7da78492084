"""One suite for whatever carries packets: each that is offered arrives once, in order, unchanged, or is counted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from emulator.scenario import Scenario
from emulator.scenario.model import OverlayEvent
from emulator.timeline.causes import Cause
from hil_tests.contract.carriers import CARRIERS, DIRECTIONS, HEADERS, NEEDS, Carrier, conditions, settled
from hil_tests.unit.link.oracle import LOSS_DRAW, draw
from hil_tests.unit.link.packets import filler

Make = Callable[[Scenario], AbstractContextManager[Carrier]]


def payloads(count: int, length: int = 500, first: int = 0) -> list[bytes]:
    return [filler(length, number) for number in range(first, first + count)]


@pytest.fixture(
    params=[
        pytest.param(
            name,
            marks=[
                pytest.mark.needs(*NEEDS[name.partition("-")[0]]),
                *([pytest.mark.long] if name == "nic-zmq" else []),  # what it adds to the others takes half a minute
            ],
        )
        for name in CARRIERS
    ]
)
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path / "r"))
    yield CARRIERS[request.param]
    assert not list((tmp_path / "r").glob("*-*/")), "no runtime directory stays"


def test_each_packet_arrives_once_in_order_and_unchanged(make: Make) -> None:
    """Of every length that an Ethernet carries, both ways at once."""
    lengths = [0, 1, 2, 7, 8, 9, 63, 64, 65, 499, 500, 1000, 1471, 1472] * 5
    sent = {
        direction: [filler(length, number + 1000 * way) for number, length in enumerate(lengths)]
        for way, direction in enumerate(DIRECTIONS)
    }
    with make(conditions()) as carrier:
        for pair in zip(*sent.values(), strict=True):
            for direction, payload in zip(DIRECTIONS, pair, strict=True):
                carrier.send(direction, payload)
        for direction in DIRECTIONS:
            assert carrier.receive(direction, len(lengths)) == sent[direction]
        counted = settled(carrier, 2 * len(lengths))
        for direction in DIRECTIONS:
            assert carrier.rest(direction) == [], "each once"
            assert counted[direction].offered_packets == counted[direction].delivered_packets == len(lengths)
            assert counted[direction].offered_bytes == sum(lengths) + HEADERS * len(lengths)
            assert counted[direction].delivered_bytes == counted[direction].offered_bytes
            assert counted[direction].dropped == {}


def test_what_goes_one_way_is_not_seen_the_other_way(make: Make) -> None:
    with make(conditions()) as carrier:
        for payload in payloads(20):
            carrier.send("uplink", payload)
        assert carrier.receive("uplink", 20) == payloads(20)
        assert settled(carrier, 20)["downlink"].offered_packets == 0
        assert carrier.rest("downlink") == []


def test_loss_is_counted_and_is_the_seeds(make: Make) -> None:
    """The same seed loses the same packets whatever carries them."""
    with make(conditions("link.loss=0.2", "seed=5")) as carrier:
        for payload in payloads(300):
            carrier.send("uplink", payload)
        uplink = settled(carrier, 300)["uplink"]
        arrived = carrier.rest("uplink")
    assert uplink.offered_packets == 300 == uplink.delivered_packets + uplink.dropped[Cause.LOSS]
    assert set(uplink.dropped) == {Cause.LOSS}
    assert len(arrived) == uplink.delivered_packets
    drawn = [draw(5, 0, LOSS_DRAW, number) for number in range(1, 301)]
    assert arrived == [payload for payload, at in zip(payloads(300), drawn, strict=True) if at >= round(0.2 * 2**32)]


def test_a_queue_that_is_full_drops_and_all_is_accounted_for(make: Make) -> None:
    with make(conditions("link.rate_mbps=4", "link.queue_packets=10")) as carrier:  # 1 ms a packet
        for payload in payloads(200, length=472):
            carrier.send("uplink", payload)
        uplink = settled(carrier, 200)["uplink"]
        arrived = carrier.rest("uplink")
    assert uplink.offered_packets == 200
    assert set(uplink.dropped) == {Cause.QUEUE}
    assert len(arrived) == uplink.delivered_packets == 200 - uplink.dropped[Cause.QUEUE]
    assert arrived[:11] == payloads(11, length=472), "the first, and as many as the queue takes"
    assert uplink.worst_queue_packets == 10


def test_an_outage_takes_what_comes_in_it(make: Make) -> None:
    with make(conditions()) as carrier:
        carrier.apply(OverlayEvent(kind="outage", at_s=0, duration_s=3600))
        for payload in payloads(20):
            carrier.send("downlink", payload)
        downlink = settled(carrier, 20)["downlink"]
        assert downlink.dropped == {Cause.COMMAND: 20}
        assert carrier.rest("downlink") == []


def test_nothing_comes_before_its_time(make: Make) -> None:
    with make(conditions("link.delay_ms=30", "link.rate_mbps=8")) as carrier:
        for payload in payloads(5, length=972):  # 1 ms each
            before = carrier.now_ns()
            carrier.send("uplink", payload)
            assert carrier.receive("uplink", 1) == [payload]
            assert carrier.now_ns() - before >= 31_000_000


def test_stopping_leaves_nothing(make: Make) -> None:
    def belongings() -> tuple[int, int, list[str]]:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return threading.active_count(), len(os.listdir("/proc/self/fd")), children

    with make(conditions()):  # whatever is made once is made now
        pass
    before = belongings()
    with make(conditions()) as carrier:
        carrier.send("uplink", b"under way")
    assert belongings() == before
