"""What the report says in words and figures, worked out from the record alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from emulator.testing.measure import (
    DELAY_BOUND_NS,
    Balance,
    balance,
    counts_of,
    delay_verdict,
    dropped_by_cause,
    floor_window_ns,
    measured_slot_phase,
)
from emulator.testing.record import CAUSE_WORDS, DIRECTIONS, RunRecord, Transfer
from emulator.testing.verdicts.evidence import faults, in_words
from emulator.timeline.causes import Cause
from emulator.units import NS_PER_MS, NS_PER_S, NS_PER_US, count_of, format_utc

PHASE_TOLERANCE_S = 0.5  # a phase of 12 ± 0.5 s mod 15 (Tanveer et al., arXiv 2307.00402)
PHASE_CONFIDENCE = 0.5  # below it, chance may have made it: nothing is concluded

HOW_MEASURED = """Measured delay is taken outside the link's process: the kernel's receive stamp at the far interface
minus its transmit stamp at the near one (a stamp from user space where the device gives none)."""
HOW_COMMANDED = """Commanded delay is the delay line's own at the instant of sending: geometry, fixed parts, fibre and
what was laid over it. Queue, serialisation and jitter come on top; expected delay adds serialisation and the jitter of
this seed, and lets no packet overtake. Calm probes are those near which no queue, outage or slot boundary was. The
delay error is the smallest of each fifth of a second, and the median of these with its confidence interval: a machine
that is busy makes single packets late, but seldom all of so many."""
HOW_COUNTED = """Drops are the link's own counters, read ten times a second; packets are wire packets, with segmentation
offload seen through."""

HOW_TRANSFERRED = """Goodput is what the receiving program got. It may exceed the rate for a moment: once a lost segment
was sent again, all that had arrived behind it is handed over together."""


NOT_KNOWN = "not known"


@dataclass(frozen=True)
class Card:
    """A figure at the head; `passed` None: it is no verdict."""

    name: str
    value: str
    more: str
    passed: bool | None = None


@dataclass(frozen=True)
class Row:
    name: str
    values: tuple[str, ...]
    total: bool = False


@dataclass(frozen=True)
class EventRow:
    utc: str
    label: str
    direction: str
    duration: str


@dataclass(frozen=True)
class Summary:
    """What the report says in words and figures. unknown: what there was too little to judge by."""

    passed: bool
    unknown: tuple[str, ...]
    verdict: str
    cards: tuple[Card, ...]
    packets: tuple[Row, ...]
    probes: tuple[Row, ...]
    events: tuple[EventRow, ...]
    notes: tuple[str, ...]


def summarise(record: RunRecord) -> Summary:
    """Every figure of the report, from the record."""
    cards = tuple(
        card
        for card in (
            _delay_card(record),
            _probe_card(record),
            _balance_card(record),
            _phase_card(record),
            _transfer_card(record),
            _serving_card(record),
            _evidence_card(record),
        )
        if card is not None
    )
    failed = [card.name for card in cards if card.passed is False]
    failed += [check.what for check in record.checks if not check.passed]
    failed += [
        verdict.text.partition(":")[0]
        for verdict in record.verdicts
        if verdict.outcome != "passed" and not verdict.taken
    ]
    unknown = tuple(card.name for card in cards if card.value == NOT_KNOWN)
    verdict = f"does not hold: {', '.join(failed)}" if failed else "every check holds"
    if unknown:
        verdict += f"; not known: {', '.join(unknown)}"
    if record.interrupted:
        verdict = f"interrupted; so far {verdict}"
    return Summary(
        passed=not failed,
        unknown=unknown,
        verdict=verdict,
        cards=cards,
        packets=tuple(_packet_rows(record)),
        probes=tuple(_probe_rows(record)),
        events=tuple(
            EventRow(
                format_utc(record.start_utc_ns + event.at_ns),
                event.label,
                event.direction,
                f"{event.duration_ns / NS_PER_S:g} s" if event.duration_ns else "",
            )
            for event in record.events
        ),
        notes=_notes(record),
    )


def microseconds(value_ns: float | None) -> str:
    """A time in µs or ms, two or three digits; – for none."""
    if value_ns is None:
        return "–"
    if abs(value_ns) >= NS_PER_MS:
        return f"{value_ns / NS_PER_MS:.1f} ms"
    return f"{value_ns / NS_PER_US:.0f} µs"


def _delay_card(record: RunRecord) -> Card | None:
    """The worse of the two directions is what counts. Of a short run, or one full of traffic, it may not be known."""
    verdicts = [delay_verdict(record.probes(direction)) for direction in DIRECTIONS]
    if not any(verdict.sent for verdict in verdicts):
        return None
    name, calm = "Delay error, measured − expected", min(verdict.calm for verdict in verdicts)
    errors = [verdict.floor_error for verdict in verdicts if verdict.floor_error is not None]
    if not all(verdict.enough for verdict in verdicts) or not errors:
        more = f"{count_of(calm, 'probe', ',')} without queue or outage near, too few to judge by"
        return Card(name, NOT_KNOWN, more)
    worst = max(errors, key=lambda error: max(abs(error.low), abs(error.high)))
    tails = [verdict.p99_error_ns for verdict in verdicts if verdict.p99_error_ns is not None]
    return Card(
        name,
        microseconds(worst.estimate),
        f"{worst.confidence:.0%} sure: {microseconds(worst.low)} to {microseconds(worst.high)}, allowed "
        f"±{microseconds(DELAY_BOUND_NS)}; single probes p99 {microseconds(max(tails))}; {calm:,} calm ones or more",
        passed=all(verdict.holds for verdict in verdicts),
    )


def _probe_card(record: RunRecord) -> Card | None:
    verdicts = {direction: delay_verdict(record.probes(direction)) for direction in DIRECTIONS}
    sent, lost = (sum(getattr(verdict, name) for verdict in verdicts.values()) for name in ("sent", "lost"))
    if not sent:
        return None
    unexplained = [
        direction
        for direction in DIRECTIONS
        if verdicts[direction].lost > balance(counts_of(record, direction)).dropped
    ]
    more = (
        f"of {sent:,}; the link counted {sum(balance(counts_of(record, each)).dropped for each in DIRECTIONS):,} drops"
    )
    if unexplained:
        more += f"; more lost than counted: {', '.join(unexplained)}"
    return Card("Probes lost", f"{lost:,}", more, passed=False if unexplained else None)


def _balance_card(record: RunRecord) -> Card | None:
    if not record.counters.at_ns:
        return None
    sums = [balance(counts_of(record, direction)) for direction in DIRECTIONS]
    holds = all(each.holds for each in sums)
    copied = sum(each.copied for each in sums)
    total = (
        f"{sum(each.offered for each in sums):,}{f' + {copied:,}' if copied else ''} = "
        f"{sum(each.delivered for each in sums):,} + {sum(each.dropped for each in sums):,} + "
        f"{sum(each.held for each in sums):,}"
    )
    return Card(_balance_name(sums), "holds" if holds else "broken", f"{total} packets", passed=holds)


def _balance_name(sums: Sequence[Balance]) -> str:
    come = "offered + copied" if any(each.copied for each in sums) else "offered"
    return f"{come} = delivered + dropped + held"


def _phase_card(record: RunRecord) -> Card | None:
    crossed = len(record.slot_starts_ns())
    phase = measured_slot_phase(record) if crossed >= 2 else None
    if phase is None:
        return None
    right = phase.error_s(record.slot_phase_s, record.slot_s) <= PHASE_TOLERANCE_S
    sure = phase.confidence >= PHASE_CONFIDENCE
    more = f"mod {record.slot_s:g}, planned {record.slot_phase_s:g} s; {crossed} boundaries crossed"
    if not sure:
        more += "; the steps between these slots are too small to be sure"
    return Card("Slot phase, from measured delay", f"{phase.phase_s:.1f} s", more, passed=right if sure else None)


def _transfer_card(record: RunRecord) -> Card | None:
    transfer = record.transfer
    if transfer is None or len(transfer.at_ns) < 2:
        return None
    seconds = (transfer.at_ns[-1] - transfer.at_ns[0]) / NS_PER_S
    moved = transfer.bytes[-1] - transfer.bytes[0]
    return Card(
        f"TCP goodput, {transfer.direction}",
        f"{moved * 8 / max(seconds, 1e-9) / 1e6:.1f} Mbit/s",
        f"mean over {seconds:.0f} s, {moved / 1e6:,.0f} MB; {_connections(transfer)}, "
        f"{count_of(transfer.retransmitted, 'segment', ',')} sent again",
    )


def _connections(transfer: Transfer) -> str:
    name = transfer.congestion or "congestion control unknown"
    return name if transfer.connections == 1 else f"{transfer.connections} connections, {name}"


def _serving_card(record: RunRecord) -> Card | None:
    served = [record.states.satellites[index] for index in record.states.satellite if index >= 0]
    if not served:
        return None
    changes = sum(before != after for before, after in pairwise(served))
    known = [
        value for value, index in zip(record.states.elevation_deg, record.states.satellite, strict=True) if index >= 0
    ]
    who = len(set(served))
    return Card(
        "Handovers", str(changes), f"{who} satellite{'s' * (who > 1)}, elevation {min(known):.0f}° to {max(known):.0f}°"
    )


def _evidence_card(record: RunRecord) -> Card | None:
    """Whether the emulation kept up with what it was told; where it did not, nothing else here proves anything."""
    if record.evidence is None:
        return None
    found = faults(record.evidence)
    more = "; ".join(found) or in_words(record.evidence)
    return Card("The emulation kept up", "no" if found else "yes", more, passed=not found)


def _packet_rows(record: RunRecord) -> Iterable[Row]:
    sums = [balance(counts_of(record, direction)) for direction in DIRECTIONS]
    dropped = dropped_by_cause(record)
    yield Row("offered to the link", tuple(f"{each.offered:,}" for each in sums), total=True)
    if any(each.copied for each in sums):
        yield Row("copied by the link", tuple(f"{each.copied:,}" for each in sums))
    yield Row("delivered", tuple(f"{each.delivered:,}" for each in sums))
    for cause in Cause:
        counts = [dropped[direction].get(cause.name, 0) for direction in DIRECTIONS]
        if any(counts):
            yield Row(
                f"dropped: {CAUSE_WORDS.get(cause.name, cause.name.lower())}", tuple(f"{each:,}" for each in counts)
            )
    yield Row("dropped, all causes", tuple(f"{each.dropped:,}" for each in sums))
    yield Row("still held at the end", tuple(f"{each.held:,}" for each in sums))
    yield Row(_balance_name(sums), tuple("holds" if each.holds else "broken" for each in sums), total=True)


def _probe_rows(record: RunRecord) -> Iterable[Row]:
    series = [record.probes(direction) for direction in DIRECTIONS]
    if not any(each.sent_ns for each in series):
        return
    verdicts = [delay_verdict(each) for each in series]
    window_ns = max(floor_window_ns(each.interval_ns) for each in series)
    figures: list[tuple[str, list[str]]] = [
        ("sent", [f"{each.sent:,}" for each in verdicts]),
        ("lost", [f"{each.lost:,} ({each.lost / max(1, each.sent):.2%})" for each in verdicts]),
        ("one-way delay, median", [microseconds(each.measured_p50_ns) for each in verdicts]),
        ("one-way delay, p99", [microseconds(each.measured_p99_ns) for each in verdicts]),
        ("calm probes (no queue, no outage near)", [f"{each.calm:,}" for each in verdicts]),
        ("error of the calm ones, median", [microseconds(each.median_error_ns) for each in verdicts]),
        ("|error| of the calm ones, p99", [microseconds(each.p99_error_ns) for each in verdicts]),
        (
            f"smallest error of each {window_ns / NS_PER_S:g} s, median",
            [microseconds(each.floor_error.estimate if each.floor_error else None) for each in verdicts],
        ),
        ("transmit stamp", [each.stamp_source or "–" for each in series]),
        (
            "send instants missed · refused · overflow",
            [f"{each.not_sent} · {each.refused} · {each.receiver_overflow}" for each in series],
        ),
    ]
    for name, values in figures:
        yield Row(name, tuple(values))


def _notes(record: RunRecord) -> tuple[str, ...]:
    notes = [HOW_COMMANDED, HOW_COUNTED]
    if record.uplink_probes.sent_ns or record.downlink_probes.sent_ns:
        notes = [HOW_MEASURED, *notes]
    if record.transfer is not None:
        notes.append(HOW_TRANSFERRED)
    if record.slot_s:
        seconds = ", ".join(f":{(record.slot_phase_s + index * record.slot_s) % 60:02.0f}" for index in range(4))
        notes.append(
            f"Dashed lines: slot boundaries, at {seconds} of the UTC minute."
            if record.slot_s == 15
            else "Dashed lines: slot boundaries."
        )
    return tuple(notes)
