"""The live view: a panel that fits its terminal, or a line per second; both from state and counters alone."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from emulator.bench import Counters, LinkState
from emulator.cli.live import BARS, LiveView, sparkline
from emulator.link.link import DirectionCounters
from emulator.scenario import Scenario, load_scenario
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import ChannelState
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns

START_NS = parse_utc_ns("2025-10-03T14:20:05Z")


def channel(gate: Gate = Gate.PASS, cause: Cause = Cause.NONE) -> ChannelState:
    return ChannelState(delay_ns=13_400_000, rate_bps=146_000_000, loss=0.003, gate=gate, cause=cause)


def state(after_ns: int = 0, *, satellite: str = "STARLINK-31744", down: ChannelState | None = None) -> LinkState:
    seen = bool(satellite)
    return LinkState(
        utc_ns=START_NS + after_ns,
        satellite=satellite,
        gateway="Redmond" if seen else "",
        azimuth_deg=212.4 if seen else None,
        elevation_deg=48.1 if seen else None,
        slant_range_m=707_000.0 if seen else None,
        next_handover_ns=START_NS + 7 * NS_PER_S if seen else None,
        uplink=channel(),
        downlink=down or channel(),
    )


def counters(delivered_bytes: int = 0, dropped: dict[Cause, int] | None = None) -> Counters:
    one = DirectionCounters(
        offered_packets=1_234_567,
        offered_bytes=delivered_bytes,
        delivered_packets=1_234_000,
        delivered_bytes=delivered_bytes,
        queued_packets=88,
        flying_packets=1_234,
        worst_queue_packets=90,
        dropped=dropped or {},
    )
    return Counters(uplink=one, downlink=one, relay=None)  # type: ignore[arg-type]


def text_of(view: LiveView, shown: LinkState, counted: Counters, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(view.render(shown, counted))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def quiet_view(scenario: Scenario) -> LiveView:
    return LiveView("test", scenario, console=Console(file=io.StringIO(), width=200))


@pytest.fixture(scope="module")
def starlink() -> Scenario:
    return load_scenario("starlink_2025")


@pytest.mark.parametrize("width", [72, 80, 132])
def test_the_panel_fits_its_terminal_and_says_who_serves(starlink: Scenario, width: int) -> None:
    view = quiet_view(starlink)
    view.show(state(), counters())
    view.note("something happened, and it takes a good many words to say what it was that did", START_NS)
    shown = text_of(view, state(), counters(dropped={Cause.LOSS: 12}), width)
    assert all(cell_len(line) <= width - len("^C") for line in shown.splitlines())  # a terminal echoes it there
    for words in (
        "STARLINK-31744",
        "Redmond",
        "48.1°",
        "212.4°",
        "707 km",
        "13.4 ms",
        "146.0 Mbit/s",
        "0.30%",
        "next slot",
        "next handover",
        "lost on the air",
        "12↓",
    ):
        assert words in shown, words


def test_the_next_slot_is_counted_by_utc(starlink: Scenario) -> None:
    assert "next slot  7.0 s" in text_of(quiet_view(starlink), state(), counters())


def test_a_fixed_link_has_no_satellite() -> None:
    view = quiet_view(load_scenario("fixed"))
    assert "no satellite" in text_of(view, state(satellite=""), counters())


def test_a_link_with_a_sky_whom_nobody_serves_is_no_fixed_link() -> None:
    contact = quiet_view(load_scenario("ground_station_contact"))
    assert contact.line(state(satellite=""), counters()).plain.split("  ")[1] == "no satellite"
    assert "satellite none" in text_of(contact, state(satellite=""), counters())


def test_a_shut_gate_is_told_with_its_cause(starlink: Scenario) -> None:
    shut = state(down=channel(Gate.DROP, Cause.COMMAND))
    assert "shut: command" in text_of(quiet_view(starlink), shut, counters())


def test_throughput_is_what_was_delivered_in_the_last_second(starlink: Scenario) -> None:
    view = quiet_view(starlink)
    for step in range(9):
        view.show(state(step * NS_PER_S // 4), counters(delivered_bytes=step * 1_000_000))
    assert "32.0 of 146.0 Mbit/s" in text_of(view, state(2 * NS_PER_S), counters())


def test_without_a_terminal_there_is_a_line_per_second(starlink: Scenario) -> None:
    lines = io.StringIO()
    with LiveView("test", starlink, console=Console(file=lines, width=200)) as view:
        for step in range(100):
            view.show(state(step * 100 * NS_PER_MS), counters())
    assert 9 <= len(lines.getvalue().splitlines()) <= 10


@given(values=st.lists(st.floats(0, 1e10), max_size=100), width=st.integers(1, 60), zero=st.booleans())
def test_a_sparkline_has_a_bar_for_each_value_it_shows(values: list[float], width: int, zero: bool) -> None:
    line = sparkline(values, width, zero=zero)
    assert len(line) == min(width, len(values))
    assert set(line) <= set(BARS)
    shown = values[-width:]
    for one, bar in zip(shown, line, strict=True):
        for other, other_bar in zip(shown, line, strict=True):
            assert one <= other or BARS.index(bar) >= BARS.index(other_bar)
