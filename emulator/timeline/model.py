"""The Timeline: all that the packet path knows about space. Immutable arrays over simulated UTC.

How to read it: `Timeline.uplink` and `.downlink` are tables of intervals, one row from its `start_ns` to the next
row's; within a row the delay is a straight line and all else is constant. `Timeline.path` says who serves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from emulator.timeline.budget import DelayPart
from emulator.timeline.causes import Cause, Gate
from emulator.units import NS_PER_S

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LOSS_ONE = 1 << 32  # a loss of 1.0, as the packet path counts it
UNLIMITED = 0  # a rate of 0 bit/s stands for no limit; a link that cannot send has its gate shut


@dataclass(frozen=True, slots=True)
class ChannelState:
    """One direction of the link at one instant."""

    delay_ns: int
    rate_bps: int
    loss: float
    gate: Gate
    cause: Cause


GATES = {int(gate): gate for gate in Gate}  # to call an enum takes ten times as long
CAUSES = {int(cause): cause for cause in Cause}


@dataclass(frozen=True)
class Channel:
    """One direction, as columns of equal length (rows,), all int64.

    start_ns: UTC ns, strictly rising. delay_ns: one-way delay at the row's start, without queue and without jitter.
    delay_slope_ns_per_s: its change. rate_bps: IP bits per second, 0 for no limit. loss: probability × 2³².
    jitter_ns: mean of the access jitter added per time bin. cn_centidb: carrier to noise, dB × 100 (an overlay's fade
    is subtracted from it). gate, cause: see `Gate`, `Cause`.
    Raises ValueError if the columns do not fit together.
    """

    start_ns: Ints
    delay_ns: Ints
    delay_slope_ns_per_s: Ints
    rate_bps: Ints
    loss: Ints
    jitter_ns: Ints
    cn_centidb: Ints
    gate: Ints
    cause: Ints

    def __post_init__(self) -> None:
        rows = len(self.start_ns)
        for field in fields(self):
            column = getattr(self, field.name)
            if column.shape != (rows,) or column.dtype != np.int64:
                raise ValueError(
                    f"channel column {field.name}: expected int64 of shape ({rows},), got "
                    f"{column.dtype} of shape {column.shape}"
                )
        if rows == 0 or np.any(np.diff(self.start_ns) <= 0):
            raise ValueError("channel column start_ns: expected at least one row, strictly rising")
        lasts_us = np.diff(self.start_ns) // 1000
        ends = self.delay_ns[:-1] + self.delay_slope_ns_per_s[:-1] * lasts_us // (NS_PER_S // 1000)
        if np.any(self.delay_ns < 0) or np.any(ends < 0):
            raise ValueError("channel column delay_ns: expected delays of 0 or more throughout")
        if np.any(self.loss < 0) or np.any(self.loss > LOSS_ONE):
            raise ValueError("channel column loss: expected 0 to 2**32")
        if np.any(self.rate_bps < 0):
            raise ValueError("channel column rate_bps: expected 0 (no limit) or more")
        if np.any((self.gate == Gate.DROP) & (self.cause == Cause.NONE)):
            raise ValueError("channel column cause: expected a cause wherever the gate drops")

    @classmethod
    def constant(
        cls,
        start_ns: int,
        *,
        delay_ns: int,
        rate_bps: int = UNLIMITED,
        loss: float = 0.0,
        jitter_ns: int = 0,
        cn_centidb: int = 10_000,
    ) -> Self:
        """A channel of one row that never changes."""

        def column(value: int) -> Ints:
            return np.array([value], np.int64)

        return cls(
            column(start_ns),
            column(delay_ns),
            column(0),
            column(rate_bps),
            column(round(loss * LOSS_ONE)),
            column(jitter_ns),
            column(cn_centidb),
            column(Gate.PASS),
            column(Cause.NONE),
        )

    def __len__(self) -> int:
        return len(self.start_ns)

    def at(self, utc_ns: int) -> ChannelState:
        """The state at `utc_ns`; before the first row, the first row's; after the last row's start, the last's."""
        row = max(0, int(self.start_ns.searchsorted(utc_ns, side="right")) - 1)
        elapsed_ns = max(0, utc_ns - int(self.start_ns[row]))
        return ChannelState(
            delay_ns=int(self.delay_ns[row]) + int(self.delay_slope_ns_per_s[row]) * elapsed_ns // NS_PER_S,
            rate_bps=int(self.rate_bps[row]),
            loss=int(self.loss[row]) / LOSS_ONE,
            gate=GATES[int(self.gate[row])],
            cause=CAUSES[int(self.cause[row])],
        )


