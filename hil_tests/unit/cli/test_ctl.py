"""`bentpipe ctl`: what is told of an answer, and what a number may look like."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.bench.recording import free_path
from emulator.cli.ctl import Quantity, ctl, more_of
from emulator.cli.run import direction_report
from emulator.cli.words import state_lines
from emulator.control.commands import Commands
from emulator.control.messages import plain
from emulator.control.model import parse
from emulator.link.link import LinkOptions
from emulator.link.options import LaneOptions
from emulator.scenario import load_scenario
from emulator.timeline.model import Channel
from hil_tests.unit.control.small_bench import SmallBench
from hil_tests.unit.link.driver import drive, new_link
from hil_tests.unit.link.strategies import offers_of

NAMES = st.lists(
    st.sampled_from(["a", "a-2", "a-00001", "a-2-00007", "b", "a-3"]).map(lambda stem: f"{stem}.pcapng"), unique=True
)


@given(NAMES, st.integers(1, 5))
def test_no_capture_takes_the_name_of_another(
    tmp_path_factory: pytest.TempPathFactory, there: list[str], times: int
) -> None:
    folder = tmp_path_factory.mktemp("captures")
    for name in there:
        (folder / name).touch()
    for _ in range(times):
        path = free_path(folder / "a.pcapng")
        rotated = [path.with_name(f"{path.stem}-{number:05d}.pcapng") for number in range(1, 10)]
        assert not any(one.exists() for one in (path, *rotated))
        path.touch()
    first = free_path(folder / "other.pcapng")
    assert first.name == "other.pcapng"


def test_captures_that_follow_each_other_are_numbered(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        path = free_path(tmp_path / "capture.pcapng")
        names.append(path.name)
        path.touch()
    assert names == ["capture.pcapng", "capture-2.pcapng", "capture-3.pcapng"]


@pytest.mark.parametrize(
    ("verb", "values", "done", "told"),
    [
        ("outage", {}, {"number": 4}, ", until `bentpipe ctl clear 4`"),
        ("outage", {"duration_s": 2.0}, {"number": 4}, ""),
        ("jump", {"to": "+5"}, {"to_utc": "2026-01-01T00:00:00Z"}, ", it becomes 2026-01-01T00:00:00Z"),
        ("capture", {"switch": "on"}, {"file": "capture-2.pcapng"}, ", to capture-2.pcapng"),
        (
            "capture",
            {"switch": "off"},
            {"packets": 4, "lost": 1, "files": ["a-00001.pcapng", "a-00002.pcapng"]},
            ": 4 packets, 1 lost to the capture, in a-00001.pcapng, a-00002.pcapng",
        ),
    ],
)
def test_an_answer_tells_what_came_of_the_command(verb: str, values: dict, done: dict, told: str) -> None:  # type: ignore[type-arg]
    command = parse(verb, values)
    assert more_of(command, done) == told  # type: ignore[arg-type]


@given(st.floats(0.001, 60_000))
def test_a_number_may_have_its_unit(value: float) -> None:
    milliseconds = Quantity("ms", min=0, min_open=True)
    assert milliseconds.convert(repr(value), None, None) == value
    assert milliseconds.convert(f"{value!r}ms", None, None) == value
    assert milliseconds.convert(f"{value!r} s", None, None) == pytest.approx(1000 * value)
    assert Quantity("db").convert(f"{value!r}dB", None, None) == value
    assert Quantity("loss").convert(f"{value!r}%", None, None) == pytest.approx(value / 100)


@pytest.mark.parametrize("text", ["", "ms", "30 furlongs", "x", "3%"])
def test_what_is_no_number_is_refused_in_words(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"expected a number, or one with its unit \(ms, s\), got"):
        Quantity("ms").convert(text, None, None)
    delay = ctl.get_command(click.Context(ctl), "delay")
    assert delay is not None
    assert any(isinstance(one.type, Quantity) for one in delay.params)


def test_the_state_is_told_in_words() -> None:
    state = plain(SmallBench().state())
    assert list(state_lines(state)) == [
        "utc       2025-05-29T23:21:27.123Z",
        "by        STARLINK-1234",
        "uplink    20.000 ms one way, gate hold",
    ]
    whole = state | {
        "gateway": "north", "azimuth_deg": 12.34, "elevation_deg": 56.78, "slant_range_m": 612_345.0,
        "downlink": {"delay_ns": 5_000_000, "rate_bps": 0, "loss": 0.01, "gate": "DROP", "cause": "OUTAGE"},
        "antenna": None, "dish": "",
    }  # fmt: skip
    lines = list(state_lines(whole))
    assert lines[1] == "by        STARLINK-1234 and north: azimuth 12.3°, elevation 56.8°, 612 km"
    assert lines[3] == "downlink  5.000 ms one way, no limit of the rate, loss 1.000%, gate drop (outage)"


@pytest.mark.parametrize(
    ("off_deg", "locked", "told"),
    [(0.125, True, "0.12° off the satellite, locked"), (None, False, "where it points is not known, not locked")],
)
def test_an_antenna_that_has_said_nothing_yet_is_no_fault(off_deg: float | None, locked: bool, told: str) -> None:
    state = plain(SmallBench().state()) | {"antenna": {"off_deg": off_deg, "locked": locked}}
    assert list(state_lines(state))[-1] == f"antenna   {told}"


def test_queues_have_the_names_of_their_classes() -> None:
    wanted = "classes=[{name='voice',protocols=['udp']},{name='up',direction='uplink',protocols=['tcp']}]"
    scenario = load_scenario("fixed", [wanted])
    assert scenario.class_names("uplink") == ("voice", "up", "other")
    assert scenario.class_names("downlink") == ("voice", "other")
    link = new_link(
        Channel.constant(0, delay_ns=1),
        LinkOptions(memory_bytes=1 << 20, flight_packets=256, lanes=(LaneOptions(10), LaneOptions(10))),
    )
    counters = drive(link, offers_of([(0, 100)])).counters
    report = direction_report(counters, scenario.class_names("downlink"))
    assert [one["name"] for one in report["classes"]] == ["voice", "other"]
    assert "reordered_packets" in report
    assert "late_packets" not in report

    class Bench(SmallBench):
        def counters(self) -> dict[str, object]:  # type: ignore[override]
            return {"uplink": drive(new_link(Channel.constant(0, delay_ns=1)), offers_of([(0, 100)])).counters}

    answer = Commands(Bench()).do(parse("counters", {}))
    assert [lane["name"] for lane in answer["uplink"]["lanes"]] == ["other"]
    assert answer["uplink"]["lanes"][0]["offered_packets"] == 1
