"""Processes of our own find this package, and never one that lies in somebody's working directory."""

from __future__ import annotations

import ast
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from emulator.child import child_command
from emulator.cli.probe import probe
from emulator.taps.inject import Addresses, build
from emulator.testing.session import program

CHECKOUT = Path(__file__).parents[2]
PACKAGES = ("emulator", "firmware_stubs", "zmq", "numpy", "scapy", "runpy", "json")


@pytest.fixture(autouse=True)
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a package of each of these names that tells on itself."""
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(
            f"open({str(tmp_path / 'caught')!r}, 'a').write({name!r})\nraise SystemExit(9)\n"
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path / "caught"


def test_the_modules_that_we_start_are_ours(hostile: Path) -> None:
    assert "usage" in subprocess.run(program("probe", "--help"), capture_output=True, text=True, check=True).stdout
    told = subprocess.run(child_command("emulator.cli.main", "--version"), capture_output=True, text=True, check=True)
    assert told.stdout.startswith("bentpipe ")
    assert not hostile.exists()


def test_doctor_and_inject_work_anywhere(hostile: Path) -> None:
    assert probe.__wrapped__().transmit_queue_packets >= 0
    assert len(build("IP()/UDP()", "uplink", Addresses("198.18.0.2", "198.18.0.1", "", ""))) == 1
    assert not hostile.exists()


def test_the_end_of_a_fabric_is_ours(hostile: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.close()
        ended = subprocess.run(
            child_command("emulator.ports.end_part"),
            stdin=theirs.fileno(),
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert not hostile.exists()


def test_arguments_status_and_name_are_as_for_any_program(tmp_path: Path) -> None:
    wrong = subprocess.run(
        child_command("emulator.testing.probe", "--bad", 7), capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2
    assert "invalid choice: '7'" in wrong.stderr


@pytest.mark.parametrize("package", ["emulator", "firmware_stubs"])
def test_nobody_starts_python_with_the_working_directory_on_its_path(package: str) -> None:
    wrong = []
    for path in (CHECKOUT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.List) and node.elts and ast.unparse(node.elts[0]) == "sys.executable":
                first = node.elts[1]
                if not (isinstance(first, ast.Constant) and first.value in ("-P", "-I")):
                    wrong.append(f"{path}:{node.lineno}")
    assert wrong == []


def test_the_trap_works(hostile: Path) -> None:
    subprocess.run([sys.executable, "-m", "emulator.cli.main"], capture_output=True, check=False)
    assert hostile.read_text() == "emulator"
