"""Writes the pages of docs/ that say what the code says: commands, scenario keys, exit statuses, embedded scenarios.

    tools/with -- python tools/reference_pages.py

The test suite fails where a page is not what this would write. Nothing here knows a command, a key or an error by
name, but for the examples and the units; so a new one needs no change here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import emulator.errors
from emulator.cli.doctor import CANNOT_RUN_STATUS
from emulator.cli.main import COMMANDS, CTRL_C_STATUS, READER_GONE_STATUS, bentpipe
from emulator.cli.shell import TIMED_OUT_STATUS
from emulator.errors import BentpipeError
from emulator.scenario import embedded_scenarios, load_scenario
from emulator.scenario.keys import expectation
from emulator.scenario.schema import scenario_schema
from tools.control_pages import control_page, telemetry_page

DOCS = Path(__file__).resolve().parent.parent / "docs"
REMEDY = "tools/with -- python tools/reference_pages.py"
MADE = f"<!-- Made from the code by `{REMEDY}`: change the code, not this page. -->"

Node = dict[str, Any]  # one node of a JSON Schema


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; a bar in a field does not end it."""
    lines = [headings, ["---"] * len(headings), *rows]
    return ["| " + " | ".join(field.replace("|", "\\|") for field in line) + " |" for line in lines] + [""]


