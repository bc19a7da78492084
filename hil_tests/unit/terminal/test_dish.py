"""Laws of the dish, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from emulator.scenario.hardware import DishEvent
from emulator.scenario.model import Dish
from emulator.terminal import Terminal
from emulator.terminal.dish import NO_END, OUTAGE_NS, DishTerminal, Sky
from emulator.terminal.dish_record import MAP_SIZE, RING, ObstructionMap, OutageCause
from emulator.terminal.pings import PERIOD_NS, Ping
from emulator.timeline.causes import Cause
from emulator.units import NS_PER_MS, NS_PER_S

START_NS = 1_748_560_887 * NS_PER_S  # 2025-05-29T23:21:27Z
SITE = Terminal(48.4634, -123.3117, 20.0)
SKY = Sky("S1", "G1", 200.0, 60.0)
SETTINGS = Dish(boot_s=10, unreachable_s=4, search_s=5)


def new_dish(**changes: object) -> DishTerminal:
    return DishTerminal(SETTINGS.model_copy(update=changes), SITE, START_NS)


def answered(from_ns: int, until_ns: int) -> Iterator[Ping]:
    return (Ping(at, 30 * NS_PER_MS) for at in range(from_ns, until_ns, PERIOD_NS))


def lost(from_ns: int, until_ns: int, cause: Cause) -> Iterator[Ping]:
    return (Ping(at, None, cause) for at in range(from_ns, until_ns, PERIOD_NS))


def live(dish: DishTerminal, seconds: int, cause: Cause | None = None) -> None:
    """So many seconds of an open link, or one that is shut for `cause`."""
    for _ in range(seconds):
        now = dish.now_ns
        made = answered(now, now + NS_PER_S) if cause is None else lost(now, now + NS_PER_S, cause)
        dish.observe(made, 125_000, 1_250_000, SKY, now + NS_PER_S)


def test_a_dish_is_found_tracking_or_booting() -> None:
    tracking, booting = new_dish(), new_dish(at_start="booting")
    assert (tracking.outage, tracking.down_until_ns, tracking.reachable) == (None, None, True)
    assert booting.outage is not None
    assert booting.outage.cause is OutageCause.BOOTING
    assert booting.down_until_ns == START_NS + 15 * NS_PER_S
    assert not booting.reachable


def test_a_reboot_goes_through_boot_and_search_and_forgets() -> None:
    dish = new_dish()
    live(dish, 7)
    assert dish.history.current == 7
    rebooted = dish.now_ns
    dish.reboot(rebooted)
    assert (dish.history.current, dish.uptime_ns, dish.map.valid_s) == (0, 0, 0)
    states = []
    for second in range(17):
        dish.advance(rebooted + second * NS_PER_S)
        states.append((dish.reachable, dish.outage.cause if dish.outage else None))
    assert states == (
        [(False, OutageCause.BOOTING)] * 4
        + [(True, OutageCause.BOOTING)] * 6
        + [(True, OutageCause.NO_SCHEDULE)] * 5
        + [(True, None)] * 2
    )
    ended = dish.outages.recent(dish.now_ns)
    assert [(outage.cause, outage.start_ns - rebooted, outage.duration_ns) for outage in ended] == [
        (OutageCause.BOOTING, 0, 10 * NS_PER_S),
        (OutageCause.NO_SCHEDULE, 10 * NS_PER_S, 5 * NS_PER_S),
    ]


def test_a_stowed_dish_stays_down_until_it_is_unstowed_and_has_searched() -> None:
    dish = new_dish()
    dish.stow(START_NS)
    live(dish, 100)
    assert dish.down_until_ns == NO_END
    assert set(dish.history.ping_drop_rate[:100]) == {1.0}
    dish.stow(dish.now_ns, unstow=True)
    assert dish.down_until_ns == dish.now_ns + 5 * NS_PER_S
    live(dish, 6)
    assert dish.outage is None
    assert dish.history.ping_drop_rate[105] == 0.0


def test_it_sleeps_by_its_schedule_and_searches_when_it_wakes() -> None:
    dish = new_dish()
    minutes = (START_NS // NS_PER_S // 60) % 1440
    dish.configure(START_NS, power_save_mode=True, power_save_start_minutes=minutes + 1, power_save_duration_minutes=2)
    asleep_ns = START_NS - START_NS % (60 * NS_PER_S) + 60 * NS_PER_S
    dish.advance(asleep_ns + 3 * 60 * NS_PER_S)
    assert [(outage.cause, outage.start_ns, outage.duration_ns) for outage in dish.outages.recent(dish.now_ns)] == [
        (OutageCause.SLEEPING, asleep_ns, 120 * NS_PER_S),
        (OutageCause.NO_SCHEDULE, asleep_ns + 120 * NS_PER_S, 5 * NS_PER_S),
    ]
    dish.advance(asleep_ns + 86_400 * NS_PER_S)
    assert dish.down_until_ns == NO_END
    dish.configure(dish.now_ns, power_save_mode=False)
    assert dish.down_until_ns == dish.now_ns + 5 * NS_PER_S


@pytest.mark.parametrize(
    ("cause", "shown"),
    [
        (Cause.NO_SATELLITE, OutageCause.NO_SATS),
        (Cause.OBSTRUCTION, OutageCause.OBSTRUCTED),
        (Cause.OUTAGE, OutageCause.NO_DOWNLINK),
        (Cause.COMMAND, OutageCause.NO_DOWNLINK),
        (Cause.LOSS, OutageCause.NO_PINGS),
        (Cause.NONE, OutageCause.NO_PINGS),
    ],
)
def test_a_long_run_of_lost_pings_is_an_outage_with_its_cause(cause: Cause, shown: OutageCause) -> None:
    dish = new_dish()
    live(dish, 3)
    began = dish.now_ns
    live(dish, 2, cause)
    assert dish.outage is not None
    assert (dish.outage.cause, dish.outage.start_ns, dish.outage.duration_ns) == (shown, began, 2 * NS_PER_S)
    assert dish.last_second.ping_drop_rate == 1.0
    live(dish, 1)
    assert dish.outages.open is None
    assert [outage.duration_ns for outage in dish.outages.recent(dish.now_ns)] == [2 * NS_PER_S]


def test_a_short_run_is_none() -> None:
    dish = new_dish()
    end = START_NS + OUTAGE_NS
    dish.observe([*lost(START_NS, end, Cause.HANDOVER), *answered(end, end + NS_PER_S)], 0, 0, SKY, end + NS_PER_S)
    assert dish.outages.recent(dish.now_ns) == []


def test_a_second_holds_what_the_packets_got() -> None:
    dish = new_dish()
    made = [
        *lost(START_NS, START_NS + 5 * PERIOD_NS, Cause.LOSS),
        *answered(START_NS + 5 * PERIOD_NS, START_NS + NS_PER_S),
    ]
    dish.observe(made, 125_000, 1_250_000, SKY, START_NS + NS_PER_S)
    last = dish.last_second
    assert last.ping_drop_rate == 0.25
    assert last.ping_latency_ms == 30.0
    assert (last.uplink_bps, last.downlink_bps) == (1e6, 1e7)


@given(st.integers(0, 2000))
def test_the_ring_has_the_newest_sample_before_current(seconds: int) -> None:
    dish = new_dish()
    history = dish.history
    for number in range(seconds):
        history.add(dish.history.last.__class__(0.0, float(number), 0.0, 0.0, 0.0))
    assert history.current == seconds
    assert len(history.ping_latency_ms) == RING
    if seconds:
        assert history.ping_latency_ms[(seconds - 1) % RING] == seconds - 1
    if seconds >= RING:
        assert sorted(history.ping_latency_ms) == list(range(seconds - RING, seconds))


@given(st.floats(0, 360), st.floats(-90, 90), st.booleans())
def test_the_map_takes_any_direction(azimuth: float, elevation: float, clear: bool) -> None:
    seen = ObstructionMap()
    seen.see(azimuth, elevation, clear=clear)
    known = [place for place, value in enumerate(seen.snr) if value >= 0]
    assert len(known) == seen.painted == (elevation >= 10)
    assert seen.fraction_obstructed == (not clear)
    if elevation >= 10:
        row, column = divmod(known[0], MAP_SIZE)
        assert ((row - 61) ** 2 + (column - 61) ** 2) ** 0.5 == pytest.approx((90 - elevation) / 80 * 61, abs=1)


class DishLaws(RuleBasedStateMachine):
    """Any orders, any link, any steps of time, and whatever befalls it."""

    def __init__(self) -> None:
        super().__init__()
        self.dish = new_dish()
        self.reboots = 0

    @initialize(
        events=st.lists(
            st.builds(
                DishEvent,
                kind=st.sampled_from(["overheat", "fault", "throttle", "motors_stuck", "obstruction"]),
                at_s=st.integers(0, 300),
                duration_s=st.integers(1, 300),
            ),
            max_size=4,
        )
    )
    def befalls(self, events: list[DishEvent]) -> None:
        self.dish = new_dish(events=tuple(events))

    @rule(steps=st.integers(1, 40), cause=st.sampled_from([None, Cause.OUTAGE, Cause.LOSS, Cause.NO_SATELLITE]))
    def link(self, steps: int, cause: Cause | None) -> None:
        until = self.dish.now_ns + steps * PERIOD_NS * 4
        made = answered(self.dish.now_ns, until) if cause is None else lost(self.dish.now_ns, until, cause)
        self.dish.observe(made, 1000, 1000, SKY, until)

    @rule(seconds=st.integers(0, 90_000))
    def nobody_looks(self, seconds: int) -> None:
        self.dish.advance(self.dish.now_ns + seconds * NS_PER_S)

    @rule()
    def a_time_that_has_passed(self) -> None:
        now = self.dish.now_ns
        self.dish.advance(now - NS_PER_S)
        assert self.dish.now_ns == now

    @rule()
    def reboot(self) -> None:
        self.reboots += 1
        self.dish.reboot(self.dish.now_ns)
        assert self.dish.history.current == 0

    @rule(unstow=st.booleans())
    def stow(self, unstow: bool) -> None:
        self.dish.stow(self.dish.now_ns, unstow=unstow)

    @rule(on=st.booleans(), start=st.integers(0, 1439), length=st.integers(1, 1440))
    def schedule(self, on: bool, start: int, length: int) -> None:
        self.dish.configure(
            self.dish.now_ns, power_save_mode=on, power_save_start_minutes=start, power_save_duration_minutes=length
        )

    @invariant()
    def what_it_says_of_itself_agrees(self) -> None:
        dish = self.dish
        assert (dish.down_until_ns is not None) == (dish.own_cause is not None)
        if dish.own_cause is not None:
            assert dish.outage is not None
            assert dish.outage.cause is dish.own_cause
        if dish.befallen("overheat") and dish.reachable:
            assert dish.own_cause in (OutageCause.THERMAL_SHUTDOWN, OutageCause.BOOTING)
        elif dish.befallen("fault") and dish.reachable:
            assert dish.own_cause in (OutageCause.NO_DOWNLINK, OutageCause.BOOTING)
        assert dish.down_until_ns is None or dish.down_until_ns > dish.now_ns
        assert dish.reachable or (dish.outage is not None and dish.outage.cause is OutageCause.BOOTING)
        assert 0 <= dish.history.current <= dish.uptime_ns // NS_PER_S
        assert dish.reboots == self.reboots

    @invariant()
    def outages_follow_each_other(self) -> None:
        for earlier, later in pairwise(self.dish.outages.recent(self.dish.now_ns)):
            assert earlier.start_ns + earlier.duration_ns <= later.start_ns
        for outage in self.dish.outages.recent(self.dish.now_ns):
            assert self.dish.booted_ns <= outage.start_ns <= self.dish.now_ns

    @precondition(lambda self: self.dish.down_until_ns not in (None, NO_END))
    @rule()
    def its_own_end_is_kept(self) -> None:
        until = self.dish.down_until_ns
        assert until is not None
        if not self.dish.config.power_save_mode and not self.dish.settings.events:
            self.dish.advance(until)
            assert self.dish.down_until_ns is None


TestDishLaws = DishLaws.TestCase
TestDishLaws.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_it_overheats_and_searches_afterwards_and_what_stands_in_its_view_is_told() -> None:
    events = (
        DishEvent(kind="overheat", at_s=10, duration_s=20),
        DishEvent(kind="obstruction", at_s=50, duration_s=5),
        DishEvent(kind="motors_stuck", at_s=12, duration_s=1),
        DishEvent(kind="fault", at_s=58, duration_s=4),
    )
    dish = new_dish(events=events, at_start="tracking")
    seen: list[tuple[int, OutageCause | None]] = []
    for second in range(75):
        dish.advance(START_NS + second * NS_PER_S)
        cause = dish.outage.cause if dish.outage else None
        if not seen or seen[-1][1] is not cause:
            seen.append((second, cause))
        assert (dish.down_until_ns is None) == (cause is None)
        assert dish.befallen("motors_stuck") == (second == 12)
        assert dish.obstructed == (cause is OutageCause.OBSTRUCTED)
    assert seen == [
        (0, None),
        (10, OutageCause.THERMAL_SHUTDOWN),
        (30, OutageCause.NO_SCHEDULE),
        (35, None),
        (50, OutageCause.OBSTRUCTED),
        (55, None),
        (58, OutageCause.NO_DOWNLINK),
        (62, OutageCause.NO_SCHEDULE),
        (67, None),
    ]
    dish.reboot(START_NS + 75 * NS_PER_S)
    assert dish.outage is not None
    assert dish.outage.cause is OutageCause.BOOTING
