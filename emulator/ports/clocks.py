"""How far another machine's clock is from ours, and how fast it goes away: from questions and answers, as NTP has it.

    ours      asked ─────────────────────────────▶ answered
    theirs             received ──▶ sent

A message that waited says less than one that did not: of each second only the quickest exchange is kept. A line through
what is kept, weighted by how quick each was, gives offset and drift. Sans-I/O: times are arguments, ns.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from emulator.units import NS_PER_MS, NS_PER_S, NS_PER_US

BUCKET_NS = NS_PER_S
KEPT_BUCKETS = 64  # about a minute: a crystal's drift does not change much in it
DRIFT_AFTER_NS = 2 * NS_PER_S  # a line through less than this would be noise
MOST_DRIFT = 1e-3  # 1,000 ppm: no crystal is worse; what seems so is something else
RESOLUTION_NS = 5 * NS_PER_US  # how alike two exchanges are that count the same
MARGIN_NS = 200 * NS_PER_US  # by which an exchange may contradict the estimate,
UNKNOWN_DRIFT = 5e-4  # and by so much a second more, while no drift is known
STEP_AFTER = 4  # exchanges in a row that contradict it: the clock has jumped


@dataclass(frozen=True)
class Exchange:
    """One question and its answer: when, on our clock, in the middle of it; theirs less ours then; how long it took."""

    at_ns: int
    offset_ns: int
    delay_ns: int


@dataclass(frozen=True)
class ClockState:
    """Theirs less ours, and by how much that changes; the truth lies within ± error_ns while nothing jumps.

    steps: how often it has jumped. shared: both are one and the same clock, which is known and not measured; what was
    measured says how good the measuring is.
    """

    offset_ns: int
    drift_ppm: float
    error_ns: int
    round_trip_ns: int
    exchanges: int
    steps: int
    shared: bool


class ClockEstimate:
    """Of one other machine. shared: its clock is ours."""

    def __init__(self, *, shared: bool = False) -> None:
        self.shared = shared
        self.exchanges = self.steps = 0
        self._kept: deque[Exchange] = deque(maxlen=KEPT_BUCKETS)
        self._bucket = -1
        self._against: list[Exchange] = []
        self._line = (0, 0, 0.0)  # our time, offset then, drift
        self._last_delay_ns = 0

    @property
    def known(self) -> bool:
        """Whether times can be converted."""
        return self.shared or bool(self._kept)

    def add(self, asked_ns: int, received_ns: int, sent_ns: int, answered_ns: int) -> bool:
        """Takes an exchange in; False for one that cannot be: an answer before its question."""
        delay_ns = (answered_ns - asked_ns) - (sent_ns - received_ns)
        if delay_ns < 0 or answered_ns < asked_ns or sent_ns < received_ns:
            return False
        offset_ns = ((received_ns - asked_ns) + (sent_ns - answered_ns)) // 2
        found = Exchange((asked_ns + answered_ns) // 2, offset_ns, delay_ns)
        self.exchanges += 1
        self._last_delay_ns = delay_ns
        if self._kept and abs(offset_ns - self._line_at(found.at_ns)) > delay_ns // 2 + self._doubt_ns(found.at_ns):
            self._against.append(found)
            if len(self._against) < STEP_AFTER:
                return True
            self._kept.clear()
            self.steps += 1
            for one in self._against:
                self._keep(one)
        else:
            self._keep(found)
        self._against.clear()
        self._fit()
        return True

    def _keep(self, found: Exchange) -> None:
        bucket = found.at_ns // BUCKET_NS
        if not self._kept or bucket != self._bucket:
            self._kept.append(found)
            self._bucket = bucket
        elif found.delay_ns < self._kept[-1].delay_ns:
            self._kept[-1] = found

    def _fit(self) -> None:
        quickest = min(self._kept, key=lambda one: one.delay_ns)
        span_ns = self._kept[-1].at_ns - self._kept[0].at_ns
        if span_ns < DRIFT_AFTER_NS:
            self._line = (quickest.at_ns, quickest.offset_ns, 0.0)
            return
        at = np.array([one.at_ns - quickest.at_ns for one in self._kept], np.float64)
        offset = np.array([one.offset_ns - quickest.offset_ns for one in self._kept], np.float64)
        excess = np.array([one.delay_ns - quickest.delay_ns for one in self._kept], np.float64)
        weight = 1.0 / (excess + RESOLUTION_NS) ** 2
        weight /= weight.sum()
        mean_at, mean_offset = float(weight @ at), float(weight @ offset)
        spread = float(weight @ (at - mean_at) ** 2)
        drift = float(weight @ ((at - mean_at) * (offset - mean_offset))) / spread if spread > 0 else 0.0
        drift = max(-MOST_DRIFT, min(MOST_DRIFT, drift))
        self._line = (quickest.at_ns + round(mean_at), quickest.offset_ns + round(mean_offset), drift)

    def _line_at(self, our_ns: int) -> int:
        at_ns, offset_ns, drift = self._line
        return offset_ns + round((our_ns - at_ns) * drift)

    def _doubt_ns(self, our_ns: int) -> int:
        """By how much the line may be wrong at a time."""
        at_ns, _, drift = self._line
        return self.error_ns + MARGIN_NS + (0 if drift else round(abs(our_ns - at_ns) * UNKNOWN_DRIFT))

    @property
    def error_ns(self) -> int:
        """Half of what the quickest exchange took: how wrong the offset was then, at most."""
        return min((one.delay_ns for one in self._kept), default=0) // 2

    def offset_ns(self, our_ns: int) -> int:
        """Theirs less ours at a time of ours; 0 while nothing is known, or if both are one clock."""
        return 0 if self.shared else self._line_at(our_ns)

    def _drift_doubt(self) -> float:
        """By how much the line's drift may be wrong: two exchanges leave it as much room as both took, over the time
        between them.
        """
        _, _, drift = self._line
        quickest = min(self._kept, key=lambda one: one.delay_ns)
        room = [
            abs(drift - (one.offset_ns - quickest.offset_ns) / (one.at_ns - quickest.at_ns))
            + (one.delay_ns + quickest.delay_ns) / 2 / abs(one.at_ns - quickest.at_ns)
            for one in self._kept
            if abs(one.at_ns - quickest.at_ns) >= BUCKET_NS
        ]
        return min([UNKNOWN_DRIFT, *room])

    def _error_at(self, our_ns: int) -> int:
        """The truth lies no further from the line: each exchange is wrong by half of what it took, at most, and less
        certain the longer ago it was.
        """
        if self.shared or not self._kept:
            return 0
        doubt = self._drift_doubt()
        return min(
            abs(self._line_at(one.at_ns) - one.offset_ns) + one.delay_ns // 2 + round(abs(our_ns - one.at_ns) * doubt)
            for one in self._kept
        )

    def state(self, our_ns: int) -> ClockState:
        """What is known at a time of ours. A shared clock's offset is what was measured, too."""
        return ClockState(
            offset_ns=self._line_at(our_ns),
            drift_ppm=self._line[2] * 1e6,
            error_ns=self._error_at(our_ns),
            round_trip_ns=self._last_delay_ns,
            exchanges=self.exchanges,
            steps=self.steps,
            shared=self.shared,
        )


FLUSH_NS = 150 * NS_PER_US
LAG_NS = 500 * NS_PER_US  # the link works this far behind the clock, so that what is still on its way to it is in time


def flush_ns(delay_ns: int) -> int:
    """How long a batch may wait for more packets: a sixtieth of the delay that hides it, at most FLUSH_NS."""
    return min(FLUSH_NS, delay_ns // 60)


def lag_ns(delay_ns: int, round_trip_ns: int) -> int:
    """How far behind the clock the link may work without its packets coming late to an end of this round trip.

    Enough for what is on its way to it to come in its order, but never more than half of what the delay leaves above
    1 ms.
    """
    wanted = max(LAG_NS, min(5 * NS_PER_MS, round_trip_ns))
    return max(0, min(wanted, (delay_ns - NS_PER_MS) // 2))
