"""A path under load: what comes through of more than it carries, from the stamps of `roundtrip`, and its rates.

Bursts of heavy probes run beside the light ones. While they do, and shortly after, what light probes see is the queue
and not the path.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from emulator.testing.path_report import HERE, T1, T2, T3, T4, THERE
from emulator.timeline.model import Channel, Timeline
from emulator.timeline.traces.rows import timeline
from emulator.units import NS_PER_S

Ints = npt.NDArray[np.int64]

SETTLED = 0.3  # share of a burst after which a queue is full, and its end is what the rate is
FULL = 0.97  # of what was offered: less came through, and the path is the limit
LEAST_PACKETS = 20
AFTER_NS = 2 * NS_PER_S  # in which a queue empties


@dataclass(frozen=True)
class Direction:
    """rate_bps: IP bits that came through; limited: whether more was offered; delay_ms: beyond the burst's first."""

    rate_bps: float
    limited: bool
    loss: float
    delay_ms: float


@dataclass(frozen=True)
class Burst:
    """When it began and ended, UTC ns of the sender, what was offered, IP bits per second, and what became of it."""

    start_ns: int
    end_ns: int
    offered_bps: float
    uplink: Direction
    downlink: Direction


def burst_of(rows: Ints, packet_bytes: int) -> Burst | None:
    """What a burst of packets of `packet_bytes` IP bytes shows; None if too few came back to tell.

    rows: (probes, 8), from `path_report.read_rows`. Of the uplink is known what the reflector has counted, of whatever
    came back, so that losses on the way back do not matter to it. The way back is offered what came there.
    """
    came = rows[rows[:, T4] > 0]
    if len(came) < LEAST_PACKETS:
        return None
    bits = packet_bytes * 8
    sent_s = (rows[-1, T1] - rows[0, T1]) / NS_PER_S
    offered = (len(rows) - 1) * bits / sent_s
    up_rate = _rate(came[:, T2], came[:, THERE]) * bits
    down_rate = _rate(came[:, T4], came[:, HERE]) * bits
    there, here = int(came[:, THERE].max()), len(came)
    added_ms = [  # two clocks: differences only
        float(np.percentile(one_way, 90) - one_way.min()) / 1e6
        for one_way in (came[:, T2] - came[:, T1], came[:, T4] - came[:, T3])
    ]
    return Burst(
        int(rows[0, T1]),
        int(max(rows[-1, T1], came[:, T4].max())),
        offered,
        Direction(up_rate, up_rate < FULL * offered, max(0.0, 1 - there / len(rows)), added_ms[0]),
        Direction(down_rate, down_rate < FULL * up_rate, max(0.0, 1 - here / there), added_ms[1]),
    )


def _rate(at_ns: Ints, place: Ints) -> float:
    """Packets per second by the places of those that are known, once the queue has settled."""
    order = np.argsort(at_ns)
    at_ns, place = at_ns[order], place[order]
    settled = at_ns >= at_ns[0] + SETTLED * (at_ns[-1] - at_ns[0])
    at_ns, place = at_ns[settled], place[settled]
    lasted_ns = int(at_ns[-1] - at_ns[0])
    return float(place[-1] - place[0]) * NS_PER_S / lasted_ns if lasted_ns > 0 else 0.0


def with_rates(line: Timeline, bursts: list[Burst]) -> Timeline:
    """A trace of light probes with the rates that bursts found, each from its beginning to the next one's.

    What light probes saw under load is left out: what they saw before stands there instead.
    """
    if not bursts:
        return line
    ways = [
        _channel(getattr(line, way), bursts, [round(getattr(burst, way).rate_bps) for burst in bursts])
        for way in ("uplink", "downlink")
    ]
    return timeline(ways[0], ways[1], line.end_ns)


def _channel(one: Channel, bursts: list[Burst], rates_bps: list[int]) -> Channel:
    loaded = np.zeros(len(one), bool)
    for burst in bursts:
        loaded |= (one.start_ns >= burst.start_ns) & (one.start_ns < burst.end_ns + AFTER_NS)
    if loaded.all():
        loaded[:] = False  # a trace as short as that has nothing else
    loaded[0] = False  # a trace begins where it began
    columns = {field.name: getattr(one, field.name)[~loaded] for field in fields(Channel)}
    number = np.searchsorted([burst.start_ns for burst in bursts], columns["start_ns"], side="right") - 1
    columns["rate_bps"] = np.array(rates_bps, np.int64)[np.maximum(number, 0)]
    return Channel(**columns)


def told(bursts: list[Burst]) -> list[str]:
    """A line for each direction: rates, loss and delay under load, medians over the bursts."""
    lines = []
    for way in ("uplink", "downlink"):
        found = [getattr(burst, way) for burst in bursts]
        rates = np.array([one.rate_bps for one in found]) / 1e6
        limited = sum(one.limited for one in found)
        loss, delay = (float(np.median([getattr(one, name) for one in found])) for name in ("loss", "delay_ms"))
        free = len(found) - limited
        atleast = f"; at least, for {free} of them came through whole" if free else ""
        lines.append(
            f"{way} under load: {np.median(rates):.3g} Mbit/s ({rates.min():.3g} to {rates.max():.3g} in "
            f"{len(found)} bursts{atleast}), loss {100 * loss:.1f} %, delay +{delay:.0f} ms"
        )
    return lines