@dataclass(frozen=True)
class Path:
    """Who serves, as columns of equal length (rows,): from `start_ns` on, until the next row.

    satellite, gateway: index into the Timeline's `satellites` and `gateways`, −1 for none.
    azimuth_deg, elevation_deg: of the satellite at the terminal, at start_ns. slant_range_m likewise.
    slot: number of the scheduling slot since 1970, so that a change of slot is visible even if the satellite stays.
    """

    start_ns: Ints
    satellite: Ints
    gateway: Ints
    azimuth_deg: Floats
    elevation_deg: Floats
    slant_range_m: Floats
    slot: Ints

    def __len__(self) -> int:
        return len(self.start_ns)

    def row_at(self, utc_ns: int) -> int:
        """The row that holds at `utc_ns`."""
        return max(0, int(np.searchsorted(self.start_ns, utc_ns, side="right")) - 1)


@dataclass(frozen=True)
class Timeline:
    """A link over [start_ns, end_ns) of simulated UTC. `satellites` and `gateways`: the names that `path` indexes."""

    start_ns: int
    end_ns: int
    uplink: Channel
    downlink: Channel
    path: Path
    satellites: tuple[str, ...]
    gateways: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.start_ns < self.end_ns:
            raise ValueError(f"timeline: expected end after start, got {self.start_ns} to {self.end_ns}")

    def lasts_ns(self, channel: Channel) -> Ints:
        """How long each row of one of its directions holds, (rows,), inside of it."""
        return np.diff(np.clip(np.append(channel.start_ns, self.end_ns), self.start_ns, self.end_ns))

    def next_handover_ns(self, utc_ns: int) -> int | None:
        """The first later instant at which the serving satellite or the gateway changes, None if not in this window."""
        row = self.path.row_at(utc_ns)
        later = slice(row + 1, None)
        changed = (self.path.satellite[later] != self.path.satellite[row]) | (
            self.path.gateway[later] != self.path.gateway[row]
        )
        found = np.flatnonzero(changed)
        return int(self.path.start_ns[row + 1 + found[0]]) if len(found) else None


@dataclass(frozen=True, slots=True)
class Contact:
    """A stretch of time in which a spacecraft is in contact with a station: [start_ns, end_ns)."""

    station: str
    start_ns: int
    end_ns: int
    highest_deg: float


class Windows:
    """An endless Timeline, as consecutive windows made when asked for: the seam between planning and traffic.

    Each system's planner subclasses it and overrides `window`, and `delay_parts` where it can tell them apart.
    `notes`: what the planner has to say about its input, a line each.
    """

    notes: tuple[str, ...] = ()
    slotted = False  # whether the stretches that `Path.slot` counts are slots of a schedule
    constant = False  # whether nothing ever changes

    def window(self, start_ns: int, end_ns: int) -> Timeline:
        """The Timeline of [start_ns, end_ns). The same arguments give the same arrays, and joined windows agree.

        Rows are never cut in two: the first may begin before start_ns, and is then also the last of the window before.
        """
        raise NotImplementedError

    def delay_parts(self, start_ns: int, end_ns: int) -> list[DelayPart]:
        """What the one-way delays of a window are made of, without queue; empty where that is not known."""
        return []

    def contacts(self, start_ns: int, end_ns: int) -> list[Contact]:
        """The contacts of a link that has contacts, cut off at both ends; empty for all others."""
        return []

    def consecutive(self, start_ns: int, length_ns: int) -> Iterator[Timeline]:
        """Windows of `length_ns`, one after the other, for ever."""
        while True:
            yield self.window(start_ns, start_ns + length_ns)
            start_ns += length_ns
