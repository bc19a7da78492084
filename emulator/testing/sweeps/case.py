"""Runs one case: in virtual time through two `Link`s, or live through a bench. What comes out is plain values."""

from __future__ import annotations

import functools
import hashlib
import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from emulator import __version__
from emulator.testing.store import Run
from emulator.testing.sweeps.matrix import Case
from emulator.units import NS_PER_MS, NS_PER_S, format_utc

if TYPE_CHECKING:
    from emulator.ports.assembly import Direction
    from emulator.scenario import Scenario
    from emulator.testing.record import RunRecord
    from emulator.timeline.model import Timeline, Windows

Ints = npt.NDArray[np.int64]

WINDOW_NS = 1200 * NS_PER_S
MOST_AT_ONCE = 1 << 15  # packets that are offered before the ledger is read
LEDGER_EVENTS = 1 << 18  # of these, and of all that is under way besides
LONGEST_STAY_NS = 600 * NS_PER_S  # after the last packet was sent; what has not come out by then is still under way
UNKNOWN = -1


@dataclass(frozen=True)
class Fates:
    """What became of the packets of one direction, in the order of their sending, (packets,).

    cause: 0 for delivered, −1 for still under way at the end. delay_ns: of those that were delivered.
    """

    sent_ns: Ints
    cause: Ints
    delay_ns: Ints


def run_case(case: Case) -> Run:
    """The case as a finished run. Raises the errors of `emulator.errors`."""
    began_s = time.monotonic()
    figures, details = _live(case) if case.live else _virtual(case)
    return Run(
        key=case.key,
        kind="sweep",
        name=" ".join([case.scenario, *case.overrides]),
        outcome="invalid" if details.get("faults") else "done",
        scenario=_name_of(case.scenario, case.overrides),
        seed=case.seed,
        start_utc=format_utc(case.start_utc_ns, 3),
        version=__version__,
        seconds=time.monotonic() - began_s,
        parameters={
            **dict(each.split("=", 1) for each in case.overrides),
            "duration_s": case.duration_ns / NS_PER_S,
            "packets": case.load.packets,
            "packet_bytes": case.load.packet_bytes,
            "time": "real" if case.live else "virtual",
        },
        figures=figures,
        details=details,
    )


def _virtual(case: Case) -> tuple[dict[str, float], dict[str, Any]]:
    scenario, windows = _planned(case.scenario, case.overrides, case.seed, case.start_utc_ns)
    figures: dict[str, float] = {}
    details: dict[str, Any] = {"drops": {}}
    digest = hashlib.blake2b(digest_size=16)
    plans = itertools.tee(plan_of(windows, case))  # planning takes most of the time: both directions go by one plan
    for number, (direction, plan) in enumerate(zip(_directions(), plans, strict=True)):
        fates = send_through(scenario, plan, direction, number, case)
        for column in (fates.sent_ns - case.start_utc_ns, fates.cause, fates.delay_ns):
            digest.update(column.tobytes())
        figures |= {f"{direction}.{name}": value for name, value in figures_of(fates).items()}
        details["drops"][direction] = drops_of(fates)
    return figures, {**details, "digest": digest.hexdigest()}


def _directions() -> tuple[Direction, Direction]:
    from emulator.taps.replay import DIRECTIONS

    return DIRECTIONS


@functools.lru_cache(maxsize=64)
def _name_of(scenario: str, overrides: tuple[str, ...]) -> str:
    """What a test's run of the same link has in its column: the scenario's name, not where its file lies."""
    from emulator.scenario import load_scenario

    return load_scenario(scenario, overrides).name


@functools.lru_cache(maxsize=4)
def _planned(name: str, overrides: tuple[str, ...], seed: int, start_utc_ns: int) -> tuple[Scenario, Windows]:
    from emulator.scenario import load_scenario
    from emulator.timeline.build import windows_for

    scenario = load_scenario(name, (*overrides, f"seed={seed}"))
    return scenario, windows_for(scenario, epoch_utc_ns=start_utc_ns)


def plan_of(windows: Windows, case: Case) -> Iterator[Timeline]:
    """The windows of a case, one after the other; a short case fits into one, with the time in which it settles."""
    from emulator.taps.replay import AHEAD_NS

    begins_ns = case.start_utc_ns - case.start_utc_ns % NS_PER_S
    return windows.consecutive(begins_ns, min(WINDOW_NS, case.duration_ns + 3 * AHEAD_NS + NS_PER_S))


