"""Changes that have an owner: what it puts on the link takes the place of what it had put there before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.bench.overlay import Overlay
from emulator.errors import EmulationError
from emulator.link.link import Link, LinkOptions
from emulator.link.state import OVERLAY_ROWS
from emulator.scenario.model import OverlayEvent
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Channel
from emulator.units import NS_PER_S

S = NS_PER_S


def new_links() -> tuple[Link, Link]:
    options = LinkOptions(memory_bytes=1 << 12, flight_packets=16)
    up, down = (
        Link(Channel.constant(0, delay_ns=1), 1 << 60, seed=1, direction=way, options=options) for way in (0, 1)
    )
    return up, down


def outage(duration_s: float, at_s: float = 0, direction: str = "both") -> OverlayEvent:
    return OverlayEvent.model_validate(
        {"kind": "outage", "at_s": at_s, "duration_s": duration_s, "direction": direction}
    )


def is_down(link: Link, at_ns: int) -> bool:
    return link.channel_at(at_ns).gate is Gate.DROP


def test_an_outage_without_a_known_end_is_ended_early_and_stays_on_record() -> None:
    links = new_links()
    overlay = Overlay(*links)
    overlay.put("dish", [outage(1e9)], 10 * S)
    assert all(is_down(link, 10 * S) and is_down(link, 10**6 * S) for link in links)
    overlay.put("dish", [], 30 * S)
    for link in links:
        assert [is_down(link, at * S) for at in (9, 10, 29, 30, 10**6)] == [False, True, True, False, False]
        assert link.channel_at(20 * S).cause is Cause.COMMAND


def test_what_others_put_on_the_link_stays() -> None:
    up, down = new_links()
    overlay = Overlay(up, down)
    overlay.add([outage(100, direction="uplink")], 0)
    overlay.put("dish", [outage(1e9)], 10 * S)
    overlay.put("motor", [outage(1e9, direction="downlink")], 10 * S)
    overlay.put("dish", [], 20 * S)
    assert [is_down(up, at * S) for at in (5, 50, 100)] == [True, True, False]
    assert [is_down(down, at * S) for at in (5, 15, 50)] == [False, True, True]


def test_a_refused_change_changes_nothing() -> None:
    up, down = new_links()
    overlay = Overlay(up, down)
    overlay.put("dish", [outage(100)], 0)
    with pytest.raises(EmulationError):
        overlay.put("dish", [outage(1, at_s=at) for at in range(OVERLAY_ROWS)], 10 * S)
    assert is_down(up, 50 * S)
    overlay.put("dish", [], 20 * S)
    assert not is_down(down, 50 * S)


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 30), st.integers(1, 30)), min_size=1, max_size=8))
def test_at_each_time_holds_what_was_put_last(steps: list[tuple[int, int, int]]) -> None:
    """Steps: s until the next order, s until the outage of this one, s that it lasts. Looked at second by second."""
    links = new_links()
    overlay = Overlay(*links)
    expected, now = {}, 0
    for wait, at, length in steps:
        overlay.put("dish", [outage(length, at)], now * S)
        for second in range(now, 1000):
            expected[second] = now + at <= second < now + at + length
        now += wait
    for link in links:
        assert {second: is_down(link, second * S) for second in expected} == expected
