"""`bentpipe`: finds the command, and turns whatever ends it into an exit status.

Commands live in emulator/cli/<name>.py as a click command called <name>, and are imported when they are called: the
help text must not wait for numpy. Exit statuses: emulator/errors.py.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import select
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from importlib import import_module
from types import FrameType
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from emulator import __version__
from emulator.errors import BentpipeError, ToolMissingError

DEFECT_STATUS = BentpipeError.exit_status
CTRL_C_STATUS = 130  # 128 + SIGINT, as shells count
READER_GONE_STATUS = 141  # 128 + SIGPIPE


class Lazy(NamedTuple):
    """A command that is not imported yet: `module:function`, and its line in the list of commands."""

    target: str
    summary: str


SECTIONS = {
    "Begin here": {
        "demo": Lazy("emulator.cli.demo:demo", "Show the main job, with a live view and a report."),
        "doctor": Lazy("emulator.cli.doctor:doctor", "Say what this machine can and cannot do, and how to mend it."),
        "shell": Lazy("emulator.cli.shell:shell", "Run a command at the terminal's side of a link."),
        "run": Lazy("emulator.cli.run:run", "Keep a bench up until Ctrl-C."),
        "enter": Lazy("emulator.cli.enter:enter", "Run a command, or a shell, at one side of a running bench."),
        "clean": Lazy("emulator.cli.clean:clean", "Remove what killed benches have left behind."),
    },
    "A running bench": {
        "ctl": Lazy("emulator.cli.ctl:ctl", "Command a running bench: see and change its link."),
        "watch": Lazy("emulator.cli.watch:watch", "Show what happens on a running bench."),
        "inject": Lazy("emulator.cli.inject:inject", "Send a packet through a running bench."),
        "capture": Lazy("emulator.cli.capture:capture", "Capture what crosses the link of a running bench."),
        "attach": Lazy("emulator.cli.attach:attach", "Put a namespace, bridge or card on one side of a running bench."),
        "detach": Lazy("emulator.cli.attach:detach", "Take it off again."),
        "paths": Lazy("emulator.cli.paths:paths", "List the several paths of a bench, or take another."),
        "access": Lazy("emulator.cli.access:access", "Show a bench's public address and proxy, or change the address."),
        "ground-station": Lazy(
            "emulator.cli.ground_station:ground_station", "Serve the management interface of a ground-station service."
        ),
    },
    "Looking ahead": {
        "plan": Lazy("emulator.cli.plan:plan", "Print the link's future: path, delay, rate, loss, handovers."),
        "sky": Lazy("emulator.cli.sky:sky", "List the satellites in view of the terminal."),
        "fleet": Lazy("emulator.cli.fleet:fleet", "Print who serves many terminals under one sky, slot by slot."),
        "schema": Lazy("emulator.cli.schema:schema", "Print the JSON Schema of scenario files."),
    },
    "Measured links and captures": {
        "record": Lazy("emulator.cli.record:record", "Measure a real path into a trace."),
        "trace": Lazy("emulator.cli.trace:trace", "Convert a measured trace, or say what is in it."),
        "fit": Lazy("emulator.cli.fit:fit", "Make a profile from a measured trace."),
        "replay": Lazy("emulator.cli.replay:replay", "Send a capture through the link, faster than real time."),
    },
    "Tests and measurements": {
        "probe": Lazy(
            "emulator.cli.probe_link:probe", "Measure a path: delay, jitter, loss, reordering, from outside."
        ),
        "sweep": Lazy("emulator.cli.sweep:sweep", "Run a matrix of scenarios, seeds, starts and parameters."),
        "report": Lazy("emulator.cli.report:report", "Make the report of a run again, or compare two runs."),
        "runs": Lazy("emulator.cli.runs:runs", "Show what is in the store of runs."),
        "selftest": Lazy("emulator.cli.selftest:selftest", "Certify this machine's benches with independent tools."),
        "bench": Lazy("emulator.cli.bench:bench", "Measure the packet path on this machine."),
    },
    "The terminal's hardware": {
        "stub": Lazy("emulator.cli.stub:stub", "Serve one of the terminal's own interfaces."),
        "exchange": Lazy(
            "emulator.cli.exchange:exchange", "Compare recorded exchanges with a device, stub or hardware."
        ),
    },
    "On several machines": {
        "terminal": Lazy("emulator.cli.ends:terminal", "Run the terminal's end of a bench in three parts."),
        "link": Lazy("emulator.cli.link:link", "Run the link of a bench in three parts."),
        "gateway": Lazy("emulator.cli.ends:gateway", "Run the gateway's end of a bench in three parts."),
        "keys": Lazy("emulator.cli.keys:keys", "Make CURVE keys for a bench that other machines reach."),
    },
}
"""The commands as the help text has them."""
COMMANDS = {name: command for commands in SECTIONS.values() for name, command in commands.items()}
LONGEST_NAME = max(map(len, COMMANDS))

EXTRA_OF_MODULE = {
    "matplotlib": "report",
    "jinja2": "report",
    "grpc": "dish",
    "grpc_reflection": "dish",
    "google": "dish",
    "distributed": "distributed",
}
"""Packages that are not installed with Bentpipe itself → the extra that brings them."""


class LazyGroup(click.Group):
    """A click group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            close = difflib.get_close_matches(cmd_name, COMMANDS, n=1)
            if close and not ctx.resilient_parsing:
                raise click.UsageError(f"no such command {cmd_name!r}: did you mean {close[0]}?", ctx)
            return None
        module, _, function = COMMANDS[cmd_name].target.partition(":")
        command = getattr(import_module(module), function)
        if not isinstance(command, click.Command):
            raise TypeError(f"{COMMANDS[cmd_name].target} is not a click command")
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands of the table, none of them imported, and the group's own options."""
        names = [name for name in COMMANDS if name.startswith(incomplete)]
        commands = [CompletionItem(name, help=COMMANDS[name].summary) for name in names]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with _reader_may_leave():  # --help and --version print here
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _reader_may_leave():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, commands in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(LONGEST_NAME), each.summary) for name, each in commands.items()])


