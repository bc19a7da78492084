"""A link without a sky: the Timeline of one row."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from emulator.radio.modcod import HIGHEST_CN_CENTIDB
from emulator.scenario.links import FixedDirection, FixedLink
from emulator.timeline.budget import DelayPart
from emulator.timeline.model import Channel, Path, Timeline, Windows
from emulator.units import NS_PER_MS, bits_per_s

Value = TypeVar("Value", int, float)


class FixedWindows(Windows):
    """The same constant channel in every window.

    Its C/N is the least that closes the most efficient MODCOD: a fade laid over it costs rate at once, and in the end
    the link, as on any other.
    """

    constant = True

    def __init__(self, link: FixedLink) -> None:
        self._link = link

    def window(self, start_ns: int, end_ns: int) -> Timeline:
        none = np.array([-1], np.int64)
        unknown = np.array([np.nan])
        path = Path(np.array([start_ns], np.int64), none, none, unknown, unknown, unknown, np.zeros(1, np.int64))
        return Timeline(
            start_ns,
            end_ns,
            self._channel(self._link.uplink, start_ns),
            self._channel(self._link.downlink, start_ns),
            path,
            (),
            (),
        )

    def delay_parts(self, start_ns: int, end_ns: int) -> list[DelayPart]:
        channels = [self._channel(own, start_ns) for own in (self._link.uplink, self._link.downlink)]
        return [
            DelayPart("fixed", *(channel.delay_ns for channel in channels)),
            DelayPart("jitter, mean", *(channel.jitter_ns for channel in channels)),
        ]

    def _channel(self, own: FixedDirection, start_ns: int) -> Channel:
        both = self._link
        return Channel.constant(
            start_ns,
            delay_ns=round(pick(own.delay_ms, both.delay_ms) * NS_PER_MS),
            rate_bps=bits_per_s(pick(own.rate_mbps, both.rate_mbps)),
            loss=pick(own.loss, both.loss),
            jitter_ns=round(pick(own.jitter_ms, both.jitter_ms) * NS_PER_MS),
            cn_centidb=HIGHEST_CN_CENTIDB,
        )


def pick(own: Value | None, both: Value) -> Value:
    """A direction's own value where it has one, else the one for both."""
    return both if own is None else own
