"""The command model: requests in bytes, replies in bytes, never an exception."""

from __future__ import annotations

import time
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.control.commands import Commands
from emulator.control.messages import VERSION, decode, encode
from emulator.control.model import COMMANDS
from emulator.units import NS_PER_MS, NS_PER_S
from hil_tests.unit.control.small_bench import UTC_NS, SmallBench

PACKET = bytes([0x45]) + bytes(27)
VERBS = list(COMMANDS)

FIELDS = sorted({field for command in COMMANDS.values() for field in command.model_fields})
keys = st.sampled_from(["version", "verb", "author", "kind", "at_s", *FIELDS])
words = st.sampled_from([*VERBS, "uplink", "downlink", "outage", "now", "+1", "next-slot", "on", PACKET])
numbers = st.none() | st.booleans() | st.integers(-2, 2) | st.floats()
scalars = numbers | words | st.binary(max_size=50) | st.text(max_size=5)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner), max_leaves=8)


def ask(bench: SmallBench, verb: str, **fields: Any) -> dict[str, Any]:
    return decode(Commands(bench).answer(encode({"version": VERSION, "verb": verb, **fields})))


@given(st.binary())
def test_garbage_gets_an_error_reply(data: bytes) -> None:
    bench = SmallBench()
    reply = decode(Commands(bench).answer(data))
    assert reply["ok"] is False
    assert reply["error"]
    assert not bench.injected


@given(st.sampled_from(VERBS) | st.text(max_size=3), st.dictionaries(keys.filter(lambda key: key != "verb"), values))
def test_any_request_gets_a_reply_and_touches_the_bench_only_if_it_is_ok(verb: str, fields: dict[str, Any]) -> None:
    bench = SmallBench()
    request = {**fields, "version": VERSION, "verb": verb}
    reply = decode(Commands(bench).answer(msgpack.packb(request)))
    assert reply["version"] == VERSION
    assert ("result" in reply) == reply["ok"]
    assert reply["ok"] or not bench.touched


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        ({"version": 2, "verb": "state"}, "version: expected 1, got 2"),
        ({"verb": "state"}, "version: expected 1, got None"),
        ({"version": 1}, "verb: expected one of addresses, state, "),
        ({"version": 1, "verb": "reboot"}, "verb: expected one of addresses, state, "),
        ({"version": 1, "verb": "state", "at": 1}, "state: at: Extra inputs are not permitted"),
        ({"version": 1, "verb": "inject", "direction": "uplink"}, "inject: packets: Field required"),
        ({"version": 1, "verb": "inject", "direction": "up", "packets": [PACKET]}, "inject: direction: "),
        (
            {"version": 1, "verb": "inject", "direction": "uplink", "packets": []},
            "inject: packets: ",
        ),
        (
            {"version": 1, "verb": "inject", "direction": "uplink", "packets": [PACKET] * 1001},
            "inject: packets: List should have",
        ),
        (
            {"version": 1, "verb": "inject", "direction": "uplink", "packets": [PACKET, PACKET[:19]]},
            "inject: packets.1: expected",
        ),
        (
            {"version": 1, "verb": "inject", "direction": "uplink", "packets": [bytes(40)]},
            "inject: packets.0: expected",
        ),
        (
            {"version": 1, "verb": "inject", "direction": "uplink", "packets": ["text" * 9]},
            "inject: packets.0: Input should",
        ),
        ({"version": 1, "verb": "overlay", "event": 1}, "overlay: event: Input should"),
        (
            {"version": 1, "verb": "overlay", "event": {"kind": "rain", "at_s": 0, "duration_s": 1}},
            "overlay: event.kind: ",
        ),
        ({"version": 1, "verb": "stop"}, "this bench ends with its command"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(request_: dict[str, Any], fault: str) -> None:
    bench = SmallBench()
    reply = decode(Commands(bench).answer(msgpack.packb(request_)))
    assert reply["ok"] is False
    assert reply["error"].startswith(fault)
    assert not bench.touched


def test_every_fault_of_an_overlay_is_told_on_its_line() -> None:
    reply = ask(SmallBench(), "overlay", event={"kind": "fade", "at_s": -1, "duration_s": 0, "depth": 3})
    assert reply["kind"] == "ScenarioError"
    assert [line.split(": ")[1] for line in reply["error"].splitlines()] == [
        "event.at_s",
        "event.duration_s",
        "event.depth",
    ]


def test_the_state_and_the_counters_are_maps_with_names() -> None:
    bench = SmallBench()
    assert ask(bench, "state")["result"] == {
        "utc_ns": UTC_NS,
        "satellite": "STARLINK-1234",
        "next_handover_ns": None,
        "uplink": {"delay_ns": 20_000_000, "gate": "HOLD"},
    }
    assert ask(bench, "counters")["result"] == {
        "offered_packets": 2**62,
        "dropped": {"QUEUE": 3, "LOSS": 0},
        "dropped_packets": 3,
    }


@given(st.lists(st.binary(min_size=19, max_size=60), min_size=1, max_size=20), st.sampled_from(["uplink", "downlink"]))
def test_packets_reach_the_bench_unchanged_and_in_order(tails: list[bytes], direction: str) -> None:
    bench = SmallBench()
    packets = [b"\x60" + tail for tail in tails]
    reply = ask(bench, "inject", direction=direction, packets=packets)
    assert bench.injected == [(direction, packet) for packet in packets]
    assert reply["result"] == {"packets": len(packets), "bytes": sum(map(len, packets)), "utc_ns": UTC_NS}


def test_an_overlay_is_applied_as_the_scenarios_own_event() -> None:
    bench = SmallBench()
    begun_ns = time.monotonic_ns()
    reply = ask(bench, "overlay", event={"kind": "extra_delay", "at_s": 1.5, "duration_s": 2, "extra_delay_ms": 3})
    result = reply["result"]
    assert begun_ns < result["monotonic_ns"] < time.monotonic_ns() + NS_PER_S
    assert (result["number"], result["scheduled"], result["late_ns"]) == (1, False, 0)
    for link in bench.machinery.links.values():
        at = [result["monotonic_ns"] + second * NS_PER_S // 2 for second in (2, 3, 6, 7)]
        assert [link.channel_at(moment).delay_ns // NS_PER_MS for moment in at] == [20, 23, 23, 20]


def test_a_defect_of_the_bench_is_a_reply_too() -> None:
    bench = SmallBench()
    bench.failing = True
    assert ask(bench, "counters")["error"] == "ZeroDivisionError: a defect"
    refused = ask(bench, "inject", direction="uplink", packets=[PACKET])
    assert (refused["kind"], refused["error"]) == ("EmulationError", "the packet loop has ended")


def test_stop_calls_what_the_owner_of_the_bench_gave() -> None:
    calls: list[None] = []
    reply = decode(Commands(SmallBench(), lambda: calls.append(None)).answer(encode({"version": 1, "verb": "stop"})))
    assert reply["ok"] is True
    assert len(calls) == 1
