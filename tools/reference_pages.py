"""Writes the pages of docs/ that say what the code says: commands, scenario keys, exit statuses, embedded scenarios.

    tools/with -- python tools/reference_pages.py

The test suite fails where a page is not what this would write. Nothing here knows a command, a key or an error by
name, but for the examples and the units; so a new one needs no change here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click

import emulator.errors
from emulator.cli.doctor import CANNOT_RUN_STATUS
from emulator.cli.main import COMMANDS, CTRL_C_STATUS, READER_GONE_STATUS, SECTIONS, bentpipe
from emulator.cli.shell import TIMED_OUT_STATUS
from emulator.errors import BentpipeError
from emulator.scenario import embedded_scenarios, load_scenario
from tools.control_pages import control_page, telemetry_page
from tools.markdown import joined, paragraph, table
from tools.scenario_page import scenario_page

DOCS = Path(__file__).resolve().parent.parent / "docs"
REMEDY = "tools/with -- python tools/reference_pages.py"
MADE = f"<!-- Made from the code by `{REMEDY}`: change the code, not this page. -->"


# commands


def commands_page() -> str:
    lines = [
        MADE,
        "# Commands",
        "",
        (
            "SCENARIO is a TOML file ([its keys](scenario.md)), or the name of an "
            "[embedded one](../profiles/README.md): `starlink_2025`, `fixed`, and others. A duration is `10m`, `45s`, "
            "`1h30m` or plain seconds; a UTC is `2025-05-29T23:21:27Z`. stdout is data, stderr is for the person. "
            "Every command has `--help`, and ends with one of these [statuses](exit_status.md)."
        ),
        "",
        *table(
            ["", "command", ""],
            (
                ["" if number else heading, f"[`{name}`](#bentpipe-{name})", each.summary]
                for heading, commands in SECTIONS.items()
                for number, (name, each) in enumerate(commands.items())
            ),
        ),
    ]
    for name in COMMANDS:
        command = bentpipe.get_command(click.Context(bentpipe), name)
        assert command is not None
        lines += command_section(command)
    return joined(lines)


def command_section(command: click.Command) -> Iterator[str]:
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    yield f"## bentpipe {command.name}"
    yield ""
    words = [argument.metavar or (argument.name or "").upper() for argument in arguments]
    yield from ["```text", " ".join(["bentpipe", command.name or "", "[OPTIONS]", *words]), "```", ""]
    for text in inspect.cleandoc(command.help or "").split("\n\n"):
        if text.startswith("\b"):  # lines that click is not to fill: examples
            yield from ["```sh", *text.splitlines()[1:], "```", ""]
        else:
            yield from paragraph(text)
    if options:
        yield from table(["option", "", "default"], map(option_row, options))
    if isinstance(command, click.Group):
        context = click.Context(command)
        below = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
        rows = ([f"[`{name}`](control.md#{name})", one.help or ""] for name, one in below if one is not None)
        yield from table(["command", ""], rows)


def option_row(option: click.Option) -> Sequence[str]:
    text, default = option.help or "", ""
    if said := re.search(r"\s*\[default: (.*)\]$", text):  # a default that is no value, in words
        text, default = text[: said.start()], said[1]
    elif option.required:
        default = "required"
    elif option.show_default and option.default is not None:
        default = f"`{option.default}`"
    names = ", ".join(f"`{name}`" for name in option.opts)
    return [f"{names} {taken_by(option)}".strip(), text, default]


def taken_by(option: click.Option) -> str:
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return " or ".join(f"`{choice}`" for choice in option.type.choices) if not option.metavar else option.metavar
    if option.metavar:
        return option.metavar
    return "N" if isinstance(option.type, click.types.IntParamType) else "TEXT"


# exit statuses

EXAMPLES = {  # a command line that ends so, without a running bench; the test suite runs each
    "ScenarioError": "bentpipe plan fixed --set link.delay=3",
    "ElementsError": "bentpipe plan starlink_2025 --elements /dev/null",
    "CoverageError": "bentpipe plan starlink_2025 --set terminal.latitude_deg=-89",
    "BenchNotFoundError": "bentpipe inject 'IP()/ICMP()'",
    "EndpointError": "bentpipe plan fixed --duration 1s -o /nowhere/plan.csv",
    "InterfaceError": "bentpipe shell fixed --set ports.terminal_interface=lo -- true",
    "CommandNotExecutableError": "bentpipe shell fixed -- /etc/passwd",
    "CommandNotFoundError": "bentpipe shell fixed -- no-such-command",
}
WRONG_COMMAND_LINE = "bentpipe plan fixed --duration soon"


def exit_status_page() -> str:
    classes = (value for value in vars(emulator.errors).values() if isinstance(value, type))
    errors = sorted((one for one in classes if issubclass(one, BentpipeError)), key=lambda error: error.exit_status)
    rows = [[str(error.exit_status), f"`{error.__name__}`", meaning(error), example(error)] for error in errors]
    others = [
        ["0", "success"],
        [str(CANNOT_RUN_STATUS), "`doctor`: `bentpipe shell` cannot work on this machine"],
        ["2", f"a wrong command line: `{WRONG_COMMAND_LINE}`"],
        [str(TIMED_OUT_STATUS), "`shell`: CMD was ended because `--duration` was over"],
        ["1", "`exchange`: something differs"],
        ["129, 143", "ended by SIGHUP, by SIGTERM; in order, nothing is left behind"],
        [str(CTRL_C_STATUS), "Ctrl-C, where it is not the usual end of the command, as it is of `run`"],
        [str(READER_GONE_STATUS), "whoever read stdout has gone, as `head` does"],
    ]
    return joined(
        [
            MADE,
            "# Exit statuses",
            "",
            (
                "Whatever is refused is told on stderr as `bentpipe: …`, one line for each fault, and nothing "
                "half-started is left behind. The numbers from 64 to 78 follow BSD's `sysexits.h` where it has one "
                "that fits. In Python the same are exceptions of `emulator.errors`."
            ),
            "",
            *table(["status", "error", "when", "for example"], rows),
            "The others:",
            "",
            *table(["status", "when"], others),
            (
                "`bentpipe shell` ends with the status of its CMD: any number, and 128 + N if signal N ended it. To "
                "tell the two apart, let CMD write its own status somewhere."
            ),
        ]
    )


def meaning(error: type[BentpipeError]) -> str:
    if error is BentpipeError:
        return "A defect of Bentpipe; the traceback that stands before it is worth a report."
    return " ".join((error.__doc__ or "").split("`problems`", maxsplit=1)[0].split())


def example(error: type[BentpipeError]) -> str:
    return f"`{EXAMPLES[error.__name__]}`" if error.__name__ in EXAMPLES else ""


# embedded scenarios


def profiles_page() -> str:
    """Every embedded scenario, with the page of docs/profiles/ that links to its file."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted((DOCS / "profiles").glob("*.md"))}
    rows = []
    for name in embedded_scenarios():
        scenario = load_scenario(name)
        file = f"../../configs/{name}.toml"
        about = [f"[page]({page})" for page, text in texts.items() if f"({file})" in text and page != "README.md"]
        for place in (f"field/{name}.md", f"{name}.md"):  # what it is for, with a test and a picture
            about += [f"[in use](../{place})"] if (DOCS / place).is_file() else []
        rows.append([f"[`{name}`]({file})", f"`{scenario.link.profile}`", scenario.description, ", ".join(about)])
    return joined(
        [
            MADE,
            "# Embedded scenarios",
            "",
            (
                "Use each by its name: `bentpipe shell starlink_2025 -- …`. To change one, use `--set`, or copy "
                "its file. Its page says what is measured, computed and guessed, or shows it in use."
            ),
            "",
            *table(["name", "profile", "", ""], rows),
        ]
    )


# index


def reference_index() -> str:
    """The pages of docs/reference/ by their titles."""
    pages = sorted(path for path in (DOCS / "reference").glob("*.md") if path.name != "README.md")
    titles = [re.search(r"^# (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE) for path in pages]
    lines = [f"- [{title[1] if title else path.stem}]({path.name})" for path, title in zip(pages, titles, strict=True)]
    return joined([MADE, "# Reference", "", *lines])


PAGES: dict[str, Callable[[], str]] = {
    "reference/control.md": lambda: control_page(MADE),
    "reference/telemetry.md": lambda: telemetry_page(MADE),
    "reference/commands.md": commands_page,
    "reference/scenario.md": lambda: scenario_page(MADE),
    "reference/exit_status.md": exit_status_page,
    "profiles/README.md": profiles_page,
    "reference/README.md": reference_index,
}
"""Page, from docs/ → what writes its text."""


def main() -> None:
    for name, write in PAGES.items():
        path, text = DOCS / name, write()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


if __name__ == "__main__":
    main()
