"""A link of profile `trace` does what its file says, in every window and every round."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import ScenarioError, TraceError
from emulator.scenario import load_scenario
from emulator.scenario.links import TraceDirection, TraceLink
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.traces.files import read_trace
from emulator.timeline.traces.windows import TraceWindows
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns
from hil_tests.unit.timeline.laws import joined_windows_are_the_long_window, same

START_NS = parse_utc_ns("2025-10-03T10:00:00Z")
EXAMPLE = load_scenario("trace_example")
TRACE = read_trace(Path(EXAMPLE.link.file))  # type: ignore[union-attr]


@given(offset_ns=st.integers(0, 10**15), way=st.sampled_from(["uplink", "downlink"]))
@settings(max_examples=100)
def test_each_round_is_the_trace(offset_ns: int, way: str) -> None:
    windows = windows_for(EXAMPLE, epoch_utc_ns=START_NS)
    at_ns = START_NS + offset_ns
    length_ns = TRACE.end_ns - TRACE.start_ns
    said = getattr(TRACE, way).at(TRACE.start_ns + offset_ns % length_ns)
    assert getattr(windows.window(at_ns - 1, at_ns + 1), way).at(at_ns) == said


@given(steps=st.lists(st.integers(1, 100 * NS_PER_S), min_size=1, max_size=5), offset_ns=st.integers(0, 10**12))
@settings(max_examples=30)
def test_windows_join(steps: list[int], offset_ns: int) -> None:
    edges = [START_NS + offset_ns]
    for step in steps:
        edges.append(edges[-1] + step)
    one, other = (windows_for(EXAMPLE, epoch_utc_ns=START_NS) for _ in range(2))
    joined_windows_are_the_long_window(one, other, edges)


def test_the_parts_of_the_delay_are_the_delay() -> None:
    windows = windows_for(EXAMPLE, epoch_utc_ns=START_NS)
    parts = windows.delay_parts(START_NS, START_NS + 100 * NS_PER_S)
    timeline = windows.window(START_NS, START_NS + 100 * NS_PER_S)
    said = [timeline.uplink.at(START_NS + second * NS_PER_S).delay_ns for second in range(100)]
    assert parts[0].uplink_ns.tolist() == said
    assert windows.notes == ("trace starlink_60s.csv: 60 s, then repeats",)


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


STEPS = "time_s,delay_ms,rate_mbps,loss\n0,20,10,0\n1,30,0,0.5\n2,,,\n"


def test_without_a_loop_the_link_is_down_before_and_after(tmp_path: Path) -> None:
    link = TraceLink(
        profile="trace", file=written(tmp_path / "x.csv", STEPS), loop=False, starts_utc="2025-10-03T10:00:10Z"
    )
    windows = TraceWindows(link, epoch_utc_ns=START_NS)
    whole = windows.window(START_NS, START_NS + 60 * NS_PER_S)
    for second, gate, delay_ms in ((0, Gate.DROP, 20), (10, Gate.PASS, 20), (11, Gate.PASS, 30), (12, Gate.DROP, 30)):
        for timeline in (whole, windows.window(START_NS + second * NS_PER_S, START_NS + second * NS_PER_S + 1)):
            state = timeline.uplink.at(START_NS + second * NS_PER_S)
            assert (state.gate, state.delay_ns) == (gate, delay_ms * NS_PER_MS)
            assert state.cause == (Cause.OUTAGE if gate is Gate.DROP else Cause.NONE)
    again = TraceWindows(link, epoch_utc_ns=0).window(START_NS, START_NS + 60 * NS_PER_S)
    assert same(whole, again), "with its own beginning it does not depend on the run's"


def test_what_a_scenario_adds(tmp_path: Path) -> None:
    file = written(tmp_path / "x.csv", STEPS)
    up = TraceDirection(delay_ms=1, loss=0.5, jitter_ms=2, rate_mbps=4)
    down = TraceDirection(file=written(tmp_path / "x.down", "".join(f"{at}\n" for at in range(1, 3001))))
    link = TraceLink(profile="trace", file=file, uplink=up, downlink=down, rate_mbps=11)
    timeline = TraceWindows(link, epoch_utc_ns=START_NS).window(START_NS, START_NS + 9 * NS_PER_S)
    first, second = (timeline.uplink.at(START_NS + at * NS_PER_S) for at in (0, 1))
    assert (first.delay_ns, first.rate_bps, first.loss) == (21 * NS_PER_MS, 4_000_000, 0.5)
    assert (second.delay_ns, second.rate_bps, second.loss) == (31 * NS_PER_MS, 4_000_000, 0.75)
    assert set(timeline.uplink.jitter_ns.tolist()) == {2 * NS_PER_MS}
    assert set(timeline.downlink.rate_bps.tolist()) == {11_000_000}, "12 Mbit/s, cut off"
    third = timeline.uplink.at(START_NS + 2 * NS_PER_S)
    assert third.delay_ns == first.delay_ns, "each direction has rounds of its own length"


def test_a_scenario_is_refused_with_its_faults(tmp_path: Path) -> None:
    scenario = tmp_path / "lab.toml"
    scenario.write_text('[link]\nprofile = "trace"\n')
    with pytest.raises(ScenarioError, match="link: expected file, or uplink"):
        load_scenario(scenario)
    scenario.write_text('[link]\nprofile = "trace"\nfile = "x"\nstarts_utc = "soon"\n')
    with pytest.raises(ScenarioError, match="expected a UTC time"):
        load_scenario(scenario)
    scenario.write_text('[link]\nprofile = "trace"\nfile = "x.csv"\n[link.uplink]\nfile = "up/x.up"\n')
    link = load_scenario(scenario, ["link.downlink.file=there.down"]).link
    assert isinstance(link, TraceLink)
    assert [link.file, link.uplink.file] == [str(tmp_path / "x.csv"), str(tmp_path / "up" / "x.up")]
    assert link.downlink.file == str(Path.cwd() / "there.down")
    with pytest.raises(TraceError, match="expected a readable trace"):
        windows_for(load_scenario(scenario), epoch_utc_ns=0)
    with pytest.raises(ScenarioError, match="has no orbits"):
        windows_for(load_scenario(scenario), elements=Path("x.tle"), epoch_utc_ns=0)


def test_a_trace_too_short_to_repeat(tmp_path: Path) -> None:
    link = TraceLink(profile="trace", file=written(tmp_path / "x.csv", "time_us,delay_ms\n0,1\n10,2\n"))
    with pytest.raises(TraceError, match="10 ms or more"):
        TraceWindows(link, epoch_utc_ns=0)
