"""Where files are written: whole or not at all, and - is stdout."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.cli.main import run
from emulator.errors import EndpointError
from emulator.output import output_file, require_place


@pytest.mark.parametrize("output", [None, Path("-")])
def test_a_dash_is_stdout(
    output: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    with output_file(output) as file:
        file.write(b"data")
    assert capfdbinary.readouterr().out == b"data"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["schema"], ["plan", "fixed", "--duration", "1s"]])
def test_commands_write_a_dash_on_stdout(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*command, "-o", "-"]) == 0
    assert capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["no/such/x.png", "file/x.png", "folder"])
def test_a_place_is_refused_as_the_file_would_be(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(EndpointError) as early:
        require_place(tmp_path / name)
    assert str(early.value).startswith(f"{tmp_path / name}: cannot be written: ")
    if name != "folder":
        with pytest.raises(EndpointError) as late, output_file(tmp_path / name):
            pass
        assert str(late.value) == str(early.value)
    require_place(tmp_path / "folder" / "x.png")
    require_place(tmp_path / "file")


@pytest.mark.parametrize("command", [["plan", "fixed", "-o", "keep.csv"], ["sky", "starlink_2025"]])
def test_a_picture_that_has_no_place_is_refused_before_anything_is_written(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plot = ["--duration", "1s", "--plot", str(tmp_path / "nowhere" / "x.png")]
    assert run([*command, *plot]) == EndpointError.exit_status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("x.png: cannot be written: No such file or directory\n")
    assert not list(tmp_path.iterdir())


def test_a_record_that_is_not_there_and_a_host_without_a_name_are_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b").write_bytes(b"\xff")
    assert run(["exchange", "a", "b"]) == EndpointError.exit_status
    assert capsys.readouterr().err == "bentpipe: a: expected a readable record: No such file or directory\n"
    assert run(["exchange", "b", "a"]) == EndpointError.exit_status
    assert capsys.readouterr().err == "bentpipe: b: expected a record in UTF-8, got another file\n"
    (tmp_path / "b").write_text("nonsense")
    assert run(["exchange", "b", "a"]) == EndpointError.exit_status
    assert capsys.readouterr().err == "bentpipe: b: line 1: expected a line of a record\n"


def test_the_record_of_an_exchange_needs_a_file_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Stdout has the comparison."""
    assert run(["exchange", "a", "--at", "socket://localhost:1", "-o", "-"]) == 2
    assert "-: expected a file: stdout is for what differs" in capsys.readouterr().err
