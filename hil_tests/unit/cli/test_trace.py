"""`bentpipe trace` as a shell sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emulator.cli.main import run
from emulator.errors import EndpointError, TraceError

TRACE = "time_s,delay_ms,rate_mbps,loss,gate,cause\n"
TRACE += "0,20,12,0,pass,none\n1,30,12,0.5,pass,none\n2,30,12,0,drop,fade\n4,,,,,\n"


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = run([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_it_says_what_is_in_a_trace(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(TRACE)
    status, out, _ = call(capsys, "trace", tmp_path / "x.csv")
    said = json.loads(out)
    assert (status, said["duration_s"]) == (0, 4)
    assert said["downlink"]["delay_ms"] == {"least": 20, "p50": 30, "p95": 30}
    assert said["uplink"]["shut"] == {"fade": 0.5}
    assert said["uplink"]["loss"] == 0.125
    assert said["uplink"]["rate_mbps_mean"] == 12


def test_it_writes_every_format_by_its_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(TRACE)
    for name in ("y.csv", "y.up", "y.theaterq", "y.ping", "y.irtt.json", "y.dish.json", "y.npz"):
        assert call(capsys, "trace", tmp_path / "x.csv", tmp_path / name)[:2] == (0, "")
        status, out, _ = call(capsys, "trace", tmp_path / name)
        assert status == 0
        assert json.loads(out)["duration_s"] == pytest.approx(2 if name == "y.ping" else 4, abs=0.2)


def test_stdout_and_a_format_that_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(TRACE)
    status, out, _ = call(capsys, "trace", tmp_path / "x.csv", "-", "--to", "theaterq")
    assert (status, out.splitlines()[0]) == (0, "1000000,20000000,12000000,0,1000")
    assert call(capsys, "trace", tmp_path / "x.csv", "-")[0] == 2


def test_refusals_have_their_status(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(TRACE.replace("30", "-30"))
    status, out, err = call(capsys, "trace", tmp_path / "x.csv")
    assert (status, out) == (TraceError.exit_status, "")
    assert err == f"bentpipe: {tmp_path}/x.csv: line 3: expected delay_ms of 0 or more, got -30\n"
    (tmp_path / "x.csv").write_text(TRACE)
    assert call(capsys, "trace", tmp_path / "x.csv", tmp_path / "x.odd")[0] == TraceError.exit_status
    assert call(capsys, "trace", tmp_path / "x.csv", tmp_path / "none" / "x.csv")[0] == EndpointError.exit_status
    (tmp_path / "y.csv").write_text("time_s,delay_ms\n0,1\n5,1\n")
    assert call(capsys, "trace", tmp_path / "y.csv", "--gap", "2s")[0] == TraceError.exit_status
