"""The dish's own pings to the point of presence, computed: what the link would have done with a packet at that instant.

Nothing is sent: a packet of ours would be one more in everybody's counters. The channel is asked at each instant, its
jitter, its gates and all that the overlay adds included; loss is drawn by the ping's number; what the queue adds and
drops comes from the counters of real packets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from emulator.timeline.causes import Cause, Gate
from emulator.timeline.draws import Purpose, Way, uniform
from emulator.timeline.model import ChannelState
from emulator.units import NS_PER_MS, NS_PER_S

Direction = Literal["uplink", "downlink"]
WAYS: tuple[Direction, Direction] = ("uplink", "downlink")
ChannelAt = Callable[[Direction, int], ChannelState]

PERIOD_NS = 50 * NS_PER_MS  # 20 in a second: the drop rates that dishes report are multiples of 0.05
PATIENCE_NS = NS_PER_S  # a ping that takes longer is lost
BLOCK = 128  # pings whose draws are made together
LOOK_NS = 5 * NS_PER_MS  # how closely the end of a hold is looked for


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping sent at `utc_ns`. `latency_ns`: there and back, None if it was lost; `cause`: what the link lost it to."""

    utc_ns: int
    latency_ns: int | None
    cause: Cause = Cause.NONE


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """What real packets meet at the link's queues: ns that they wait, and the share that is dropped there."""

    wait_ns: int = 0
    dropped: float = 0.0


def pings(
    channel_at: ChannelAt,
    seed: int,
    start_ns: int,
    end_ns: int,
    up: QueueLoad = QueueLoad(),
    down: QueueLoad = QueueLoad(),
) -> Iterator[Ping]:
    """The pings of [start_ns, end_ns), UTC. The same channel and seed always give the same pings."""
    for number in range(-(-start_ns // PERIOD_NS), -(-end_ns // PERIOD_NS)):
        block, place = divmod(number, BLOCK)
        drawn = (_drawn(seed, way, block)[place] for way in (Way.UP, Way.DOWN))
        yield _ping(channel_at, number * PERIOD_NS, zip(WAYS, drawn, (up, down), strict=True))


@lru_cache(maxsize=512)  # a hundred dishes and more: drawing a few at a time would be half of what a dish costs
def _drawn(seed: int, way: Way, block: int) -> list[float]:
    """The draws of BLOCK pings in one direction."""
    numbers = np.arange(block * BLOCK, (block + 1) * BLOCK, dtype=np.int64)
    return [float(draw) for draw in uniform(seed, way, Purpose.DISH_PING, numbers)]


def _ping(channel_at: ChannelAt, sent_ns: int, ways: Iterable[tuple[Direction, float, QueueLoad]]) -> Ping:
    """A ping through each direction in turn, with the draw that decides on its loss there."""
    at_ns = sent_ns
    for direction, drawn, load in ways:
        at_ns += load.wait_ns
        channel = channel_at(direction, at_ns)
        while channel.gate is Gate.HOLD and at_ns - sent_ns < PATIENCE_NS:
            at_ns += LOOK_NS
            channel = channel_at(direction, at_ns)
        if channel.gate is not Gate.PASS:
            return Ping(sent_ns, None, channel.cause)
        if drawn >= (1 - channel.loss) * (1 - load.dropped):
            return Ping(sent_ns, None, Cause.LOSS)
        at_ns += channel.delay_ns
    latency_ns = at_ns - sent_ns
    return Ping(sent_ns, latency_ns if latency_ns <= PATIENCE_NS else None)
