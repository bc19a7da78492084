"""The report of a run, for a person."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from emulator.testing.performance.rows import Row
from emulator.testing.performance.run import Report
from emulator.testing.performance.statistics import Spread

HEADINGS = ("", "measured", "baseline", "ratio", "target", "verdict")
VERDICTS = {True: "met", False: "not met", None: ""}
STYLES = {"met": "green", "not met": "bold red"}


def render(report: Report) -> RenderableType:
    """The table with what belongs under it: machine, settings, warnings, failures."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for *fields, verdict in map(fields_of, report.rows()):
        table.add_row(*fields, Text(verdict, style=STYLES.get(verdict, "")))
    return Group(table, "", *(Text(line) for line in footnotes(report)))


def markdown(report: Report) -> str:
    """The same for a page."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *map(fields_of, report.rows())]
    return "\n".join(["| " + " | ".join(fields) + " |" for fields in lines] + ["", *footnotes(report)])


def fields_of(row: Row) -> tuple[str, ...]:
    """A row of the table, as HEADINGS."""
    verdict = "in doubt" if row.doubt and row.target else VERDICTS[row.met]
    ratio = shown(row.ratio) if row.ratio else f"{shown(row.difference)} more" if row.difference else ""
    return row.what, measured(row), baseline(row), ratio, aim(row), verdict


def measured(row: Row) -> str:
    return f"{shown(row.value)} {row.unit}"


def baseline(row: Row) -> str:
    return f"{shown(row.baseline)} {row.unit}, {row.against}" if row.baseline else ""


def aim(row: Row) -> str:
    if row.target is None:
        return ""
    if row.target_of == "ratio":
        return f"ratio {row.target}"
    return f"{'difference ' if row.target_of == 'difference' else ''}{row.target} {row.unit}"


def shown(values: Spread) -> str:
    """The median, and the range in brackets if there is one."""
    middle, low, high = (number(value) for value in (values.median, values.low, values.high))
    return middle if low == high else f"{middle} ({low}–{high})"


def number(value: float) -> str:
    """About three digits that count, thousands set apart."""
    if value == round(value):
        return f"{value:,.0f}"
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}"


def footnotes(report: Report) -> list[str]:
    """What a figure means nothing without."""
    return [
        how(report),
        where(report),
        *(f"in doubt: {row.what}: {row.doubt}" for row in report.rows() if row.doubt),
        *(f"note: {row.what}: {row.note}" for row in report.rows() if row.note),
        *(f"warning: {line}" for line in report.warnings),
        *(f"failed: {line}" for line in report.failures),
    ]


def how(report: Report) -> str:
    settings = report.settings
    parts = [
        "one round" if settings.rounds == 1 else f"median (lowest–highest) of {settings.rounds} rounds",
        f"delay {settings.delay_ms:g} ms each way, MTU {settings.mtu}",
        f"TCP for {settings.seconds:g} s after {settings.ramp_s:g} s, by "
        + (
            f"iperf3 {report.machine['iperf3']}"
            if settings.tool == "iperf3"
            else "a sender of our own (no iperf3 here)"
        )
        + f", cubic, buffers up to {settings.tcp_buffer_bytes / 1e6:.0f} MB at both ends, shared by many flows",
        f"{settings.steady_congestion} at a configured rate and of many flows ({settings.flows_ramp_s:g} s later)",
        f"UDP at {settings.udp_packets_per_s:,} packets/s for {settings.udp_seconds:g} s",
    ]
    if settings.realtime:
        parts.append("packet loop at real-time priority")
    return "; ".join(parts)


def where(report: Report) -> str:
    facts, before, after = report.machine, report.load_before, report.load_after
    return (
        f"{facts['cpus']} CPUs ({facts['cpu_model']}), Linux {facts['kernel']}, Python {facts['python']}, Numba "
        f"{facts['packages'].get('numba', '?')}, {facts['user']}; load {before['load_average'][0]:.2f} before, "
        f"{after['load_average'][0]:.2f} after; took {report.took_s:.0f} s"
    )
