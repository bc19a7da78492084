"""`bentpipe bench`: its report has its shape, and every packet in it is accounted for. Speed is never asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emulator.testing.performance.figures import FIGURES
from emulator.testing.performance.names import MEASURES, QUICK

CHECKOUT = Path(__file__).parent.parent.parent


def run_bench(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "emulator.cli.main", "bench", *options],
        cwd=CHECKOUT,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )


def assert_adds_up(direction: dict[str, Any]) -> None:
    assert direction["offered_packets"] == (
        direction["delivered_packets"] + direction["held_packets"] + sum(direction["dropped_packets"].values())
    )


@pytest.mark.long
@pytest.mark.needs("netns", "tun", "compiled")
def test_a_quick_run_reports_every_figure_and_accounts_for_every_packet(tmp_path: Path) -> None:
    done = run_bench("--quick", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["failures"] == []
    trials = {key for name in QUICK for key in MEASURES[name]}
    assert set(told["trials"]) == trials
    assert all(len(records) == 1 for records in told["trials"].values())
    assert {row["key"] for row in told["rows"]} == {
        figure.key
        for figure in FIGURES
        if figure.value.trial in trials and (figure.baseline is None or figure.baseline.trial in trials)
    }
    for row in told["rows"]:
        assert row["low"] <= row["median"] <= row["high"]
        assert len(row["values"]) == 1
    assert {"kernel", "cpus", "python", "packages"} <= set(told["machine"])
    for key, (record,) in told["trials"].items():
        if "link" in record:
            assert_adds_up(record["link"]["uplink"])
            assert_adds_up(record["link"]["downlink"])
        if key in ("udp/bench", "udp/zmq"):
            dropped = sum(record["link"]["uplink"]["dropped_packets"].values())
            assert record["sent"] == record["received"] + record["no_room"] + dropped
            assert record["lost"] == dropped
    assert "verdict" in done.stderr
    assert "measuring for about" in done.stderr


@pytest.mark.long
@pytest.mark.needs("netns", "tun", "compiled")
def test_the_terminals_hardware_is_measured_by_name_and_every_stub_has_answered() -> None:
    done = run_bench("--quick", "--only", "stubs", "--only", "antenna", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told["trials"]) == {key for name in ("stubs", "antenna") for key in MEASURES[name]}
    for key, (record,) in told["trials"].items():
        if "link" in record:
            assert_adds_up(record["link"]["uplink"])
            assert_adds_up(record["link"]["downlink"])
            assert set(record["asked"]) == ({"dish", "nmea", "antenna"} if key.endswith("/stubs") else set())
            assert all(record["asked"].values())
    (felt,) = told["trials"]["felt/antenna"]
    assert felt["changes"] == len(felt["each_ms"]["uplink"]) == len(felt["each_ms"]["downlink"])
    assert 0 < felt["reaction_ms"]["p50"] <= felt["reaction_ms"]["longest"]


@pytest.mark.needs("netns", "tun")
def test_one_measure_to_a_file_leaves_the_table_on_stdout(tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    done = run_bench("--quick", "--only", "start", "-o", str(output))
    assert done.returncode == 0, done.stderr
    assert set(json.loads(output.read_text())["trials"]) == set(MEASURES["start"])
    assert "from command to first packet back" in done.stdout


def test_an_unknown_measure_is_a_wrong_command_line_that_names_the_known_ones() -> None:
    done = run_bench("--only", "warp")
    assert done.returncode == 2
    assert "warp" in done.stderr
    assert all(name in done.stderr for name in MEASURES)
