"""`bentpipe demo`: the main job in a minute, with a live view and a report of what was measured."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import threading
import time
from bisect import insort
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from emulator.cli.demo_plan import (
    CALM_S,
    CONTACT_LEAD_S,
    DEFAULT_S,
    Plan,
    next_contact,
    plan_demo,
    probe_interval_ns,
)
from emulator.cli.options import duration_option, scenario_options, start_option
from emulator.errors import EmulationError, EndpointError, ToolMissingError
from emulator.units import NS_PER_S, format_utc

if TYPE_CHECKING:
    from rich.console import Console

    from emulator.bench import Bench
    from emulator.bench.snapshot import LinkState
    from emulator.cli.live import LiveView
    from emulator.scenario import Scenario
    from emulator.testing.record import RunRecord
    from emulator.testing.recorder import Recorder
    from emulator.testing.session import Session
    from emulator.testing.showcase import Shown
    from emulator.testing.summary import Summary

FADE_DB = 6.0
CONNECTIONS = 4  # as a browser or a speed test does: one alone, at the link's loss, would not fill it
TICK_S = 0.1
LEAD_S = 0.3  # a change is announced so much before it begins
PENDING_LIMIT_S = 30.0
LEAST_TRANSFER_S = 0.5
LEAST_S, MOST_S = 4.0, 600.0
VERDICT_STYLES = {True: "bold green", False: "bold red"}


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
    from rich.text import Text

    from emulator.cli.console import console_for

    duration_s = None if duration_ns is None else duration_ns / NS_PER_S
    _check_first(duration_s, directory)
    console = console_for(stderr=True)
    announced = (
        f": probes both ways and a TCP download through the link for about {duration_s or DEFAULT_S:.0f} s, "
        "with an outage and a fade laid over it;\n"
        f"a packet from scapy, a query on a serial line, and a report in {directory}/. "
        "Ctrl-C ends it early, with a report."
    )
    console.print(Text.assemble((scenario.name, "bold"), announced), soft_wrap=True)
    if scenario.link.profile == "ground_station" and start_utc_ns is None:
        contact = next_contact(scenario, time.time_ns(), duration_s or DEFAULT_S)
        start_utc_ns = contact.start_ns - round(CONTACT_LEAD_S * NS_PER_S)
        console.print(f"It is played at the next contact, with {contact.station} at {format_utc(contact.start_ns, 0)}.")
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
        from emulator.bench.readiness import await_lock
        from emulator.cli.live import LiveView
        from emulator.testing.recorder import Recorder
        from emulator.testing.session import Session

        stack.enter_context(stop.listening())  # once more: the bench has taken SIGTERM for itself
        session = stack.enter_context(Session(bench.terminal, bench.datacenter))
        for warning in bench.warnings:
            console.print(f"bentpipe: {warning}", style="yellow")
        session.start_receivers()
        with console.status("waiting for the antenna to find its satellite"):
            await_lock(bench)
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
        self._up_s = 0.0 if self._is_open(state) else None  # since when the link has carried anything
        self._interval_ns = probe_interval_ns(state.uplink.rate_bps, state.downlink.rate_bps)
        self._workers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="demo")
        self._pending: list[Future[Shown]] = []
        self._due: list[tuple[float, Callable[[], None]]] = sorted(
            [
                (plan.query_s, self._query),
                (plan.transfer_s[0], lambda: self._when_up(self._transfer, CALM_S)),
                (plan.inject_s, lambda: self._when_up(self._inject, 0.0)),
                (plan.outage_s[0] - LEAD_S, self._outage),
                (plan.fade_s[0] - LEAD_S, self._fade),
            ],
            key=lambda item: item[0],
        )

    def run(self, stop: _Stop) -> None:
        duration_ns = round(self._plan.duration_s * NS_PER_S)
        self._session.start_probes(duration_ns - self._recorder.now_ns(), self._interval_ns)
        while self._recorder.now_ns() < duration_ns:
            state, counters = self._recorder.tick()
            self._view.show(state, counters)
            if self._up_s is None and self._is_open(state):
                self._up_s = self._recorder.now_ns() / NS_PER_S
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

    @staticmethod
    def _is_open(state: LinkState) -> bool:
        from emulator.timeline.causes import Gate

        return state.uplink.gate is Gate.PASS and state.downlink.gate is Gate.PASS

    def _when_up(self, action: Callable[[], None], calm_s: float) -> None:
        """Does it `calm_s` after the link has come up, at once if it always was; if it never does, never."""
        now_s = self._recorder.now_ns() / NS_PER_S
        if self._up_s == 0 or (self._up_s is not None and now_s >= self._up_s + calm_s):
            action()
        else:
            later_s = now_s + TICK_S if self._up_s is None else self._up_s + calm_s
            insort(self._due, (later_s, lambda: self._when_up(action, calm_s)), key=lambda item: item[0])

    def finish(self, *, interrupted: bool) -> RunRecord:
        probes, bulk = self._session.finish(self._bench)
        if not interrupted:
            wait(self._pending, PENDING_LIMIT_S)
        self._collect()
        self._workers.shutdown(wait=False, cancel_futures=True)
        return self._recorder.finish(
            probes, bulk, interval_ns=self._interval_ns, connections=CONNECTIONS, interrupted=interrupted
        )

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
        left_s = self._plan.transfer_s[1] - self._recorder.now_ns() / NS_PER_S
        if left_s < LEAST_TRANSFER_S:
            self._note("the link came up too late for a download", "bold yellow")
            return
        self._note("TCP download begins")
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
    from rich.text import Text

    from emulator.testing.summary import summarise

    summary = summarise(record)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for card in summary.cards:
        style = "bold" if card.passed is None else VERDICT_STYLES[card.passed]
        table.add_row(card.name, Text(card.value, style=style), card.more)
    for check in record.checks:
        table.add_row(check.what, Text("✓" if check.passed else "✗", style=VERDICT_STYLES[check.passed]), check.outcome)
    console.print(table)
    console.print(summary.verdict, style=VERDICT_STYLES[summary.passed])
    return summary