def joined(lines: Iterable[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"


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
        *table(["command", ""], ([f"[`{name}`](#bentpipe-{name})", COMMANDS[name].summary] for name in COMMANDS)),
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


# scenario

UNITS = {  # by the last word of a key
    "deg": "degrees",
    "m": "metres",
    "km": "km",
    "s": "seconds",
    "ms": "ms",
    "us": "µs",
    "hours": "hours",
    "days": "days",
    "kbps": "kbit/s",
    "mbps": "Mbit/s",
    "mbaud": "Mbaud",
    "ghz": "GHz",
    "mhz": "MHz",
    "k": "kelvin",
    "db": "dB",
    "dbi": "dBi",
    "dbw": "dBW",
    "w": "watts",
    "bytes": "bytes",
    "packets": "packets",
    "h": "mm/h",
}
KEYS_IN_BYTES = {"mtu": "bytes"}

SCENARIO_INTRO = """\
A scenario is a TOML file. Unknown keys, missing keys, wrong types and values out of bounds are refused, all of them at
once, each with file, key, value and what was expected. Every unit is in the key's name. `--set KEY=VALUE` changes any
key from the command line (`--set link.uplink.rate_mbps=5`, `--set gateways[0].name=north`). `bentpipe schema` gives the
same as this page as JSON Schema, for editors that complete and check TOML.

A whole one:

```toml
name = "lab"

[link]
profile = "fixed"
delay_ms = 300.0
rate_mbps = 20.0
uplink = { rate_mbps = 5.0 }

[[overlay]]
kind = "outage"
at_s = 10.0
duration_s = 2.0
```

`link.profile` says which keys `[link]` has. A link with a sky also needs the tables that say where everything is, as a
rule `terminal`, `constellation`, `gateways` and `pop`; what is missing is told. See
[`configs/starlink_2025.toml`](../../configs/starlink_2025.toml) for one with everything in it. Paths in a scenario
count from its own folder."""


@dataclass
class Section:
    """A kind of table, and where it stands: keys in brackets, and the profiles that have it there."""

    node: Node
    keys: list[str]
    profiles: list[str]

    def heading(self, others: Iterable[Section]) -> str:
        """Its keys; with the profiles, where other profiles have another kind of table there."""
        if len(self.keys) > 2:
            return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.node["title"]).capitalize()
        words = " and ".join(f"`{key}`" for key in self.keys)
        if any(other is not self and set(other.keys) & set(self.keys) for other in others):
            words += " with profile " + ", ".join(f"`{profile}`" for profile in self.profiles)
        return words


def scenario_page() -> str:
    schema = scenario_schema()
    sections: dict[str, Section] = {}
    for key, profile, node in tables_below(schema, schema):
        section = sections.setdefault(node["title"], Section(node, [], []))
        section.keys += [key] if key not in section.keys else []
        section.profiles += [profile] if profile not in section.profiles else []
    headings = {title: section.heading(sections.values()) for title, section in sections.items()}
    lines = [MADE, "# Scenario keys", "", SCENARIO_INTRO, "", "## Top level", "", *key_table(schema, schema, headings)]
    for title, section in sections.items():
        text = paragraph(section.node.get("description", ""))
        lines += [f"## {headings[title]}", "", *text, *key_table(schema, section.node, headings)]
    return joined(lines)


def paragraph(text: str) -> list[str]:
    return [" ".join(text.split()), ""] if text else []


def tables_below(schema: Node, node: Node, path: str = "", profile: str = "") -> Iterator[tuple[str, str, Node]]:
    """(key in brackets, profile of the link, table) for every table, depth first."""
    for name, child in node["properties"].items():
        brackets = "[[{}]]" if kind_of(child) == "array" else "[{}]"
        for chosen, found in tables_of(schema, child):
            yield brackets.format(path + name), chosen or profile, found
            yield from tables_below(schema, found, f"{path}{name}.", chosen or profile)


def plain(node: Node) -> Node:
    """`or null` taken off: TOML has no null."""
    options = [option for option in node.get("anyOf", []) if option.get("type") != "null"]
    return {**options[0], **{key: value for key, value in node.items() if key != "anyOf"}} if options else node


def kind_of(node: Node) -> str:
    return str(plain(node).get("type", ""))


def tables_of(schema: Node, node: Node) -> list[tuple[str, Node]]:
    """(profile, table) of what stands below a key; nothing for a plain value. Profile: "" where there is no choice."""
    node = plain(node)
    if node.get("type") == "array":
        return tables_of(schema, node["items"])
    if "discriminator" in node:
        return [(name, resolve(schema, found)) for name, found in node["discriminator"]["mapping"].items()]
    return [("", resolve(schema, node["$ref"]))] if "$ref" in node else []


def resolve(schema: Node, reference: str) -> Node:
    found: Node = schema["$defs"][reference.rpartition("/")[2]]
    return found


def key_table(schema: Node, node: Node, headings: Mapping[str, str]) -> list[str]:
    required = set(node.get("required", []))
    keys = sorted(node["properties"].items(), key=lambda item: "const" not in item[1])  # `profile` says what follows
    rows = (key_row(name, child, name in required, tables_of(schema, child), headings) for name, child in keys)
    return table(["key", "takes", "unit", "default", ""], rows)


def key_row(
    name: str, node: Node, required: bool, below: Sequence[tuple[str, Node]], headings: Mapping[str, str]
) -> list[str]:
    if len(below) == 1:
        words = "tables" if kind_of(node) == "array" else "a table"
        takes = f"[{words}](#{anchor(headings[below[0][1]['title']])})"
    else:
        takes = "a table, by its profile" if below else code_of(expectation(plain(node)))
    return [
        f"`{name}`",
        takes,
        unit_of(name),
        "required" if required else default_of(node),
        node.get("description", ""),
    ]


def anchor(heading: str) -> str:
    """How a heading is called in a link."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def code_of(takes: str) -> str:
    """A pattern stands in code: Markdown would read its signs."""
    words, matches, pattern = takes.partition("that matches ")
    return f"{words}{matches}`{pattern}`" if matches else takes


def unit_of(name: str) -> str:
    return KEYS_IN_BYTES.get(name) or UNITS.get(name.rpartition("_")[2] if "_" in name else "", "")


def default_of(node: Node) -> str:
    default = node.get("default")
    if default is None:
        return "none"
    if isinstance(default, dict):
        return "its keys' own"
    if isinstance(default, str):
        return f'`"{default}"`'
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


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
        rows.append([f"[`{name}`]({file})", f"`{scenario.link.profile}`", scenario.description, ", ".join(about)])
    return joined(
        [
            MADE,
            "# Embedded scenarios",
            "",
            (
                "Each goes by its bare name: `bentpipe shell starlink_2025 -- …`. To change one, use `--set`, or copy "
                "its file. A page tells what is measured, computed and guessed."
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
    "reference/scenario.md": scenario_page,
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