def send_through(scenario: Scenario, plan: Iterator[Timeline], direction: Direction, number: int, case: Case) -> Fates:
    """The load of the case through one direction of the link, in virtual time: as fast as it can be worked out."""
    from emulator.link import state
    from emulator.link.link import Link
    from emulator.link.store import VNET_BYTES
    from emulator.ports.assembly import change_of, link_options
    from emulator.taps.replay import AHEAD_NS, offer_all, settle

    packets = case.load.packets
    sent = case.start_utc_ns + (2 * np.arange(packets, dtype=np.int64) + 1) * case.duration_ns // (2 * packets)
    timeline = next(plan)
    channel = getattr(timeline, direction)
    options = link_options(scenario, direction, int(channel.delay_ns.max()))
    link = Link(
        channel,
        timeline.end_ns,
        seed=scenario.seed,
        direction=number,
        options=replace(options, ledger_events=LEDGER_EVENTS),
    )
    changes = [event for event in scenario.overlay if event.direction in ("both", direction)]
    link.overlay([change_of(event, case.start_utc_ns) for event in changes])
    frame = np.frombuffer(bytes(VNET_BYTES) + _packet(case.load.packet_bytes), np.uint8).copy()
    entry = np.zeros(state.SUPER_COLUMNS, np.int64)
    fates = Fates(sent, np.full(packets, UNKNOWN, np.int64), np.full(packets, UNKNOWN, np.int64))
    read = 0

    def collect() -> None:
        nonlocal read
        tail = int(link.state.reg[state.LEDGER_TAIL])
        rows = link.state.ledger[np.arange(read, tail) % LEDGER_EVENTS]
        read = tail
        index, cause = rows[:, state.L_NUMBER] - 1, rows[:, state.L_CAUSE]
        fates.cause[index] = cause
        arrived = cause == 0
        fates.delay_ns[index[arrived]] = rows[arrived, state.L_AT] - sent[index[arrived]]

    first = 0
    while first < packets:
        while timeline.end_ns < sent[first] + AHEAD_NS:
            timeline = next(plan)
            link.extend(getattr(timeline, direction), timeline.end_ns, int(sent[first]))
        last = min(first + MOST_AT_ONCE, int(np.searchsorted(sent, timeline.end_ns - AHEAD_NS)))
        last = max(last, first + 1)
        places, lengths = np.zeros(last - first, np.int64), np.full(last - first, len(frame), np.int64)
        offer_all(link.state, frame, places, lengths, sent[first:last], entry)
        collect()
        first = last
    now_ns = int(sent[-1])
    while link.counters().queued_packets and now_ns < sent[-1] + LONGEST_STAY_NS:
        now_ns += AHEAD_NS
        while timeline.end_ns < now_ns:
            timeline = next(plan)
            link.extend(getattr(timeline, direction), timeline.end_ns, now_ns)
        settle(link.state, now_ns)
        collect()
    return fates


def _packet(length: int) -> bytes:
    """An IPv4 packet with UDP to the discard port in it; its content matters to nobody."""
    header = bytearray(length)
    header[0:4] = b"\x45\x00" + length.to_bytes(2, "big")
    header[8:10] = b"\x40\x11"
    header[20:26] = b"\x00\x09\x00\x09" + (length - 20).to_bytes(2, "big")
    return bytes(header)


def figures_of(fates: Fates) -> dict[str, float]:
    """Numbers of one direction: what was sent, lost and late. NaN for delays where nothing arrived."""
    arrived = fates.cause == 0
    delay_ms = fates.delay_ns[arrived] / NS_PER_MS
    gaps = np.diff(np.concatenate([fates.sent_ns[:1], (fates.sent_ns + fates.delay_ns)[arrived]])) / NS_PER_S
    percentiles = np.percentile(delay_ms, (50, 95, 99, 100)) if len(delay_ms) else np.full(4, np.nan)
    return {
        "sent": float(len(fates.sent_ns)),
        "lost": float((fates.cause > 0).sum()),
        "loss_percent": 100 * float((fates.cause > 0).mean()),
        "delay_p50_ms": float(percentiles[0]),
        "delay_p95_ms": float(percentiles[1]),
        "delay_p99_ms": float(percentiles[2]),
        "delay_max_ms": float(percentiles[3]),
        "jitter_p95_ms": float(np.percentile(np.abs(np.diff(delay_ms)), 95)) if len(delay_ms) > 1 else float("nan"),
        "longest_gap_s": float(gaps.max(initial=0.0)),
    }


def drops_of(fates: Fates) -> dict[str, int]:
    """Packets dropped, by the name of the cause."""
    from emulator.timeline.causes import Cause

    causes, counts = np.unique(fates.cause[fates.cause > 0], return_counts=True)
    return {Cause(int(cause)).name: int(count) for cause, count in zip(causes, counts, strict=True)}


def _live(case: Case) -> tuple[dict[str, float], dict[str, Any]]:
    """Through a bench, with probes in place of the packets, at the same distances."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from emulator.bench import Bench
    from emulator.bench.runtime import runtime_root
    from emulator.testing.plugin.cores import core, default_budget
    from emulator.testing.plugin.satlink import Satlink

    scenario, windows = _planned(case.scenario, case.overrides, case.seed, case.start_utc_ns)
    with (
        core(default_budget(), directory=runtime_root()),
        TemporaryDirectory(prefix="bentpipe-") as folder,
        Bench(scenario, start_utc_ns=case.start_utc_ns, windows=windows) as bench,
    ):
        link = Satlink(bench, Path(folder), title="sweep")
        interval_ms = case.duration_ns / case.load.packets / NS_PER_MS
        record = link.measure(case.duration_ns / NS_PER_S, interval_ms=interval_ms)
        return _figures_of_record(record), {"drops": _drops_of_record(record), "faults": list(link.faults())}


def _figures_of_record(record: RunRecord) -> dict[str, float]:
    figures: dict[str, float] = {}
    for direction in _directions():
        probes = record.probes(direction)
        sent, delay = np.array(probes.sent_ns, np.int64), np.array(probes.delay_ns, np.int64)
        fates = Fates(sent, np.where(delay < 0, 1, 0), delay)
        figures |= {f"{direction}.{name}": value for name, value in figures_of(fates).items()}
    return figures


def _drops_of_record(record: RunRecord) -> Mapping[str, Mapping[str, int]]:
    from emulator.testing.measure import dropped_by_cause

    return {str(direction): drops for direction, drops in dropped_by_cause(record).items()}
