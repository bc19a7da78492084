"""When a demo does what: three slot boundaries, and what we do to the link is told apart from them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.cli.demo_plan import (
    BOUNDARIES,
    CLEARANCE_S,
    DEFAULT_S,
    PROBE_BITS,
    SLOT_S,
    next_contact,
    plan_demo,
    probe_interval_ns,
)
from emulator.errors import CoverageError
from emulator.scenario import load_scenario
from emulator.units import NS_PER_S, format_utc, parse_utc_ns


@given(first_s=st.floats(0, SLOT_S, exclude_max=True))
def test_a_demo_of_the_default_length_crosses_three_boundaries_and_sees_the_last_slot(first_s: float) -> None:
    plan = plan_demo(first_s, None)
    crossed = [first_s + slot * SLOT_S for slot in range(5) if 2 <= first_s + slot * SLOT_S <= plan.duration_s - 3]
    assert len(crossed) >= BOUNDARIES
    assert DEFAULT_S <= plan.duration_s < DEFAULT_S + 6


@given(first_s=st.none() | st.floats(0, SLOT_S, exclude_max=True), duration_s=st.none() | st.floats(45, 600))
def test_outage_and_fade_hurt_the_transfer_one_after_the_other(first_s: float | None, duration_s: float | None) -> None:
    plan = plan_demo(first_s, duration_s)
    begins, ends = plan.transfer_s
    assert 0 < begins < plan.outage_s[0] < plan.outage_s[1] < plan.fade_s[0] < plan.fade_s[1] < ends < plan.duration_s
    assert plan.inject_s + 3 < plan.outage_s[0] or duration_s is not None


@given(first_s=st.floats(0, SLOT_S, exclude_max=True), duration_s=st.none() | st.floats(45, 600))
def test_what_we_do_is_clear_of_the_slot_boundaries(first_s: float, duration_s: float | None) -> None:
    plan = plan_demo(first_s, duration_s)
    for start, end in (plan.outage_s, plan.fade_s):
        assert (start - first_s) // SLOT_S == (end - first_s) // SLOT_S
        assert (start - first_s) % SLOT_S >= CLEARANCE_S - 1e-6
        assert (end - first_s) % SLOT_S <= SLOT_S - CLEARANCE_S + 1e-6


@given(duration_s=st.floats(4, 45), first_s=st.none() | st.floats(0, SLOT_S, exclude_max=True))
def test_a_short_demo_still_does_it_all_within_its_time(duration_s: float, first_s: float | None) -> None:
    plan = plan_demo(first_s, duration_s)
    assert plan.duration_s == duration_s
    for start, end in (plan.outage_s, plan.fade_s, plan.transfer_s):
        assert 0 < start < end < duration_s


@given(st.integers(0, 10**10), st.integers(0, 10**10))
def test_probes_are_a_light_load_on_the_slower_direction(one_bps: int, other_bps: int) -> None:
    interval_ns = probe_interval_ns(one_bps, other_bps)
    assert 2_000_000 <= interval_ns <= 1_000_000_000
    for rate_bps in (one_bps, other_bps):
        if rate_bps >= 5_000:
            assert PROBE_BITS * 1e9 / interval_ns <= 0.1 * rate_bps + 1


def test_a_slow_link_is_probed_seldom_and_a_fast_one_each_two_ms() -> None:
    assert probe_interval_ns(0, 0) == probe_interval_ns(3_000_000, 100_000_000) == 2_000_000
    assert probe_interval_ns(352_000, 352_000) == 12_000_000  # Iridium Certus


def test_a_contact_is_found_that_is_long_enough_and_has_not_begun() -> None:
    scenario = load_scenario("ground_station_contact")
    utc_ns = parse_utc_ns("2026-11-22T21:04:00Z")
    first = next_contact(scenario, utc_ns, 45.0)
    assert (first.station, format_utc(first.start_ns, 0)) == ("Svalbard", "2026-11-22T21:58:50Z")
    within = next_contact(scenario, first.start_ns + NS_PER_S, 45.0)  # that one has begun
    assert within.start_ns > first.end_ns
    long = next_contact(scenario, first.end_ns, 550.0)
    assert long.end_ns - long.start_ns >= 550 * NS_PER_S
    with pytest.raises(CoverageError, match="--duration"):
        next_contact(scenario, utc_ns, 1200.0)
