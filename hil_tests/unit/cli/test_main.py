"""The command line as a shell sees it: exit statuses, streams, and how soon it answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from emulator import __version__, errors
from emulator.cli import main as cli
from emulator.errors import BentpipeError, ScenarioError

CHECKOUT = Path(__file__).parent.parent.parent.parent
HEAVY = {"numpy", "numba", "scapy", "matplotlib", "zmq", "pydantic", "rich", "pyroute2", "sgp4", "serial", "jinja2"}
HEAVY |= {"grpc", "google"}


def bentpipe(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "emulator.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def run_command(command: click.Command, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit status of a command that stands in for a real one."""
    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda self, ctx, name: command)
    return cli.run(["anything"])


def failing_with(error: BaseException) -> click.Command:
    @click.command()
    def fail() -> None:
        raise error

    return fail


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = "import sys\nfrom emulator.cli.main import run\nrun(['--help'])\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")} >= set(cli.COMMANDS)
    assert not HEAVY & {name.partition(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_is_where_the_table_says_and_is_called_so(name: str) -> None:
    command = cli.bentpipe.get_command(click.Context(cli.bentpipe), name)
    assert command is not None
    assert command.name == name


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_help_of_a_command_imports_nothing_heavy_but_pydantic(name: str) -> None:
    code = "import sys\nfrom emulator.cli.main import run\nrun(sys.argv[1:])\nprint(*sys.modules, file=sys.stderr)"
    line = [sys.executable, "-c", code, name, "--help"]
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert done.stdout.startswith("Usage: bentpipe ")
    assert not (HEAVY - {"pydantic"}) & {loaded.partition(".")[0] for loaded in done.stderr.split()}


def test_version_is_the_package_s() -> None:
    assert bentpipe("--version").stdout == f"bentpipe {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["schema", "--no-such-option"], ["plan"]])
def test_a_wrong_command_line_ends_with_2_and_says_so_on_stderr(arguments: list[str]) -> None:
    done = bentpipe(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    if arguments:
        assert "(see bentpipe" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    else:
        assert done.stderr.startswith("Usage: bentpipe")


@pytest.mark.parametrize(("wrong", "right"), [("plam", "plan"), ("captures", "capture"), ("selftset", "selftest")])
def test_a_misspelt_command_is_answered_with_the_right_one(
    wrong: str, right: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([wrong]) == 2
    assert capsys.readouterr().err.startswith(f"bentpipe: no such command {wrong!r}: did you mean {right}?")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["fixed", "ping", "1.1.1.1", "-c", "1"], "no such option '-c': if it is CMD's, put -- before CMD"),
        (["--", "true"], "expected SCENARIO before the --"),
        (["--seed", "3", "--", "true"], "expected SCENARIO before the --"),
        (["fixed", "--"], "Missing argument '-- CMD...'"),
        (["fixed", "--no-such", "--", "true"], "No such option '--no-such'"),
    ],
)
def test_a_forgotten_double_dash_is_explained(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["shell", *arguments]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--duration", "long"], ["--duration", "0"], ["--start", "yesterday"], ["--seed", "-1"], ["--seed", "x"]]
)
def test_an_option_that_cannot_be_read_ends_with_2_and_names_itself(option: list[str]) -> None:
    done = bentpipe("plan", "fixed", *option)
    assert done.returncode == 2
    assert option[0] in done.stderr


def test_a_faulty_scenario_is_told_line_by_line() -> None:
    done = bentpipe("plan", "fixed", "--set", "link.loss=2", "--set", "nonsense")
    assert done.returncode == ScenarioError.exit_status
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "bentpipe: --set nonsense: expected KEY=VALUE, got no '='",
        "bentpipe: --set link.loss=2: expected a number from 0 to 1, got 2",
    ]


@pytest.mark.parametrize(
    "cls", [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, BentpipeError)]
)
def test_each_error_has_its_status_and_its_lines(
    cls: type[BentpipeError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = cls(["one", "two"]) if issubclass(cls, ScenarioError) else cls("one\ntwo")
    assert run_command(failing_with(error), monkeypatch) == cls.exit_status
    captured = capsys.readouterr()
    assert captured.err == "bentpipe: one\nbentpipe: two\n"
    assert captured.out == ""


def test_another_error_is_a_defect_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(failing_with(ZeroDivisionError("oops")), monkeypatch) == 70
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1].startswith("bentpipe: this is a defect")


def test_a_missing_optional_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = ModuleNotFoundError("No module named 'matplotlib.pyplot'", name="matplotlib.pyplot")
    assert run_command(failing_with(absent), monkeypatch) == errors.ToolMissingError.exit_status
    assert capsys.readouterr().err.endswith("matplotlib is not installed: pip install 'bentpipe[report]'\n")


def test_a_missing_module_of_our_own_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = ModuleNotFoundError("No module named 'emulator.nowhere'", name="emulator.nowhere")
    assert run_command(failing_with(absent), monkeypatch) == 70


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_ctrl_c_ends_with_130(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_command(failing_with(error), monkeypatch) == 128 + signal.SIGINT


def test_ctrl_c_says_nothing_of_a_defect(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run_command(failing_with(KeyboardInterrupt()), monkeypatch)
    assert capsys.readouterr().err.strip() == ""


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (3, 3)])
def test_a_command_may_return_its_status(returned: int | None, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def command() -> int | None:
        return returned

    assert run_command(command, monkeypatch) == status


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "emulator.cli.main", "schema"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=CHECKOUT,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 128 + signal.SIGPIPE


@pytest.mark.parametrize(("interrupts", "status"), [([signal.SIGINT], 130), ([], 70)])
def test_an_import_that_ctrl_c_cut_off_is_no_defect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], interrupts: list[int], status: int
) -> None:
    @click.command()
    def anything() -> None:
        raise ImportError("numpy._core.umath failed to import")

    monkeypatch.setattr(cli, "_interrupts", interrupts)
    assert run_command(anything, monkeypatch) == status
    assert ("defect" in capsys.readouterr().err) == (status == 70)


def test_another_broken_pipe_is_a_defect(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(failing_with(BrokenPipeError(32, "Broken pipe")), monkeypatch) == 70
    assert "BrokenPipeError" in capfd.readouterr().err


def test_schema_goes_to_a_file_as_to_stdout(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    assert bentpipe("schema", "-o", str(file)).stdout == ""
    assert bentpipe("schema").stdout == file.read_text()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "absent" / "schema.json"
    done = bentpipe("schema", "-o", str(file))
    assert done.returncode == errors.EndpointError.exit_status
    assert done.stderr.startswith(f"bentpipe: {file}: ")


def test_clean_says_what_it_removed(tmp_path: Path) -> None:
    dead = tmp_path / "4194304-dead"
    dead.mkdir(mode=0o700)
    (dead / "lock").touch()
    tmp_path.chmod(0o700)
    first = bentpipe("clean", BENTPIPE_RUNTIME_DIR=str(tmp_path))
    assert first.returncode == 0
    assert "4194304-dead" in first.stdout
    assert not dead.exists()
    assert bentpipe("clean", "--json", BENTPIPE_RUNTIME_DIR=str(tmp_path)).stdout == '{"removed": []}\n'
