"""The demo, as a person runs it: everything shown, everything reported, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from emulator.bench.runtime import bench_directories
from emulator.errors import EmulationError
from emulator.testing.measure import balance, counts_of, measured_slot_phase
from emulator.testing.record import DIRECTIONS, RunRecord, load_record
from emulator.testing.summary import summarise

pytestmark = pytest.mark.needs("netns", "tun")

FILES = ("report.html", "report.png", "run.json")
INTERRUPTED = {signal.SIGINT: 130, signal.SIGTERM: 143}


def demo(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "emulator.cli.main", "demo", *(str(argument) for argument in arguments)]


def environment(runtime: Path) -> dict[str, str]:
    path = os.pathsep.join(path for path in sys.path if path)
    return os.environ | {"PYTHONPATH": path, "BENTPIPE_RUNTIME_DIR": str(runtime)}


def nothing_is_left(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(runtime))
    return not bench_directories()


def what_every_record_holds(record: RunRecord) -> None:
    for direction in DIRECTIONS:
        sums = balance(counts_of(record, direction))
        assert sums.holds
        lost = sum(delay < 0 for delay in record.probes(direction).delay_ns)
        assert lost <= sums.dropped
        assert record.probes(direction).stamp_source == "kernel"


def test_a_short_demo_shows_and_reports_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tmp_path / "run"
    result = subprocess.run(
        demo("--duration", "14s", "--out", tmp_path / "out", "--seed", "3", "--start", "2025-10-03T14:20:05Z"),
        env=environment(runtime),
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert result.stdout.split() == [str(tmp_path / "out" / name) for name in FILES], result.stderr
    record = load_record(tmp_path / "out" / "run.json")
    proven = summarise(record).passed and not summarise(record).unknown
    assert result.returncode == (0 if proven else EmulationError.exit_status), result.stderr
    what_every_record_holds(record)
    assert record.seed == 3
    assert record.slot_starts_ns()  # :12 was crossed
    assert {check.what.split()[1] for check in record.checks if check.passed} == {"packet", "GNSS"}
    assert {event.kind for event in record.events} == {"outage", "fade", "inject"}
    assert record.transfer is not None
    assert record.transfer.bytes[-1] > 1_000_000
    assert record.transfer.congestion == "cubic"
    assert record.counters.uplink.dropped["COMMAND"][-1] > 0  # the outage has hurt
    assert "STARLINK" in result.stderr or " via " in result.stderr  # without a terminal: a line per second
    assert nothing_is_left(runtime, monkeypatch)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_an_interrupted_demo_reports_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    runtime = tmp_path / "run"
    process = subprocess.Popen(
        demo("--duration", "16s", "--out", tmp_path / "out"),
        env=environment(runtime),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "TCP download begins" in line:
            os.killpg(process.pid, number)  # as a terminal does
            break
    _, said = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED[number], said
    record = load_record(tmp_path / "out" / "run.json")
    assert record.interrupted
    what_every_record_holds(record)
    assert (tmp_path / "out" / "report.png").stat().st_size > 0
    assert summarise(record).verdict.startswith("interrupted")
    assert nothing_is_left(runtime, monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (("--duration", "1s"), 2, "--duration"),
        (("--out", "/proc/none"), 71, "/proc/none"),
        (("--set", "link.delay=5"), 65, "link.delay"),
        (("no-such-scenario",), 65, "no-such-scenario"),
    ],
)
def test_what_cannot_be_shown_is_refused_at_once(
    tmp_path: Path, arguments: tuple[str, ...], status: int, named: str
) -> None:
    result = subprocess.run(
        demo(*arguments),
        cwd=tmp_path,
        env=environment(tmp_path / "run"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == status
    assert named in result.stderr
    assert result.stdout == ""


@pytest.mark.long
def test_the_demo_crosses_three_slots_and_every_check_holds(tmp_path: Path) -> None:
    result = subprocess.run(
        demo("--out", tmp_path),
        env=environment(tmp_path / "run"),
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert result.returncode == 0, result.stderr
    record = load_record(tmp_path / "run.json")
    what_every_record_holds(record)
    assert len(record.slot_starts_ns()) >= 3
    phase = measured_slot_phase(record)
    assert phase is not None
    assert phase.error_s(record.slot_phase_s) <= 0.5
    assert summarise(record).passed
    assert json.loads((tmp_path / "run.json").read_text())["scenario_name"] == "starlink_2025"
