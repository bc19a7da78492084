"""`bentpipe demo`: the main job in a minute, with a live view and a report of what was measured."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from emulator.cli.options import duration_option, scenario_options, start_option
from emulator.errors import EmulationError, EndpointError, ToolMissingError
from emulator.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from rich.console import Console

    from emulator.bench import Bench
    from emulator.cli.live import LiveView
    from emulator.scenario import Scenario
    from emulator.testing.record import RunRecord
    from emulator.testing.recorder import Recorder
    from emulator.testing.session import Session
    from emulator.testing.showcase import Shown
    from emulator.testing.summary import Summary

SLOT_S = 15.0
DEFAULT_S = 45.0
BOUNDARIES = 3  # that a demo of the default length crosses
BEFORE_FIRST_BOUNDARY_S = 2.0  # less of the slot before it, and the boundary does not count
AFTER_LAST_BOUNDARY_S = 4.0  # so that the last slot is seen, too
OUTAGE_S = 1.5
FADE_S = 5.0
FADE_DB = 6.0
CLEARANCE_S = 2.0  # between what we do to the link and a slot boundary: what hurt shall be told apart
PROBE_INTERVAL_NS = 2 * NS_PER_MS
PROBE_BITS = 52 * 8  # of a probe with its headers
PROBE_SHARE = 0.1  # of the slower direction, that probes may take at most: a light load
CONNECTIONS = 4  # as a browser or a speed test does: one alone, at the link's loss, would not fill it
CALM_S = 4.0  # before the transfer: probes that meet no queue, slot boundaries left out
TICK_S = 0.1
LEAD_S = 0.3  # a change is announced so much before it begins
PENDING_LIMIT_S = 30.0
LEAST_S, MOST_S = 4.0, 600.0


@dataclass(frozen=True)
class Plan:
    """When a demo does what, seconds from its start."""

    duration_s: float
    transfer_s: tuple[float, float]
    outage_s: tuple[float, float]
    fade_s: tuple[float, float]
    query_s: float
    inject_s: float


def plan_demo(first_boundary_s: float | None, duration_s: float | None) -> Plan:
    """`first_boundary_s`: seconds to the next slot boundary, None for a link without slots.

    Without a duration, the demo lasts 45 s, or until three boundaries and four seconds are past (at most 51 s).
    """
    if duration_s is None:
        duration_s = DEFAULT_S
        if first_boundary_s is not None:
            first_seen_s = first_boundary_s + (SLOT_S if first_boundary_s < BEFORE_FIRST_BOUNDARY_S else 0.0)
            duration_s = max(duration_s, first_seen_s + (BOUNDARIES - 1) * SLOT_S + AFTER_LAST_BOUNDARY_S)
    scale = min(1.0, duration_s / DEFAULT_S)
    outage, fade, clearance = OUTAGE_S * scale, FADE_S * scale, CLEARANCE_S * scale
    return Plan(
        duration_s=duration_s,
        transfer_s=(max(0.15 * duration_s, min(CALM_S, 0.3 * duration_s)), 0.88 * duration_s),
        outage_s=_within_a_slot(0.40 * duration_s, outage, clearance, first_boundary_s),
        fade_s=_within_a_slot(0.66 * duration_s, fade, clearance, first_boundary_s),
        query_s=0.05 * duration_s,
        inject_s=0.25 * duration_s,
    )


def probe_interval_ns(*rates_bps: int) -> int:
    """Time between two probes, whole ms: 2 ms, or longer where the slower direction would feel that; 0: no limit."""
    slowest_bps = min((rate_bps for rate_bps in rates_bps if rate_bps > 0), default=0)
    if slowest_bps == 0:
        return PROBE_INTERVAL_NS
    light_ms = -(-PROBE_BITS * 1000 // round(PROBE_SHARE * slowest_bps)) if slowest_bps >= 1000 else 1000
    return max(PROBE_INTERVAL_NS, min(light_ms, 1000) * NS_PER_MS)


def _within_a_slot(
    wanted_s: float, length_s: float, clear_s: float, first_boundary_s: float | None
) -> tuple[float, float]:
    """(start, end) as near to `wanted_s` as a slot lets it be, `clear_s` from its ends."""
    start_s = wanted_s
    if first_boundary_s is not None:
        slot_s = first_boundary_s + (wanted_s - first_boundary_s) // SLOT_S * SLOT_S
        start_s = min(max(wanted_s, slot_s + clear_s), slot_s + SLOT_S - clear_s - length_s)
    return start_s, start_s + length_s


@click.command()
@duration_option(help_text="How long: 45s, 2m.  [default: 45s or a little more, three slot boundaries]")
@click.option(
    "--out",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("bentpipe-demo"),
    show_default=True,
    metavar="DIR",
    help="Where report.html, report.png and run.json go.",
)
@start_option
@scenario_options(default="starlink_2025")
def demo(scenario: Scenario, start_utc_ns: int | None, duration_ns: int | None, directory: Path) -> int:
    """Show the main job: real traffic through a satellite link, and what became of it.

    Probes run both ways and a TCP transfer downwards, outside the emulator's process. The link has an outage and a fade
    laid over it, a packet is injected with scapy, the terminal's GNSS receiver is asked on a serial line. What was
    measured is compared with what was commanded, in a page, a picture and a record; the status is 75 if a check does
    not hold.
    """
    from rich.console import Console

    duration_s = None if duration_ns is None else duration_ns / NS_PER_S
    _check_first(duration_s, directory)
    console = Console(stderr=True, highlight=False)
    console.print(
        f"[bold]{scenario.name or 'The scenario'}[/bold]: probes both ways and a TCP download through the link for "
        f"about {duration_s or DEFAULT_S:.0f} s, with an outage and a fade laid over it;\na packet from scapy, a "
        f"query on a serial line, and a report in {directory}/. Ctrl-C ends it early, with a report.",
        soft_wrap=True,
    )
    stop = _Stop()
    record = _run(scenario, start_utc_ns, duration_s, stop, console)
    paths = _report(record, directory, console)
    summary = _tell(record, console)
    for name in ("report.html", "report.png", "run.json"):
        click.echo(paths[name])
    if stop.number:
        return 128 + stop.number
    if not summary.passed or summary.unknown:
        raise EmulationError(f"demo: {summary.verdict}; the lines above say what")
    return 0


def _check_first(duration_s: float | None, directory: Path) -> None:
    """What would fail at the end fails now."""
    if duration_s is not None and not LEAST_S <= duration_s <= MOST_S:
        raise click.BadParameter(f"expected from {LEAST_S:g} s to {MOST_S:g} s", param_hint="--duration")
    for package in ("matplotlib", "jinja2"):
        if find_spec(package) is None:
            raise ToolMissingError(f"the Python package {package} is not installed: pip install 'bentpipe[report]'")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise EndpointError(f"{directory}: cannot write the report there: {error.strerror}") from error


class _Stop:
    """SIGINT or SIGTERM once, while the demo runs: end early, with a report. Before that, or twice: at once."""

    def __init__(self) -> None:
        self.number = 0
        self.orderly = False
        self._event = threading.Event()

    def request(self, number: int, _frame: FrameType | None) -> None:
        again, self.number = self.number != 0, number
        if again or not self.orderly:
            raise KeyboardInterrupt
        self._event.set()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """The signals are ours for a while. What a signal made fail (compilers swallow interrupts) is an interrupt."""
        before = {number: signal.signal(number, self.request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        except Exception as error:
            if self.number:
                raise KeyboardInterrupt from error
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait(self, timeout_s: float) -> bool:
        return self._event.wait(timeout_s)


def _run(
    scenario: Scenario, start_utc_ns: int | None, duration_s: float | None, stop: _Stop, console: Console
) -> RunRecord:
    from emulator.cli.bring_up import running_bench

    with contextlib.ExitStack() as stack:
        stack.enter_context(stop.listening())
        bench = stack.enter_context(running_bench(scenario, isolate=True, start_utc_ns=start_utc_ns, quiet=True))
        from emulator.cli.live import LiveView
        from emulator.testing.recorder import Recorder
        from emulator.testing.session import Session

        stack.enter_context(stop.listening())  # once more: the bench has taken SIGTERM for itself
        session = stack.enter_context(Session(bench.terminal, bench.datacenter))
        for warning in bench.warnings:
            console.print(f"bentpipe: {warning}", style="yellow")
        session.start_receivers()
        stop.orderly = True
        recorder = Recorder(bench, "Bentpipe demo")
        plan = plan_demo(_first_boundary_s(recorder), duration_s)
        with LiveView(
            "bentpipe demo", scenario, duration_ns=round(plan.duration_s * NS_PER_S), console=console
        ) as view:
            show = _Show(bench, session, recorder, view, plan)
            show.run(stop)
        with console.status("waiting for the last packets, and reading what was measured"):
            return show.finish(interrupted=stop.number != 0)


def _first_boundary_s(recorder: Recorder) -> float | None:
    if not recorder.slot_s:
        return None
    return (recorder.slot_phase_s - recorder.start_utc_ns / NS_PER_S) % recorder.slot_s


class _Show:
    """One demo on a running bench: what is to be done, when its time has come."""

    def __init__(self, bench: Bench, session: Session, recorder: Recorder, view: LiveView, plan: Plan) -> None:
        self._bench, self._session, self._recorder, self._view, self._plan = bench, session, recorder, view, plan
        state = bench.state()
        self._interval_ns = probe_interval_ns(state.uplink.rate_bps, state.downlink.rate_bps)
        self._workers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="demo")
        self._pending: list[Future[Shown]] = []
        self._due: list[tuple[float, Callable[[], None]]] = sorted(
            [
                (plan.query_s, self._query),
                (plan.transfer_s[0], self._transfer),
                (plan.inject_s, self._inject),
                (plan.outage_s[0] - LEAD_S, self._outage),
                (plan.fade_s[0] - LEAD_S, self._fade),
            ],
            key=lambda item: item[0],
        )

    def run(self, stop: _Stop) -> None:
        duration_ns = round(self._plan.duration_s * NS_PER_S)
        self._session.start_probes(duration_ns - self._recorder.now_ns(), self._interval_ns)
        while self._recorder.now_ns() < duration_ns:
            self._view.show(*self._recorder.tick())
            while self._due and self._due[0][0] * NS_PER_S <= self._recorder.now_ns():
                try:
                    self._due.pop(0)[1]()
                except EmulationError:
                    if not stop.number:
                        raise
                    self._due.clear()  # the signal that ends us ended what we were about to start
            self._collect()
            if stop.wait(TICK_S):
                self._note("ending early", "bold yellow")
                break

    def finish(self, *, interrupted: bool) -> RunRecord:
        probes, bulk = self._session.finish(self._nothing_held)
        if not interrupted:
            wait(self._pending, PENDING_LIMIT_S)
        self._collect()
        self._workers.shutdown(wait=False, cancel_futures=True)
        return self._recorder.finish(
            probes, bulk, interval_ns=self._interval_ns, connections=CONNECTIONS, interrupted=interrupted
        )

    def _nothing_held(self) -> bool:
        counters = self._bench.counters()
        return counters.uplink.held_packets == counters.downlink.held_packets == 0

    def _note(self, text: str, style: str = "") -> None:
        self._view.note(text, self._bench.utc_ns(), style)

    def _collect(self) -> None:
        from emulator.testing.record import Event

        for future in [future for future in self._pending if future.done()]:
            self._pending.remove(future)
            shown = future.result()
            check = shown.check
            self._recorder.checks.append(check)
            if shown.utc_ns is not None:
                self._recorder.events.append(
                    Event(
                        kind="inject",
                        label="scapy packet",
                        direction="uplink",
                        at_ns=shown.utc_ns - self._recorder.start_utc_ns,
                    )
                )
            self._note(
                f"{'✓' if check.passed else '✗'} {check.what}: {check.outcome}", "green" if check.passed else "red"
            )

    def _query(self) -> None:
        from emulator.testing.showcase import query_receiver

        if self._bench.scenario.terminal is not None:
            self._pending.append(self._workers.submit(query_receiver, self._bench))

    def _inject(self) -> None:
        from emulator.testing.showcase import inject_packet

        self._pending.append(self._workers.submit(inject_packet, self._bench))

    def _transfer(self) -> None:
        self._note("TCP download begins")
        left_s = self._plan.transfer_s[1] - self._recorder.now_ns() / NS_PER_S
        self._session.start_download(round(left_s * NS_PER_S), CONNECTIONS)

    def _outage(self) -> None:
        self._change("outage", self._plan.outage_s, f"outage, {_seconds(self._plan.outage_s)}", "bold red")

    def _fade(self) -> None:
        self._change("fade", self._plan.fade_s, f"fade, {FADE_DB:g} dB", "bold yellow", fade_db=FADE_DB)

    def _change(self, kind: str, times_s: tuple[float, float], label: str, style: str, **values: float) -> None:
        from emulator.scenario.model import OverlayEvent
        from emulator.testing.record import Event

        ahead_s = max(0.0, times_s[0] - self._recorder.now_ns() / NS_PER_S)
        length_s = times_s[1] - times_s[0]
        event = OverlayEvent.model_validate({"kind": kind, "at_s": ahead_s, "duration_s": length_s, **values})
        at_ns = self._recorder.since_start_ns(self._bench.apply(event))
        self._recorder.events.append(Event(kind=kind, label=label, at_ns=at_ns, duration_ns=round(length_s * NS_PER_S)))
        self._note(label, style)


def _seconds(times_s: tuple[float, float]) -> str:
    return f"{times_s[1] - times_s[0]:.1f} s"


def _report(record: RunRecord, directory: Path, console: Console) -> dict[str, Path]:
    with console.status("drawing the report"):
        from emulator.testing.report import write_report

        return write_report(record, directory)


def _tell(record: RunRecord, console: Console) -> Summary:
    """The closing words, and what they are made from."""
    from rich.table import Table

    from emulator.testing.summary import summarise

    summary = summarise(record)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for card in summary.cards:
        style = "" if card.passed is None else "green" if card.passed else "red"
        table.add_row(card.name, f"[bold {style}]{card.value}[/]" if style else f"[bold]{card.value}[/bold]", card.more)
    for check in record.checks:
        table.add_row(check.what, "[bold green]✓[/]" if check.passed else "[bold red]✗[/]", check.outcome)
    console.print(table)
    console.print(summary.verdict, style="bold green" if summary.passed else "bold red")
    return summary
