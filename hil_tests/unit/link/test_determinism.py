"""Same seed and arrivals, same outcome, byte for byte, however the calls are batched."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from emulator.link.link import Change, Link, LinkOptions
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import Offer, drive, new_link
from hil_tests.unit.link.strategies import MS, SEEDS, arrivals, changes, channels, mixed_offers, offers_of

OPTIONS = LinkOptions(queue_packets=8, egress_rate_bps=10**9, memory_bytes=1 << 22, flight_packets=1 << 11)
TIMES = st.lists(st.integers(0, 300 * MS), max_size=30)

LOOKS: list[Callable[[Link], object]] = [
    Link.next_event_ns,
    Link.counters,
    lambda link: link.channel_at(0),
    lambda link: link.channel_at(10**9),
]


@given(channels(), changes(), mixed_offers(), SEEDS, TIMES)
def test_extra_polls_change_nothing(
    channel: Channel, overlay: list[Change], offers: list[Offer], seed: int, polls: list[int]
) -> None:
    plain, polled = (new_link(channel, OPTIONS, seed=seed, changes=overlay) for _ in range(2))
    assert drive(plain, offers) == drive(polled, offers, polls=polls)


@given(channels(), changes(), mixed_offers(), SEEDS)
def test_one_late_poll_gives_what_punctual_ones_give(
    channel: Channel, overlay: list[Change], offers: list[Offer], seed: int
) -> None:
    punctual, late = (new_link(channel, OPTIONS, seed=seed, changes=overlay) for _ in range(2))
    outcome = drive(punctual, offers)
    last = outcome.deliveries[-1].due_ns if outcome.deliveries else 0
    assert drive(late, offers, drained=False).deliveries == []
    assert late.poll(max(last, 10**15)) == outcome.deliveries
    assert late.counters() == outcome.counters


@given(channels(), changes(), arrivals(), SEEDS, st.sampled_from(LOOKS))
def test_looking_changes_nothing(
    channel: Channel, overlay: list[Change], found: list[tuple[int, int]], seed: int, look: Callable[[Link], object]
) -> None:
    plain, watched = (new_link(channel, OPTIONS, seed=seed, changes=overlay) for _ in range(2))

    def between(link: Link) -> None:
        look(link)

    assert drive(plain, offers_of(found)) == drive(watched, offers_of(found), between=between)


def test_another_seed_is_another_channel() -> None:
    channel = Channel.constant(0, delay_ns=MS, loss=0.5, jitter_ns=MS)
    offers = offers_of([(number * MS, 100) for number in range(100)])
    outcomes = [drive(new_link(channel, seed=seed), offers).deliveries for seed in (1, 2, 1)]
    assert outcomes[0] == outcomes[2] != outcomes[1]


@given(channels(start_ns=1_700_000_000 * 10**9), changes(), arrivals(), SEEDS)
def test_the_machines_clock_does_not_matter(
    channel: Channel, overlay: list[Change], found: list[tuple[int, int]], seed: int
) -> None:
    """The same UTC, on machines whose monotonic clocks began elsewhere: the same delays and drops."""
    outcomes = []
    for monotonic_ns in (0, 123_456_789_012_345):
        moved = [
            Change(
                **{**vars(change), "start_ns": change.start_ns + monotonic_ns, "end_ns": change.end_ns + monotonic_ns}
            )
            for change in overlay
        ]
        link = new_link(channel, OPTIONS, seed=seed, changes=moved, utc_offset_ns=1_700_000_000 * 10**9 - monotonic_ns)
        outcome = drive(link, offers_of([(at + monotonic_ns, size) for at, size in found]))
        outcomes.append(([(due - monotonic_ns, packet) for due, packet in outcome.deliveries], outcome.counters))
    assert outcomes[0] == outcomes[1]
