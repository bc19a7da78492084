"""What users name is shown as they named it: to rich `[red]` is a colour, `[/x]` the end of one, `:star:` a picture."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

import emulator
from emulator.cli import demo
from emulator.cli.console import console_for
from emulator.cli.main import run as bentpipe
from emulator.scenario.load import embedded_scenarios
from emulator.testing.store import Run, Store
from hil_tests.unit.testing.synthetic import synthetic_record

PACKAGE = Path(emulator.__file__).parent
NAMES = ("a[/x]", "test_it[/dev/null]", "[red]s", "b [bold", ":star:", "[link=x]y[/]", "\\[red]")
OWN_CONSOLE = {"console.py", "doctor.py"}  # doctor makes a Text of whatever the machine tells it
SPECIAL = st.sampled_from([*"[]/\\:", "[red]", "[/]", "[/x]", ":star:", "[bold]", "[link=x]"])
NAMED = st.lists(SPECIAL | st.text(st.characters(min_codepoint=33, max_codepoint=126)), min_size=1).map("".join)


def run_called(name: str, number: int, **values: object) -> Run:
    return Run(
        key=f"{number}", kind="test", name=name, outcome="passed", scenario=str(values.pop("scenario", name)),
        seed=number, start_utc="", version="1", seconds=1.0, **values,  # type: ignore[arg-type]
    )  # fmt: skip


@given(NAMED)
def test_what_is_printed_means_itself(name: str) -> None:
    console = console_for(least_width=2 * len(name) + 20)
    console.file = io.StringIO()
    console.width = 2 * len(name) + 20
    table = Table(name)
    table.add_row(name)
    console.print(name, soft_wrap=True)
    console.print(table)
    assert console.file.getvalue().count(name) >= 3


def test_every_command_has_the_console_on_which_text_means_itself() -> None:
    """No other one is made, and nothing that is shown is read as markup."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            place = f"{path}:{node.lineno}"
            assert called != "Console" or path.name in OWN_CONSOLE, place
            assert called != "from_markup", place
            if called == "TextColumn" and "description" in ast.dump(node):
                assert any(keyword.arg == "markup" for keyword in node.keywords), place


def test_runs_shows_names_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "runs.sqlite"
    with Store(store) as kept:
        for number, name in enumerate(NAMES):
            kept.add(run_called(name, number, figures={f"delay[/{number}]": 1.0}, scenario=f"in {name}"))
    assert bentpipe(["runs", "--store", str(store), "--figure", "delay[/1]"]) == 0
    told = capsys.readouterr().out
    for name in NAMES:
        assert told.count(name) == 2, told  # its name, and its scenario's
    assert "delay[/1]" in told


def test_tests_that_differ_in_their_parameter_alone_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "runs.sqlite"
    links = ("geo_dvbs2", "starlink_2025")
    with Store(store) as kept:
        for number, link in enumerate(links):
            kept.add(run_called(f"test_tcp.py::test_plain[{link}]", number, scenario=f"{link}.toml"))
    assert bentpipe(["runs", "--store", str(store)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for link in links:
        (line,) = [each for each in lines if f"test_plain[{link}]" in each]
        assert f"{link}.toml" in line


def test_runs_says_what_there_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "runs.sqlite"
    with Store(store) as kept:
        kept.add(run_called("one", 1, figures={"delay": 1.0, "loss": 0.0}))
        latest = kept.add(run_called("two", 2, figures={"delay": 1.0}))
    common = ["runs", "--store", str(store)]
    assert bentpipe([*common, "99"]) == 2
    told = capsys.readouterr()
    assert (told.out, "no run 99" in told.err, f"run {latest}" in told.err) == ("", True, True)
    assert bentpipe([*common, "--figure", "nosuch"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "nosuch" in told.err
    assert "delay, loss" in told.err
    assert bentpipe([*common, "--figure", "loss"]) == 0
    assert "–" in capsys.readouterr().out  # of the run that has none
    assert bentpipe([*common, str(latest)]) == 0


@pytest.mark.parametrize("name", ["a[/x]/s.toml", "[red]/s.toml"])
def test_sweep_shows_a_file_whose_name_is_markup(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    scenario = Path(name)
    scenario.parent.mkdir(parents=True)
    scenario.write_text('[link]\nprofile = "fixed"\n', encoding="utf-8")
    common = ("--duration", "1s", "--packets", "10", "--seeds", "1", "--jobs", "1", "--store", "runs.sqlite")
    assert bentpipe(["sweep", str(scenario), *common]) == 0
    assert str(scenario) in capsys.readouterr().out


@pytest.mark.parametrize("name", ["Svalbard [/SG]", "[red] rock :star:"])
def test_plan_shows_a_station_whose_name_is_markup(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = embedded_scenarios()["ground_station_contact"].read_text(encoding="utf-8")
    station = 'name = "Svalbard"'
    assert station in text
    scenario = tmp_path / "s.toml"
    scenario.write_text(text.replace(station, f'name = "{name}"'), encoding="utf-8")
    plan = ["plan", str(scenario), "--start", "2026-01-01T00:00:00Z", "--duration", "3h"]
    assert bentpipe([*plan, "-o", str(tmp_path / "plan.csv")]) == 0
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mk [/b]", "[red] mk"])
def test_demo_shows_a_scenario_whose_name_is_markup(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = synthetic_record()
    record.checks[0].what, record.checks[0].outcome = f"{name} asked", f"{name} told"
    monkeypatch.setattr(demo, "_run", lambda *_: record)
    scenario = tmp_path / "mk.toml"
    scenario.write_text(f'name = "{name}"\n[link]\nprofile = "fixed"\n', encoding="utf-8")
    result = CliRunner().invoke(demo.demo, [str(scenario), "--out", str(tmp_path / "out")], standalone_mode=False)
    assert result.exception is None, result.output
    for shown in (f"{name}: probes", f"{name} asked", f"{name} told"):
        assert shown in result.output
