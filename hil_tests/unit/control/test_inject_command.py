"""`bentpipe inject`, against a control server in this process."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.bench.runtime import RuntimeDirectory
from emulator.cli.main import run
from emulator.control.messages import SOCKET_NAME
from emulator.control.server import ControlServer
from hil_tests.unit.control.small_bench import SmallBench


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallBench]:
    """A bench that looks alive to this user's commands, and to nobody else's."""
    with tempfile.TemporaryDirectory(prefix="bp-") as root:
        monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(Path(root) / "r"))
        bench, directory = SmallBench(), RuntimeDirectory()
        with ControlServer(bench, directory.path / SOCKET_NAME):
            directory.describe({"scenario": "small", "mtu": 1500})
            yield bench
        directory.close()


def test_what_was_sent_is_printed(bench: SmallBench, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inject", "IP(dst=datacenter)/ICMP()"]) == 0
    assert bench.injected[0][0] == "uplink"
    assert len(bench.injected) == 1
    out, err = capsys.readouterr()
    assert out == (
        "IP / ICMP 198.18.0.2 > 198.18.0.1 echo-request 0\n"
        "sent 1 packet (28 bytes) into the uplink at 2025-05-29T23:21:27.123Z\n"
    )
    assert err == ""


def test_it_is_built_once_and_sent_as_often_as_asked(bench: SmallBench, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inject", "--at", "downlink", "--count", "250", "--json", "IP(ttl=[1, 2], id=RandShort())"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "direction": "downlink",
        "packets": 500,
        "bytes": 10_000,
        "utc": "2025-05-29T23:21:27.123Z",
        "built": [{"bytes": 20, "summary": "198.18.0.1 > 198.18.0.2 hopopt"}] * 2,
    }
    assert [direction for direction, _ in bench.injected] == ["downlink"] * 500
    assert [packet[8] for _, packet in bench.injected] == [1, 2] * 250
    assert len({packet for _, packet in bench.injected}) == 2


def test_packets_leave_no_faster_than_their_rate(bench: SmallBench) -> None:
    began = time.monotonic()
    assert run(["inject", "--count", "101", "--rate", "500", "IP()"]) == 0
    assert time.monotonic() - began >= 100 / 500
    assert len(bench.injected) == 101


@pytest.mark.parametrize(
    ("arguments", "status", "fault"),
    [
        (["IP(dst=nowhere)"], 68, "bentpipe: IP(dst=nowhere): NameError: name 'nowhere' is not defined\n"),
        (["IP()/('x' * 1481)"], 68, "bentpipe: IP()/('x' * 1481): expected at most 1500 bytes, got 1501\n"),
        (["--bench", "1", "IP()"], 69, "bentpipe: no running bench has the process id 1, these run: "),
        (["--count", "0", "IP()"], 2, "bentpipe inject: "),
        (["--at", "sideways", "IP()"], 2, "bentpipe inject: "),
        ([], 2, "bentpipe inject: "),
    ],
)
def test_what_is_wrong_has_its_status_and_sends_nothing(
    bench: SmallBench, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, fault: str
) -> None:
    assert run(["inject", *arguments]) == status
    assert capsys.readouterr().err.startswith(fault)
    assert bench.injected == []


def test_without_a_bench_nothing_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path / "r"))
    assert run(["inject", "IP("]) == 69
    assert capsys.readouterr().err.startswith("bentpipe: no bench is running")
