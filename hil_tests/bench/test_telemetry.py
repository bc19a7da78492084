"""Telemetry of a live bench: whoever does not read loses messages and sees it; nobody else does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

import emulator
from emulator.control.subscriber import Message, Subscriber
from emulator.control.topics import decode_message
from emulator.timeline.causes import Gate

pytestmark = pytest.mark.needs("tun", "netns")

SUBSCRIBERS, FLOOD = 100, 3_000
PACKET = bytes.fromhex("4500001c000100004011") + bytes(18)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[emulator.Bench]:
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path / "r"))
    with emulator.Bench("fixed", overrides=["link.delay_ms=5"], log=tmp_path / "log") as bench:
        yield bench


def socket_of(bench: emulator.Bench) -> Path:
    return bench.runtime_dir / "telemetry.ipc"


def until(subscriber: Subscriber, topic: str) -> Message:
    while True:
        message = subscriber.receive(60)
        assert message is not None
        if message.topic == topic:
            return message


def test_a_hundred_subscribers_of_which_half_never_read(bench: emulator.Bench) -> None:
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        deaf = [stack.enter_context(context.socket(zmq.SUB)) for _ in range(SUBSCRIBERS // 2)]
        for socket in deaf:
            socket.linger = 0
            socket.rcvhwm = 10
            socket.subscribe("warning")
            socket.connect(f"ipc://{socket_of(bench)}")
        topics = ["snapshot", "warning", "command", "counters"]
        readers = [stack.enter_context(Subscriber(socket_of(bench), topics)) for _ in range(SUBSCRIBERS // 2)]
        for reader in readers:
            until(reader, "snapshot")
        for number in range(FLOOD):
            bench.running.events.record("warning", text=f"{number} " + "x" * 1000)
        for reader in readers:
            came, missed = read_to_mark(bench, reader)
            assert came + missed == FLOOD  # of each it knows whether it came
        told = until(readers[0], "counters").sequence
        bench.inject("uplink", PACKET)
        while until(readers[0], "counters").data["uplink"]["offered_packets"] == 0:
            told += 1  # the test's own time limit ends it
        bench.counters()  # raises if the packet loop has failed
        first = [decode_message(socket.recv_multipart())["sequence"] for socket in deaf]
        assert first == [0] * len(deaf)  # they were subscribed all the time


def read_to_mark(bench: emulator.Bench, reader: Subscriber) -> tuple[int, int]:
    """(warnings that came, warnings that were missed) so far."""
    came = missed = 0
    bench.mark("so far")
    while True:
        message = reader.receive(1)
        if message is None:
            bench.mark("so far")  # the mark itself may have been lost
        elif message.topic == "warning":
            came, missed = came + 1, missed + message.missed
        elif message.topic == "command":
            with emulator.Control(bench.runtime_dir / "control.ipc") as control:
                return came, missed + control.snapshot()["sequences"]["warning"] - reader.expected("warning")


def test_who_comes_late_gets_a_snapshot_and_no_gap_behind_it(bench: emulator.Bench) -> None:
    bench.outage()
    while bench.state().uplink.gate is not Gate.DROP:  # from 5 ms later on; the test's own time limit ends it
        pass
    with Subscriber(socket_of(bench), ["snapshot", "command", "outage"]) as late:
        snapshot = until(late, "snapshot").data
        assert snapshot["pending"][0]["verb"] == "outage"
        assert snapshot["state"]["uplink"]["gate"] == "DROP"
        cleared = bench.clear()
        message = until(late, "command")
        assert message.sequence == snapshot["sequences"]["command"]
        assert message.monotonic_ns == cleared["monotonic_ns"]
        ends = [until(late, "outage"), until(late, "outage")]  # their beginnings may be told after the snapshot
        while len({one.data["direction"] for one in ends if not one.data["begins"]}) < 2:
            ends.append(until(late, "outage"))
        assert {one.monotonic_ns for one in ends if not one.data["begins"]} == {cleared["monotonic_ns"]}
        assert all(one.missed == 0 for one in ends)


def test_drops_come_as_bursts_and_every_event_is_in_the_log(bench: emulator.Bench, tmp_path: Path) -> None:
    with Subscriber(socket_of(bench), ["drops", "snapshot"]) as subscriber:
        until(subscriber, "snapshot")
        bench.outage(direction="uplink")
        for _ in range(50):
            bench.inject("uplink", PACKET)
        burst = until(subscriber, "drops").data
        assert (burst["direction"], burst["cause"]) == ("uplink", "COMMAND")
        assert 0 < burst["packets"] <= 50
        assert burst["from_monotonic_ns"] < burst["until_monotonic_ns"]
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["kind"] for line in lines][:2] == ["start", "command"]
    assert {line["kind"] for line in lines} >= {"outage", "drops"}
    assert (bench.runtime_dir / "events.jsonl").read_text() == (tmp_path / "log").read_text()


def test_asyncio_has_the_same_verbs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path / "r"))

    async def run() -> list[str]:
        async with emulator.AsyncBench("fixed") as bench:
            messages = bench.messages("command", "snapshot")
            assert (await anext(messages)).topic == "snapshot"
            done = await bench.fade(3.0, 1.0)
            assert done["number"] == 1
            assert (await bench.state()).utc_ns <= (await bench.state()).utc_ns
            message = await anext(messages)
            await messages.aclose()
            return [message.topic, message.data["verb"], message.author]

    assert asyncio.run(run()) == ["command", "fade", "python"]
