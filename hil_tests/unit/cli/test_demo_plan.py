"""When a demo does what: three slot boundaries, and what we do to the link is told apart from them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emulator.cli.demo import BOUNDARIES, CLEARANCE_S, DEFAULT_S, SLOT_S, plan_demo


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
