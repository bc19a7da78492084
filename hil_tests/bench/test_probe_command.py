"""`bentpipe probe` from outside: it finds what the link was told, and says what it cannot know."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.bench import Bench
from emulator.scenario import load_scenario
from emulator.timeline.causes import Cause

LIMIT_S = 60
EARLY_MS, LATE_MS = 0.05, 5.0  # clocks are read to this; other work runs on the machine


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path / "r"))


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "emulator.cli.main", "probe", *words]


def probe(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=LIMIT_S, check=False)


def found(*words: str) -> Any:
    done = probe("--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextlib.contextmanager
def listening() -> Iterator[str]:
    """The port of a `bentpipe probe --listen`."""
    process = subprocess.Popen(command("--listen", "--port", "0"), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[1]
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 0
        process.stdout.close()


@pytest.mark.needs("netns", "tun", "compiled")
def test_it_measures_what_the_link_was_told_each_way() -> None:
    scenario = load_scenario("fixed", ["link.uplink.delay_ms=31", "link.downlink.delay_ms=17", "link.rate_mbps=0"])
    with Bench(scenario) as bench:
        result = found("--duration", "1s")
        counted = bench.counters()
    for name, delay_ms in (("uplink", 31), ("downlink", 17)):
        delay = result[name]["delay"]
        assert delay_ms - EARLY_MS <= delay["minimum_ms"]
        assert delay["p50_ms"] <= delay_ms + LATE_MS
        assert result[name]["lost"] == result[name]["reordered"] == 0
    assert result["round_trip"]["minimum_ms"] >= 48 - 2 * EARLY_MS
    assert result["kernel_stamps"] == 1.0
    assert result["baseline"]["round_trip"]["p50_ms"] < 31
    assert result["uplink"]["sent"] == counted.uplink.delivered_packets > 100


@pytest.mark.needs("netns", "tun", "compiled")
def test_each_lost_probe_is_a_packet_that_the_link_dropped() -> None:
    with Bench(load_scenario("fixed", ["link.uplink.loss=0.2", "link.delay_ms=5"])) as bench:
        result = found("--duration", "1s", "--interval", "1")
        dropped = bench.counters().uplink.dropped[Cause.LOSS]
    assert 0 < result["uplink"]["lost"] <= dropped + result["downlink"]["lost"]
    assert abs(result["uplink"]["lost"] - dropped) <= 5, "but for those after the last answer"
    assert result["downlink"]["lost"] == 0


def test_between_two_machines_it_says_how_far_the_clocks_may_differ() -> None:
    with listening() as port:
        done = probe("--to", "localhost", "--port", port, "--duration", "0.2s")
    assert done.returncode == 0, done.stderr
    assert "uncertainty: one way ±" in done.stdout
    assert done.stdout.splitlines()[1].split()[2:4] == ["0", "0"]


def test_where_nobody_answers_it_says_so() -> None:
    done = probe("--to", "127.0.0.1", "--port", "9", "--duration", "0.2s")
    assert done.returncode == 75
    assert "no answer from 127.0.0.1, UDP port 9" in done.stderr


def test_without_a_bench_it_says_so() -> None:
    done = probe("--duration", "0.1s")
    assert done.returncode == 69


@pytest.mark.parametrize("words", [("--listen", "--to", "a"), ("--to", "a", "--bench", "1"), ("--size", "20")])
def test_what_contradicts_itself_is_a_usage_error(words: tuple[str, ...]) -> None:
    assert probe(*words).returncode == 2
