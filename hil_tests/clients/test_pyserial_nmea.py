"""`bentpipe stub nmea` as a process, and the clients that a person would open its port with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import serial
from pynmeagps import NMEAReader

ROOT = Path(__file__).parents[2]
SITE = (
    "--set",
    "terminal.latitude_deg=-33.8568",
    "--set",
    "terminal.longitude_deg=151.2153",
    "--set",
    "terminal.altitude_m=42",
)
PATIENCE_S = 60
IN_BACKGROUND = "sh", "-c", 'trap "" INT; exec "$@"', "sh"  # POSIX has a shell ignore SIGINT there


@contextmanager
def stub(*arguments: str, environment: dict[str, str] | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, begun as a script does with `&`, and the line that it prints when the port can be opened."""
    process = subprocess.Popen(
        [*IN_BACKGROUND, sys.executable, "-m", "emulator.cli.main", "stub", "nmea", *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().rstrip("\n")
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=PATIENCE_S)


def test_pyserial_reads_the_terminals_position(tmp_path: Path) -> None:
    link = tmp_path / "gnss"
    with (
        stub("--port", str(link), "--start", "2025-05-29T23:21:27Z", *SITE) as (_, port),
        serial.Serial(port, 9600, timeout=PATIENCE_S) as client,
    ):
        assert port == str(link)
        seen = {}
        for _, message in NMEAReader(client, validate=1, quitonerror=2):
            assert message is not None
            seen[message.msgID] = message
            if seen.keys() >= {"RMC", "GGA", "GSA", "GSV"}:
                break
        assert (seen["GGA"].lat, seen["GGA"].lon, seen["GGA"].alt) == (-33.8568, 151.2153, 42.0)
        assert str(seen["RMC"].date) == "2025-05-29"
        assert seen["GSA"].navMode == 3


def test_a_query_gets_the_position_back(tmp_path: Path) -> None:
    with (
        stub("--port", str(tmp_path / "gnss"), *SITE) as (_, port),
        serial.Serial(port, 9600, timeout=PATIENCE_S) as client,
    ):
        client.write(b"\xb5\x62\x0a\x04\x00\x00\x0e\x34noise$CCGPQ,GGA*2B\r\n")
        line = client.readline()
        while b"GGA" not in line:
            line = client.readline()
        assert b",3351.40800,S,15112.91800,E,1," in line


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_and_leaves_nothing(tmp_path: Path, number: signal.Signals, status: int) -> None:
    with stub("--port", str(tmp_path / "gnss")) as (process, port):
        assert Path(port).is_symlink()
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == status
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert list(tmp_path.iterdir()) == []


def test_the_next_start_takes_over_what_a_killed_one_left_and_no_more(tmp_path: Path) -> None:
    with stub("--port", str(tmp_path / "gnss")) as (killed, port):
        killed.kill()
        killed.wait()
        assert Path(port).is_symlink()
    with stub("--port", str(tmp_path / "gnss")) as (_, port):
        with serial.Serial(port, 9600, timeout=PATIENCE_S) as client:
            assert client.readline().startswith(b"$GP")
        with stub("--port", str(tmp_path / "gnss")) as (refused, nothing):
            assert nothing == ""
            assert refused.wait(PATIENCE_S) == 71
            assert refused.stderr is not None
            assert refused.stderr.read().startswith(f"bentpipe: {tmp_path}/gnss: is served by process ")
    assert list(tmp_path.iterdir()) == []


def test_a_port_is_chosen_and_told_as_json(tmp_path: Path) -> None:
    runtime = {"BENTPIPE_RUNTIME_DIR": str(tmp_path / "r")}
    with stub("--port", "pty", "--json", "--start", "2025-05-29T23:21:27Z", environment=runtime) as (_, line):
        facts = json.loads(line)
        assert facts["port"] == str(tmp_path / "r" / "nmea0")
        assert facts["kind"] == "nmea"
        assert facts["start_utc"] == "2025-05-29T23:21:27.000Z"
        assert str(Path(facts["port"]).readlink()) == facts["device"]
    assert list((tmp_path / "r").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "status", "fault"),
    [
        (["--port", "/dev/ttyNONE0"], 71, "bentpipe: /dev/ttyNONE0: no such serial port\n"),
        (["--port", "/nonexistent/gnss"], 71, "bentpipe: /nonexistent/gnss: cannot make the link to a pty here: "),
        (["--port", "pty", "fixed"], 65, "bentpipe: "),
        ([], 2, "bentpipe stub: "),
    ],
)
def test_what_is_wrong_has_its_status(arguments: list[str], status: int, fault: str) -> None:
    with stub(*arguments) as (process, line):
        assert line == ""
        assert process.wait(PATIENCE_S) == status
        assert process.stderr is not None
        assert process.stderr.read().startswith(fault)
