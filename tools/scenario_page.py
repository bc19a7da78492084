"""Makes the page on scenario keys from their JSON Schema: reference_pages.py writes it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.scenario.keys import expectation
from emulator.scenario.schema import scenario_schema
from tools.markdown import joined, paragraph, table

Node = dict[str, Any]  # one node of a JSON Schema

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
RATES = {"_deg_s": "degrees per second"}  # by the end of a key, before UNITS
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


def scenario_page(made: str) -> str:
    """Text of the page; made: its first line."""
    schema = scenario_schema()
    sections: dict[str, Section] = {}
    for key, profile, node in tables_below(schema, schema):
        section = sections.setdefault(node["title"], Section(node, [], []))
        section.keys += [key] if key not in section.keys else []
        section.profiles += [profile] if profile not in section.profiles else []
    headings = {title: section.heading(sections.values()) for title, section in sections.items()}
    lines = [made, "# Scenario keys", "", SCENARIO_INTRO, "", "## Top level", "", *key_table(schema, schema, headings)]
    for title, section in sections.items():
        text = paragraph(section.node.get("description", ""))
        lines += [f"## {headings[title]}", "", *text, *key_table(schema, section.node, headings)]
    return joined(lines)


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
    for ending, unit in RATES.items():
        if name.endswith(ending):
            return unit
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
