"""The bench of one test: its two sides, what is done to the link, what is measured, and what is proven by it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from emulator.errors import BenchNotFoundError, BentpipeError, EmulationError, ScenarioError
from emulator.scenario.load import faults_of
from emulator.scenario.model import OverlayEvent, Scenario
from emulator.scenario.script import Step
from emulator.testing.plugin.measuring import Measuring, Watch
from emulator.testing.plugin.processes import TestSide
from emulator.testing.record import Event, Evidence, RunRecord
from emulator.testing.recorder import Recorder
from emulator.testing.scripts import Performed, Script, steps_of
from emulator.testing.verdicts import Limits, Verdict
from emulator.testing.verdicts.evidence import evidence_between, faults
from emulator.units import NS_PER_MS, NS_PER_S, format_utc

if TYPE_CHECKING:
    from emulator.bench import Bench, Counters, LinkState
    from emulator.bench.recording import Recording

LONGEST_LOG = 100_000  # characters of each, from its end
CAPTURED = {"place": "both", "snap": 128}  # bytes: headers, also behind a tunnel's


class Satlink:
    """A running bench in a test's hands. `start_utc_ns`: the simulated UTC at which it began."""

    def __init__(self, bench: Bench, folder: Path, *, title: str = "", limits: Limits | None = None) -> None:
        self.bench, self.limits, self._folder = bench, limits or Limits(), folder
        self.terminal, self.datacenter = TestSide(bench.terminal, folder), TestSide(bench.datacenter, folder)
        began_ns = bench.utc_of_monotonic_ns(bench.started_monotonic_ns)
        self.start_utc_ns = began_ns if bench.start_utc_ns is None else bench.start_utc_ns
        self.verdicts: list[Verdict] = []
        self.taken: list[bool] = []  # of each verdict, whether the test took it
        self.records: list[RunRecord] = []
        self.title = title
        self._began = bench.counters()
        self._events: list[Event] = []
        self._end: Counters | None = None
        self._stack = contextlib.ExitStack()
        self.scripts: list[Script] = []
        self._captured = folder / "packets.pcapng"
        self._recording: Recording | None = None
        self.not_captured = ""
        self._watch: Watch | None = None
        if bench.scenario.script:
            self.script(*bench.scenario.script)

    @property
    def scenario(self) -> Scenario:
        return self.bench.scenario

    @property
    def seed(self) -> int:
        return self.scenario.seed

    def state(self) -> LinkState:
        """The link now."""
        return self.bench.state()

    def counters(self) -> Counters:
        """Wire packets offered, delivered and dropped by cause, both directions. Raises EmulationError."""
        return self.bench.counters()

    def apply(self, kind: str, duration_s: float, *, at_s: float = 0.0, **values: Any) -> Event:
        """Lays a change over the link, `at_s` from now; keys as in a scenario's [[overlay]].

            satlink.apply("outage", 2.0)
            satlink.apply("fade", 5.0, fade_db=6, direction="downlink")

        Raises ScenarioError for wrong keys and values, EmulationError if too many changes are still to come.
        """
        said = {"kind": kind, "at_s": at_s, "duration_s": duration_s, **values}
        try:
            change = OverlayEvent.model_validate(said)
        except ValidationError as error:
            found = [line.replace("overlay[0].", "") for line in faults_of("overlay", 0, said, error)]
            raise ScenarioError([f"apply: {line.removeprefix('overlay[0]: ')}" for line in found]) from None
        begins_ns = self.bench.utc_of_monotonic_ns(self.bench.apply(change))
        event = Event(
            kind=kind,
            label=f"{kind}, {duration_s:g} s",
            at_ns=begins_ns - self.start_utc_ns,
            duration_ns=round(duration_s * NS_PER_S),
            direction=change.direction,
        )
        self._events.append(event)
        return event

    def script(self, *steps: Step | dict[str, Any]) -> Script:
        """Performs steps beside the test, in the words of a scenario's [[script]]; `wait` waits until all are done.

            satlink.script({"at": "next-slot", "action": "outage", "duration_s": 0.5}).wait(20)

        Raises ScenarioError for a step that is wrong, or that can never come on this link.
        """
        script = self._stack.enter_context(Script(self.bench, steps_of(*steps), self._note))
        self.scripts.append(script)
        return script

    def _note(self, performed: Performed) -> None:
        if performed.outcome == "done" and performed.utc_ns is not None:
            step = performed.step
            lasts = step.action not in ("mark", "inject", "move")
            self._events.append(
                Event(
                    kind=step.action,
                    label=step.name,
                    at_ns=performed.utc_ns - self.start_utc_ns,
                    duration_ns=round(step.duration_s * NS_PER_S) if lasts else 0,
                    direction=step.direction,
                )
            )

    def logs(self) -> Iterator[tuple[str, str]]:
        """(name, text) of what each process has written so far."""
        for side in (self.terminal, self.datacenter):
            for process in side.processes:
                for stream in ("stdout", "stderr"):
                    if text := getattr(process, stream):
                        yield f"{side.side.name}: {' '.join(process.command)[:60]}: {stream}", text[-LONGEST_LOG:]

    def close(self) -> None:
        """Ends the scripts, and a capture that nobody asked for."""
        self._watch_ended()
        self.capture_ended()
        self._stack.close()

    @contextlib.contextmanager
    def measuring(
        self, *, interval_ms: float = 2.0, download: bool = False, connections: int = 1, probes: bool = True
    ) -> Iterator[Measuring]:
        """Probes both ways, and with `download` a TCP transfer, beside what the block does; then `.record` is there.

        with satlink.measuring() as measured:
            satlink.apply("outage", 1.0)
            terminal.run("./client", "--to", datacenter.ipv4)
        satlink.require(recovery_s(measured.record, "downlink").at_most(0.5))
        """
        measuring = Measuring(self, round(interval_ms * NS_PER_MS), connections if download else 0, probes=probes)
        self._watch_ended()
        try:
            with measuring:
                yield measuring
        finally:
            if measuring.ended:  # a test that fails meanwhile shall have its report
                self.records.append(measuring.record)

    def measure(self, seconds: float, **options: Any) -> RunRecord:
        """Measures for that long and does nothing else; options as for `measuring`."""
        with self.measuring(**options) as measured:
            threading.Event().wait(seconds)
        return measured.record

    def require(self, verdict: Verdict, *, surely: bool = True) -> Verdict:
        """Notes the verdict for the report, and raises as `Verdict.require` does if it did not pass."""
        self.verdicts.append(verdict)
        self.taken.append(False)
        verdict.require(surely=surely)
        self.taken[-1] = True
        return verdict

    def watch(self) -> None:
        """Records counters and states from now on, until something is measured: for the report of a test that fails."""
        self._watch = Watch(Recorder(self.bench, self.title))
        self._watch.__enter__()

    def watched(self) -> RunRecord | None:
        """What was recorded without anything measured; None if nothing was, or the bench has died meanwhile."""
        watch = self._watch_ended()
        if watch is None or watch.failure is not None:
            return None
        try:
            return self.told(watch.recorder, watch.recorder.finish({}, None, interval_ns=0), 0)
        except EmulationError:
            return None

    def _watch_ended(self) -> Watch | None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.end()
        return watch

    def told(self, recorder: Recorder, record: RunRecord, first_event: int) -> RunRecord:
        """The record with what was done to the link from `first_event` on, and with this test's limits."""
        shift_ns = self.start_utc_ns - recorder.start_utc_ns
        record.events = [
            event.model_copy(update={"at_ns": event.at_ns + shift_ns}) for event in self._events[first_event:]
        ]
        if record.evidence is not None:
            record.evidence.lateness_allowed_us = self.limits.lateness_p99_us
        return record

    def evidence(self) -> Evidence:
        """What proves that the link was the commanded one, over the whole test so far. Raises EmulationError."""
        return evidence_between(self._began, self._end or self.counters())

    def faults(self) -> tuple[str, ...]:
        """Why nothing is proven by this test, a line each; empty if the emulation kept up."""
        try:
            return faults(self.evidence(), self.limits)
        except EmulationError as error:
            return (str(error),)

    def capture(self) -> None:
        """Captures what crosses the link, the head of each packet, on both sides of it, until the test ends.

        Where that cannot be, `not_captured` says why, and the test goes on.
        """
        from emulator.bench.captures import serving_captures
        from emulator.bench.recording import Recording

        try:
            self._stack.enter_context(serving_captures(self.bench))
            recording = Recording(self.bench.runtime_dir)
            with contextlib.suppress(BenchNotFoundError):
                recording.begin(self._captured, CAPTURED)
                self._recording = recording
        except BentpipeError as error:
            self.not_captured = str(error)

    def capture_ended(self) -> Path | None:
        """Ends the capture; the file, None if there is none."""
        recording, self._recording = self._recording, None
        if recording is None:
            return None
        try:
            recording.end()
        except BentpipeError as error:  # a bench that has died, a full disk: what was written is there
            self.not_captured = str(error)
        return self._captured if self._captured.exists() else None

    def freeze(self) -> None:
        """The evidence is that of now, whatever happens to the bench later."""
        with contextlib.suppress(EmulationError):
            self._end = self.counters()

    def done(self) -> list[str]:
        """What was done to the link, a line each."""
        lines = [
            f"{format_utc(self.start_utc_ns + event.at_ns, 3)}  {event.label}, {event.direction}"
            for event in self._events
        ]
        return lines + [
            str(performed) for script in self.scripts for performed in script.performed if performed.outcome != "done"
        ]

    @property
    def events(self) -> list[Event]:
        """What was done to the link so far; their times count from `start_utc_ns`."""
        return self._events
