"""`bentpipe stub`: which kinds there are, and what of its options is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from emulator.cli.main import run
from emulator.cli.stub import stub
from emulator.errors import EndpointError, ScenarioError
from firmware_stubs.registry import KINDS


def failure(*arguments: str) -> BaseException | None:
    return CliRunner().invoke(stub, arguments).exception


def test_the_list_names_every_kind_on_a_line_of_its_own() -> None:
    result = CliRunner().invoke(stub, ["--list"])
    assert result.exit_code == 0
    names = [line.split(" ")[0] for line in result.output.splitlines()]
    assert set(KINDS) <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("speed=3", "--antenna: speed: expected one of azimuth_max_deg, "),
        ("backlash_deg=much", "--antenna: backlash_deg: expected a number, got 'much'"),
        ("backlash_deg=-1", "antenna: backlash_deg: expected 0 to 10, got -1"),
        ("azimuth_rate_deg_s=nan", "antenna: azimuth_rate_deg_s: expected a number, got nan"),
    ],
)
def test_a_mount_that_cannot_be_is_refused_by_name(tmp_path: Path, setting: str, fault: str) -> None:
    error = failure("easycomm2", "--port", str(tmp_path / "rotator"), "--antenna", setting)
    assert isinstance(error, ScenarioError)
    assert str(error).startswith(fault)
    assert list(tmp_path.iterdir()) == []


def test_a_mailbox_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    error = failure("sbd", "--port", str(tmp_path / "modem"), "--mailbox", str(tmp_path / "file" / "mail"))
    assert isinstance(error, EndpointError)
    assert "cannot make the mailbox" in str(error)


def test_a_service_that_listens_beyond_this_machine_is_refused() -> None:
    assert isinstance(failure("rotctld", "--port", "tcp:0.0.0.0:4533"), EndpointError)


@pytest.mark.parametrize("port", ["0.0.0.0:9200", "192.168.100.1:9200", "127.0.0.1", "127.0.0.1:99999", "pty"])
def test_a_dish_alone_listens_to_this_machine_alone(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["stub", "dish", "--port", port, "fixed"]) == EndpointError.exit_status
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"bentpipe: {port}: expected a loopback address and a port")
