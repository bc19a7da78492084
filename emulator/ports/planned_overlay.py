"""A Timeline under the scenario's overlay: the channel that the packet path sees while its changes are in force."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from emulator.link.options import Change
from emulator.ports.assembly import change_of, waveform_of
from emulator.radio.modcod import Waveform, efficiency_by_cn
from emulator.scenario.model import Scenario
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import LOSS_ONE, Channel, Ints, Timeline
from emulator.timeline.table import delay_at, rows_at

CENTIDB_PER_STEP = 10  # of `efficiency_by_cn`


def overlaid(timeline: Timeline, scenario: Scenario, zero_ns: int) -> Timeline:
    """The Timeline with the scenario's timed changes laid over it. zero_ns: UTC from which their times count."""

    def over(channel: Channel, direction: Literal["uplink", "downlink"]) -> Channel:
        events = [event for event in scenario.overlay if event.direction in ("both", direction)]
        changes = [change_of(event, zero_ns) for event in events]
        return overlaid_channel(channel, changes, waveform_of(scenario, direction), timeline.end_ns)

    return replace(timeline, uplink=over(timeline.uplink, "uplink"), downlink=over(timeline.downlink, "downlink"))


def overlaid_channel(channel: Channel, changes: Sequence[Change], waveform: Waveform, end_ns: int) -> Channel:
    """A channel under changes, cut where one begins or ends before `end_ns`: what emulator/link/channel.py makes of it
    packet by packet.
    """
    edges = np.array([edge for change in changes for edge in (change.start_ns, change.end_ns)], np.int64)
    starts = np.union1d(channel.start_ns, edges[(edges > channel.start_ns[0]) & (edges < end_ns)])
    row = rows_at(channel.start_ns, starts)
    delay, rate, loss = delay_at(channel, starts), channel.rate_bps[row], channel.loss[row]
    jitter, gate, cause = channel.jitter_ns[row], channel.gate[row], channel.cause[row]
    fade = np.zeros(len(starts), np.int64)
    for change in changes:
        inside = (starts >= change.start_ns) & (starts < change.end_ns)
        fade[inside] += change.fade_centidb
        delay[inside] += change.extra_delay_ns
        jitter[inside] += change.jitter_ns
        added = round(change.loss * LOSS_ONE)
        both = ((loss >> 1) * (added >> 1)) >> 30  # 1 − (1 − a)(1 − b), halved before the product, which would not fit
        loss = np.where(inside, np.minimum(LOSS_ONE, loss + added - both), loss)
        worse = inside & (gate < change.gate)
        gate[worse], cause[worse] = int(change.gate), int(change.cause)
    efficiency = efficiency_by_cn(waveform)

    def at_cn(cn_centidb: Ints) -> Ints:
        return efficiency[np.clip(cn_centidb // CENTIDB_PER_STEP + waveform.efficiency_zero, 0, len(efficiency) - 1)]

    clear, faded = at_cn(channel.cn_centidb[row]), at_cn(channel.cn_centidb[row] - fade)
    closed = (fade > 0) & ((clear == 0) | (faded == 0))
    shut = closed & (gate != Gate.DROP)
    gate[shut], cause[shut] = int(Gate.DROP), int(Cause.FADE)
    slower = (fade > 0) & ~closed & (rate > 0)
    rate[slower] = np.maximum(1, rate[slower] * faded[slower] // clear[slower])
    slope, cn = channel.delay_slope_ns_per_s[row], channel.cn_centidb[row]
    return Channel(starts, delay, slope, rate, loss, jitter, cn, gate, cause)
