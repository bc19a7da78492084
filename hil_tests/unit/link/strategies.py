"""Channels, overlays and arrivals for hypothesis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from emulator.link.link import Change
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import LOSS_ONE, Channel
from hil_tests.unit.link.driver import Offer
from hil_tests.unit.link.packets import Super, frame

MS = 1_000_000
S = 1_000_000_000
STEEPEST = 9 * S  # ns/s: what the link's 64-bit arithmetic takes; a satellite's is 50,000
RATES = st.sampled_from([0, 7, 9_999_991, 10_000_000, 1_000_000_000]) | st.integers(1_000, 10**11)
DELAYS = st.just(0) | st.integers(0, 50 * MS)
SIZES = st.sampled_from([20, 21, 64, 1500, 65_535]) | st.integers(20, 3000)
GAPS = st.just(0) | st.integers(0, 3_000) | st.integers(0, 20 * MS)
LOSSES = st.sampled_from([0.0, 0.01, 0.5, 1.0])
SHUT = st.sampled_from([Cause.HANDOVER, Cause.OUTAGE, Cause.OBSTRUCTION])
SEEDS = st.integers(0, 2**63 - 1)


def channel_of(rows: Sequence[dict[str, int]], start_ns: int = 0) -> Channel:
    """A channel of rows that last `lasts_ns` each; what a row does not say is 0."""
    starts = start_ns + np.concatenate([[0], np.cumsum([row["lasts_ns"] for row in rows])[:-1]])
    names = ("delay_ns", "delay_slope_ns_per_s", "rate_bps", "loss", "jitter_ns", "cn_centidb", "gate", "cause")
    columns = {name: np.array([row.get(name, 0) for row in rows], np.int64) for name in names}
    return Channel(start_ns=starts.astype(np.int64), **columns)


@st.composite
def channels(
    draw: st.DrawFn,
    *,
    gates: bool = True,
    losses: bool = True,
    jitter: bool = True,
    rates: st.SearchStrategy[int] = RATES,
    start_ns: int = 0,
) -> Channel:
    """One to five rows with all that a Timeline may say; a delay may fall faster than time passes."""
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        lasts_ns = draw(st.integers(1, 5000) | st.integers(1, 30 * MS))
        delay_ns = draw(DELAYS)
        slope = (draw(DELAYS) - delay_ns) * S // lasts_ns if draw(st.booleans()) else 0
        falls_below_zero = delay_ns + slope * (lasts_ns // 1000) // 1_000_000 < 0
        gate = draw(st.sampled_from([Gate.PASS, Gate.PASS, Gate.HOLD, Gate.DROP])) if gates else Gate.PASS
        rows.append(
            {
                "lasts_ns": lasts_ns,
                "delay_ns": delay_ns,
                "delay_slope_ns_per_s": 0 if falls_below_zero or abs(slope) > STEEPEST else slope,
                "rate_bps": draw(rates),
                "loss": round(draw(LOSSES) * LOSS_ONE) if losses else 0,
                "jitter_ns": draw(st.sampled_from([0, 0, 1000, MS])) if jitter else 0,
                "cn_centidb": draw(st.integers(-300, 2000)),
                "gate": int(gate),
                "cause": int(draw(SHUT)) if gate != Gate.PASS else 0,
            }
        )
    return channel_of(rows, start_ns)


@st.composite
def changes(draw: st.DrawFn, *, most: int = 4, earliest_ns: int = 0) -> list[Change]:
    """Overlapping changes of every kind."""
    made = []
    for _ in range(draw(st.integers(0, most))):
        start = earliest_ns + draw(st.integers(0, 60 * MS))
        end = start + draw(st.integers(0, 30 * MS))
        gate = draw(st.sampled_from([Gate.PASS, Gate.PASS, Gate.HOLD, Gate.DROP]))
        made.append(
            Change(
                start,
                end,
                gate,
                Cause.NONE if gate == Gate.PASS else Cause.COMMAND,
                fade_centidb=draw(st.sampled_from([0, 0, 300, 900, 5000])),
                extra_delay_ns=draw(st.sampled_from([0, 0, 20 * MS])),
                loss=draw(LOSSES),
            )
        )
    return made


@st.composite
def arrivals(
    draw: st.DrawFn, *, most: int = 30, sizes: st.SearchStrategy[int] = SIZES, gaps: st.SearchStrategy[int] = GAPS
) -> list[tuple[int, int]]:
    """When, and how many bytes: bursts and pauses."""
    at, found = 0, []
    for gap, size in draw(st.lists(st.tuples(gaps, sizes), min_size=1, max_size=most)):
        at += gap
        found.append((at, size))
    return found


def offers_of(found: Sequence[tuple[int, int]]) -> list[Offer]:
    """Arrivals as packets, each with the number of its place, counted from 1."""
    return [Offer(at, frame(size, number)) for number, (at, size) in enumerate(found, 1)]


@st.composite
def supers(draw: st.DrawFn, number: int = 0, most_packets: int = 12) -> Super:
    """TCP and UDP, IPv4 and IPv6, payloads that the segments do and do not divide."""
    segment = draw(st.sampled_from([1, 7, 536, 1448]) | st.integers(1, 4000))
    payload = draw(st.integers(0, min(most_packets * segment, 60_000)))
    return Super(draw(st.sampled_from(["tcp", "udp"])), draw(st.sampled_from([4, 6])), payload, segment, number)


@st.composite
def mixed_offers(draw: st.DrawFn, most: int = 20) -> list[Offer]:
    """Ordinary packets and super-packets, bursts and pauses."""
    at, found = 0, []
    for number in range(1, draw(st.integers(1, most)) + 1):
        at += draw(GAPS)
        as_super = draw(st.booleans())
        found.append(Offer(at, draw(supers(number)).frame() if as_super else frame(draw(SIZES), number)))
    return found


POLLS = st.lists(st.integers(0, 200 * MS), max_size=10)