@click.group(
    "bentpipe",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="SCENARIO is a TOML file, or the name of an embedded one (starlink_2025, fixed).",
)
@click.version_option(__version__, prog_name="bentpipe", message="%(prog)s %(version)s")
def bentpipe() -> None:
    """A satellite terminal emulator that carries real IP traffic.

    Begin with `bentpipe doctor`, then `bentpipe shell starlink_2025 -- sh -c 'ping $BENTPIPE_DATACENTER'`.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Does not return."""
    signal.signal(signal.SIGINT, _interrupt)  # a plain sh starts what ends in `&` with SIGINT ignored
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


_interrupts: list[int] = []  # Ctrl-Cs so far: whether an ImportError is one of them, only this tells


def _interrupt(number: int, frame: FrameType | None) -> None:
    """As Python answers Ctrl-C; `run` can tell afterwards that it came."""
    _interrupts.append(number)
    signal.default_int_handler(number, frame)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status; errors are told on stderr."""
    try:
        return _status(bentpipe.main(list(arguments), prog_name="bentpipe", standalone_mode=False))
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "bentpipe"
        click.echo(f"{command}: {' '.join(error.format_message().split())} (see {command} --help)", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return CTRL_C_STATUS
    except _ReaderGone:
        return READER_GONE_STATUS
    except BentpipeError as error:
        return _refuse(error)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA_OF_MODULE:
            return _defect(error)
        remedy = f"pip install 'bentpipe[{EXTRA_OF_MODULE[package]}]'"
        return _refuse(ToolMissingError(f"the Python package {package} is not installed: {remedy}"))
    except ImportError as error:
        # NumPy's C code makes one of the KeyboardInterrupt that comes in the middle of its import
        return CTRL_C_STATUS if _interrupts else _defect(error)
    except Exception as error:  # noqa: BLE001 (whatever else arrives here is a defect, and is told as one)
        return _defect(error)


def _status(result: object) -> int:
    """A command may return its exit status; one that returns nothing has succeeded."""
    return result if isinstance(result, int) else 0


def _refuse(error: BentpipeError) -> int:
    for line in str(error).splitlines() or [type(error).__name__]:
        click.echo(f"bentpipe: {line}", err=True)
    return error.exit_status


def _defect(error: Exception) -> int:
    traceback.print_exception(error)
    click.echo(
        f"bentpipe: this is a defect of Bentpipe {__version__}: {type(error).__name__}; please report the lines above",
        err=True,
    )
    return DEFECT_STATUS


class _ReaderGone(Exception):
    """Whoever read our stdout has gone, as `head` does."""


@contextlib.contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Turn a broken pipe into _ReaderGone if the pipe is stdout's; click takes every broken pipe for that, quietly."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError as error:
        if not _stdout_is_broken():
            raise RuntimeError("a pipe broke that is not stdout") from error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still in the buffer at exit
        raise _ReaderGone from None


def _stdout_is_broken() -> bool:
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


if __name__ == "__main__":
    main()
