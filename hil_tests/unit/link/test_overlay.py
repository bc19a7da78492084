"""Timed changes on top of the Timeline, replaced while packets are under way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.link.link import Change, Link, LinkOptions
from emulator.link.state import NEVER, OVERLAY_ROWS
from emulator.radio.modcod import EFFICIENCY_ZERO, HIGHEST_CN_CENTIDB, MODCODS, best_modcod, efficiency_by_cn
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import drain, drive, new_link
from hil_tests.unit.link.packets import packet
from hil_tests.unit.link.strategies import MS, S, arrivals, changes, channels, offers_of

RATE = 80_000_000
FADING = LinkOptions(
    memory_bytes=1 << 20, flight_packets=256, efficiency=efficiency_by_cn(), efficiency_zero=EFFICIENCY_ZERO
)


def test_an_outage_loses_what_starts_service_in_it() -> None:
    link = new_link(Channel.constant(0, delay_ns=MS), changes=[Change(10, 20, Gate.DROP, Cause.COMMAND)])
    outcome = drive(link, offers_of([(at, 100) for at in (9, 10, 19, 20)]))
    assert [delivery.due_ns for delivery in outcome.deliveries] == [9 + MS, 20 + MS]
    assert outcome.counters.dropped == {Cause.COMMAND: 2}


def test_extra_delays_and_losses_add_up() -> None:
    overlay = [
        Change(0, 20, extra_delay_ns=5),
        Change(10, 30, extra_delay_ns=7),
        Change(0, 40, loss=0.5),
        Change(15, 40, loss=0.5),
    ]
    link = new_link(Channel.constant(0, delay_ns=1, loss=0.5), changes=overlay)
    states = [link.channel_at(at) for at in (0, 10, 20, 30, 40)]
    assert [state.delay_ns for state in states] == [6, 13, 8, 1, 1]
    assert [state.loss for state in states] == pytest.approx([0.75, 0.75, 0.875, 0.875, 0.5], abs=1e-8)


def test_jitter_of_an_overlay_comes_on_top_and_goes_with_it() -> None:
    calm, link = (
        new_link(Channel.constant(0, delay_ns=MS)),
        new_link(Channel.constant(0, delay_ns=MS, jitter_ns=5 * MS)),
    )
    as_much = new_link(Channel.constant(0, delay_ns=MS, jitter_ns=8 * MS))
    calm.overlay([Change(0, S, jitter_ns=5 * MS), Change(0, S // 2, jitter_ns=3 * MS)])

    def delays(of: Link, first: int, last: int) -> list[int]:
        return [of.channel_at(at, jitter=True).delay_ns for at in range(first, last, 20 * MS)]

    assert delays(calm, 0, S // 2) == delays(as_much, 0, S // 2)
    assert delays(calm, S // 2, S) == delays(link, S // 2, S) != [MS] * 25
    assert set(delays(calm, S, 2 * S)) == {MS} == {calm.channel_at(at).delay_ns for at in (0, S)}


def test_certain_loss_stays_certain_whatever_is_added() -> None:
    link = new_link(Channel.constant(0, delay_ns=0, loss=1.0), changes=[Change(0, S, loss=1.0), Change(0, S, loss=0.3)])
    assert link.channel_at(5).loss == 1.0


@pytest.mark.parametrize("modcod", MODCODS)
def test_a_fade_gives_up_rate_as_the_modcods_do(modcod: object) -> None:
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=RATE, cn_centidb=HIGHEST_CN_CENTIDB), FADING)
    fade_centidb = HIGHEST_CN_CENTIDB - -(-round(modcod.threshold_db * 100) // 10) * 10  # type: ignore[attr-defined]
    link.overlay([Change(0, S, fade_centidb=fade_centidb)])
    best = best_modcod((HIGHEST_CN_CENTIDB - fade_centidb) / 100)
    assert best is not None
    clear = round(MODCODS[-1].efficiency * 1000)
    assert link.channel_at(0).rate_bps == RATE * round(best.efficiency * 1000) // clear
    assert link.channel_at(0).gate == Gate.PASS


@given(st.lists(st.integers(0, 3000), min_size=2, max_size=2))
def test_a_deeper_fade_never_carries_more(fades: list[int]) -> None:
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=RATE, cn_centidb=HIGHEST_CN_CENTIDB), FADING)
    rates = []
    for fade in sorted(fades):
        link.overlay([Change(0, S, fade_centidb=fade)])
        seen = link.channel_at(0)
        rates.append(0 if seen.gate == Gate.DROP else seen.rate_bps)
    assert rates == sorted(rates, reverse=True)


def test_below_the_lowest_modcod_the_link_is_lost_and_comes_back() -> None:
    link = new_link(
        Channel.constant(0, delay_ns=0, rate_bps=RATE, cn_centidb=HIGHEST_CN_CENTIDB),
        FADING,
        changes=[Change(MS, 2 * MS, fade_centidb=10_000)],
    )
    outcome = drive(link, offers_of([(at, 1000) for at in (0, MS, 2 * MS)]))
    assert outcome.counters.dropped == {Cause.FADE: 1}
    assert len(outcome.deliveries) == 2


def test_fades_add_up() -> None:
    channel = Channel.constant(0, delay_ns=0, rate_bps=RATE, cn_centidb=HIGHEST_CN_CENTIDB)
    apart, together = new_link(channel, FADING), new_link(channel, FADING)
    apart.overlay([Change(0, S, fade_centidb=300), Change(0, S, fade_centidb=400)])
    together.overlay([Change(0, S, fade_centidb=700)])
    assert apart.channel_at(0) == together.channel_at(0)


def test_a_fade_that_leaves_a_slow_link_less_than_a_bit_leaves_it_a_bit() -> None:
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=1, cn_centidb=HIGHEST_CN_CENTIDB), FADING)
    link.overlay([Change(0, S, fade_centidb=1500)])
    assert link.channel_at(0).rate_bps == 1


def test_an_unlimited_link_fades_only_to_its_end() -> None:
    link = new_link(Channel.constant(0, delay_ns=0, cn_centidb=HIGHEST_CN_CENTIDB), FADING)
    link.overlay([Change(0, S, fade_centidb=1500)])
    assert (link.channel_at(0).rate_bps, link.channel_at(0).gate) == (0, Gate.PASS)


@pytest.mark.parametrize("rate_bps", [0, 8_000_000])
@pytest.mark.parametrize("hold_until", [S, NEVER])
def test_a_hold_that_ends_early_lets_everybody_go_at_once(rate_bps: int, hold_until: int) -> None:
    """Also those behind a packet that was in service when the hold began, and also from a hold that knew no end."""
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=rate_bps))
    link.overlay([Change(MS, hold_until, Gate.HOLD, Cause.COMMAND)])
    found = [(MS // 2, 1000), (2 * MS, 1000), (3 * MS, 1000)]  # 1 ms each, where there is a rate
    first = drive(link, offers_of(found), drained=False)
    assert first.counters.queued_packets == 2
    link.poll(5 * MS)
    link.overlay([Change(MS, 6 * MS, Gate.HOLD, Cause.COMMAND)])
    assert link.next_event_ns() == 6 * MS
    dues = [delivery.due_ns for delivery in drain(link)]
    assert dues == ([6 * MS, 6 * MS] if rate_bps == 0 else [7 * MS, 8 * MS])


def test_a_hold_put_on_top_of_waiting_packets_keeps_them() -> None:
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=8_000_000))
    drive(link, offers_of([(0, 1000)] * 3), drained=False)
    link.poll(MS // 2)
    link.overlay([Change(MS // 2, 10 * MS, Gate.HOLD, Cause.COMMAND)])
    assert [delivery.due_ns for delivery in drain(link)] == [MS, 11 * MS, 12 * MS]


@given(channels(), arrivals(), changes(most=3), changes(most=3, earliest_ns=30 * MS), st.integers(0, 30 * MS))
def test_what_is_replaced_before_it_begins_was_never_there(
    channel: Channel, found: list[tuple[int, int]], old: list[Change], new: list[Change], at: int
) -> None:
    """An overlay known from the start, and the same put together later, before the later part begins: one outcome.

    A packet that is in service at the replacement knows the new part already, or not, so rates are left out.
    """
    channel.rate_bps[:] = 0
    early = [change for change in old if change.start_ns <= at]
    known = new_link(channel, changes=[*early, *new])
    replaced = new_link(channel, changes=old)
    offers = offers_of(found)
    before = drive(replaced, [offer for offer in offers if offer.at_ns <= at], polls=[at], drained=False)
    replaced.overlay([*early, *new])
    after = drive(replaced, [offer for offer in offers if offer.at_ns > at])
    outcome = drive(known, offers)
    assert before.deliveries + after.deliveries == outcome.deliveries
    assert after.counters == outcome.counters


def test_it_takes_as_many_changes_as_it_says() -> None:
    link = new_link(Channel.constant(0, delay_ns=0))
    many = [Change(place * 10, place * 10 + 5, extra_delay_ns=place) for place in range(OVERLAY_ROWS)]
    link.overlay(many)
    assert link.channel_at(10 * (OVERLAY_ROWS - 1)).delay_ns == OVERLAY_ROWS - 1
    with pytest.raises(ValueError, match=str(OVERLAY_ROWS)):
        link.overlay([*many, Change(0, 1)])
    assert link.channel_at(10).delay_ns == 1, "what was refused changed nothing"


@given(channels(), changes(), st.lists(st.integers(0, 100 * MS), min_size=1, max_size=20))
def test_what_is_shown_is_what_packets_meet(channel: Channel, overlay: list[Change], times: list[int]) -> None:
    """`channel_at` against an unlimited, lossless stream of packets with nobody in front of them."""
    channel.rate_bps[:] = channel.loss[:] = channel.jitter_ns[:] = 0
    overlay = [
        Change(change.start_ns, change.end_ns, change.gate, change.cause, extra_delay_ns=change.extra_delay_ns)
        for change in overlay
    ]
    for at in times:
        link = new_link(channel, changes=overlay)
        shown = link.channel_at(at)
        link.offer(packet(100, 1), at)
        if shown.gate == Gate.PASS:
            assert [delivery.due_ns for delivery in drain(link)] == [at + shown.delay_ns]
        elif shown.gate == Gate.DROP:
            assert link.counters().dropped == {shown.cause: 1}
        else:
            assert link.counters().queued_packets == 1


def test_looking_ahead_does_not_move_the_link() -> None:
    rows = np.arange(0, 1000 * MS, MS, dtype=np.int64)
    zeros = np.zeros_like(rows)
    channel = Channel(rows, rows // MS, zeros, zeros, zeros, zeros, zeros, zeros, zeros)
    link = new_link(channel)
    assert [link.channel_at(at * MS).delay_ns for at in (999, 3, 500, 0)] == [999, 3, 500, 0]
    link.offer(packet(100, 1), 7 * MS)
    assert [delivery.due_ns for delivery in drain(link)] == [7 * MS + 7]
