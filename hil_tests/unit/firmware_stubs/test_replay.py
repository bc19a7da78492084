"""Recorded exchanges: turns, what differs between two, and a record played to a real stub by the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st

from emulator.terminal import Antenna, Mount, Terminal
from emulator.units import NS_PER_S
from firmware_stubs.gateway import Service, always
from firmware_stubs.record import Exchange, Recorder, read_record
from firmware_stubs.registry import Hardware
from firmware_stubs.replay import compare, replay, turns_of
from firmware_stubs.transport import SerialStub

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60
SITE = Terminal(0, 0, 0)
ANY_TIME = ("--tolerance-ms", "60000")  # the machine's, which may be busy, is not what these are about

pieces = st.lists(
    st.builds(Exchange, st.floats(0, 100), st.sampled_from(["client", "device"]), st.binary(min_size=1, max_size=5)),
    max_size=20,
).map(lambda found: sorted(found, key=lambda piece: piece.t_s))


@given(pieces)
def test_turns_hold_every_byte_in_its_order(found: list[Exchange]) -> None:
    turns = turns_of(found)
    said = {
        speaker: b"".join(piece.data for piece in found if piece.speaker == speaker) for speaker in ("client", "device")
    }
    assert b"".join(turn.question for turn in turns) == said["client"]
    assert b"".join(turn.answer for turn in turns) == said["device"]
    assert all(turn.question for turn in turns[1:])


@given(pieces)
def test_a_record_is_like_itself(found: list[Exchange]) -> None:
    assert not [one for one in compare(found, found) if one.what]


def test_what_differs_is_named() -> None:
    first = [Exchange(0, "client", b"p\n"), Exchange(0.01, "device", b"10\n"), Exchange(1, "client", b"q\n")]

    def against(*second: Exchange) -> list[str]:
        return [one.what for one in compare(first, second, ignore=["[0-9]+$"])]

    assert against(*first[:1], Exchange(0.01, "device", b"10\r"), first[2]) == ["answer", ""]
    assert against(*first[:1], Exchange(0.5, "device", b"10\n"), first[2]) == ["time", ""]
    assert against(*first[:1], Exchange(0.01, "device", b"1"), Exchange(0.5, "device", b"0\n"), first[2]) == [
        "time",
        "",
    ]
    assert against(*first[:2]) == ["", "missing"]
    assert against(*first[:2], Exchange(1, "client", b"r\n")) == ["", "question"]
    other = [first[0], Exchange(0, "device", b"99\n")]
    assert compare(first, other, ignore=["[0-9]+"])[0].what == ""


def stub_at(port: Path, elevation_deg: float, recorder: Recorder | None = None) -> SerialStub:
    antenna = Antenna(Mount(park_elevation_deg=elevation_deg))
    return SerialStub("easycomm2", SITE.state, str(port), hardware=Hardware(antenna=antenna), recorder=recorder)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / "lab.jsonl"
    with (
        stub_at(tmp_path / "lab", 30, Recorder(path)) as lab,
        serial.Serial(lab.address, 19200, timeout=PATIENCE_S) as client,
    ):
        for command in (b"AZ EL \n", b"XX \nVE \n", b"AZ \n"):
            client.write(command)
            client.readline()
    return path


def test_a_record_is_played_to_a_stub_and_compared(record: Path, tmp_path: Path) -> None:
    with stub_at(tmp_path / "stub", 30) as stub:
        assert replay([], stub.address, 19200, tmp_path / "none.jsonl") == 0
        here = ["--at", stub.address, "--baud", "19200", *ANY_TIME]
        status, said = command(str(record), *here, "-o", str(tmp_path / "now.jsonl"))
        assert (status, said) == (0, "3 turns, 0 different\n")
    with stub_at(tmp_path / "other", 40) as other:
        status, said = command(str(record), "--at", other.address, "--baud", "19200", *ANY_TIME)
    assert status == 1
    assert said.splitlines()[0] == r"0: answer: AZ EL \n"
    assert r"first:  AZ0.0 EL30.0\n after" in said
    assert r"second: AZ0.0 EL40.0\n after" in said
    assert said.endswith("3 turns, 1 different\n")
    status, said = command(str(record), str(tmp_path / "now.jsonl"), "--json", *ANY_TIME)
    assert [json.loads(line)["differs"] for line in said.splitlines()] == ["", "", ""]


def test_a_slower_device_is_waited_for_and_each_answer_belongs_to_its_question(tmp_path: Path) -> None:
    """A modem is deaf during a session: who asks the next question too early gets the answers of others."""
    records = {name: tmp_path / f"{name}.jsonl" for name in ("lab", "now")}

    def modem(name: str, latency_s: float) -> SerialStub:
        hardware = Hardware(service_at=always(Service(latency_ns=round(latency_s * NS_PER_S))))
        recorder = Recorder(records[name]) if name == "lab" else None
        return SerialStub("sbd", SITE.state, str(tmp_path / name), hardware=hardware, recorder=recorder)

    with modem("lab", 0) as lab, serial.Serial(lab.address, 19200, timeout=PATIENCE_S) as client:
        for question in (b"AT+SBDIX\r", b"AT+CSQ\r"):
            client.write(question)
            assert client.read_until(b"OK\r\n").endswith(b"OK\r\n")
    with modem("now", 1.5) as slower:
        replay(read_record(records["lab"]), slower.address, 19200, records["now"], patience_s=PATIENCE_S)
    found = compare(read_record(records["lab"]), read_record(records["now"]), tolerance_s=1)
    assert {one.what for one in found} <= {"", "time"}  # what they said is the same
    assert len(found) == 2


@pytest.mark.parametrize(
    ("arguments", "status"), [(["/dev/null"], 2), (["/nowhere", "/dev/null"], 71), (["x", "y", "--ignore", "("], 2)]
)
def test_what_is_wrong_has_its_status(arguments: list[str], status: int) -> None:
    assert command(*arguments)[0] == status


def command(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "emulator.cli.main", "exchange", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout
