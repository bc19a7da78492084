"""A trace that cannot be used is refused with its file and line; nothing becomes a zero in silence."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emulator.errors import TraceError
from emulator.timeline.traces.files import read_trace

PING = "[1700000000.{0:02d}0000] 64 bytes from 192.0.2.1: icmp_seq={0} ttl=64 time={1} ms\n"


def ping(*replies: tuple[int, str]) -> str:
    return "PING a (192.0.2.1) 56(84) bytes of data.\n" + "".join(PING.format(*reply) for reply in replies)


def trip(sent: int, up: object = 5, down: object = 5, lost: str = "false") -> dict[str, object]:
    return {"lost": lost, "timestamps": {"client": {"send": {"wall": sent}}}, "delay": {"send": up, "receive": down}}


def irtt(*trips: object) -> str:
    return json.dumps({"round_trips": trips})


def dish(**history: object) -> str:
    return json.dumps({"dishGetHistory": history})


FAULTS = {
    "an empty file": ("", "expected a trace, got an empty file"),
    "words": ("hello\n", "line 1: expected one of the formats"),
    "no time": ("delay_ms,loss\n1,0\n", "line 1: expected one time column"),
    "no delay": ("time_s,loss\n1,0\n", "line 1: expected a column such as delay_ms"),
    "delay of one direction": ("time_s,uplink_delay_ms\n1,0\n", "downlink_delay_ms"),
    "no unit": ("time_s,delay\n1,0\n", "line 1: expected columns with their units"),
    "mixed units": ("time_s,delay_ms,delay_us\n0,1,1000\n", "line 1: .* units are mixed"),
    "round trip and delay": ("time_s,delay_ms,rtt_ms\n0,1,2\n", "line 1: .* units are mixed"),
    "two clocks": ("time_s,time_ms,delay_ms\n0,0,1\n", "line 1: expected one time column"),
    "header alone": ("time_s,delay_ms\n", "at least one row"),
    "a hole in a row": ("time_s,delay_ms,loss\n0,1,0\n1,,0\n", "line 3: expected a number in delay_ms, got a hole"),
    "not a number": ("time_s,delay_ms\n0,nan\n", "line 2: expected a number in delay_ms"),
    "endless": ("time_s,delay_ms\n0,inf\n", "line 2: expected a number in delay_ms"),
    "negative delay": ("time_s,delay_ms\n0,1\n1,-1\n", "line 3: expected delay_ms of 0 or more, got -1"),
    "negative rate": ("time_s,delay_ms,rate_mbps\n0,1,-4\n", "line 2: expected rate_mbps of 0 or more"),
    "loss in percent": ("time_s,delay_ms,loss\n0,1,15\n", "line 2: expected loss of at most 1, got 15"),
    "microseconds as ms": ("time_s,delay_ms\n0,700000\n", "line 2: expected delay_ms of at most 600000"),
    "time back": ("time_s,delay_ms\n0,1\n2,1\n1,1\n", "line 4: expected a time after"),
    "time twice": ("time_s,delay_ms\n0,1\n0,1\n", "line 3: expected a time after"),
    "a hole in time": ("time_s,delay_ms\n0,1\n1,1\n99,1\n", "line 4: expected at most 60 s .* a hole of 98 s"),
    "a short row": ("time_s,delay_ms,loss\n0,1,0\n1,1\n", "line 3: expected 3 fields"),
    "an unknown cause": ("time_s,delay_ms,gate,cause\n0,1,drop,rats\n", "line 2: expected cause to be one of"),
    "a drop without cause": ("time_s,delay_ms,gate\n0,1,drop\n", "expected a cause wherever the gate drops"),
    "a bad date": ("utc,delay_ms\nyesterday,1\n", "line 2: utc: expected a UTC time"),
    "after the end": ("time_s,delay_ms\n0,1\n1,\n2,1\n", "line 3: expected a time alone in the last row only"),
    "mahimahi back": ("5\n3\n", "line 2: expected a time not before"),
    "mahimahi negative": ("1\n-3\n", "line 2: expected a whole number of milliseconds"),
    "mahimahi fraction": ("1\n2.5\n", "line 2: expected a whole number of milliseconds"),
    "mahimahi at 0": ("0\n0\n", "opportunities up to a millisecond after 0"),
    "mahimahi hole": ("1\n70000\n", "line 2: expected at most 60 s without an opportunity"),
    "theaterq mixed": ("1000,1,1,0,10\n1000,1,1,1,0,10,0,0\n", "line 2: expected 5, 8 or 9 fields"),
    "theaterq keep": ("0,1,1,0,10\n", "line 1: expected KEEP above 0"),
    "theaterq negative": ("1000,1,1,0,10\n1000,-1,1,0,10\n", "line 2: expected whole numbers"),
    "ping without -D": ("PING a\n64 bytes from a: icmp_seq=1 ttl=64 time=3 ms\n", "line 2: expected a reply of"),
    "ping none": ("PING a\n", "expected replies"),
    "ping negative": (ping((1, "3"), (2, "-3")), "line 3: expected a round trip of 0"),
    "ping in seconds": (ping((1, "3")).replace(" ms", " s"), "line 2: expected a round trip in ms"),
    "ping back": (ping((5, "3"), (6, "900")), "line 3: expected a time after"),
    "ping asleep": (
        ping((1, "3"), (2, "3"), (3, "3")) + PING.format(4, "3").replace("1700000000", "1700000500"),
        "line 5: expected a probe about every 0.01 s, got 500.* s in which 1 were sent",
    ),
    "irtt empty": ('{"round_trips": []}', "round_trips: expected an array"),
    "irtt hole": (irtt(trip(1), trip(2, None)), r"round_trips\[1\].delay.send: .* got a hole"),
    "irtt negative": (irtt(trip(1), trip(2, -5)), r"round_trips\[1\].delay.send: .*two clocks disagree"),
    "irtt back": (irtt(trip(2), trip(1)), r"round_trips\[1\]: expected a time after"),
    "irtt all lost": (irtt(trip(1, lost="true")), "at least one sample with a delay"),
    "irtt odd": (irtt(trip(1, lost="maybe")), r"round_trips\[0\]: expected an object with lost"),
    "json cut": ('{"round_trips": [', "expected JSON"),
    "other json": ('{"a": 1}', "expected round_trips"),
    "dish hole": (dish(popPingLatencyMs=[30, 0], popPingDropRate=[0, 0]), r"popPingLatencyMs\[1\]: .* got a hole"),
    "dish null": (dish(popPingLatencyMs=[30, None], popPingDropRate=[0, 0]), r"popPingLatencyMs\[1\]: .* got a hole"),
    "dish lengths": (dish(popPingLatencyMs=[30], popPingDropRate=[0, 0]), "expected 2 samples"),
    "dish share": (dish(popPingLatencyMs=[30], popPingDropRate=[7]), r"popPingDropRate\[0\]: expected a share"),
    "dish none": (dish(popPingLatencyMs=[30], popPingDropRate=[0], current="0"), "at least one sample"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_names_file_and_place(tmp_path: Path, what: str) -> None:
    text, told = FAULTS[what]
    path = tmp_path / "trace.txt"
    path.write_text(text)
    with pytest.raises(TraceError, match=told) as caught:
        read_trace(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(TraceError, match="expected a readable trace"):
            read_trace(path)
    (tmp_path / "bytes").write_bytes(b"time_s,delay_ms\n0,\xff\n")
    with pytest.raises(TraceError, match="line 2: expected UTF-8"):
        read_trace(tmp_path / "bytes")
    (tmp_path / "zip").write_bytes(b"PK\x03\x04nothing")
    with pytest.raises(TraceError, match="expected a plan"):
        read_trace(tmp_path / "zip")


@given(
    text=st.one_of(
        st.text(max_size=200),
        st.lists(st.text(alphabet="0123456789-.,e ", max_size=20)).map("\n".join),
        st.lists(st.text(alphabet="0123456789-.,e", max_size=12)).map(
            lambda rows: "time_s,delay_ms\n" + "\n".join(rows)
        ),
        st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=4)).map(
            lambda inner: json.dumps({"round_trips": inner, "popPingLatencyMs": inner})
        ),
    )
)
@example(text="time_s,delay_ms\n1e999999,1")
@example(text="time_s,delay_ms\n9e20,1")
@example(text="time_ns,delay_ms\n0.5,1")
@example(text="999999999999,1,1,1,1")
@example(text='time_s,delay_ms\n"0,1')
@settings(max_examples=150)
def test_whatever_is_in_a_file_it_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("trace") / "x"
    path.write_text(text, encoding="utf-8", newline="")
    with contextlib.suppress(TraceError):
        line = read_trace(path)
        assert line.end_ns > line.start_ns
