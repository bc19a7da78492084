"""Drives a `Link` through virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from emulator.link.link import Change, Delivery, DirectionCounters, Link, LinkOptions
from emulator.timeline.model import Channel

END_NS = 1 << 60  # of a Timeline that nobody goes on with: beyond all that tests do
SMALL = LinkOptions(memory_bytes=1 << 22, flight_packets=1 << 11)


class Offer(NamedTuple):
    """A frame (virtio_net_hdr first) that arrives at `at_ns`."""

    at_ns: int
    frame: bytes


class Outcome(NamedTuple):
    """What left the link, in order, and what it counted."""

    deliveries: list[Delivery]
    counters: DirectionCounters


def new_link(
    channel: Channel,
    options: LinkOptions = SMALL,
    *,
    seed: int = 1,
    direction: int = 0,
    changes: Sequence[Change] = (),
    utc_offset_ns: int = 0,
) -> Link:
    """A link of one Timeline, small enough to be made by the thousand."""
    link = Link(channel, END_NS, seed=seed, direction=direction, options=options, utc_offset_ns=utc_offset_ns)
    if changes:
        link.overlay(changes)
    return link


def nothing(_link: Link) -> None:
    """What `drive` does between two calls, if nobody asks for more."""


def drive(
    link: Link,
    offers: Iterable[Offer],
    *,
    polls: Iterable[int] = (),
    drained: bool = True,
    between: Callable[[Link], None] = nothing,
) -> Outcome:
    """Offers everything at its time, polls at `polls`, and in the end (`drained`) until nothing can come any more.

    `between` is called after every step.
    """
    steps: list[tuple[int, bytes | None]] = [*((at, frame) for at, frame in offers), *((at, None) for at in polls)]
    deliveries: list[Delivery] = []
    for at, frame in sorted(steps, key=lambda step: step[0]):
        if frame is None:
            deliveries += link.poll(at)
        else:
            link.offer_super(frame, at)
        between(link)
    if drained:
        deliveries += drain(link, between)
    return Outcome(deliveries, link.counters())


def drain(link: Link, between: Callable[[Link], None] = nothing) -> list[Delivery]:
    """Polls whenever the link asks for it, until it asks no more."""
    deliveries: list[Delivery] = []
    while (at := link.next_event_ns()) is not None:
        deliveries += link.poll(at)
        between(link)
        following = link.next_event_ns()
        assert following is None or following > at, "the link asks to be polled at a time that has passed"
    return deliveries
