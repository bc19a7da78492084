"""Windows are planned ahead, without gaps, in constant memory, wherever the world's clock goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emulator.bench.planner import AHEAD_NS, KEPT_WINDOWS, WINDOW_NS, Planner
from emulator.link.link import Link, LinkOptions
from emulator.scenario.links import FixedLink
from emulator.timeline.fixed import FixedWindows
from emulator.timeline.model import Timeline, Windows
from emulator.units import NS_PER_S

S = NS_PER_S


class Counted(Windows):
    """Fixed windows that remember what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self._fixed = FixedWindows(FixedLink(delay_ms=1))

    def window(self, start_ns: int, end_ns: int) -> Timeline:
        self.asked.append((start_ns, end_ns))
        return self._fixed.window(start_ns, end_ns)


def begin(start_ns: int = 0) -> tuple[Planner, Counted, list[Link]]:
    windows = Counted()
    planner = Planner(windows, start_ns)
    options = LinkOptions(memory_bytes=64, flight_packets=2)
    links = [
        Link(getattr(planner.first, name), planner.first.end_ns, seed=1, direction=way, options=options)
        for way, name in enumerate(("uplink", "downlink"))
    ]
    return planner, windows, links


def test_a_day_is_planned_ahead_without_a_gap_in_constant_memory() -> None:
    planner, windows, links = begin()
    for second in range(0, 86_400, 10):
        planner.keep_ahead(second * S, links[0], links[1])
        assert windows.asked[-1][1] - second * S >= AHEAD_NS
    assert all(end == start for (_, end), (start, _) in zip(windows.asked, windows.asked[1:], strict=False))
    assert len(planner._kept) <= KEPT_WINDOWS
    assert planner.timeline_at(86_000 * S).start_ns <= 86_000 * S < planner.timeline_at(86_000 * S).end_ns


def test_nothing_is_planned_twice_or_too_early() -> None:
    planner, windows, links = begin()
    made = [planner.keep_ahead(0, links[0], links[1]) for _ in range(5)]
    assert made == [True, False, False, False, False]
    assert windows.asked == [(0, WINDOW_NS), (WINDOW_NS, 2 * WINDOW_NS)]


@given(st.lists(st.integers(-200_000, 200_000), min_size=1, max_size=8))
def test_wherever_the_clock_is_set_the_links_have_a_plan_for_it(steps: list[int]) -> None:
    planner, _, links = begin(10**6 * S)
    now_s = 10**6
    for step in steps:
        now_s = max(0, now_s + step)
        for link in links:
            link.set_utc_offset(now_s * S - 77)
        planner.keep_ahead(now_s * S, links[0], links[1])
        timeline = planner.timeline_at(now_s * S)
        assert timeline.start_ns <= now_s * S < timeline.end_ns
        assert links[0].channel_at(77).delay_ns == 1_000_000
        registers = links[0].state.reg
        from emulator.link import state

        assert registers[state.ROWS_END] > now_s * S
        newest = links[0].state.rows[(registers[state.ROWS_PUBLISHED] - 1) % len(links[0].state.rows), 0]
        assert newest <= now_s * S + AHEAD_NS + WINDOW_NS


def test_who_asks_for_the_past_gets_what_is_kept() -> None:
    planner, _, links = begin()
    for second in range(0, 2 * KEPT_WINDOWS * 60, 30):
        planner.keep_ahead(second * S, links[0], links[1])
    assert planner.timeline_at(0) is planner.first
    assert planner.timeline_at(10**9 * S).end_ns >= 2 * KEPT_WINDOWS * 60 * S


def test_a_link_without_a_sky_has_no_handover() -> None:
    planner, _, links = begin()
    planner.keep_ahead(0, links[0], links[1])
    assert planner.next_handover_ns(5 * S) is None


def test_beyond_what_is_planned_no_handover_is_known() -> None:
    planner, _, _ = begin()
    assert planner.next_handover_ns(WINDOW_NS - 1) is None
    assert planner.next_handover_ns(100 * WINDOW_NS) is None  # compiling took longer than the first window lasts
